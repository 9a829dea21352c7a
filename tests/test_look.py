"""Predictions of single images by a trained run, and pictures of the outputs of its blocks."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import MakeCompetition, naming
from PIL import Image

import infer
import look
import prepare
import split
import train
from foldsmith.errors import InputError
from foldsmith.evaluation.feature_maps import MAPS, draw_feature_maps, draw_heat, draw_reasons, record_blocks
from foldsmith.inference.weights import load_weights
from foldsmith.models import MODELS, blocks_of, build_model, takes_any_size
from foldsmith.process.files import load_json, load_npz
from foldsmith.run.paths import RunPaths

SIZE = 32


@pytest.fixture(scope="module")
def runs(make_competition: MakeCompetition, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunPaths]:
    """Return trained runs of a network for images of any size, and of one for a fixed size."""
    folder, output = make_competition(size=SIZE), tmp_path_factory.mktemp("output")
    for recipe in ("cnn-gap", "cnn-a"):
        words = [str(folder), "--recipe", recipe, "--epochs", "1", "--folds", "2", "--output", str(output)]
        for stage in (prepare, split, train):
            assert (
                stage.main([*words, "--workers", "0", "--precision", "fp32"] if stage is train else words)
                == 0
            )
    return {recipe: RunPaths(output / folder.name / recipe) for recipe in ("cnn-gap", "cnn-a")}


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """Return the path of a random image of 32 x 20."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def probabilities_by_hand(run: RunPaths, pixels: np.ndarray) -> np.ndarray:
    """Return the mean over folds, in plain torch; the recipe has one view, and scales inputs to 0 … 1."""
    images = torch.from_numpy(pixels.copy())[None].permute(0, 3, 1, 2).float() / 255
    predictions = []
    for fold in (0, 1):
        model = load_weights(run.weights(fold), load_json(run.fold_run(fold)))
        with torch.no_grad():
            predictions.append(model(images).softmax(dim=1)[0].numpy())
    return np.mean(predictions, axis=0)


def printed_classes(capsys: pytest.CaptureFixture) -> dict[str, float]:
    """Return the printed classes and probabilities."""
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "%" in line]
    return {name: float(share.removesuffix("%")) / 100 for share, name in lines}


@pytest.mark.parametrize("cache", ["on", "off"])
def test_every_test_image_looks_as_it_was_submitted(
    make_competition: MakeCompetition, tmp_path: Path, cache: str
) -> None:
    folder = make_competition(size=SIZE)
    pictures = sorted((folder / "test").iterdir())
    for index, path in enumerate(pictures):  # of several sizes, and none the run's
        Image.open(path).resize((24 + 7 * index, 90 - 5 * index)).save(path)
    words = [str(folder), "--recipe", "cnn-gap", "--epochs", "1", "--folds", "2", "--output", str(tmp_path)]
    words += [
        "--image-size",
        "16",
        "--set",
        "seeds=2",
        "--set",
        "views=identity,hflip",
        "--set",
        f"cache={cache}",
    ]
    for stage in (prepare, split, train, infer):
        assert stage.main([*words, "--workers", "0", "--precision", "fp32"]) == 0
    run = RunPaths(tmp_path / folder.name / "cnn-gap")
    typed = look.read_words([str(run.root), *map(str, pictures), "--precision", "fp32"])
    fold_runs = [load_json(run.fold_run(fold)) for fold in (0, 1)]
    looked = {
        f"test/{path.name}": looked.predictions
        for path, looked in zip(pictures, look.look_as_submitted(run, fold_runs, typed), strict=True)
    }
    submitted = load_npz(run.test)
    for path, probabilities in zip(submitted["path"].tolist(), submitted["probabilities"], strict=True):
        # batches of another length round differently
        np.testing.assert_allclose(looked[path], probabilities, atol=1e-5, rtol=0)
    assert len(looked) == len(submitted["path"]) > 2


