"""The size in the header of every form is the one PIL reads, and of any bytes a size or nothing."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foldsmith.data.headers import claimed_size

FORMS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG": ("JPEG", {}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
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
def test_the_claimed_size_is_the_one_pil_reads(name: str, width: int, height: int) -> None:
    content = content_of(name, width, height)
    with Image.open(io.BytesIO(content)) as image:
        assert claimed_size(content) == image.size == (width, height)


def test_other_spellings_of_a_header_are_read() -> None:
    old_bitmap = b"BM" + bytes(12) + b"\x0c\0\0\0" + b"\x2c\x01\x07\0"
    assert claimed_size(old_bitmap) == (300, 7)
    downward = b"BM" + bytes(12) + b"\x28\0\0\0" + b"\x2c\x01\0\0" + (-7).to_bytes(4, "little", signed=True)
    assert claimed_size(downward) == (300, 7)
    assert claimed_size(b"P5 # a comment\n300\n# another\n7 255\n") == (300, 7)
    # motorola's byte order, and sides of 32 bits
    entries = b"\x01\x00\x00\x04\0\0\0\1\0\0\x01\x2c" + b"\x01\x01\x00\x04\0\0\0\1\0\0\0\7"
    assert claimed_size(b"MM\0*\0\0\0\x08\0\2" + entries) == (300, 7)
    padded = content_of("JPEG", 300, 7)
    assert claimed_size(padded[:2] + b"\xff\xff" + padded[2:]) == (300, 7)


@given(st.sampled_from(sorted(FORMS)), st.data())
def test_damaged_headers_give_a_size_or_nothing_and_come_to_an_end(name: str, data: st.DataObject) -> None:
    content = bytearray(content_of(name, 30, 20))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(2, min(len(content), 80) - 1))] = data.draw(st.integers(0, 255))
    size = claimed_size(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert size is None or (len(size) == 2 and all(isinstance(side, int) for side in size))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"no image", b"P6", b"RIFF", b"\xff\xd8\xff\xff"])
def test_what_has_no_header_has_no_size(content: bytes) -> None:
    assert claimed_size(content) is None
