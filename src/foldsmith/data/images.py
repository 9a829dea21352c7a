"""Image files to RGB pixels."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np


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


def decode_image(path: Path) -> np.ndarray:
    """The pixels of an image file: uint8 (H, W, 3), RGB, EXIF orientation applied.

    Grey, palette and CMYK become RGB, 16-bit becomes 8-bit, transparency is dropped (of a TIFF it is blended
    onto black). Raises ValueError with the reason if the file is empty, no image, or cut off.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if not data:
        raise ValueError("the file is empty")
    # OpenCV tells of broken files on the standard error of the process; the reason goes into problems.csv
    # instead
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {error.err or error.msg}") from error
    if pixels is None:
        raise ValueError("cannot be decoded: no image, or cut off")
    return pixels


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
