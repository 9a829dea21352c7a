"""A contest of Kaggle as a competition folder: downloaded, unpacked, and its metric noted."""

import io
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from foldsmith.competition.archives import DamagedArchive, read_archive, unpack
from foldsmith.competition.cached_folder import fill_once
from foldsmith.competition.settings import FILE_NAME
from foldsmith.deployment.kaggle_client import Contest, explaining, read_contest, require_entered
from foldsmith.deployment.kaggle_metrics import known_metric
from foldsmith.process.faults import MachineError
from foldsmith.process.terminal import progress, say


def fetch_contest(api: Any, slug: str, folder: Path) -> Contest:
    """Make `folder` of a contest, whole or not at all; print what Kaggle tells of it, and return that.

    The archive is downloaded beside the folder, where an interrupted download resumes, and removed once it is
    unpacked. Raise InputError if the rules are not accepted, MachineError if the disk is too small.
    """
    contest = read_contest(api, slug)
    for line in contest.lines:
        say(f"kaggle: {line}")
    require_entered(contest)
    downloads = folder.with_name(f".{folder.name}.download")

    def fill(temporary: Path) -> str:
        for left in folder.parent.glob(f".{folder.name}.*.part"):  # of a process that was killed
            if left != temporary:
                shutil.rmtree(left)
        download_and_unpack(api, slug, downloads, temporary)
        note_metric(contest, temporary, folder)
        return f"downloaded and unpacked into {folder}"

    said = fill_once(folder, f"downloads {slug}", fill)
    shutil.rmtree(downloads, ignore_errors=True)
    folder.with_name(f".{folder.name}.lock").unlink(missing_ok=True)
    say(f"kaggle: {said or f'{folder} is there'}")
    return contest


def download_and_unpack(api: Any, slug: str, downloads: Path, target: Path) -> None:
    """Unpack the files of a contest into `target`, an empty folder.

    An archive that turns out to be damaged is fetched a second time. Raise DamagedArchive if that one is too.
    """
    for is_last in (False, True):
        path = download(api, slug, downloads)
        try:
            archive = replace(read_archive(downloads, path.name), target=PurePosixPath("."))
            require_space(target, sum(member.size or 0 for member in archive.members), f"unpacking {slug}")
            with progress("unpacking", len(archive.members), "files") as advance:
                unpack(archive, target, advance)
            return
        except DamagedArchive:
            path.unlink()
            if is_last:
                raise
            say(f"kaggle: {path.name} arrived damaged, so it is fetched again")
            shutil.rmtree(target)
            target.mkdir()


def download(api: Any, slug: str, downloads: Path) -> Path:
    """Return the archive of all files of a contest, downloaded into a folder; resume what is there of it."""
    from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

    downloads.mkdir(parents=True, exist_ok=True)
    path, request = downloads / f"{slug}.zip", ApiDownloadDataFilesRequest()
    request.competition_name = slug
    with explaining(slug, "give the files of"), api.build_kaggle_client() as client:
        response = client.competitions.competition_api_client.download_data_files(request)
        size = int(response.headers.get("Content-Length") or 0)
        present = path.stat().st_size if path.is_file() else 0
        if present != size or not size:
            # the archive and its contents, which are hardly smaller
            require_space(downloads, 2 * size - present, f"the files of {slug}")
            say(f"kaggle: {slug}, {size / 1e6:,.0f} MB")
            quiet = not sys.stderr.isatty()  # its bar is there; on the standard output it prints addresses
            try:
                with redirect_stdout(io.StringIO()):
                    api.download_file(response, str(path), client.http_client(), quiet=quiet, resume=True)
            except ValueError as error:  # the client's word for a file of another length than announced
                raise MachineError(f"the download of {slug} was cut off ({error})") from error
    return path


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise MachineError if the disk of a folder has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"{what}: {needed / 1e6:,.0f} MB are needed, and {free / 1e6:,.0f} MB are free in {folder}; free "
            "disk space"
        )


def note_metric(contest: Contest, target: Path, folder: Path) -> None:
    """Write competition.toml into `target` where Kaggle's metric is surely one of ours; else print its name.

    `folder` is what `target` is called later. A competition.toml of the contest's own is left as it is.
    """
    path, metric = target / FILE_NAME, known_metric(contest.metric)
    if path.exists():
        say(f"kaggle: {folder / FILE_NAME} came with the contest and is used as it is")
    elif metric:
        path.write_text(
            f"# Written by ./run.sh kaggle {contest.slug}; change it as you like.\n"
            f"# Kaggle's name of the metric: {contest.metric}\n"
            f'metric = "{metric}"\n',
            encoding="utf-8",
        )
        say(f"kaggle: {folder / FILE_NAME}: metric = \"{metric}\", Kaggle's '{contest.metric}'")
    else:
        say(
            f"kaggle: the metric '{contest.metric}' is not surely one of ours, and none is noted; "
            f'docs/tasks.md lists ours, and {folder / FILE_NAME} takes one: metric = "…"'
        )
