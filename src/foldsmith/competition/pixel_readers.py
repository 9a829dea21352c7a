"""Read the images inside tables chunk by chunk: pixels in CSV and Parquet, files in Parquet, MNIST's idx."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.errors import InputError, first_of

LEAST_PIXELS = 64  # numbers in a row that make an image
CHUNK = 2000  # rows in memory at a time
CLEARLY_SMOOTHER = 0.8  # ratio of the differences between neighbours under two readings of the pixels
MAGIC = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
}
IDX_IMAGES, IDX_LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"
# the columns beside the images of some rows, and those images as files with their endings
Chunk = tuple[pd.DataFrame, Iterable[tuple[bytes, str]]]


# --- pixels
def csv_columns(path: Path) -> tuple[list[str], list[str]] | None:
    """Return the columns with pixels and the other columns of a CSV; None if it holds no images."""
    try:
        head = pd.read_csv(path, nrows=3, dtype=str, keep_default_na=False)
    except (ValueError, OSError):  # another reader says what is wrong with the table
        return None
    if head.empty:
        return None
    _refuse_headless(path)
    return _pixel_columns(head)


def _pixel_columns(head: pd.DataFrame) -> tuple[list[str], list[str]] | None:
    """Return the columns with pixels, one or many, and the other columns; None without pixels."""
    one = [name for name in head if len(str(head[name].iloc[0]).split()) >= LEAST_PIXELS]
    if len(one) == 1:
        return one, [name for name in head if name not in one]
    pattern = r"(pixels?|px|p|x|col|f)?[_ ]?\d+([x_ ]\d+)?"
    numbered = [name for name in head if re.fullmatch(pattern, name.strip(), re.I)]
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


def read_csv(path: Path) -> Iterator[Chunk]:
    """Yield the columns that are no pixels, and the PNG images, of each chunk of rows."""
    pixels, others = csv_columns(path)
    text = dict.fromkeys(others, str)
    with pd.read_csv(path, chunksize=CHUNK, dtype=text, keep_default_na=False) as chunks:
        for chunk in chunks:
            yield chunk[others], _png_images(path, chunk, pixels)


def _png_images(path: Path, chunk: pd.DataFrame, columns: list[str]) -> Iterator[tuple[bytes, str]]:
    arrays = image_arrays(path, _pixel_values(path, chunk, columns), columns)
    return _encoded(arrays)


def _encoded(arrays: Iterable[np.ndarray]) -> Iterator[tuple[bytes, str]]:
    import cv2

    for array in arrays:
        pixels = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        yield cv2.imencode(".png", pixels)[1].tobytes(), ".png"


def _pixel_values(path: Path, chunk: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Return the pixels of the rows, float64 (rows, pixels), from one column or a column a pixel.

    They lie between 0 and 255; rows that all lie between 0 and 1 are scaled to that.
    """
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
    return values * 255 if values.max() <= 1 else values


