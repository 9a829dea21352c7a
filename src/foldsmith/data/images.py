"""Image files to RGB pixels."""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from foldsmith.data.headers import MAX_PIXELS, claimed_size

BYTES_PER_PIXEL = 8  # at most: four samples of 16 bits, not compressed


@dataclass(frozen=True)
class ImageFacts:
    """What was seen of one file. `problem` is why it could not be decoded, or empty.

    `width` and `height` are in pixels, EXIF orientation applied; `digest` is of the pixels, so that equal
    pictures in different files are equal; `grey` says that no pixel has a colour.
    """

    width: int
    height: int
    grey: bool
    digest: str
    problem: str = ""


def decode_image(path: Path, least: int | None = None) -> np.ndarray:
    """The pixels of an image file: uint8 (H, W, 3), RGB, EXIF orientation applied.

    With `least` a JPEG may be decoded at a half, quarter or eighth, as long as no side is shorter than that.
    Grey, palette and CMYK become RGB, 16-bit becomes 8-bit, transparency is dropped (of a TIFF it is blended
    onto black). Raises ValueError with the reason if the file is empty, no image, cut off, or larger than
    MAX_PIXELS.
    """
    data = _read_bytes(path)
    if not data:
        raise ValueError("the file is empty")
    width, height = claimed_size(data) or (0, 0)
    # OpenCV tells of broken files on the standard error of the process; the reason goes into problems.csv
    # instead
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _decoding(data, width, height, least))
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(f"decoding {path}") from error
        raise ValueError(f"cannot be decoded: {error.err or error.msg}") from error
    if pixels is None:
        raise ValueError("cannot be decoded: no image, or cut off")
    return pixels


def file_state(path: Path) -> tuple[int, int]:
    """Length (bytes) and time of the last change (ns), by which a changed file is known. Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _decoding(data: bytes, width: int, height: int, least: int | None) -> int:
    """OpenCV's flags: the decoder of JPEG leaves out what a smaller picture does not need."""
    if least is None or not data.startswith(b"\xff\xd8"):
        return cv2.IMREAD_COLOR_RGB
    # the flags of grey hold nothing but the factor; those of colour mean BGR, which RGB cannot be joined with
    reduced = (
        (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
        (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    )
    fitting = (flag for factor, flag in reduced if min(width, height) >= factor * least)
    return next(fitting, 0) | cv2.IMREAD_COLOR_RGB


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        # a pipe would be waited for, and a device never ends
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("a directory" if path.is_dir() else "no regular file")
        if status.st_size > MAX_PIXELS * BYTES_PER_PIXEL:
            raise ValueError(f"{status.st_size:,} bytes, more than {MAX_PIXELS:,} pixels take")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Within the block what C libraries print on standard error is kept; afterwards the list holds its lines.

    libpng and libjpeg warn there of colour profiles, stray bytes and the like, and name no file.
    """
    lines: list[str] = []
    sys.stderr.flush()
    stderr = os.dup(2)
    with os.fdopen(os.memfd_create("warnings"), "rb+") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


def resize_image(pixels: np.ndarray, size: int) -> np.ndarray:
    """The whole image as (size, size, 3); its aspect is not kept. Area averaging down, cubic up."""
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    shrinks = height * width > size * size
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def facts_of(pixels: np.ndarray) -> ImageFacts:
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    grey = bool(np.array_equal(red, green) and np.array_equal(green, blue))
    return ImageFacts(width, height, grey, digest.hexdigest())
