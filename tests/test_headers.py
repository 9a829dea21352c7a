"""Image headers: the size in every format is the true one, and arbitrary bytes give a size or None."""

import io
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foldsmith.data.headers import MAX_PIXELS, claimed_size

FORMS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG": ("JPEG", {}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
    "JPEG with broken EXIF": ("JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\xff\xff"}),
    "JPEG with a comment and EXIF": ("JPEG", {"comment": b"\xff\xc0" * 99, "exif": Image.Exif()}),
    "PNG": ("PNG", {}),
    "GIF": ("GIF", {}),
    "BMP": ("BMP", {}),
    "lossy WebP": ("WEBP", {}),
    "lossless WebP": ("WEBP", {"lossless": True}),
    "WebP with EXIF": ("WEBP", {"exif": b"Exif\0\0II*\0"}),
    "TIFF": ("TIFF", {}),
    "LZW TIFF": ("TIFF", {"compression": "tiff_lzw"}),
    "JPEG 2000": ("JPEG2000", {}),
    "bare JPEG 2000": ("JPEG2000", {"no_jp2": True}),
    "PPM": ("PPM", {}),
}


def content_of(name: str, width: int, height: int) -> bytes:
    form, words = FORMS[name]
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, form, **words)
    return file.getvalue()


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (300, 7), (5, 5000)])
def test_the_header_has_the_size_of_the_image(name: str, width: int, height: int) -> None:
    content = content_of(name, width, height)
    assert claimed_size(content) == (width, height)
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (height, width)


def test_other_spellings_of_a_header_are_read() -> None:
    old_bitmap = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 300, 7, 1, 24)
    assert claimed_size(old_bitmap) == (300, 7)
    downward = b"BM" + bytes(12) + struct.pack("<IiiHH6I", 40, 300, -7, 1, 24, *[0] * 6)
    assert claimed_size(downward) == (300, 7)
    assert claimed_size(b"P5 # a comment\n300\n# another\n7 255\n") == (300, 7)
    # big-endian TIFF with 32-bit sides, black is 0, one strip
    tags = [(256, 4, 300), (257, 4, 7), (262, 4, 1), (273, 4, 8), (278, 4, 7), (279, 4, 2100)]
    entries = b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in tags)
    assert claimed_size(b"MM\0*\0\0\0\x08" + struct.pack(">H", len(tags)) + entries + bytes(4)) == (300, 7)
    padded = content_of("JPEG", 300, 7)
    assert claimed_size(padded[:2] + b"\xff\xff" + padded[2:]) == (300, 7)


@given(st.sampled_from(sorted(FORMS)), st.data())
def test_damaged_headers_give_a_size_or_none_and_terminate(name: str, data: st.DataObject) -> None:
    content = bytearray(content_of(name, 30, 20))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(2, min(len(content), 80) - 1))] = data.draw(st.integers(0, 255))
    try:
        size = claimed_size(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except ValueError:  # damage can give a size above the limit
        return
    assert size is None or (len(size) == 2 and 1 <= size[0] * size[1] <= MAX_PIXELS)


@pytest.mark.parametrize(("height", "refused"), [(1_789, False), (1_790, True)])
def test_more_pixels_than_the_limit_are_refused_immediately_and_without_a_warning(
    height: int, refused: bool
) -> None:
    """Pillow's own warning, at half of the limit, must not reach users."""
    claim = b"P6 100000 %d 255\n" % height
    assert (100_000 * height > MAX_PIXELS) == refused
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if refused:
            with pytest.raises(ValueError, match="178,956,970"):
                claimed_size(claim)
        else:
            assert claimed_size(claim) == (100_000, height)


def test_a_flaw_in_metadata_is_no_warning_and_the_size_is_read() -> None:
    """No decoding thread may warn: `warnings.catch_warnings` of one thread does not apply to the others."""
    content = content_of("JPEG with broken EXIF", 300, 7)
    with pytest.warns(UserWarning), Image.open(io.BytesIO(content)) as image:
        assert image.size == (300, 7)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(claimed_size, [content] * 100)) == {(300, 7)}
    assert caught == []


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"no image", b"P6", b"RIFF", b"\xff\xd8\xff\xff"])
def test_what_has_no_header_has_no_size(content: bytes) -> None:
    assert claimed_size(content) is None
