"""Images inside tables, written out as files once: pixels in CSV, Parquet and idx, files in Parquet."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition.cached_folder import fill_once, link_rest
from foldsmith.competition.listing import Listing, folder_subset, subset_of
from foldsmith.competition.pixel_readers import (
    IDX_IMAGES,
    csv_columns,
    is_idx,
    labels_beside,
    read_csv,
    read_idx,
    read_parquet,
)
from foldsmith.competition.settings import FILE_NAME, Settings
from foldsmith.errors import InputError, first_of
from foldsmith.process.files import digest_of, digest_of_file
from foldsmith.process.terminal import progress, say

PARQUET, IDX = ".parquet", "idx"
FEW_IMAGES = 10  # images that illustrate a folder of tables
ID_NAMES = ("id", "image_id", "imageid", "image_name", "id_code", "filename", "file_name")
READERS = {".csv": read_csv, PARQUET: read_parquet, IDX: read_idx}


@dataclass(frozen=True)
class PixelTable:
    """A table with an image a row; `subset` is train or test, or the column that says which.

    The subset of a table that is not used is empty. `kind` names the reader. `numbered` says that images
    without an id are named by their row alone, which only one table of a subset can have.
    """

    path: str
    kind: str
    subset: str
    subset_column: str = ""
    numbered: bool = True


def find_pixel_tables(root: Path, listing: Listing, settings: Settings) -> list[PixelTable]:
    """Return the tables of images in a folder without image files, or with a few beside them.

    Tables that are not used, such as second copies, are returned with an empty `subset`. Raise InputError if
    a table for both subsets stands beside tables for each, and settings do not decide.
    """
    if len(listing.images) > FEW_IMAGES or any(map(folder_subset, listing.images)):
        return []
    paths = [*listing.tables, *listing.others]
    tables = [table for path in paths if (table := _pixel_table(root, path)) is not None]
    found = _without_copies(root, tables)
    kinds = {table.kind for table in found}
    if IDX in kinds and len(kinds) > 1:  # the same images in two forms
        found = [table for table in found if table.kind != IDX]
    found = _named(found, settings) or _with_subsets(found)
    _refuse_both(root, found)
    counts = Counter(table.subset for table in found)
    used = [replace(table, numbered=counts[table.subset] == 1 and table.kind != PARQUET) for table in found]
    rest = {table.path for table in tables} - {table.path for table in found}
    return used + [replace(table, subset="", subset_column="") for table in tables if table.path in rest]


def _named(tables: list[PixelTable], settings: Settings) -> list[PixelTable]:
    """Return the tables that train_images and test_images in competition.toml name."""
    patterns = {"train": settings.train_images, "test": settings.test_images}
    return [
        replace(table, subset=subset, subset_column="")
        for table in tables
        for subset in patterns
        if any(fnmatch.fnmatchcase(table.path, pattern) for pattern in patterns[subset])
    ]


def _refuse_both(root: Path, tables: list[PixelTable]) -> None:
    """Raise InputError if a table that is divided by a column stands beside others."""
    both, single = ([table for table in tables if bool(table.subset_column) == divided] for divided in (1, 0))
    if both and single:
        firsts = {table.subset: table.path for table in reversed(single)}
        lines = [f'{subset}_images = ["{path}"]' for subset, path in sorted(firsts.items(), reverse=True)]
        raise InputError(
            f"{root}: {both[0].path} holds training and test images by its column '{both[0].subset_column}', "
            f"and {first_of([table.path for table in single])} hold images too; remove one or the other, or "
            f"write {' and '.join(lines)} into {FILE_NAME}."
        )


def _with_subsets(tables: list[PixelTable]) -> list[PixelTable]:
    """Return the tables that are used, each with train or test or the column that says which.

    Validation images are training images, or the test images where there are no others. A table whose name
    says nothing holds training images, unless another table says that it does.
    """
    said = {table.subset for table in tables}
    validation = "train" if "test" in said or any(table.subset_column for table in tables) else "test"
    subsets = {"val": validation, "": "" if "train" in said else "train"}
    chosen = [replace(table, subset=subsets.get(table.subset, table.subset)) for table in tables]
    return [table for table in chosen if table.subset or table.subset_column]


def names_tables(settings: Settings, tables: list[PixelTable]) -> bool:
    """Return whether train_images or test_images in competition.toml name tables rather than folders."""
    patterns = [*settings.train_images, *settings.test_images]
    return any(fnmatch.fnmatchcase(table.path, pattern) for table in tables for pattern in patterns)


def _without_copies(root: Path, tables: list[PixelTable]) -> list[PixelTable]:
    """Return the tables without second copies, which lie deeper or are called alike."""
    kept: dict[tuple[str, int], list[PixelTable]] = {}
    for table in sorted(tables, key=lambda table: table.path.count("/")):
        name = re.sub(r"[\W_]", "", PurePosixPath(table.path).name.lower())
        alike = kept.setdefault((name, (root / table.path).stat().st_size), [])
        digests = [digest_of_file(root / other.path) for other in alike]
        if not alike or digest_of_file(root / table.path) not in digests:
            alike.append(table)
    chosen = {table.path for alike in kept.values() for table in alike}
    return [table for table in tables if table.path in chosen]


def _pixel_table(root: Path, path: str) -> PixelTable | None:
    """Return how a file holds images; None if it holds none."""
    name, suffix = PurePosixPath(path).name, PurePosixPath(path).suffix.lower()
    said = "test" if "t10k" in name else subset_of(name)
    if suffix == PARQUET:
        return PixelTable(path, PARQUET, subset_of(path))
    if suffix == ".csv" and (columns := csv_columns(root / path)) is not None:
        column = next((name for name in columns[1] if _says_subset(root / path, name)), "")
        return PixelTable(path, ".csv", said, "" if said else column)
    if "idx3" in name.lower() and is_idx(root / path, IDX_IMAGES):
        return PixelTable(path, IDX, said)
    return None


def _says_subset(path: Path, name: str) -> bool:
    """Return whether every cell of a column says training, validation or test."""
    cells = pd.read_csv(path, usecols=[name], dtype=str, keep_default_na=False)[name].unique()
    return 2 <= len(cells) <= 4 and all(subset_of(cell) or "test" in cell.lower() for cell in cells)


def write_pixel_tables(
    folder: Path, root: Path, tables: list[PixelTable], cache: Path
) -> tuple[Path, list[str]]:
    """Return the folder in `cache` with the images of the tables as files, and sentences on them.

    Images are named by the column of ids, or by the number of their row, counted from 1, below train/ and
    test/. Beside them lie train.csv and test.csv, `id` and the columns that are no pixels, if there are any;
    and links to the other files of `root`. Raise InputError for rows that are no images.
    """
    states = [[table.path, *_state(root / table.path)] for table in tables]
    target = cache / f"unpacked-{digest_of([str(folder.resolve()), states])[:16]}"
    said = fill_once(target, "writes the images of these tables", lambda new: _write(root, tables, new))
    if said:
        say(f"prepare: {said} into {target}")
    names = first_of([table.path for table in tables if table.subset])
    evidence = [f"the images inside {names} are written to {target}, named by id or row"]
    for table in tables:
        if not table.subset:
            evidence.append(f"{table.path} is not used: a copy, or neither train nor test by its name")
        elif subset_of(PurePosixPath(table.path).name) == "val":
            used = "training" if table.subset == "train" else "test"
            evidence.append(f"the validation images of {table.path} count as {used} images")
    return target, evidence


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _write(root: Path, tables: list[PixelTable], target: Path) -> str:
    """Write the images of the tables into an empty folder, link the other files, and return what was done."""
    rows: dict[str, list[pd.DataFrame]] = {"train": [], "test": []}
    for subset in rows:
        (target / subset).mkdir()
    used = {root / table.path for table in tables}
    tables = [table for table in tables if table.subset]
    with progress("writing images", len(tables), "tables") as advance:
        for table in tables:
            start = 1
            for frame, images in READERS[table.kind](root / table.path):
                _write_rows(target, table, _with_ids(frame, table, start), images, rows)
                start += len(frame)
            advance(1)
    used |= {other for table in tables if table.kind == IDX and (other := labels_beside(root / table.path))}
    for subset, frames in rows.items():
        if frames and len(frames[0].columns) > 1:
            taken = (root / f"{subset}.csv").exists() and root / f"{subset}.csv" not in used
            name = f"{subset}_rows.csv" if taken else f"{subset}.csv"
            pd.concat(frames).to_csv(target / name, index=False)
    link_rest(root, target, used)
    counts = {subset: sum(map(len, frames)) for subset, frames in rows.items()}
    return f"wrote {counts['train']:,} training and {counts['test']:,} test images"


def _with_ids(frame: pd.DataFrame, table: PixelTable, start: int) -> pd.DataFrame:
    """Return the columns beside the images with `id` first: the column of ids, else the number of the row."""
    known = [name for wanted in ID_NAMES for name in frame if name.strip().lower() == wanted]
    if known:
        rest = frame.drop(columns=known[0])
        return pd.concat([frame[known[0]].astype(str).rename("id"), rest], axis=1)
    stem = "" if table.numbered else f"{PurePosixPath(table.path).stem}-"
    frame = frame.copy()
    frame.insert(0, "id", [f"{stem}{number}" for number in range(start, start + len(frame))])
    return frame


def _write_rows(
    target: Path,
    table: PixelTable,
    frame: pd.DataFrame,
    images: Iterable[tuple[bytes, str]],
    rows: dict[str, list[pd.DataFrame]],
) -> None:
    """Write the images of a chunk of rows, and append their other columns, with `id` first, to `rows`.

    Raise InputError if two rows have one id: an image would overwrite the other.
    """
    subsets = [table.subset] * len(frame)
    if table.subset_column:
        subsets = ["train" if subset_of(cell) == "train" else "test" for cell in frame[table.subset_column]]
    names = []
    for subset, identity, (content, suffix) in zip(subsets, frame["id"], images, strict=True):
        names.append(f"{Path(str(identity)).stem}{suffix}")
        path = target / subset / names[-1]
        if path.exists():
            raise InputError(f"{table.path}: the id '{identity}' occurs twice in {subset}; correct it.")
        path.write_bytes(content)
    labelled = frame.assign(id=[Path(name).stem for name in names], subset=subsets)
    kept = [name for name in labelled if name not in ("subset", table.subset_column)]
    for subset, group in labelled.groupby("subset"):
        rows[subset].append(group[["id", *(name for name in kept if name != "id")]])