def test_at_its_native_size_an_image_is_not_resized(
    runs: dict[str, RunPaths], photograph: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [str(runs["cnn-gap"].root), str(photograph), "--precision", "fp32", "--native-size"]
    assert look.main(words) == 0
    expected = probabilities_by_hand(runs["cnn-gap"], np.array(Image.open(photograph)))
    printed = printed_classes(capsys)
    assert list(printed) == [f"kind {label}" for label in np.argsort(-expected)]
    assert list(printed.values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


def test_a_network_of_a_fixed_size_takes_no_native_size(runs: dict[str, RunPaths], photograph: Path) -> None:
    with pytest.raises(InputError, match=naming("--native-size", "cnn-a")):
        look.main([str(runs["cnn-a"].root), str(photograph), "--native-size"])


def test_an_image_is_resized_to_the_size_of_the_run(
    runs: dict[str, RunPaths], photograph: Path, capsys: pytest.CaptureFixture
) -> None:
    assert look.main([str(runs["cnn-a"].root), str(photograph), "--precision", "fp32"]) == 0
    pixels = cv2.resize(np.array(Image.open(photograph)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    expected = probabilities_by_hand(runs["cnn-a"], pixels)
    assert list(printed_classes(capsys).values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


def test_the_picture_has_a_row_for_the_image_and_for_every_block(
    runs: dict[str, RunPaths], photograph: Path
) -> None:
    look.main([str(runs["cnn-gap"].root), str(photograph), str(photograph)])
    picture = np.array(Image.open(runs["cnn-gap"].look("cat.png")))
    image = np.zeros((8, 8, 3), np.uint8)
    row, reasons = draw_feature_maps(image, {}).shape[0], draw_reasons(image, []).shape[0]
    assert picture.shape[0] == reasons + row * (1 + 4)


def test_a_heat_map_colours_what_speaks_for_a_class_and_leaves_the_rest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[2, 3] = 5
    drawn = draw_heat(image, heat)
    changed = (drawn != image).any(axis=2)
    assert changed[2, 3] and changed.sum() == 1
    np.testing.assert_array_equal(draw_heat(image, 0 * heat), image)


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"text", "image"), (None, "No such file")])
def test_a_file_that_is_no_image_is_refused(
    runs: dict[str, RunPaths], tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=naming("bad.png", reason)):
        look.main([str(runs["cnn-a"].root), str(path)])


def test_an_image_too_small_for_the_poolings_is_refused(runs: dict[str, RunPaths], tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "dot.png")
    with pytest.raises(InputError, match=naming("dot.png", "3 x 3", "cnn-gap")):
        look.main([str(runs["cnn-gap"].root), str(tmp_path / "dot.png"), "--native-size"])


def test_a_large_image_is_shrunk_in_its_aspect_ratio_with_a_message(
    runs: dict[str, RunPaths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(look, "LARGEST", 32 * 20)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    words = [str(runs["cnn-gap"].root), str(tmp_path / "large.png"), "--precision", "fp32", "--native-size"]
    assert look.main(words) == 0
    assert re.search(naming("64 x 40", "32 x 20"), capsys.readouterr().out)


def test_two_images_of_one_name_have_two_pictures(runs: dict[str, RunPaths], photograph: Path) -> None:
    other = photograph.parent / "more" / photograph.name
    other.parent.mkdir()
    Image.new("RGB", (32, 20), "red").save(other)
    look.main([str(runs["cnn-gap"].root), str(photograph), str(other)])
    pictures = [runs["cnn-gap"].look(name).read_bytes() for name in ("cat.png", "cat.png-2")]
    assert pictures[0] != pictures[1]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, photograph: Path) -> None:
    with pytest.raises(InputError, match=naming(tmp_path)):
        look.main([str(tmp_path), str(photograph)])


@pytest.mark.parametrize("name", [*(name for name in MODELS if "padded" not in name), "timm:test_resnet"])
def test_the_blocks_of_every_network_are_recorded_in_order_and_drawn(name: str) -> None:
    size, channels = (100 if "lenet" in name else 32), (1 if "crnn" in name else 3)
    model = build_model(name, 4, size, channels).eval()
    maps = record_blocks(model, torch.randn(2, channels, size, size))
    assert list(maps) == list(blocks_of(model)) and len(maps) >= 1
    picture = draw_feature_maps(np.zeros((20, 32, 3), np.uint8), {k: v[:1] for k, v in maps.items()})
    assert picture.dtype == np.uint8 and picture.shape[0] % (len(maps) + 1) == 0
    if not takes_any_size(model):
        return
    with torch.no_grad():
        assert model(torch.randn(1, channels, 40, 56)).shape == (1, 4)


def test_a_map_is_scaled_from_black_to_white_and_a_constant_one_is_black() -> None:
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    picture = draw_feature_maps(np.zeros((4, 4, 3), np.uint8), {"block": torch.cat([ramp, ramp * 0], dim=1)})
    tile = picture[-76:-4, 4:76, 0]
    assert (tile.min(), tile.max()) == (0, 255) and (np.diff(tile.astype(int), axis=1) >= 0).all()
    assert (picture[-76:-4, 80:152] == 0).all()
    assert MAPS >= 2
