"""Pixels by row: from an array file, against numpy, and from images, against PIL; and whole runs."""

import gc
import multiprocessing
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import MakeCompetition, naming
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

import examine
import infer
import prepare
import report
import split
import submit
import train
import validate
from foldsmith.data.images import decode_image, file_state, resize_image
from foldsmith.data.pixels import StoredPixels, StreamedPixels
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main

COUNT, SIZE = 13, 6


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def array(path: Path) -> np.ndarray:
    return np.load(path)


# --- an array file


def test_shape_length_and_type_are_those_of_the_array(path: Path, array: np.ndarray) -> None:
    pixels = StoredPixels(path)
    assert (pixels.shape, len(pixels), pixels.dtype) == (array.shape, COUNT, np.uint8)


@given(st.lists(st.integers(0, COUNT - 1), max_size=40))
def test_any_rows_in_any_order_are_those_numpy_loads(path: Path, array: np.ndarray, rows: list[int]) -> None:
    given_rows = np.array(rows, dtype=np.int64)
    read = StoredPixels(path)[given_rows]
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array[given_rows])


@given(st.slices(COUNT))
def test_any_slice_is_that_of_numpy(path: Path, array: np.ndarray, rows: slice) -> None:
    np.testing.assert_array_equal(StoredPixels(path)[rows], array[rows])


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array])
def test_a_single_row_is_one_image(path: Path, array: np.ndarray, kind: Callable[[int], object]) -> None:
    for row in range(COUNT):
        np.testing.assert_array_equal(StoredPixels(path)[kind(row)], array[row])


@given(st.integers(0, COUNT - 1), st.one_of(st.integers(COUNT, 2**40), st.integers(-(2**40), -1)))
def test_a_row_out_of_range_is_an_error(path: Path, row: int, beyond: int) -> None:
    pixels = StoredPixels(path)
    for rows in (beyond, np.array([row, beyond]), np.array([beyond, row])):
        with pytest.raises(IndexError, match=naming(COUNT)):
            pixels[rows]


def test_returned_pixels_are_a_copy(path: Path, array: np.ndarray) -> None:
    pixels = StoredPixels(path)
    pixels[np.arange(COUNT)][:] = 0
    np.testing.assert_array_equal(pixels[:], array)


def test_an_array_without_images_has_none(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 4, 3), np.uint8))
    pixels = StoredPixels(tmp_path / "none.npy")
    assert len(pixels) == 0 and pixels[np.zeros(0, np.int64)].shape == (0, 4, 4, 3)
    with pytest.raises(IndexError):
        pixels[0]


def saved(path: Path, array: np.ndarray, **words: object) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, **words)


