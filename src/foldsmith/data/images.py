"""Decode image files to RGB pixels."""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from foldsmith.data import arrays, dicom
from foldsmith.data.headers import MAX_PIXELS, claimed_size

DEPTH = 16  # bits of a sample, of which all are used
MOST_CLIPPED = 0.01  # of the values of a 16-bit image beyond the bits of its data set
BYTES_PER_PIXEL = 8  # at most: four samples of 16 bits, not compressed
TIFF = (b"II*\0", b"MM\0*")  # how files of the formats begin
PORTABLE = (b"P5", b"P6")  # PGM and PPM
JPEG_2000 = b"\0\0\0\x0cjP  "
FOUR = 4  # channels that only images of as many files have; all others have three


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image file's entry in the index of a cache."""

    width: int  # pixels, EXIF orientation applied
    height: int
    grey: bool  # whether the channels are equal in every pixel
    digest: str  # of the pixels, so that equal images in different files have equal digests
    problem: str = ""  # why the file could not be decoded


def image_files(path: Path) -> list[Path]:
    """Return the files of an image: several for a name with braces, such as `ID_{red,green,blue}.png`."""
    name = path.name
    match = re.fullmatch(r"(.*)\{([^{}]*,[^{}]*)\}([^{}]*)", name) if "{" in name else None
    if match is None:
        return [path]
    return [path.with_name(f"{match[1]}{word}{match[3]}") for word in match[2].split(",")]


def decode_image(
    path: Path, min_side: int | None = None, depth: int = DEPTH, channels: int = 3
) -> np.ndarray:
    """Return the pixels of an image: uint8 (H, W, channels), RGB, EXIF orientation applied.

    An image of several files has the brightness of the first three, or of all FOUR, as its channels; two of
    three leave the last one black. `depth` is the number of bits that the data set uses of 16, which are
    mapped to 8. Raise ValueError for FOUR channels of an image that is not as many files.
    """
    files = image_files(path)
    if channels == FOUR and len(files) != FOUR:
        number = "one file" if len(files) == 1 else f"{len(files)} files"
        raise ValueError(
            f"{number}, and {FOUR} channels need four, in one name such as ID_{{red,green,blue,yellow}}.png"
        )
    if len(files) == 1:
        return _decode_file(path, min_side, depth)
    layers = [_decode_file(file, None, depth) for file in files[:channels]]
    if len({layer.shape for layer in layers}) > 1:
        sizes = ", ".join(f"{layer.shape[1]} x {layer.shape[0]}" for layer in layers)
        raise ValueError(f"its files have different sizes: {sizes}")
    grey = [layer if layer.ndim == 2 else cv2.cvtColor(layer, cv2.COLOR_RGB2GRAY) for layer in layers]
    return np.dstack([*grey, *[np.zeros_like(grey[0])] * (channels - len(grey))])


def _decode_file(path: Path, min_side: int | None, depth: int) -> np.ndarray:
    """Return the pixels of an image file: uint8 (H, W, 3), RGB, EXIF orientation applied.

    With `min_side` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if no side gets shorter than that, which
    is faster. Grey, palette and CMYK images become RGB, 16 bits become 8. Transparency is dropped, in a TIFF
    blended onto black. Raise ValueError with the reason if the file is empty, no image, cut off, or larger
    than MAX_PIXELS.
    """
    data = read_image_file(path)
    if not data:
        raise ValueError("the file is empty")
    if path.suffix.lower() in dicom.SUFFIXES:
        return dicom.decode_dicom(data)
    if path.suffix.lower() == arrays.SUFFIX:
        return arrays.decode_array(data)
    width, height = claimed_size(data) or (0, 0)
    # OpenCV tells of broken files on the standard error of the process; the reason goes into problems.csv
    # instead
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _imread_flags(data, width, height, min_side))
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(f"decoding {path}") from error
        raise ValueError(f"cannot be decoded: {error.err or error.msg}") from error
    if pixels is None:
        raise ValueError("cannot be decoded: no image, or cut off")
    if depth < DEPTH and has_16_bits(data):
        return _stretch(data, depth)
    return pixels if np.ptp(pixels) else _shape_in_alpha(data, pixels)


