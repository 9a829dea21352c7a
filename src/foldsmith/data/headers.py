"""What an image file claims in its header, read by Pillow before anything is decoded."""

import io
import re
import warnings

# where Pillow calls a file a decompression bomb: a few bytes can claim gigabytes of pixels, and many threads
# decode at once
MAX_PIXELS = 178_956_970
SAMPLE_FORMAT = 339  # the tag of a TIFF for the kind of its numbers, one a channel
UNSIGNED = {1, 4}  # unsigned, or not stated
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "PPM")
# as it stands in warnings.filters: no warning of any module of Pillow's
QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels, or None if the header is not one that Pillow reads in FORMATS.

    Raise ValueError if they are more than MAX_PIXELS, and for a TIFF of signed numbers or fractions, which
    OpenCV would wrap, or not read. Safe in threads.
    """
    # here, for it takes 0.1 s, which a stage that opens no image should not pay; Image.open itself loads the
    # readers of the other formats
    from PIL import Image, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    _silence_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size = image.size
            numbers = image.tag_v2.get(SAMPLE_FORMAT, (1,)) if image.format == "TIFF" else (1,)
    except Image.DecompressionBombError as error:
        raise ValueError(f"its header claims more than the limit of {MAX_PIXELS:,} pixels") from error
    except MemoryError:
        raise
    except Exception:  # every format has errors of its own; the decoder says what is wrong with such a file
        return None
    if not set(numbers) <= UNSIGNED:
        raise ValueError("a TIFF of signed numbers or fractions; save it with 8 or 16 bits without a sign")
    return size


def _silence_pillow() -> None:
    """Ignore Pillow's warnings, such as those of metadata it cannot read, from here on in all threads.

    `warnings.catch_warnings` would change what other threads see, and not safely.
    """
    if QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=QUIET[3].pattern)