def image_arrays(path: Path, values: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Return rows of pixels, (rows, pixels), as images, uint8 (rows, H, W) or (rows, H, W, 3).

    The shape is the one that the names of the columns say (`pixel_0_13`, `28x28`), else a square, or a square
    of three colours. Raise InputError for any other number of pixels.
    """
    count, pixels = values.shape[1], values.round().astype(np.uint8)
    grid = [match for name in columns if (match := re.search(r"(\d+)[x_ ](\d+)$", name.strip(), re.I))]
    if len(grid) == count:
        rows, cols = ([int(match[axis]) for match in grid] for axis in (1, 2))
        height, width = len(set(rows)), len(set(cols))
        if height * width == count:
            return pixels[:, np.lexsort((cols, rows))].reshape(-1, height, width)
    side, colour_side = round(count**0.5), round((count / 3) ** 0.5)
    if side * side == count:
        return pixels.reshape(-1, side, side)
    if 3 * colour_side**2 == count:
        return _colour_images(path, pixels, colour_side)
    raise InputError(
        f"{path} has {count} pixels a row, which is neither a square nor a square of three colours, and the "
        "names of the columns (such as pixel_0_13 for row 0, column 13) do not say the sides; convert the "
        "rows to image files in train/ and test/, and a CSV with the columns id,label."
    )


def _colour_images(path: Path, pixels: np.ndarray, side: int) -> np.ndarray:
    """Return images of three colours, (rows, side, side, 3), whose colours stand together or in planes.

    The reading under which neighbouring pixels differ less is taken. Raise InputError if neither is clear.
    """
    together = pixels.reshape(-1, side, side, 3)
    planes = pixels.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    rough = [
        np.abs(np.diff(images[:CHUNK].astype(np.int16), axis=1)).mean()
        + np.abs(np.diff(images[:CHUNK].astype(np.int16), axis=2)).mean()
        for images in (together, planes)
    ]
    if rough[0] <= CLEARLY_SMOOTHER * rough[1]:
        return together
    if rough[1] <= CLEARLY_SMOOTHER * rough[0]:
        return np.ascontiguousarray(planes)
    raise InputError(
        f"{path} has {pixels.shape[1]} pixels a row, {side} x {side} of three colours, and the pixels do not "
        "show whether the colours of a pixel stand together or in planes; convert the rows to image files in "
        "train/ and test/, and a CSV with the columns id,label."
    )


# --- Parquet
def read_parquet(path: Path) -> Iterator[Chunk]:
    """Yield the columns that are no images, and the image files or pixels, of each group of rows."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"{path}: images in Parquet need pyarrow: .venv/bin/python -m pip install -r "
            "requirements-forms.txt"
        ) from None
    file = parquet.ParquetFile(path)
    names = _class_names(file.schema_arrow.metadata)
    for batch in file.iter_batches(CHUNK):
        frame = batch.to_pandas()
        column = next((name for name in frame if _bytes_of(frame[name].iloc[0]) is not None), None)
        if column is None:
            yield _pixels_of_frame(path, frame)
            continue
        contents = [_bytes_of(cell) for cell in frame[column]]
        if any(content is None for content in contents):
            raise InputError(f"{path}: column '{column}' has rows without an image; remove them.")
        others = frame.drop(columns=column)
        for name, words in names.items():
            if name in others:
                others[name] = [words[int(label)] for label in others[name]]
        yield others.astype(str), [(content, _suffix_of(content)) for content in contents]


def _pixels_of_frame(path: Path, frame: pd.DataFrame) -> Chunk:
    """Return the images of a Parquet file with a column a pixel. Raise InputError if it has none."""
    found = _pixel_columns(frame.head(1).astype(str))
    if found is None:
        raise InputError(
            f"{path} has no column with the bytes of images, and no columns of pixels; its columns: "
            f"{first_of(frame, 10)}."
        )
    pixels, others = found
    return frame[others].astype(str), _png_images(path, frame, pixels)


def _bytes_of(cell: object) -> bytes | None:
    """Return the bytes of an image in a cell: of the cell itself, or of its entry `bytes`."""
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    return cell if isinstance(cell, bytes) else None


def _suffix_of(content: bytes) -> str:
    return next((suffix for magic, suffix in MAGIC.items() if content.startswith(magic)), ".img")


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the class names of label columns, as a data set of Hugging Face holds them."""
    features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
    }


# --- idx
def is_idx(path: Path, magic: bytes) -> bool:
    """Return whether a file starts like an idx file of images or of labels."""
    with path.open("rb") as file:
        return file.read(4) == magic


def labels_beside(path: Path) -> Path | None:
    """Return the idx file of labels that belongs to one of images, by its name; None without one."""
    wanted = _letters(path.name).replace("images", "labels").replace("idx3", "idx1")
    return next(
        (
            other
            for folder in (path.parent, path.parent.parent)
            for other in sorted(folder.glob("*"))
            if other.is_file() and _letters(other.name) == wanted and is_idx(other, IDX_LABELS)
        ),
        None,
    )


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def read_idx(path: Path) -> Iterator[Chunk]:
    """Yield the labels of the file beside it, and the images, of an idx file (LeCun's MNIST).

    Raise InputError if it is cut off, or if its labels are of another number.
    """
    content = path.read_bytes()
    count, height, width = np.frombuffer(content, ">u4", 3, offset=4).tolist()
    if len(content) != 16 + count * height * width:
        raise InputError(
            f"{path} is cut off: {count} images of {height} x {width} are longer; download it again."
        )
    images = np.frombuffer(content, np.uint8, offset=16).reshape(count, height, width)
    frame, labelled = pd.DataFrame(index=range(count)), labels_beside(path)
    if labelled is not None:
        labels = np.frombuffer(labelled.read_bytes(), np.uint8, offset=8)
        if len(labels) != count:
            raise InputError(f"{labelled} has {len(labels)} labels for {count} images; download both again.")
        frame["label"] = labels.astype(str)
    yield frame, _encoded(images)