def _shape_in_alpha(data: bytes, pixels: np.ndarray) -> np.ndarray:
    """Return the transparency of an image of one colour as its brightness, if it has one; else the image."""
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if whole is None or whole.ndim < 3 or whole.shape[2] != 4 or not np.ptp(whole[..., 3]):
        return pixels
    alpha = whole[..., 3] if whole.dtype == np.uint8 else (whole[..., 3] >> 8).astype(np.uint8)
    return np.repeat(alpha[..., None], 3, axis=2)


def has_16_bits(data: bytes) -> bool:
    """Return whether a PNG, TIFF, PGM, PPM or JPEG 2000 file has more than 8 bits in a sample."""
    if data.startswith(b"\x89PNG"):
        return len(data) > 24 and data[24] == 16
    if not data.startswith((*TIFF, *PORTABLE, JPEG_2000)):
        return False
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels is not None and pixels.dtype == np.uint16


def bits_of(data: bytes) -> int:
    """Return the number of bits that the largest sample of a 16-bit image uses, from 8 to 16."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return DEPTH if pixels is None else max(8, int(pixels.max()).bit_length())


def _stretch(data: bytes, depth: int) -> np.ndarray:
    """Return a 16-bit image, of which `depth` bits are used, as uint8 (H, W, 3).

    Raise ValueError if more than MOST_CLIPPED of its values need more bits.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if (pixels >> depth).astype(bool).mean() > MOST_CLIPPED:
        bits = int(pixels.max()).bit_length()
        raise ValueError(
            f"uses {bits} of its 16 bits, and the training images {depth}; save all with as many"
        )
    return np.minimum(pixels >> (depth - 8), 255).astype(np.uint8)


def file_state(path: Path) -> tuple[int, int]:
    """Return length (bytes) and modification time (ns), which detect a changed file. Raise OSError."""
    states = [file.stat() for file in image_files(path)]
    return sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


def _imread_flags(data: bytes, width: int, height: int, min_side: int | None) -> int:
    """Return OpenCV's flags: RGB, and for a JPEG the largest reduction that `min_side` allows."""
    if min_side is None or not data.startswith(b"\xff\xd8"):
        return cv2.IMREAD_COLOR_RGB
    # IMREAD_REDUCED_COLOR_* implies BGR and cannot be combined with RGB; the grey flags hold only the factor
    reduced = (
        (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
        (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    )
    fitting = (flag for factor, flag in reduced if min(width, height) >= factor * min_side)
    return next(fitting, 0) | cv2.IMREAD_COLOR_RGB


def read_image_file(path: Path) -> bytes:
    """Return the bytes of an image file. Raise ValueError if it is no regular file, or too long."""
    try:
        refusal = refusal_of(path.stat())
        if refusal:
            raise ValueError(refusal)
        return path.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def refusal_of(status: os.stat_result) -> str:
    """Return why a file is not read: reading a pipe would block, and a device never ends; empty if it is."""
    if stat.S_ISDIR(status.st_mode):
        return "a directory"
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    if status.st_size > MAX_PIXELS * BYTES_PER_PIXEL:
        return f"{status.st_size:,} bytes, more than {MAX_PIXELS:,} pixels take"
    return ""


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Capture standard error within the block; afterwards the yielded list holds its lines.

    libpng and libjpeg warn there of colour profiles, stray bytes and the like, without naming the file.
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
    """Return the whole image (H, W, C) as (size, size, C), its aspect ratio not kept.

    The interpolation is area averaging for shrinking, cubic for enlarging.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    shrinks = height * width > size * size
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def facts_of(pixels: np.ndarray) -> ImageFacts:
    """Return size, greyness and digest of decoded pixels uint8 (H, W, C)."""
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    first = pixels[..., 0]
    grey = all(np.array_equal(first, pixels[..., channel]) for channel in range(1, pixels.shape[2]))
    return ImageFacts(width, height, grey, digest.hexdigest())
