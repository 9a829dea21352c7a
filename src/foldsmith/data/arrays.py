"""Pixels of arrays that numpy saved, one image a file."""

import io

import numpy as np

from foldsmith.competition.array_shapes import image_axes
from foldsmith.data.headers import MAX_PIXELS

SUFFIX = ".npy"
ROUNDING = 1e-4  # by which fractions exceed 0 and 1, as resizing and normalising do


def decode_array(data: bytes) -> np.ndarray:
    """Return the pixels of a .npy file, uint8 (H, W, 3).

    The array is (H, W), (H, W, C) or (C, H, W) with one, three or four channels, of which the first three are
    used; the layers of a (L, H, W) array stand below each other. Whole numbers from 0 to
    255 are taken as they are, fractions from 0 to 1, up to ROUNDING, are scaled by 255, and other ranges are
    mapped from the image's own minimum and maximum. Raise ValueError for any other array.
    """
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.dtype.kind not in "buif" or values.size == 0:
        raise ValueError(f"an array of {values.dtype}, which are no pixels")
    pixels = _to_bytes(_layout(values))
    return np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)


def _layout(values: np.ndarray) -> np.ndarray:
    """Return the array as (H, W) or (H, W, 3). Raise ValueError for a shape that is no image's."""
    axes = image_axes(values.shape)
    if not axes or values.size > MAX_PIXELS:
        raise ValueError(f"an array of shape {values.shape}, which is no image: save (H, W) or (H, W, 3)")
    if axes == "CHW":
        values = values.transpose(1, 2, 0)
    if axes == "LHW":
        return values.reshape(-1, values.shape[2])
    return values if axes == "HW" else values[..., 0] if values.shape[2] == 1 else values[..., :3]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("an array with values that are not finite")
    low, high = float(numbers.min()), float(numbers.max())
    whole = values.dtype.kind in "ui" or bool((numbers % 1 == 0).all())
    if not whole and low >= -ROUNDING and high <= 1 + ROUNDING:
        numbers, low, high = numbers.clip(0, 1), max(low, 0.0), min(high, 1.0)
    fractions = values.dtype.kind == "f" and high <= 1  # black and white among them
    if whole and low >= 0 and high <= 255 and not fractions:
        return values.astype(np.uint8)
    if low < 0 or high > 1:
        numbers = (numbers - low) / max(high - low, 1e-12)
    return np.rint(numbers * 255).astype(np.uint8)
