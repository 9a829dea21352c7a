"""Pixels by row, read on demand: from the cache's array, or decoded from the image files."""

import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from foldsmith.data.images import DEPTH, decode_image, file_state, resize_image
from foldsmith.errors import InputError
from foldsmith.process.machine import usable_cores


class Pixels(Protocol):
    """Images uint8 (N, size, size, C) by row; C is 3, RGB, or 4 where an image is four files."""

    shape: tuple[int, int, int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray | int) -> np.ndarray: ...


class StoredPixels:
    """Images of an array file uint8 (N, size, size, C), of which only the requested rows are in memory.

    Rows are read rather than memory-mapped: mapped pages count as memory of the process, which would grow
    with the data. Forked workers share the open file.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path) -> None:
        """Open the file. Raise ValueError or OSError if it is no such array, or is cut off."""
        self.path = path
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"array format {version}")
            self.shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
        if dtype != self.dtype or fortran_order or len(self.shape) != 4:
            raise ValueError(f"an array of {dtype} {self.shape}, not of images")
        self._bytes = int(np.prod(self.shape[1:]))
        if path.stat().st_size < self._start + len(self) * self._bytes:
            raise ValueError(f"cut off: shorter than {len(self)} images")
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | int | slice) -> np.ndarray:
        """Return copies of these rows, uint8 (n, size, size, C), or of one row (size, size, C)."""
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


class NewPixels:
    """An array file uint8 (N, size, size, C) that is written image by image; images never written are zero.

    It is not memory-mapped, for the reason of StoredPixels. Threads may write different rows.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        """Create the file with all of its length. Raise OSError if the disk has no room for it."""
        self.shape = shape
        self._start = np.lib.format.open_memmap(path, "w+", np.uint8, shape).offset
        self._bytes = int(np.prod(shape[1:]))
        self._descriptor = os.open(path, os.O_WRONLY)
        weakref.finalize(self, os.close, self._descriptor)
        os.posix_fallocate(self._descriptor, 0, self._start + shape[0] * self._bytes)

    def write(self, row: int, image: np.ndarray) -> None:
        """Write an image, uint8 (size, size, C)."""
        written = os.pwrite(self._descriptor, np.ascontiguousarray(image), self._start + row * self._bytes)
        if written != self._bytes:
            raise OSError(f"row {row} was not written whole")


@dataclass(frozen=True)
class StreamedPixels:
    """Images of files, decoded on demand, JPEGs no larger than `size` needs."""

    files: Sequence[Path]  # N
    readable: np.ndarray  # bool (N,); the images of unreadable files are all zero
    states: np.ndarray  # int64 (N, 2), file_state of each file when the cache was built
    size: int  # pixels
    threads: int = 0  # that decode at a time; 0: one per core
    depth: int = DEPTH  # bits that 16-bit images use
    channels: int = 3  # of decode_image

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.files), self.size, self.size, self.channels)

    def __len__(self) -> int:
        return len(self.files)

    def alone(self) -> "StreamedPixels":
        """Return a copy with one thread, for use in one of several workers."""
        return replace(self, threads=1)

    def __getitem__(self, rows: np.ndarray | int) -> np.ndarray:
        """Return these rows, uint8 (n, size, size, C), or one row (size, size, C).

        Raise InputError if a file changed since the cache was built.
        """
        if np.ndim(rows) == 0:
            return self[np.array([rows])][0]
        images = np.zeros((len(rows), *self.shape[1:]), np.uint8)

        def fill(index: int) -> None:
            row = int(rows[index])
            if self.readable[row]:
                images[index] = resize_image(self._decode(row), self.size)

        threads = self.threads or usable_cores()
        if threads == 1:
            for index in range(len(rows)):
                fill(index)
        else:
            with ThreadPoolExecutor(threads) as pool:  # decoding and resizing release the GIL
                list(pool.map(fill, range(len(rows))))
        return images

    def _decode(self, row: int) -> np.ndarray:
        file = self.files[row]
        try:
            if file_state(file) == tuple(self.states[row].tolist()):
                return decode_image(file, self.size, self.depth, self.channels)
            reason = "it has changed"
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file} is not what src/prepare.py saw ({reason}); run src/prepare.py again.")
