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
from foldsmith.tasks.metrics import METRICS

IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2", ".ppm",
    ".pgm",
}  # fmt: skip
Spelling = Callable[[PurePosixPath], str]
# how label files and samples write images, `train/` and `test/` with them or not
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
    """What `competition.toml` may say where it cannot be guessed; empty = guess."""

    metric: str = "accuracy"
    labels: str = ""  # the label file
    id_column: str = ""
    label_column: str = ""
    group_column: str = ""  # images with the same value never stand in different folds


@dataclass(frozen=True)
class Competition:
    """A folder with `train/`, `test/` and labels. Images are named by path, like `train/0.jpg`; so are
    `other_files` beside them, whose names do not end like an image's."""

    folder: Path
    settings: Settings
    train_images: list[str]
    test_images: list[str]
    other_files: Sequence[str] = ()


def read_competition(folder: Path) -> Competition:
    """List a competition folder. Raise InputError if it is not one."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.{_neighbours_of(folder)}")
    files = {part: list_files(folder, part) for part in ("train", "test")}
    images = {part: [file for file in names if is_image(file)] for part, names in files.items()}
    others = [printable(file) for names in files.values() for file in names if not is_image(file)]
    settings = read_settings(folder)
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise InputError(
                f"{folder} has no folder {part}/; a competition folder holds train/ and test/ images."
            )
        if not images[part]:
            raise InputError(f"{folder / part} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return Competition(folder, settings, images["train"], images["test"], others)


def _neighbours_of(folder: Path) -> str:
    """Return a sentence with the folders beside one that is not there, if there are any."""
    parent = folder.parent
    near = sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []
    return f" {parent} holds: {', '.join(near)}." if near else ""


def read_settings(folder: Path) -> Settings:
    """Reads `competition.toml`, if there is one."""
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
            raise InputError(f"{path}: {key} takes a text in quotes, not {value!r}.")
    settings = Settings(**values)
    if settings.metric not in METRICS:
        raise unknown_name(f"metric in {path}:", settings.metric, METRICS)
    return settings


def is_image(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES


def list_files(folder: Path, part: str) -> list[str]:
    """Every visible file under `folder/part`, at any depth and through links, as `part/…` paths in natural
    order.

    Raises InputError for a folder that may not be read, whose images would be missed, and for an image whose
    name is not UTF-8, which no label file could spell.
    """
    if not (folder / part).is_dir():
        return []
    found, entered = [], set()
    for parent, directories, names in os.walk(folder / part, onerror=_refuse_folder, followlinks=True):
        place = os.path.realpath(parent)
        if place in entered:  # a link that leads back
            directories.clear()
            continue
        entered.add(place)
        directories[:] = [name for name in directories if not name.startswith(".")]
        inside = Path(parent).relative_to(folder)
        found += [(inside / name).as_posix() for name in names if not name.startswith(".")]
    for path in filter(is_image, found):
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InputError(f"{folder} holds a file whose name is not UTF-8: {path!r}; rename it.") from None
    return sorted(found, key=natural_key)


def _refuse_folder(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error


def match_ids(ids: Iterable[str], images: Iterable[str], source: Path | None = None) -> list[str | None]:
    """Return the image each id names, or None.

    Ids are paths or bare names, with or without extension, all in one way: that which matches most of them.
    An id that names nothing as it is may mean it by `./` or backslashes. Raise InputError, with the file
    that is their `source`, if an id could name two images.
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
    """Return the images that have a spelling, by that spelling."""
    named: dict[str, list[str]] = {}
    for path in paths:
        named.setdefault(spelling(path), []).append(path.as_posix())
    return named


def _refuse_ambiguous(ids: Sequence[str], found: Sequence[Sequence[str]], source: Path | None) -> None:
    for name, meant in zip(ids, found, strict=True):
        if len(meant) > 1:
            where = f"{source}: " if source else ""
            raise InputError(
                f"{where}the id '{name}' could name {first_of(meant)}; give ids with folder and extension."
            )


def read_table(path: Path) -> pd.DataFrame:
    """A CSV from outside, every cell as the text it is; the index is the line a row ends on.

    Raises InputError if it is none, or if rows and header differ in length.
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
    Entries(path, len(rows), "line").refuse(uneven, what, "mend them (is a comma not in quotes?).")
    return pd.DataFrame(
        [cells for _, cells in rows], columns=header, index=[line for line, _ in rows], dtype=str
    )


def find_tables(folder: Path, suffix: str) -> list[Path]:
    """The files of a competition folder with this suffix, in the order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix and path.is_file() and not path.name.startswith(".")
    )


def sample_submission_path(folder: Path) -> Path | None:
    """`sample_submission.csv`, also as `sampleSubmission.csv`."""
    for path in find_tables(folder, ".csv"):
        if path.stem.lower().replace("_", "").replace("-", "") == "samplesubmission":
            return path
    return None
