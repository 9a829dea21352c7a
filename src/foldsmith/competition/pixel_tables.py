"""Images inside tables, written out as files once: pixels in a CSV, and bytes in Parquet."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.competition.listing import Listing, subset_of
from foldsmith.errors import InputError, first_of
from foldsmith.process.files import digest_of
from foldsmith.process.locks import wait_for_lock
from foldsmith.process.terminal import progress, say

LEAST_PIXELS = 64  # numbers in a row that make an image
CHUNK = 2000  # rows of a CSV in memory at a time
PARQUET = ".parquet"
MAGIC = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
}


@dataclass(frozen=True)
class PixelTable:
    """A table with an image a row; `subset` is train or test, or the column that says which."""

    path: str
    subset: str
    subset_column: str = ""


def find_pixel_tables(root: Path, listing: Listing) -> list[PixelTable]:
    """Return the tables of images in a folder without image files; none where there are image files."""
    if listing.images:
        return []
    found = []
    for path in [*listing.tables, *(other for other in listing.others if other.lower().endswith(PARQUET))]:
        if path.lower().endswith(PARQUET):
            found.append(PixelTable(path, subset_of(path) or "train"))
        elif path.lower().endswith(".csv") and (columns := _csv_columns(root / path)) is not None:
            said = subset_of(Path(path).name)
            column = next((name for name in columns[1] if _says_subset(root / path, name)), "")
            found.append(PixelTable(path, said or "train", "" if said else column))
    return found


def _csv_columns(path: Path) -> tuple[list[str], list[str]] | None:
    """Return the columns with pixels and the other columns of a CSV; None if it holds no images."""
    try:
        head = pd.read_csv(path, nrows=3, dtype=str, keep_default_na=False)
    except (ValueError, OSError):  # another reader says what is wrong with the table
        return None
    if head.empty:
        return None
    _refuse_headless(path)
    one = [name for name in head if len(str(head[name].iloc[0]).split()) >= LEAST_PIXELS]
    if len(one) == 1:
        return one, [name for name in head if name not in one]
    numbered = [
        name for name in head if re.fullmatch(r"(pixel|px|p|x|col|f)?[_ ]?\d+(x\d+)?", name.strip(), re.I)
    ]
    if len(numbered) < LEAST_PIXELS:
        return None
    return numbered, [name for name in head if name not in numbered]


def _refuse_headless(path: Path) -> None:
    """Raise InputError if the first line of a table holds numbers that repeat, as pixels do."""
    with path.open(encoding="utf-8-sig") as file:
        cells = file.readline().strip().split(",")
    if len(cells) > LEAST_PIXELS and all(cell.isdigit() for cell in cells) and len({*cells}) < len(cells):
        raise InputError(
            f"{path} has no header: its first line has {len(cells)} numbers, which are an image; add a first "
            f"line such as label,{','.join(f'pixel{n}' for n in range(3))},…,pixel{len(cells) - 2}."
        )


def _says_subset(path: Path, name: str) -> bool:
    """Return whether every cell of a column says training, validation or test."""
    cells = pd.read_csv(path, usecols=[name], dtype=str, keep_default_na=False)[name].unique()
    return 2 <= len(cells) <= 4 and all(subset_of(cell) or "test" in cell.lower() for cell in cells)


def write_pixel_tables(
    folder: Path, root: Path, tables: list[PixelTable], cache: Path
) -> tuple[Path, list[str]]:
    """Return the folder in `cache` with the images of the tables as files, and sentences on them.

    Images are named by the column `id` or by the number of their row, counted from 1, below train/ and
    test/. Beside them lie train.csv and, with columns, test.csv: `id` and the columns that are no pixels; and
    links to the other files of `root`. Raise InputError for rows that are no images.
    """
    states = [[table.path, *_state(root / table.path)] for table in tables]
    target = cache / f"unpacked-{digest_of([str(folder.resolve()), states])[:16]}"
    if not target.is_dir():
        with wait_for_lock(cache / f".{target.name}.lock", "writes the images of these tables"):
            if not target.is_dir():
                _build(root, tables, target)
    names = first_of([table.path for table in tables])
    return target, [f"the images inside {names} are written to {target}, named by id or row"]


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _build(root: Path, tables: list[PixelTable], target: Path) -> None:
    """Write the images into a temporary folder, link the other files, and rename it to `target`."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    rows: dict[str, list[pd.DataFrame]] = {"train": [], "test": []}
    try:
        with progress("writing images", len(tables), "tables") as advance:
            for table in tables:
                read = _read_parquet if table.path.lower().endswith(PARQUET) else _read_csv
                for frame, images in read(root / table.path):
                    _write_rows(temporary, table, frame, images, rows)
                advance(1)
        for subset, frames in rows.items():
            if frames and (subset == "train" or len(frames[0].columns) > 1):
                pd.concat(frames).to_csv(temporary / f"{subset}.csv", index=False)
        used = {table.path for table in tables}
        for entry in root.iterdir():
            if entry.name not in used and not (temporary / entry.name).exists():
                (temporary / entry.name).symlink_to(entry.resolve())
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    counts = {subset: sum(map(len, frames)) for subset, frames in rows.items()}
    say(f"prepare: wrote {counts['train']:,} training and {counts['test']:,} test images into {target}")


