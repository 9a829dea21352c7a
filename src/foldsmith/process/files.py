"""Files that are written atomically, and their digests."""

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from foldsmith.errors import InputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces `path` only if the block succeeds.

    The content is synced to disk before it is renamed, so that a crash leaves the old file or the new one.
    Raise OSError if the disk is at fault, even if the block raised another exception for it.
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
            _raise_if_disk_full(temporary, error)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _raise_if_disk_full(path: Path, error: Exception) -> None:
    """Raise OSError if a full disk caused `error`, which libraries report by exceptions of their own.

    Libraries in Rust include the error number in the message. For others, appending to the file shows it.
    """
    os_error = re.search(r"\(os error ([0-9]+)\)", str(error))
    if os_error:
        raise OSError(int(os_error[1]), os.strerror(int(os_error[1])), str(path)) from error
    with path.open("ab") as file:
        file.write(bytes(2**20))
        file.flush()
        os.fsync(file.fileno())


def remove_leftovers(folder: Path) -> None:
    """Remove half-written files of killed processes from a folder."""
    for path in folder.rglob(".*.part"):
        if not is_being_written(path):
            path.unlink(missing_ok=True)


def is_being_written(temporary: Path) -> bool:
    """Return whether another process of this machine, whose number is in the name, is writing it."""
    number = temporary.name.split(".")[-2]
    return number.isdigit() and int(number) != os.getpid() and Path(f"/proc/{number}").exists()


def remove_checkpoints(path: Path) -> None:
    """Remove a checkpoint, the previous one, and copies that were set aside."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()


def atomic_copy(source: Path, path: Path) -> None:
    """Copy a file's bytes atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(source.read_bytes())


def save_json(path: Path, value: Any) -> None:
    """Save a value as JSON. Raise ValueError for NaN and infinities, which JSON lacks."""
    with atomic_write(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    """Return the value of a JSON file that foldsmith wrote. Raise InputError if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is damaged ({error}); remove it and run the stage that writes it again."
        ) from error


def save_csv(path: Path, table: pd.DataFrame) -> None:
    """Save a table. If a text has a carriage return, which would end the line, all texts are quoted."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        append_csv(file, table)


def append_csv(file: TextIO, table: pd.DataFrame) -> None:
    """Append the rows of a table to an open file, with a header if it is empty; quoted as by `save_csv`."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    returns = any(texts[column].astype(str).str.contains("\r", regex=False).any() for column in texts)
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    table.to_csv(file, header=not file.tell(), index=False, lineterminator="\n", quoting=quoting)


def save_npz(destination: Path, **arrays: np.ndarray) -> None:
    """Save arrays uncompressed. Same arrays, same bytes: numpy writes no timestamp into the archive."""
    with atomic_write(destination) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Load all arrays. Raise ValueError for arrays of objects, which would be unpickled."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Save pixels uint8 (H, W, 3), RGB, as PNG."""
    import cv2

    encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a value's JSON text with sorted keys: equal values have equal digests."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def atomic_folder(path: Path, mark: str) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that replaces `path` only if the block succeeds.

    Raise InputError if `path` holds other things: not the file `mark`, which such a folder has.
    """
    if path.exists() and not (path / mark).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there and no earlier result of this command; name another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    former = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.replace(former)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
