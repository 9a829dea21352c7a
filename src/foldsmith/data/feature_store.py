"""Stored features: what a frozen network computes of every image of a pixel cache, in one view."""

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from foldsmith.process.files import atomic_write, load_json, save_json

FEATURES = "features-"  # prefix of the folders' names, beside those of decoded pixels
VALUES, CHECKSUMS, RECORD = "values.f16", "checksums.npy", "record.json"
UNFILLED = 0  # checksum of a row that is not computed yet


class FeatureStore:
    """Features float16 (N, D) of the images of a pixel cache, in its order; rows are filled as needed.

    Every row has a checksum, which is written after the row: a row of a killed process, or one that was
    changed since, counts as missing and is computed again.
    """

    def __init__(self, path: Path, count: int, width: int, facts: dict[str, Any]) -> None:
        """Open the store, or create it; `facts` say in its record what the features are of."""
        self.path, self.count, self.width = path, count, width
        path.mkdir(parents=True, exist_ok=True)
        if not (path / RECORD).is_file() or load_json(path / RECORD) != facts:
            (path / CHECKSUMS).unlink(missing_ok=True)
            save_json(path / RECORD, facts)
        self._checksums = self._load_checksums()

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Return those of the rows (n,) that are not computed, or not whole; sorted, each once."""
        rows = np.unique(rows)
        filled = rows[self._checksums[rows] != UNFILLED]
        values = self._read(filled)
        damaged = [
            row for row, value in zip(filled, values, strict=True) if self._checksums[row] != _sum(value)
        ]
        self._checksums[damaged] = UNFILLED
        return rows[self._checksums[rows] == UNFILLED]

    def fill(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write the features float16 (n, D) of these rows; `flush` makes them last."""
        descriptor = os.open(self.path / VALUES, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            for row, value in zip(rows.tolist(), np.ascontiguousarray(values, np.float16), strict=True):
                if os.pwrite(descriptor, value.tobytes(), row * self._bytes) != self._bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / VALUES))
                self._checksums[row] = _sum(value)
        finally:
            os.close(descriptor)

    def flush(self) -> None:
        """Write the checksums of all rows so far, after their values."""
        with (self.path / VALUES).open("rb") as file:
            os.fsync(file.fileno())
        with atomic_write(self.path / CHECKSUMS) as temporary, temporary.open("wb") as file:
            np.save(file, self._checksums)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of filled rows, float16 (n, D)."""
        return self._read(rows)

    @property
    def _bytes(self) -> int:
        return 2 * self.width

    def _read(self, rows: np.ndarray) -> np.ndarray:
        values = np.zeros((len(rows), self.width), np.float16)
        if not len(rows):
            return values
        with (self.path / VALUES).open("rb") as file:
            for index, row in enumerate(rows.tolist()):
                content = os.pread(file.fileno(), self._bytes, row * self._bytes)
                values[index, : len(content) // 2] = np.frombuffer(
                    content[: len(content) // 2 * 2], np.float16
                )
        return values

    def _load_checksums(self) -> np.ndarray:
        """Return the checksums uint32 (N,); all UNFILLED if there are none of this many rows."""
        path, values = self.path / CHECKSUMS, self.path / VALUES
        if path.is_file() and values.is_file():
            try:
                checksums = np.load(path, allow_pickle=False)
            except (ValueError, EOFError, OSError):
                checksums = np.empty(0, np.uint32)
            if checksums.shape == (self.count,) and checksums.dtype == np.uint32:
                return checksums
        return np.full(self.count, UNFILLED, np.uint32)


def _sum(value: np.ndarray) -> int:
    """Return the checksum of a row, never UNFILLED."""
    return zlib.crc32(value.tobytes()) or 1