def _write_rows(
    target: Path,
    table: PixelTable,
    frame: pd.DataFrame,
    images: Iterable[tuple[bytes, str]],
    rows: dict[str, list[pd.DataFrame]],
) -> None:
    """Write the images of a chunk of rows, and append their other columns, with `id` first, to `rows`."""
    subsets = [table.subset] * len(frame)
    if table.subset_column:
        subsets = ["train" if subset_of(cell) == "train" else "test" for cell in frame[table.subset_column]]
    for subset in ("train", "test"):
        (target / subset).mkdir(exist_ok=True)
    names = []
    for subset, identity, (content, suffix) in zip(subsets, frame["id"], images, strict=True):
        names.append(f"{Path(str(identity)).stem}{suffix}")
        (target / subset / names[-1]).write_bytes(content)
    labelled = frame.assign(id=[Path(name).stem for name in names], subset=subsets)
    kept = [name for name in labelled if name not in ("subset", table.subset_column)]
    for subset, group in labelled.groupby("subset"):
        rows[subset].append(group[["id", *(name for name in kept if name != "id")]])


def _read_csv(path: Path) -> Iterator[tuple[pd.DataFrame, Iterator[tuple[bytes, str]]]]:
    """Yield the columns that are no pixels, `id` among them, and the PNG images of each chunk of rows."""
    import cv2

    pixels, others = _csv_columns(path)
    start, text = 1, dict.fromkeys(others, str)
    with pd.read_csv(path, chunksize=CHUNK, dtype=text, keep_default_na=False) as chunks:
        for chunk in chunks:
            values = _pixel_values(path, chunk, pixels)
            frame = chunk[others].rename(
                columns={name: "id" for name in others if name.strip().lower() == "id"}
            )
            if "id" not in frame:
                frame.insert(0, "id", [str(number) for number in range(start, start + len(chunk))])
            start += len(chunk)
            arrays = values.round().astype(np.uint8).reshape(-1, *_image_shape(path, values.shape[1]))
            yield frame, ((cv2.imencode(".png", array)[1].tobytes(), ".png") for array in arrays)


def _pixel_values(path: Path, chunk: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Return the pixels of the rows, float64 (rows, pixels), from one column or a column a pixel."""
    if len(columns) > 1:
        values = chunk[columns].to_numpy(np.float64)
    else:
        rows = [np.array(text.split(), np.float64) for text in chunk[columns[0]]]
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            raise InputError(f"{path}: rows hold {first_of(sorted(lengths))} pixels, and not all as many.")
        values = np.stack(rows)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise InputError(
            f"{path}: pixels must lie between 0 and 255; found {values.min():g} to {values.max():g}."
        )
    return values


def _image_shape(path: Path, count: int) -> tuple[int, int]:
    """Return the sides of a square grey image of so many pixels. Raise InputError if there is none."""
    side = int(count**0.5)
    if side * side != count:
        raise InputError(
            f"{path} has {count} pixels a row, which is no square; convert the rows to image files in train/ "
            "and test/, and a CSV with the columns id,label."
        )
    return side, side


def _read_parquet(path: Path) -> Iterator[tuple[pd.DataFrame, Iterator[tuple[bytes, str]]]]:
    """Yield the columns that are no images, `id` among them, and the image files of each row group."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"{path}: images in Parquet need pyarrow: .venv/bin/python -m pip install -r "
            "requirements-forms.txt"
        ) from None
    file = parquet.ParquetFile(path)
    names = _class_names(file.schema_arrow.metadata)
    start = 1
    for batch in file.iter_batches(CHUNK):
        frame = batch.to_pandas()
        column = next((name for name in frame if _bytes_of(frame[name].iloc[0]) is not None), None)
        if column is None:
            raise InputError(
                f"{path} has no column with the bytes of images; its columns: {first_of(frame, 10)}."
            )
        contents = [_bytes_of(cell) for cell in frame[column]]
        if any(content is None for content in contents):
            raise InputError(f"{path}: column '{column}' has rows without an image; remove them.")
        others = frame.drop(columns=column)
        for name, words in names.items():
            if name in others:
                others[name] = [words[int(label)] for label in others[name]]
        if "id" not in others:
            others.insert(0, "id", [f"{path.stem}-{number}" for number in range(start, start + len(frame))])
        start += len(frame)
        yield others.astype(str), ((content, _suffix_of(content)) for content in contents)


def _bytes_of(cell: object) -> bytes | None:
    """Return the bytes of an image in a cell: of the cell itself, or of its entry `bytes`."""
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    return cell if isinstance(cell, bytes) else None


def _suffix_of(content: bytes) -> str:
    return next((suffix for magic, suffix in MAGIC.items() if content.startswith(magic)), ".img")


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the class names of label columns, as a data set of Hugging Face holds them."""
    import json

    features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
    }