DAMAGES: dict[str, Callable[[Path, np.ndarray], object]] = {
    "empty": lambda path, array: path.write_bytes(b""),
    "text": lambda path, array: path.write_text("no array at all"),
    "cut off in the header": lambda path, array: path.write_bytes(path.read_bytes()[:40]),
    "cut off by a byte": lambda path, array: path.write_bytes(path.read_bytes()[:-1]),
    "cut off after the header": lambda path, array: path.write_bytes(path.read_bytes()[:128]),
    "by columns": lambda path, array: np.save(path, np.asfortranarray(array)),
    "floats": lambda path, array: np.save(path, array.astype(np.float32)),
    "signed": lambda path, array: np.save(path, array.astype(np.int8)),
    "three axes": lambda path, array: np.save(path, array[0]),
    "objects": lambda path, array: np.save(path, np.array([{}, None], dtype=object), allow_pickle=True),
    "pickle": lambda path, array: array.dump(path),
    "zip": lambda path, array: path.write_bytes(b"PK\3\4" + bytes(300)),
    "another version": lambda path, array: saved(path, array, version=(2, 0)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_such_array_is_refused(damage: str, array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", array)
    DAMAGES[damage](tmp_path / "pixels.npy", array)
    before = open_files()
    with pytest.raises(ValueError):
        StoredPixels(tmp_path / "pixels.npy")
    assert open_files() == before


def test_a_file_that_is_cut_off_while_it_is_open_is_an_error(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "pixels.npy"
    np.save(path, array)
    pixels = StoredPixels(path)
    os.truncate(path, path.stat().st_size - 1)
    np.testing.assert_array_equal(pixels[: COUNT - 1], array[:-1])
    with pytest.raises(OSError, match=naming("pixels.npy", COUNT - 1)):
        pixels[COUNT - 1]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_file_is_closed_when_its_pixels_are_deleted(path: Path) -> None:
    gc.collect()
    before = open_files()
    many = [StoredPixels(path) for _ in range(20)]
    assert open_files() == before + 20
    del many
    gc.collect()
    assert open_files() == before


def _send(pixels: StoredPixels, rows: np.ndarray, queue: "multiprocessing.SimpleQueue[bytes]") -> None:
    queue.put(pixels[rows].tobytes())


def test_forked_processes_read_the_same_from_one_open_file(path: Path, array: np.ndarray) -> None:
    pixels, context = StoredPixels(path), multiprocessing.get_context("fork")
    shares = np.array_split(np.random.default_rng(0).integers(0, COUNT, 60), 3)
    queues = [context.SimpleQueue() for _ in shares]
    children = [
        context.Process(target=_send, args=(pixels, rows, queue))
        for rows, queue in zip(shares, queues, strict=True)
    ]
    for child in children:
        child.start()
    for rows, queue in zip(shares, queues, strict=True):
        assert queue.get() == array[rows].tobytes()
    for child in children:
        child.join()
        assert child.exitcode == 0
    np.testing.assert_array_equal(pixels[:], array)  # the end of a child does not close the file here


# --- image files

ORIENTATIONS = range(1, 9)


def photograph(width: int, height: int) -> Image.Image:
    """Return a smooth picture in which channels and orientations are distinct."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = 20 * np.sin(25 * across) * np.cos(18 * down)
    planes = [40 + 180 * across + waves, 60 + 120 * down - waves, 90 - 60 * across * down + waves]
    return Image.fromarray(np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8))


def save_jpeg(path: Path, image: Image.Image, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, quality=95, exif=exif)
    return path


def upright(path: Path) -> np.ndarray:
    """Return the pixels of an image file by PIL, its orientation applied."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def streamed(files: list[Path], size: int, threads: int = 1) -> StreamedPixels:
    states = np.array([file_state(file) for file in files])
    return StreamedPixels(files, np.ones(len(files), bool), states, size, threads)


def test_images_without_loss_are_those_of_pil_resized(tmp_path: Path) -> None:
    files, expected = [], []
    for index, (width, height) in enumerate([(40, 30), (16, 16), (7, 90), (9, 5), (200, 150)]):
        files.append(tmp_path / f"{index}.png")
        photograph(width, height).save(files[-1])
        way = cv2.INTER_AREA if width * height > 16 * 16 else cv2.INTER_CUBIC
        pixels = upright(files[-1])
        same = pixels.shape == (16, 16, 3)
        expected.append(pixels if same else cv2.resize(pixels, (16, 16), interpolation=way))
    pixels = streamed(files, 16)
    assert (pixels.shape, len(pixels)) == ((5, 16, 16, 3), 5)
    np.testing.assert_array_equal(pixels[np.arange(5)], expected)
    np.testing.assert_array_equal(pixels[np.array([4, 0, 4])], [expected[4], expected[0], expected[4]])
    np.testing.assert_array_equal(pixels[3], expected[3])
    assert pixels[np.zeros(0, np.int64)].shape == (0, 16, 16, 3)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("size", [32, 64, 100])
def test_a_large_jpeg_is_nearly_what_decoding_all_of_it_gives(
    orientation: int, size: int, tmp_path: Path
) -> None:
    file = save_jpeg(tmp_path / "large.jpg", photograph(660, 440), orientation)
    assert decode_image(file, size).size < decode_image(file).size
    difference = np.abs(streamed([file], size)[0].astype(float) - resize_image(upright(file), size))
    assert difference.mean() < 1 and difference.max() < 10


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_jpeg_is_never_decoded_smaller_than_requested(orientation: int, tmp_path: Path) -> None:
    for width, height in [(64, 64), (65, 127), (257, 256), (300, 31), (1000, 129), (16, 16)]:
        file = save_jpeg(tmp_path / "image.jpg", photograph(width, height), orientation)
        whole = upright(file).shape
        for least in (1, 4, 8, 15, 16, 17, 31, 32, 33, 64, 100, 129):
            shape = decode_image(file, least).shape
            assert all(side >= min(least, full) for side, full in zip(shape[:2], whole[:2], strict=True))
            # the whole image, reduced by the largest possible factor
            factor = max(f for f in (1, 2, 4, 8) if f == 1 or min(whole[:2]) >= f * least)
            assert shape == (-(-whole[0] // factor), -(-whole[1] // factor), 3)


@pytest.mark.parametrize(("mode", "words"), [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})])
def test_grey_cmyk_and_progressive_jpegs_are_decoded_smaller_too(
    mode: str, words: dict[str, bool], tmp_path: Path
) -> None:
    photograph(400, 300).convert(mode).save(tmp_path / "image.jpg", quality=95, **words)
    whole, small = decode_image(tmp_path / "image.jpg"), decode_image(tmp_path / "image.jpg", 64)
    assert small.shape == (75, 100, 3)
    assert np.abs(small.astype(float) - cv2.resize(whole, (100, 75), interpolation=cv2.INTER_AREA)).mean() < 1


def test_a_file_that_is_no_jpeg_is_decoded_whole(tmp_path: Path) -> None:
    photograph(200, 100).save(tmp_path / "image.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "image.png", 8), upright(tmp_path / "image.png"))


def test_unreadable_images_are_blank_and_are_not_opened(tmp_path: Path) -> None:
    files = [tmp_path / "0.png", tmp_path / "gone.png", tmp_path / "2.png"]
    for file in (files[0], files[2]):
        photograph(20, 20).save(file)
    states = np.array([file_state(files[0]), (0, 0), file_state(files[2])])
    pixels = StreamedPixels(files, np.array([True, False, True]), states, 8)[np.arange(3)]
    assert pixels[0].any() and pixels[2].any() and not pixels[1].any()


def test_any_number_of_threads_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [save_jpeg(tmp_path / f"{index}.jpg", photograph(100 + index, 90)) for index in range(9)]
    rows = np.random.default_rng(0).integers(0, 9, 30)
    pixels = streamed(files, 24, threads=4)
    np.testing.assert_array_equal(pixels[rows], replace(pixels, threads=1)[rows])
    assert pixels.alone().threads == 1


def change(file: Path) -> None:
    photograph(21, 21).save(file)


CHANGES = {
    "changed": (change, "changed"),
    "touched": (lambda file: os.utime(file, ns=(1, 1)), "changed"),
    "removed": (Path.unlink, "No such file or directory"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:50]), "changed"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("threads", [1, 4])
def test_a_changed_file_is_named(what: str, threads: int, tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.png" for index in range(6)]
    for file in files:
        photograph(20, 20).save(file)
    pixels = streamed(files, 8, threads)
    do, message = CHANGES[what]
    do(files[4])
    assert pixels[np.array([0, 5])].any()
    with pytest.raises(InputError, match=naming("4.png", message, "prepare.py")):
        pixels[np.arange(6)]


# --- whole runs whose pixels are streamed

STAGES = (prepare, split, train, validate, infer, submit, examine, report)
SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "2", "--batch-size", "8", "--folds", "2"]
SMALL += ["--precision", "fp32", "--device", "cpu", "--name", "run"]


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    """Write a competition whose images must be resized; one is unreadable."""
    folder = make_competition(size=24, per_class=8, test_per_class=3)
    (folder / "test" / "4.png").write_text("no image")
    return folder


def run_stages(folder: Path, output: Path, *words: str, stages: tuple = STAGES) -> Path:
    for stage in stages:
        assert stage.main([str(folder), *SMALL, "--output", str(output), *words]) == 0
    return output / folder.name / "run"


@pytest.fixture(scope="module")
def stored_run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stages(folder, tmp_path_factory.mktemp("stored"), "--workers", "0")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_keeps_no_pixels_gives_the_bytes_of_one_that_does(
    folder: Path, stored_run: Path, tmp_path: Path, workers: str
) -> None:
    run = run_stages(folder, tmp_path, "--set", "cache=off", "--workers", workers)
    for name in ("oof.npz", "test.npz", "submission.csv", "views.npz", "features.npz", "folds.csv"):
        assert (run / name).read_bytes() == (stored_run / name).read_bytes(), name
    assert list(stored_run.parent.rglob("pixels.npy")) and not list(tmp_path.rglob("pixels.npy"))


def pictures_of(page: Path) -> list[str]:
    return re.findall(r"data:image/jpeg;base64,[^\"']+", page.read_text())


def test_the_report_of_streamed_pixels_shows_the_same_pictures(
    folder: Path, stored_run: Path, tmp_path: Path
) -> None:
    run = run_stages(folder, tmp_path, "--set", "cache=off", "--workers", "0")
    pictures = pictures_of(run / "report.html")
    assert pictures and pictures == pictures_of(stored_run / "report.html")


@pytest.mark.parametrize("what", ["changed", "removed"])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_training_on_a_changed_image_ends_in_one_sentence(
    make_competition: MakeCompetition,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
    workers: str,
) -> None:
    folder = make_competition()
    words = ("--set", "cache=off", "--workers", workers)
    run_stages(folder, tmp_path, *words, stages=(prepare, split))
    do, message = CHANGES[what]
    do(folder / "train" / "3.png")
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: train.main([str(folder), *SMALL, "--output", str(tmp_path), *words]))
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    assert re.search(naming("train/3.png", message, "prepare.py"), error)


@pytest.mark.parametrize("stage", [infer, examine, report])
def test_a_later_stage_names_a_missing_image(
    make_competition: MakeCompetition, tmp_path: Path, stage: object
) -> None:
    folder = make_competition()
    words = ("--set", "cache=off", "--workers", "0", "--epochs", "1")
    run_stages(folder, tmp_path, *words, stages=(prepare, split, train, validate))
    for image in ("test/0.png", "train/3.png"):
        (folder / image).unlink()
    with pytest.raises(InputError, match=r"/(test/0|train/3)\.png.*No such file"):
        run_stages(folder, tmp_path, *words, stages=(stage,))


def test_an_image_with_a_new_time_is_refused_until_prepare_has_run_again(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition()
    words = ("--set", "cache=off", "--workers", "0", "--epochs", "1")
    run_stages(folder, tmp_path, *words, stages=(prepare, split))
    os.utime(folder / "train" / "3.png", ns=(1, 1))
    with pytest.raises(InputError, match=naming("train/3.png", "prepare.py")):
        run_stages(folder, tmp_path, *words, stages=(train,))
    run_stages(folder, tmp_path, *words, stages=(prepare, train))


@pytest.mark.parametrize("lost", ["states.npy", "index.csv", "thumbnails.npy"])
def test_an_incomplete_streamed_cache_is_built_again(folder: Path, tmp_path: Path, lost: str) -> None:
    words = ("--set", "cache=off")
    run = run_stages(folder, tmp_path, *words, stages=(prepare,))
    cache = next((run.parent / "cache").glob("streamed-*"))
    (cache / lost).unlink()
    with pytest.raises(InputError, match=naming(cache, "prepare.py")):
        run_stages(folder, tmp_path, *words, stages=(split, train))
    run_stages(folder, tmp_path, *words, stages=(prepare,))
    assert (cache / lost).is_file()


@pytest.mark.parametrize("damage", [b"", b"no array", "short"])
def test_a_streamed_cache_that_is_damaged_is_refused(
    folder: Path, tmp_path: Path, damage: bytes | str
) -> None:
    words = ("--set", "cache=off", "--workers", "0")
    run = run_stages(folder, tmp_path, *words, stages=(prepare, split))
    states = next((run.parent / "cache").glob("streamed-*")) / "states.npy"
    if isinstance(damage, bytes):
        states.write_bytes(damage)
    else:
        np.save(states, np.load(states)[:-1])
    with pytest.raises(InputError, match=re.escape(str(states.parent))):
        run_stages(folder, tmp_path, *words, stages=(train,))
