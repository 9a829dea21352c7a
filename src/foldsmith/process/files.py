"""Files that are written whole or not at all, and their digests."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.errors import InputError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its name only if the block succeeds.

    The content reaches the disk before the name does, so that a crash leaves the old file or the new one.
    Raises OSError if the disk is at fault, whatever the block made of that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception as error:
        if getattr(error, "errno", None) is None and not isinstance(error, InputError):
            _refuse_full_disk(temporary, error)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_full_disk(path: Path, error: Exception) -> None:
    """Raises OSError if a full disk is behind the error: libraries tell of it in words of their own.

    Those in Rust give its number; of others one learns by writing on.
    """
    told = re.search(r"\(os error ([0-9]+)\)", str(error))
    if told:
        raise OSError(int(told[1]), os.strerror(int(told[1])), str(path)) from error
    with path.open("ab") as file:
        file.write(bytes(2**20))
        file.flush()
        os.fsync(file.fileno())


def remove_leftovers(folder: Path) -> None:
    """Removes half-written files that killed processes left in a folder nobody else works in."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def remove_checkpoints(path: Path) -> None:
    """Removes a checkpoint, the one before it, and what was set aside."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()


def copy_whole(source: Path, path: Path) -> None:
    """Copies a file's bytes."""
    with written_whole(path) as temporary:
        temporary.write_bytes(source.read_bytes())


def save_json(path: Path, value: Any) -> None:
    with written_whole(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    """The value of a JSON file of our own. Raises InputError if somebody damaged it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is damaged ({error}); remove it and run the stage that writes it."
        ) from error


def save_csv(path: Path, table: pd.DataFrame) -> None:
    """Saves a table. A carriage return would end a line: where a text has one, all texts stand in quotes."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    returns = any(texts[column].astype(str).str.contains("\r", regex=False).any() for column in texts)
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    with written_whole(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", quoting=quoting)


def save_npz(destination: Path, **arrays: np.ndarray) -> None:
    """Saves arrays uncompressed. Same arrays, same bytes: numpy stamps no time into the archive."""
    with written_whole(destination) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Saves pixels uint8 (H, W, 3), RGB."""
    import cv2

    encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1]
    with written_whole(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a value's JSON text, with sorted keys: equal values, equal digests."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
