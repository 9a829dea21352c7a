"""Decoding against PIL, and errors for files that are no images."""

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from foldsmith.data.images import collected_warnings, decode_image, facts_of, resize_image

HEIGHT, WIDTH = 37, 53
DOWN, ACROSS = np.mgrid[0:HEIGHT, 0:WIDTH]


def picture() -> Image.Image:
    """Return a picture smooth enough for JPEG, without symmetries that would hide a wrong orientation."""
    noise = np.random.default_rng(0).integers(0, 8, (HEIGHT, WIDTH, 3))
    return Image.fromarray((np.stack([ACROSS * 4, DOWN * 6, ACROSS + DOWN], 2) + noise).astype(np.uint8))


def grey() -> Image.Image:
    return picture().convert("L")


def see_through() -> Image.Image:
    """Return a picture whose left side is transparent."""
    image = picture()
    image.putalpha(Image.fromarray((ACROSS * 4).astype(np.uint8)))
    return image


def bytes_of(image: Image.Image, form: str, **words: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=form, **words)
    return file.getvalue()


def write(folder: Path, content: bytes) -> Path:
    # the content decides, not the extension
    path = folder / "image.jpg"
    path.write_bytes(content)
    return path


FILES: dict[str, Callable[[], bytes]] = {
    "RGB JPEG": lambda: bytes_of(picture(), "JPEG", quality=95),
    "progressive JPEG": lambda: bytes_of(picture(), "JPEG", progressive=True),
    "grey JPEG": lambda: bytes_of(grey(), "JPEG"),
    "CMYK JPEG": lambda: bytes_of(picture().convert("CMYK"), "JPEG"),
    "RGB PNG": lambda: bytes_of(picture(), "PNG"),
    "grey PNG": lambda: bytes_of(grey(), "PNG"),
    "palette PNG": lambda: bytes_of(picture().quantize(64), "PNG"),
    "1-bit PNG": lambda: bytes_of(grey().convert("1"), "PNG"),
    "RGBA PNG": lambda: bytes_of(see_through(), "PNG"),
    "LA PNG": lambda: bytes_of(see_through().convert("LA"), "PNG"),
    "PNG with a transparent colour": lambda: bytes_of(picture(), "PNG", transparency=(0, 0, 0)),
    "palette GIF": lambda: bytes_of(picture(), "GIF"),
    "grey GIF": lambda: bytes_of(grey(), "GIF"),
    "GIF of two frames": lambda: bytes_of(picture(), "GIF", save_all=True, append_images=[grey()]),
    "lossy WebP": lambda: bytes_of(picture(), "WEBP"),
    "lossless WebP": lambda: bytes_of(picture(), "WEBP", lossless=True),
    "RGBA WebP": lambda: bytes_of(see_through(), "WEBP", lossless=True, exact=True),
    "RGB BMP": lambda: bytes_of(picture(), "BMP"),
    "grey BMP": lambda: bytes_of(grey(), "BMP"),
    "palette BMP": lambda: bytes_of(picture().quantize(16), "BMP"),
    "1-bit BMP": lambda: bytes_of(grey().convert("1"), "BMP"),
    "RGB TIFF": lambda: bytes_of(picture(), "TIFF"),
    "LZW TIFF": lambda: bytes_of(picture(), "TIFF", compression="tiff_lzw"),
    "grey TIFF": lambda: bytes_of(grey(), "TIFF"),
    "palette TIFF": lambda: bytes_of(picture().quantize(64), "TIFF"),
    "1-bit TIFF": lambda: bytes_of(grey().convert("1"), "TIFF"),
    "CMYK TIFF": lambda: bytes_of(picture().convert("CMYK"), "TIFF"),
    "RGB PPM": lambda: bytes_of(picture(), "PPM"),
    "grey PGM": lambda: bytes_of(grey(), "PPM"),
    "JPEG 2000": lambda: bytes_of(picture(), "JPEG2000"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_pixels_that_pil_sees(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, FILES[name]())
    pixels = decode_image(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (HEIGHT, WIDTH, 3))
    # CMYK: one library rounds down, the other to nearest
    np.testing.assert_allclose(pixels.astype(int), expected.astype(int), atol=1 if "CMYK" in name else 0)


def deep_png(samples: np.ndarray) -> bytes:
    """Return a PNG of 16 bits a channel, (H, W) grey or (H, W, 3) RGB, which PIL cannot write."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if samples.ndim == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)], ids=["grey", "RGB"])
def test_sixteen_bits_become_the_upper_eight(tmp_path: Path, shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, shape)
    pixels = decode_image(write(tmp_path, deep_png(samples)))
    upper = samples // 256 if len(shape) == 3 else np.repeat((samples // 256)[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels, upper)


def test_sixteen_bits_of_a_tiff_keep_their_scale(tmp_path: Path) -> None:
    samples = (ACROSS * 1200).astype(np.uint16)
    pixels = decode_image(write(tmp_path, bytes_of(Image.fromarray(samples), "TIFF")))
    np.testing.assert_allclose(pixels[..., 0], samples / 257, atol=1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_photograph_is_applied(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    words = {"lossless": True} if form == "WEBP" else {}
    path = write(tmp_path, bytes_of(picture(), form, exif=exif, **words))
    pixels = decode_image(path)
    assert pixels.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels, np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_invalid_orientation_is_ignored(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = decode_image(write(tmp_path, bytes_of(picture(), "PNG")))
    np.testing.assert_array_equal(decode_image(write(tmp_path, bytes_of(picture(), "PNG", exif=exif))), plain)


@pytest.mark.parametrize(
    "name",
    ["RGB JPEG", "progressive JPEG", "RGB PNG", "lossy WebP", "lossless WebP", "palette GIF", "RGB BMP"],
)  # fmt: skip
def test_a_file_cut_off_anywhere_is_no_image(tmp_path: Path, name: str) -> None:
    content = FILES[name]()
    cuts = [len(content) * tenth // 10 for tenth in range(10)] + [len(content) - 3]
    for cut in cuts:
        with pytest.raises(ValueError, match="empty" if cut == 0 else "decoded"):
            decode_image(write(tmp_path, content[:cut]))


@pytest.mark.parametrize("name", ["RGB JPEG", "RGB PNG", "palette GIF"])
def test_bytes_after_the_end_of_an_image_do_no_harm(tmp_path: Path, name: str) -> None:
    content = FILES[name]()
    whole = decode_image(write(tmp_path, content))
    np.testing.assert_array_equal(decode_image(write(tmp_path, content + b"\0" * 99)), whole)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no image"),
        (b"<html><h1>404 Not Found</h1></html>", "no image"),
        (b"\0" * 1000, "no image"),
        (b"\xff\xd8\xff\xd9", "no image"),
        (b"\x89PNG\r\n\x1a\n", "no image"),
        (b"P6 100000 100000 255\n", "178,956,970"),
        (b"P6 -1 -1 255\n", "decoded"),
    ],
)
def test_a_file_that_is_no_image_is_refused_with_the_reason(tmp_path: Path, content: bytes, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        decode_image(write(tmp_path, content))


def test_a_folder_or_a_missing_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ValueError, match="directory"):
        decode_image(tmp_path / "folder.jpg")
    with pytest.raises(ValueError, match="No such file"):
        decode_image(tmp_path / "absent.jpg")


@given(
    st.sampled_from(["RGB JPEG", "RGB PNG", "palette GIF", "lossy WebP", "RGB BMP", "LZW TIFF"]), st.data()
)
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(FILES[name]())
    # a damaged width or height could need gigabytes
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(64, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_image(write(folder, bytes(content)))
    except ValueError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


# --- messages of decoders


def test_messages_of_c_libraries_are_captured_and_other_output_is_unchanged(
    capfd: pytest.CaptureFixture[str],
) -> None:
    print("before", file=sys.stderr)
    with collected_warnings() as lines:
        os.write(2, b"libpng warning: iCCP: known incorrect sRGB profile\nCorrupt JPEG data\n")
        print("to a person")
    os.write(2, b"after\n")
    assert lines == ["libpng warning: iCCP: known incorrect sRGB profile", "Corrupt JPEG data"]
    assert capfd.readouterr() == ("to a person\n", "before\nafter\n")


def test_an_error_while_capturing_restores_standard_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt), collected_warnings():
        raise KeyboardInterrupt
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


# --- resizing


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (5, 7), (64, 64), (64, 200), (200, 64), (1, 300), (301, 3)]
)
@pytest.mark.parametrize("size", [1, 8, 64])
def test_any_image_becomes_square_and_one_of_a_single_colour_stays_so(
    height: int, width: int, size: int
) -> None:
    pixels = np.full((height, width, 3), (250, 3, 128), np.uint8)
    resized = resize_image(pixels, size)
    assert (resized.dtype, resized.shape) == (np.uint8, (size, size, 3))
    assert (resized == (250, 3, 128)).all()


def test_an_image_of_the_right_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_image(pixels, 32), pixels)


def test_shrinking_by_whole_numbers_is_the_mean_of_each_block() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    means = pixels.reshape(16, 3, 16, 5, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resize_image(pixels, 16), means, atol=0.51)


def test_enlarging_keeps_the_orientation() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2, :, 0], pixels[:, :2, 1] = 200, 200
    resized = resize_image(pixels, 32)
    assert resized[:12, :, 0].min() > 180 and resized[20:, :, 0].max() < 20
    assert resized[:, :12, 1].min() > 180 and resized[:, 20:, 1].max() < 20


# --- digests and greyness

PIXELS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3)), elements=st.integers(0, 2)
)


@settings(max_examples=200)
@given(PIXELS, PIXELS)
def test_two_images_have_one_digest_just_when_their_shape_and_pixels_are_equal(
    first: np.ndarray, second: np.ndarray
) -> None:
    equal = first.shape == second.shape and (first == second).all()
    assert (facts_of(first).digest == facts_of(second).digest) == equal
    assert facts_of(first) == facts_of(first.copy(order="F"))


def test_a_digest_depends_on_the_shape_even_where_the_bytes_are_equal() -> None:
    digests = {
        facts_of(np.zeros(shape, np.uint8)).digest for shape in [(2, 8, 3), (8, 2, 3), (4, 4, 3), (1, 16, 3)]
    }
    assert len(digests) == 4


def test_a_digest_does_not_depend_on_the_file(tmp_path: Path) -> None:
    forms = ["PNG", "BMP", "TIFF", "PPM"]
    digests = {facts_of(decode_image(write(tmp_path, bytes_of(picture(), form)))).digest for form in forms}
    assert len(digests) == 1


@settings(max_examples=50)
@given(PIXELS)
def test_an_image_is_grey_just_when_no_pixel_has_a_colour(pixels: np.ndarray) -> None:
    height, width = pixels.shape[:2]
    facts = facts_of(pixels)
    assert facts.grey == all(len(set(pixel)) == 1 for row in pixels.tolist() for pixel in row)
    assert (facts.height, facts.width, facts.problem) == (height, width, "")
    assert facts_of(pixels[..., [0, 0, 0]]).grey
