"""Pixels by row, read when they are asked for: from the cache's array, or from the image files themselves."""

import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from foldsmith.data.images import decode_image, file_state, resize_image
from foldsmith.errors import InputError
from foldsmith.process.machine import usable_cores


class Pixels(Protocol):
    """Images uint8 (N, size, size, 3), RGB, by row."""

    shape: tuple[int, int, int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray | int) -> np.ndarray: ...


class StoredPixels:
    """An array file of uint8 (N, size, size, 3), of which a process holds only what it has asked for.

    Rows are read, not mapped: what is mapped counts as a process's own memory, and that would grow with the
    data. Forked workers share the open file.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path) -> None:
        """Raises ValueError or OSError if the file is no such array, or shorter than it says."""
        self.path = path
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"array format {version}")
            self.shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
        if dtype != self.dtype or by_columns or len(self.shape) != 4:
            raise ValueError(f"an array of {dtype} {self.shape}, not of images")
        self._bytes = int(np.prod(self.shape[1:]))
        if path.stat().st_size < self._start + len(self) * self._bytes:
            raise ValueError(f"cut off: shorter than {len(self)} images")
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | int | slice) -> np.ndarray:
        """Copies of these rows, uint8 (n, size, size, 3); of one row (size, size, 3)."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        if np.ndim(rows) == 0:
            return self[np.array([rows])][0]
        rows = np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            start = self._start + row * self._bytes
            if os.preadv(self._descriptor, [image], start) != self._bytes:
                raise OSError(f"{self.path} ends before row {row}")
        return images


@dataclass(frozen=True)
class StreamedPixels:
    """The images of files (N), each decoded when it is asked for, no larger than needed for `size`.

    A file that is marked as not `readable` (N) is all zero. The others must be what they were when `states`
    (N, 2), file_state of each, was noted. `threads` decode at once.
    """

    files: Sequence[Path]
    readable: np.ndarray
    states: np.ndarray
    size: int
    threads: int = 0  # 0: one a core

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.files), self.size, self.size, 3)

    def __len__(self) -> int:
        return len(self.files)

    def alone(self) -> "StreamedPixels":
        """For a worker among others."""
        return replace(self, threads=1)

    def __getitem__(self, rows: np.ndarray | int) -> np.ndarray:
        """These rows, uint8 (n, size, size, 3); of one row (size, size, 3). Raises InputError for a file that
        has changed."""
        if np.ndim(rows) == 0:
            return self[np.array([rows])][0]
        images = np.zeros((len(rows), self.size, self.size, 3), np.uint8)

        def fill(place: int) -> None:
            row = int(rows[place])
            if self.readable[row]:
                images[place] = resize_image(self._decode(row), self.size)

        threads = self.threads or usable_cores()
        if threads == 1:
            for place in range(len(rows)):
                fill(place)
        else:
            with ThreadPoolExecutor(threads) as pool:  # decoding and resizing leave Python's lock
                list(pool.map(fill, range(len(rows))))
        return images

    def _decode(self, row: int) -> np.ndarray:
        file = self.files[row]
        try:
            if file_state(file) == tuple(self.states[row].tolist()):
                return decode_image(file, self.size)
            reason = "it has changed"
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file} is not what src/prepare.py saw ({reason}); run src/prepare.py again.")
