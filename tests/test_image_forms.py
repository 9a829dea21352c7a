"""Images of unusual forms: several files, DICOM, 16 bits, pixels in a CSV, bytes in Parquet."""

import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import naming
from PIL import Image

from foldsmith.competition.folder import read_competition
from foldsmith.data.depth import find_depth
from foldsmith.data.images import decode_image, file_state, image_files
from foldsmith.errors import InputError

SIDE = 9


def random_pixels(*shape: int, seed: int = 0, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


# --- several files an image


def test_the_files_of_an_image_are_its_channels_in_their_order(tmp_path: Path) -> None:
    layers = random_pixels(4, SIDE, SIDE)
    for name, layer in zip(("red", "green", "blue", "yellow"), layers, strict=True):
        Image.fromarray(layer).save(tmp_path / f"a_{name}.png")
    path = tmp_path / "a_{red,green,blue,yellow}.png"
    assert [file.name for file in image_files(path)] == [
        f"a_{name}.png" for name in path.name[3:-5].split(",")
    ]
    np.testing.assert_array_equal(decode_image(path), np.dstack(layers[:3]))
    two = decode_image(tmp_path / "a_{green,yellow}.png")
    np.testing.assert_array_equal(two, np.dstack([layers[1], layers[3], np.zeros_like(layers[0])]))
    before = file_state(path)
    Image.fromarray(layers[0][:, :5]).save(tmp_path / "a_blue.png")
    assert file_state(path) != before
    with pytest.raises(ValueError, match="sizes"):
        decode_image(path)


def test_a_name_without_a_comma_in_its_braces_is_one_file(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a{b}.png")
    assert image_files(tmp_path / "a{b}.png") == [tmp_path / "a{b}.png"]
    assert decode_image(tmp_path / "a{b}.png").shape == (4, 4, 3)


def test_a_shape_in_the_transparency_of_one_colour_is_kept(tmp_path: Path) -> None:
    alpha = random_pixels(SIDE, SIDE)
    Image.fromarray(np.dstack([np.zeros((SIDE, SIDE, 3), np.uint8), alpha])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), np.repeat(alpha[..., None], 3, axis=2))
    colours = random_pixels(SIDE, SIDE, 3)
    Image.fromarray(np.dstack([colours, alpha])).save(tmp_path / "b.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "b.png"), colours)


# --- 16 bits


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_the_used_bits_of_16_are_mapped_to_8(tmp_path: Path, bits: int, suffix: str) -> None:
    names = [f"{index}.{suffix}" for index in range(3)]
    for index, name in enumerate(names):
        pixels = random_pixels(SIDE, SIDE, seed=index, high=2**bits, dtype=np.uint16)
        pixels[0, 0] = 2**bits - 1
        cv2.imwrite(str(tmp_path / name), pixels)
    depth, _ = find_depth(tmp_path, names)
    assert depth == bits
    stored = np.array(Image.open(tmp_path / names[0])).astype(np.int64)
    decoded = decode_image(tmp_path / names[0], depth=depth)
    np.testing.assert_array_equal(decoded[..., 0], stored * 256 // 2**bits)
    assert decoded.dtype == np.uint8 and decoded.max() == 255


def test_an_image_of_more_bits_than_the_data_set_is_refused_and_single_bright_pixels_are_clipped(
    tmp_path: Path,
) -> None:
    pixels = random_pixels(32, 32, high=2**12, dtype=np.uint16)
    pixels[0, 0] = 2**15
    cv2.imwrite(str(tmp_path / "bright.png"), pixels)
    decoded = decode_image(tmp_path / "bright.png", depth=12)
    np.testing.assert_array_equal(decoded[..., 0], np.minimum(pixels // 16, 255))
    cv2.imwrite(str(tmp_path / "deep.png"), pixels * 16)
    with pytest.raises(ValueError, match=naming(16, 12)):
        decode_image(tmp_path / "deep.png", depth=12)
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), pixels * 16 if index == 3 else pixels % 2**12)
    assert find_depth(tmp_path, [f"{index}.png" for index in range(5)]) == (16, 12)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_tiff_of_signed_numbers_or_fractions_is_told_apart_from_a_damaged_one(
    tmp_path: Path, dtype: type
) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), random_pixels(SIDE, SIDE, high=200).astype(dtype))
    with pytest.raises(ValueError, match="signed"):
        decode_image(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:20])
    with pytest.raises(ValueError, match="cut off"):
        decode_image(tmp_path / "b.tif")


