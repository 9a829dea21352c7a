"""A competition folder: its layout, its settings, its images and its sample submission."""

import csv
import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import NoReturn

import pandas as pd

from foldsmith.errors import Entries, InputError, first_of, unknown_name
from foldsmith.natural_order import natural_key
from foldsmith.process.terminal import printable
from foldsmith.tasks.metrics import find_metric, is_custom

IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2", ".ppm",
    ".pgm",
}  # fmt: skip
Spelling = Callable[[PurePosixPath], str]
# how label files and sample submissions write an image, with and without `train/` or `test/`
SPELLINGS: tuple[Spelling, ...] = (
    lambda path: PurePosixPath(*path.parts[1:]).as_posix(),
    lambda path: PurePosixPath(*path.parts[1:]).with_suffix("").as_posix(),
    lambda path: path.name,
    lambda path: path.stem,
    lambda path: path.as_posix(),
    lambda path: path.with_suffix("").as_posix(),
)


@dataclass(frozen=True)
class Settings:
    """The keys of `competition.toml`. An empty one is guessed from the files."""

    metric: str = ""
    labels: str = ""  # the label file
    id_column: str = ""
    label_column: str = ""
    group_column: str = ""  # images with the same value are in the same fold; empty: no groups


@dataclass(frozen=True)
class Competition:
    """A folder with `train/`, `test/` and labels.

    Images are named by their path in the folder, such as `train/0.jpg`. `other_files` are the files in
    `train/` and `test/` without an image suffix.
    """

    folder: Path
    settings: Settings
    train_images: list[str]
    test_images: list[str]
    other_files: Sequence[str] = ()


def read_competition(folder: Path) -> Competition:
    """List a competition folder. Raise InputError if it is not one."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.{_neighbours_of(folder)}")
    files = {split: list_files(folder, split) for split in ("train", "test")}
    images = {split: [file for file in names if is_image(file)] for split, names in files.items()}
    others = [printable(file) for names in files.values() for file in names if not is_image(file)]
    settings = read_settings(folder)
    for split in ("train", "test"):
        if not (folder / split).is_dir():
            raise InputError(
                f"{folder} has no folder {split}/; a competition folder has images in train/ and test/."
            )
        if not images[split]:
            raise InputError(f"{folder / split} has no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return Competition(folder, settings, images["train"], images["test"], others)


def _neighbours_of(folder: Path) -> str:
    """Return a sentence that lists the folders beside a missing folder; empty if there are none."""
    parent = folder.parent
    near = sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []
    return f" {parent} holds: {', '.join(near)}." if near else ""


def read_settings(folder: Path) -> Settings:
    """Read `competition.toml`, if there is one. Raise InputError for unknown keys and wrong values."""
    path = folder / "competition.toml"
    if not path.is_file():
        return Settings()
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # tomllib's own error is a ValueError
        raise InputError(f"{path} is not valid TOML: {error}.") from error
    known = [field.name for field in fields(Settings)]
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"key in {path}:", key, known)
        if not isinstance(value, str):
            raise InputError(f"{path}: {key} takes text in quotes, not {value!r}.")
    settings = Settings(**values)
    if "metric" in values:
        _check_metric(path, settings.metric)
    return settings


def _check_metric(path: Path, metric: str) -> None:
    """Raise InputError for an unknown metric, and for a file: a competition folder must not bring code."""
    if is_custom(metric):
        raise InputError(
            f"{path}: metric is '{metric}'; a function of your own is named on the command line only: "
            f"--metric {metric}"
        )
    try:
        find_metric(metric)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def is_image(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES


def list_files(folder: Path, split: str) -> list[str]:
    """Return the visible files under `folder/split`, at any depth and through links, in natural order.

    Paths start with `split`. Raise InputError for a folder without read permission, whose images would be
    missed, and for an image whose name is not UTF-8, which no label file can spell.
    """
    if not (folder / split).is_dir():
        return []
    found, entered = [], set()
    for parent, directories, names in os.walk(folder / split, onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:  # a link to a folder above it
            directories.clear()
            continue
        entered.add(real)
        directories[:] = [name for name in directories if not name.startswith(".")]
        inside = Path(parent).relative_to(folder)
        found += [(inside / name).as_posix() for name in names if not name.startswith(".")]
    for path in filter(is_image, found):
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InputError(f"{folder} has a file whose name is not UTF-8: {path!r}; rename it.") from None
    return sorted(found, key=natural_key)


def _refuse_folder(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error


def match_ids(ids: Iterable[str], images: Iterable[str], source: Path | None = None) -> list[str | None]:
    """Return the image that each id names, or None.

    Ids are paths or bare names, with or without extension. All are read in the spelling that matches most of
    them. An id that matches nothing is tried again without `./` and with slashes for backslashes. Raise
    InputError, naming the `source` of the ids, if an id matches two images.
    """
    ids, paths = list(ids), [PurePosixPath(image) for image in images]
    plain = [PurePosixPath(name.replace("\\", "/")).as_posix() for name in ids]
    found: list[list[str]] = [[] for _ in ids]
    most = 0
    for spelling in SPELLINGS:
        named = _group_by_spelling(paths, spelling)
        spelled = [named.get(name) or named.get(other, []) for name, other in zip(ids, plain, strict=True)]
        matched = sum(map(bool, spelled))
        if matched > most:
            found, most = spelled, matched
        if most == len(ids):
            break
    _refuse_ambiguous(ids, found, source)
    return [meant[0] if meant else None for meant in found]


def _group_by_spelling(paths: Iterable[PurePosixPath], spelling: Spelling) -> dict[str, list[str]]:
    """Return the images by their spelling."""
    named: dict[str, list[str]] = {}
    for path in paths:
        named.setdefault(spelling(path), []).append(path.as_posix())
    return named


def _refuse_ambiguous(ids: Sequence[str], found: Sequence[Sequence[str]], source: Path | None) -> None:
    """Raise InputError if an id names two images."""
    for name, meant in zip(ids, found, strict=True):
        if len(meant) > 1:
            where = f"{source}: " if source else ""
            raise InputError(
                f"{where}the id '{name}' matches {first_of(meant)}; write ids with folder and extension."
            )


def read_table(path: Path) -> pd.DataFrame:
    """Read a user's CSV with every cell as text; the index is the line that a row ends on.

    Raise InputError if it is not a valid CSV, or if a row and the header differ in length.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a valid CSV file: {error}.") from error
    if not lines:
        raise InputError(f"{path} is not a valid CSV file: it is empty.")
    header, rows = lines[0][1], lines[1:]
    uneven = [line for line, cells in rows if len(cells) != len(header)]
    what = f"have more or fewer cells than the header, {len(header)}"
    Entries(path, len(rows), "line").refuse(uneven, what, "correct them (a text with commas needs quotes).")
    return pd.DataFrame(
        [cells for _, cells in rows], columns=header, index=[line for line, _ in rows], dtype=str
    )


def find_tables(folder: Path, suffix: str) -> list[Path]:
    """Return the visible files with this suffix directly in a competition folder, sorted by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix and path.is_file() and not path.name.startswith(".")
    )


def sample_submission_path(folder: Path) -> Path | None:
    """Return the path of `sample_submission.csv`, also spelled `sampleSubmission.csv`, or None."""
    for path in find_tables(folder, ".csv"):
        if path.stem.lower().replace("_", "").replace("-", "") == "samplesubmission":
            return path
    return None
