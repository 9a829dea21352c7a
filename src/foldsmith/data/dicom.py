"""Pixels of DICOM files, windowed as they are stored."""

import io
import warnings

import numpy as np

from foldsmith.errors import InputError

SUFFIXES = {".dcm", ".dicom"}


def decode_dicom(data: bytes) -> np.ndarray:
    """Return the pixels of a DICOM file, uint8 (H, W, 3).

    Grey values are mapped from the window of the file to 0 … 255, without one from the range of its stored
    bits; MONOCHROME1, where 0 is white, is inverted. Raise ValueError if the file cannot be decoded, and
    InputError if pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_modality_lut
    except ImportError:
        raise InputError(
            "DICOM images need pydicom, which is not installed: .venv/bin/python -m pip install pydicom"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of attributes that this does not read
        try:
            dataset = pydicom.dcmread(io.BytesIO(data))
            pixels = dataset.pixel_array
            if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
                raise ValueError(f"{dataset.NumberOfFrames} frames in one file; save every frame as an image")
            if dataset.SamplesPerPixel > 1:
                spare = max(int(dataset.BitsStored) - 8, 0)  # pydicom has converted other colours to RGB
                return np.minimum(np.ascontiguousarray(pixels[..., :3]) >> spare, 255).astype(np.uint8)
            if dataset.PhotometricInterpretation == "PALETTE COLOR":
                rgb = apply_color_lut(pixels, dataset)
                return (rgb >> 8 if rgb.dtype == np.uint16 else rgb).astype(np.uint8)
            low, high = _stored_range(dataset)
            if _has_value(dataset, "WindowCenter") and _has_value(dataset, "WindowWidth"):
                pixels = apply_modality_lut(pixels, dataset)
                low, high = _window(dataset)
        except ValueError:
            raise
        except Exception as error:  # pydicom and its decoders raise errors of many kinds
            raise ValueError(f"cannot be decoded: {' '.join(str(error).split())[:200]}") from error
    grey = np.clip((pixels.astype(np.float64) - low) / max(high - low, 1e-9), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def _has_value(dataset: object, name: str) -> bool:
    return dataset.get(name) not in (None, "")


def _stored_range(dataset: object) -> tuple[float, float]:
    """Return the lowest and the highest value that the stored bits of a file can hold."""
    bits = int(dataset.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)


def _window(dataset: object) -> tuple[float, float]:
    """Return the values that the first window of a file maps to black and to white (PS3.3 C.11.2.1.2)."""
    ends = (dataset.WindowCenter, dataset.WindowWidth)
    center, width = (float(end[0] if hasattr(end, "__getitem__") else end) for end in ends)
    low = center - 0.5 - (width - 1) / 2
    return low, low + width - 1