def test_images_of_8_bits_are_left_as_they_are(tmp_path: Path) -> None:
    pixels = random_pixels(SIDE, SIDE, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert find_depth(tmp_path, ["a.png"]) == (16, 16)
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", depth=10), pixels)


# --- DICOM


def dicom_bytes(pixels: np.ndarray, **attributes: object) -> bytes:
    """Return a DICOM file of these pixels."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.PixelRepresentation = 8 * pixels.dtype.itemsize, 0
    data.BitsStored = data.BitsAllocated
    for name, value in attributes.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def test_a_dicom_file_is_mapped_by_its_stored_bits_its_window_and_its_polarity(tmp_path: Path) -> None:
    pixels = random_pixels(SIDE, SIDE, high=4096, dtype=np.uint16)
    path = tmp_path / "a.dcm"

    def decoded(values: np.ndarray, **attributes: object) -> np.ndarray:
        path.write_bytes(dicom_bytes(values, BitsStored=12, **attributes))
        image = decode_image(path)
        assert image.dtype == np.uint8 and (image == image[..., :1]).all()
        return image[..., 0]

    plain = decoded(pixels)
    np.testing.assert_array_equal(plain, np.round(pixels / 4095 * 255))
    inverted = decoded(4095 - pixels, PhotometricInterpretation="MONOCHROME1")
    assert np.abs(inverted.astype(int) - plain).max() <= 1  # both look alike
    windowed = decoded(pixels, WindowCenter=1000, WindowWidth=400)
    expected = np.clip((pixels - 800.0) / 400, 0, 1) * 255
    assert np.abs(windowed - expected).max() < 1.5  # the standard's window is half a value narrower


def test_fractions_in_an_array_may_exceed_their_range_by_rounding(tmp_path: Path) -> None:
    # else a single value would stretch its image by another rule than the images beside it
    values = np.linspace(0.4, 0.9, 64, dtype=np.float32).reshape(8, 8)
    for name, corner in (("plain", 0.5), ("above", 1 + 1e-6), ("below", -1e-6)):
        values[0, 0] = corner
        np.save(tmp_path / f"{name}.npy", values)
        decoded = decode_image(tmp_path / f"{name}.npy")[..., 0].astype(int)
        np.testing.assert_array_equal(decoded, np.rint(values.clip(0, 1) * 255))


def test_colours_of_a_dicom_file_are_rgb_of_eight_bits(tmp_path: Path) -> None:
    from pydicom.pixels import convert_color_space

    path, rgb = tmp_path / "a.dcm", np.full((4, 4, 3), (200, 30, 60), np.uint8)
    path.write_bytes(
        dicom_bytes(convert_color_space(rgb, "RGB", "YBR_FULL"), PhotometricInterpretation="YBR_FULL")
    )
    np.testing.assert_allclose(decode_image(path).astype(int), rgb, atol=1)  # its own rounding
    for bits in (16, 12):
        path.write_bytes(dicom_bytes(rgb.astype(np.uint16) << (bits - 8), BitsStored=bits))
        np.testing.assert_array_equal(decode_image(path), rgb)


def test_a_dicom_file_with_an_empty_window_has_none(tmp_path: Path) -> None:
    path, values = tmp_path / "a.dcm", np.arange(16, dtype=np.uint16).reshape(4, 4) * 250
    decoded = []
    for window in ({}, {"WindowCenter": "", "WindowWidth": ""}, {"WindowCenter": "9", "WindowWidth": ""}):
        path.write_bytes(dicom_bytes(values, BitsStored=12, **window))
        decoded.append(decode_image(path))
    assert np.array_equal(decoded[0], decoded[1]) and np.array_equal(decoded[0], decoded[2])


def test_a_colour_dicom_file_is_rgb_and_a_broken_one_has_a_reason(tmp_path: Path) -> None:
    pixels = random_pixels(SIDE, SIDE, 3)
    content = dicom_bytes(pixels)
    (tmp_path / "a.dcm").write_bytes(content)
    np.testing.assert_array_equal(decode_image(tmp_path / "a.dcm"), pixels)
    (tmp_path / "a.dcm").write_bytes(content[:-100])
    with pytest.raises(ValueError, match="."):
        decode_image(tmp_path / "a.dcm")


# --- images inside tables


@pytest.mark.parametrize("scale", [1, 255])
def test_pixels_in_a_csv_become_images_named_by_row(tmp_path: Path, scale: int) -> None:
    train, test = random_pixels(5, 64), random_pixels(3, 64, seed=1)
    columns = [f"pixel{index}" for index in range(64)]
    folder = tmp_path / "digits"
    folder.mkdir()
    frame = pd.DataFrame(train / scale, columns=columns)  # fractions are of white
    frame.insert(0, "label", [3, 1, 3, 1, 0])
    frame.to_csv(folder / "train.csv", index=False)
    pd.DataFrame(test / scale, columns=columns).to_csv(folder / "test.csv", index=False)
    (folder / "sample_submission.csv").write_text("ImageId,Label\n1,0\n2,0\n3,0\n")
    competition = read_competition(folder, tmp_path / "cache")
    assert competition.train_images == [f"train/{row}.png" for row in range(1, 6)]
    assert competition.test_images == [f"test/{row}.png" for row in range(1, 4)]
    for name, pixels in zip(competition.test_images, test, strict=True):
        np.testing.assert_array_equal(
            np.array(Image.open(competition.root / name).convert("L")), pixels.reshape(8, 8)
        )
    labels = pd.read_csv(competition.root / "train.csv", dtype=str)
    assert labels.to_dict("list") == {"id": ["1", "2", "3", "4", "5"], "label": ["3", "1", "3", "1", "0"]}
    again = read_competition(folder, tmp_path / "cache")
    assert again.root == competition.root


def test_one_table_with_a_column_of_subsets_is_divided_by_it(tmp_path: Path) -> None:
    pixels = random_pixels(4, 64)
    folder = tmp_path / "faces"
    folder.mkdir()
    frame = pd.DataFrame({"emotion": [0, 1, 0, 1], "pixels": [" ".join(map(str, row)) for row in pixels]})
    frame["Usage"] = ["Training", "Training", "Training", "PublicTest"]
    frame.to_csv(folder / "fer.csv", index=False)
    competition = read_competition(folder, tmp_path / "cache")
    assert len(competition.train_images) == 3 and competition.test_images == ["test/4.png"]


@pytest.mark.parametrize(("count", "high", "keys"), [(70, 256, ["70"]), (64, 300, ["255"])])
def test_rows_that_are_no_images_are_refused(tmp_path: Path, count: int, high: int, keys: list[str]) -> None:
    values = random_pixels(3, count, high=high, dtype=np.int64)
    values[0, 0] = high - 1
    folder = tmp_path / "digits"
    folder.mkdir()
    pd.DataFrame(values, columns=[f"pixel{index}" for index in range(count)]).to_csv(folder / "train.csv")
    with pytest.raises(InputError, match=naming("train.csv", *keys)):
        read_competition(folder, tmp_path / "cache")


def test_pixels_without_a_header_are_not_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    np.savetxt(tmp_path / "digits/train.csv", random_pixels(3, 65), fmt="%d", delimiter=",")
    with pytest.raises(InputError, match=naming("train.csv", "no header", "65", "label,pixel0")):
        read_competition(tmp_path / "digits", tmp_path / "cache")


def test_bytes_in_parquet_become_files_with_the_names_of_their_classes(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is optional: requirements-forms.txt")
    from pyarrow import parquet

    contents = []
    for seed in range(4):
        stream = io.BytesIO()
        Image.fromarray(random_pixels(SIDE, SIDE, 3, seed=seed)).save(stream, "PNG")
        contents.append({"bytes": stream.getvalue(), "path": None})
    features = '{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}'
    (tmp_path / "pets" / "data").mkdir(parents=True)
    for subset, rows in (("train", contents[:3]), ("test", contents[3:])):
        table = arrow.table({"image": rows, "label": [0, 1, 0][: len(rows)]})
        table = table.replace_schema_metadata({"huggingface": features})
        parquet.write_table(table, tmp_path / "pets" / "data" / f"{subset}-00000-of-00001.parquet")
    competition = read_competition(tmp_path / "pets", tmp_path / "cache")
    assert len(competition.train_images) == 3 and len(competition.test_images) == 1
    assert (competition.root / competition.train_images[1]).read_bytes() == contents[1]["bytes"]
    assert list(pd.read_csv(competition.root / "train.csv")["label"]) == ["cat", "dog", "cat"]
