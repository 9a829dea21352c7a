"""Images of four files: their channels from the file to the network, in every step between."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import naming
from PIL import Image
from safetensors.torch import save_file
from scipy.fft import dctn

import infer
import look
import predict
import prepare
import report
import split
import train
import validate
from foldsmith.augment import device as augment_device
from foldsmith.augment import host as augment_host
from foldsmith.augment.albumentations_file import pipeline_text
from foldsmith.augment.rows import AUGMENTATIONS, Augmentation, Draws, build_augmentation
from foldsmith.data.cache import PixelCache, build_cache, cache_name, channels_of, open_cache, open_run_cache
from foldsmith.data.channels import check_channels, describe_dropped, most_channels
from foldsmith.data.images import decode_image, facts_of, resize_image
from foldsmith.data.near_duplicates import find_near_duplicates, hash_thumbnails, orient
from foldsmith.data.survey import survey_images
from foldsmith.errors import InputError
from foldsmith.evaluation.feature_maps import draw_feature_maps
from foldsmith.inference.compute import build_compute
from foldsmith.inference.weights import load_weights
from foldsmith.models import MODELS, Start, build_model, normalisation
from foldsmith.process.files import load_json, load_npz
from foldsmith.recipes import RECIPES, DatasetFacts, Recipe, RecipeEvidence, override
from foldsmith.recipes.default import describe_recipe, resolve_default
from foldsmith.report.pictures import encode_picture
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths
from foldsmith.training.check import check_recipe
from foldsmith.training.resolve import resolve_recipe

FILES = ("red", "green", "blue", "yellow")
BRACES = "_{red,green,blue,yellow}.png"
SIDE, COUNT, NUM_TEST = 16, 48, 6


def write_image(folder: Path, name: str, layers: np.ndarray) -> str:
    """Write layers (4, H, W) as the files of an image; return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for word, layer in zip(FILES, layers, strict=True):
        Image.fromarray(layer).save(folder / f"{name}_{word}.png")
    return f"{folder.name}/{name}{BRACES}"


def layers_of(folder: Path, image: str) -> np.ndarray:
    """Return the files of an image as Pillow reads them, (H, W, 4)."""
    return np.dstack(
        [np.asarray(Image.open(folder / image.replace(BRACES, f"_{word}.png"))) for word in FILES]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a competition of two classes that differ in the fourth file alone: dark, or bright."""
    folder, draws = tmp_path_factory.mktemp("input") / "cells", np.random.default_rng(0)

    def layers(index: int) -> np.ndarray:
        noise = draws.integers(0, 256, (3, SIDE, SIDE))
        fourth = draws.integers(0, 100, (1, SIDE, SIDE)) + 130 * (index % 2)
        return np.concatenate([noise, fourth]).astype(np.uint8)

    for index in range(COUNT):
        write_image(folder / "train", f"a{index}", layers(index))
    for index in range(NUM_TEST):
        write_image(folder / "test", f"b{index}", layers(index))
    words = ["dark", "bright"]
    labels = pd.DataFrame({"id": [f"a{i}" for i in range(COUNT)], "label": words * (COUNT // 2)})
    labels.to_csv(folder / "train.csv", index=False)
    sample = pd.DataFrame({"id": [f"b{i}" for i in range(NUM_TEST)], "label": "dark"})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return folder


def words_of(folder: Path, output: Path, *more: str) -> list[str]:
    words = [str(folder), "--output", str(output), "--recipe", "quick", "--image-size", str(SIDE)]
    return [*words, "--holdout", "0.25", "--device", "cpu", "--precision", "fp32", "--workers", "0", *more]


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Train and report a network of four channels."""
    output = tmp_path_factory.mktemp("output")
    words = words_of(folder, output, "--set", "channels=4", "--epochs", "6", "--batch-size", "8")
    for stage in (prepare, split, train, validate, infer, report):
        assert stage.main(words) == 0
    return RunPaths(output / "cells" / "quick")


def make_images(count: int = 24, size: int = 24) -> np.ndarray:
    """Return smooth noisy images (count, size, size, 4) whose channels are unlike."""
    draws = np.random.default_rng(0)
    slope = np.linspace(0, 110, size)
    ramps = np.stack([slope[:, None] + slope, slope[::-1, None] + slope, slope[:, None] + slope[::-1],
                      slope[::-1, None] + slope[::-1]], axis=-1)  # fmt: skip
    noise = draws.normal(0, 8, (count, size, size, 4)) + draws.uniform(0, 30, (count, 1, 1, 4))
    return np.clip(ramps + noise, 0, 255).astype(np.uint8)


def on_host_and_device(images: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    on_device = augment_device.apply_draws(torch.from_numpy(images), draws).numpy()
    return {"host": augment_host.apply_draws(images, draws).astype(float), "device": on_device}


# --- files, pixels and cache


def test_the_channels_of_an_image_are_its_four_files(folder: Path, tmp_path: Path) -> None:
    image = f"train/a0{BRACES}"
    expected = layers_of(folder, image)
    np.testing.assert_array_equal(decode_image(folder / image, channels=4), expected)
    np.testing.assert_array_equal(decode_image(folder / image), expected[..., :3])
    for name, number in (("train/a0_red.png", "one file"), ("train/a0_{red,green,blue}.png", "3 files")):
        with pytest.raises(ValueError, match=number):
            decode_image(folder / name, channels=4)
    Image.fromarray(expected).save(tmp_path / "transparent.png")  # RGBA is one file, not four channels
    np.testing.assert_array_equal(decode_image(tmp_path / "transparent.png"), expected[..., :3])


def test_an_image_is_grey_if_all_four_channels_are_equal() -> None:
    equal = np.full((3, 5, 4), 7, np.uint8)
    other = equal.copy()
    other[0, 0, 3] = 8
    assert facts_of(equal).grey and not facts_of(other).grey and facts_of(other[..., :3]).grey
    assert facts_of(equal).digest != facts_of(other).digest


@pytest.fixture(scope="module")
def caches(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PixelCache]:
    root, images = tmp_path_factory.mktemp("cache"), [f"train/a{index}{BRACES}" for index in range(5)]
    names = {
        "four": cache_name("listing", images, SIDE, channels=4),
        "three": cache_name("listing", images, SIDE),
        "streamed": cache_name("listing", images, SIDE, stored=False, channels=4),
        "half": cache_name("listing", images, SIDE // 2, channels=4, depth=12),
    }
    assert len(set(names.values())) == 4
    assert [channels_of(root / name) for name in names.values()] == [4, 3, 4, 4]
    sizes = {kind: SIDE // 2 if kind == "half" else SIDE for kind in names}
    return {kind: build_cache(root / name, folder, images, sizes[kind]) for kind, name in names.items()}


def test_the_cache_holds_the_fourth_file_where_its_name_says_so(
    caches: dict[str, PixelCache], folder: Path
) -> None:
    images = list(caches["four"].index["path"])
    expected = np.stack([layers_of(folder, image) for image in images])
    for kind in ("four", "streamed"):
        assert caches[kind].pixels.shape == (5, SIDE, SIDE, 4)
        np.testing.assert_array_equal(caches[kind].pixels[np.arange(5)], expected)
        np.testing.assert_array_equal(caches[kind].thumbnails[:], expected)
    again = open_cache(caches["four"].path, folder, SIDE)
    np.testing.assert_array_equal(again.pixels[3], expected[3])
    np.testing.assert_array_equal(caches["three"].pixels[:], expected[..., :3])
    # area averaging to half the side is the mean of 2 x 2 pixels
    means = expected.reshape(5, SIDE // 2, 2, SIDE // 2, 2, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(caches["half"].pixels[:], means, atol=0.75)


def test_the_key_of_a_cache_of_three_channels_is_as_it_was() -> None:
    for stored in (True, False):
        name = cache_name("listing", ["a"], 32, stored, 12)
        assert name == cache_name("listing", ["a"], 32, stored, 12, channels=3)
        assert "ch-" not in name and "ch-" in cache_name("listing", ["a"], 32, stored, 12, channels=4)


def test_resizing_treats_the_first_three_channels_as_without_a_fourth() -> None:
    image = make_images(1, 40)[0]
    for size in (9, 16, 64):
        np.testing.assert_array_equal(resize_image(image, size)[..., :3], resize_image(image[..., :3], size))


def test_near_duplicates_are_told_apart_by_the_fourth_channel_and_found_by_it() -> None:
    draws = np.random.default_rng(1)
    coarse = draws.integers(0, 256, (8, 5, 5, 4)).astype(np.uint8)
    thumbnails = np.stack([resize_image(image, 16) for image in coarse])
    alone = thumbnails.copy()
    alone[..., :3] = 0  # nothing but the fourth channel has a picture
    expected = dctn(alone.mean(axis=3), type=2, axes=(1, 2))[:, :8, :8].reshape(8, 64) > 0
    bits = hash_thumbnails(alone)[:, :1] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
    np.testing.assert_array_equal(bits[:, 1:], expected[:, 1:])
    mirrored = orient(alone, transposed=True, flip=0)
    pairs = find_near_duplicates(np.concatenate([alone, mirrored]), bits=7)
    assert pairs.tolist() == [[index, index + 8] for index in range(8)]
    other = thumbnails.copy()
    other[..., 3] = thumbnails[::-1, ..., 3]  # the same first three files beside another fourth
    assert not len(find_near_duplicates(np.concatenate([thumbnails, other]), bits=7))
    assert len(find_near_duplicates(np.concatenate([thumbnails, other])[..., :3].copy(), bits=7)) == 8


# --- augmentation


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_fourth_channel_changes_nothing_in_the_others(name: str) -> None:
    images = make_images()
    draws = build_augmentation(name, images.shape[1], erase=0.5).draw(3, len(images), images.shape[1])
    three = on_host_and_device(np.ascontiguousarray(images[..., :3]), draws)
    for where, four in on_host_and_device(images, draws).items():
        # OpenCV's kernels for three and four channels may round differently
        np.testing.assert_allclose(four[..., :3], three[where], atol=1, rtol=0, err_msg=where)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_all_but_colours_do_to_the_fourth_channel_what_they_do_to_grey(name: str) -> None:
    images = make_images()
    row = build_augmentation(name, images.shape[1])
    draws = row.draw(4, len(images), images.shape[1])
    draws = Draws(**{**vars(draws), "colour": None, "lift": None})
    grey = on_host_and_device(np.repeat(images[..., 3:], 3, axis=-1), draws)
    for where, augmented in on_host_and_device(images, draws).items():
        np.testing.assert_allclose(augmented[..., 3], grey[where][..., 0], atol=1, rtol=0, err_msg=where)


def test_saturation_and_hue_leave_the_fourth_channel_alone() -> None:
    images = make_images()
    draws = Augmentation(saturation=0.8, hue=0.3, jittered=1.0).draw(5, len(images), images.shape[1])
    for where, augmented in on_host_and_device(images, draws).items():
        np.testing.assert_allclose(augmented[..., 3], images[..., 3], atol=1e-3, err_msg=where)
        assert np.abs(augmented[..., :3] - images[..., :3]).mean() > 5


def test_brightness_and_contrast_act_on_all_four_channels_alike() -> None:
    images = make_images()
    draws = Augmentation(brightness=0.4, contrast=0.6, jittered=1.0).draw(6, len(images), images.shape[1])
    # of a channel x: brightness * (contrast * x + (1 - contrast) * mean brightness of the picture)
    slope, lift = draws.colour[:, 0].sum(axis=1), draws.lift
    luma = (images[..., :3] @ [0.299, 0.587, 0.114]).mean(axis=(1, 2))
    expected = slope[:, None, None, None] * images + (lift * luma)[:, None, None, None]
    for where, augmented in on_host_and_device(images, draws).items():
        np.testing.assert_allclose(augmented, expected.clip(0, 255), atol=0.6, rtol=0, err_msg=where)


@pytest.mark.parametrize("name", ["photo", "trivial-crop"])
def test_host_and_device_agree_on_four_channels(name: str) -> None:
    images = make_images()
    row = build_augmentation(name, images.shape[1], erase=0.5)
    found = on_host_and_device(images, row.draw(7, len(images), images.shape[1]))
    # TrivialAugment's tables jump, and edges of rotated images fade differently
    assert np.quantile(np.abs(found["host"] - found["device"])[..., 3], 0.9) <= 1


def test_an_erased_box_is_erased_in_all_four_channels() -> None:
    images = make_images()
    draws = Augmentation(erase=1.0).draw(8, len(images), images.shape[1])
    for augmented in on_host_and_device(images, draws).values():
        for image, (x, y, width, height), fill in zip(augmented, draws.erased, draws.fill, strict=True):
            assert (image[y : y + height, x : x + width] == fill).all()


def recipe_with(transforms: list[Any], **fields: Any) -> Recipe:
    augment = pipeline_text(albumentations.Compose(transforms))
    return Recipe(name="mine", model="quick-cnn", image_size=24, augment=augment, **fields)


def test_a_pipeline_keeps_the_fourth_channel() -> None:
    images = make_images(4)
    recipe = recipe_with([albumentations.HorizontalFlip(p=1), albumentations.InvertImg(p=1)], channels=4)
    check_recipe(recipe, "cpu", "fp32")
    pipeline = build_augmentation(recipe.augment, 24, channels=4)
    np.testing.assert_array_equal(augment_host.augment_batch(pipeline, images, 0), 255 - images[:, :, ::-1])


@pytest.mark.parametrize("transform", ["HueSaturationValue", "ToGray", "CLAHE"])
def test_a_transform_for_three_channels_is_refused_however_rare_it_is(transform: str) -> None:
    rare = getattr(albumentations, transform)(p=1e-9)
    transforms = [albumentations.OneOf([albumentations.GaussNoise(), rare], p=1e-9)]
    with pytest.raises(InputError, match=naming(transform, "--set channels=3", "drops")):
        check_recipe(recipe_with(transforms, channels=4), "cpu", "fp32")
    check_recipe(recipe_with(transforms, channels=3), "cpu", "fp32")


# --- networks


@pytest.mark.parametrize("name", MODELS)
def test_every_network_looks_at_the_fourth_channel(name: str) -> None:
    # the autoencoders' side; others are built for it too
    size = {"autoencoder": 100, "crnn": 28}.get(name.partition("-")[0], 32)
    torch.manual_seed(0)
    model = build_model(name, 3, size, 4).eval()
    images = torch.randn(2, 4, size, size)
    other = images.clone()
    other[:, 3] = 0
    with torch.inference_mode():
        logits, without = model(images), model(other)
    assert logits.shape == (2, 3) and torch.isfinite(logits).all() and not torch.equal(logits, without)
    if hasattr(model, "reconstruct"):
        assert model.reconstruct(images).shape == images.shape


def test_pretrained_weights_of_three_channels_are_adapted_as_timm_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    three = build_model("timm:test_resnet", 3, 32)
    save_file(three.state_dict(), tmp_path / "weights.safetensors")
    start = Start(file=str(tmp_path / "weights.safetensors"))
    four = build_model("timm:test_resnet", 3, 32, 4, start)
    old, new = (next(model.parameters()).detach() for model in (three, four))
    # a fourth channel begins again with the first, and all are scaled, so that sums stay as large
    torch.testing.assert_close(new, torch.cat([old, old[:, :1]], dim=1) * 3 / 4)
    four = build_model("timm:resnet18", 3, 32, 4)
    mean, std = normalisation(four, from_pretrained=True, channels=4)
    assert mean == pytest.approx((0.485, 0.456, 0.406, np.mean([0.485, 0.456, 0.406])))
    assert std == pytest.approx((0.229, 0.224, 0.225, np.mean([0.229, 0.224, 0.225])))
    assert normalisation(four, from_pretrained=False, channels=4) == ((0.5,) * 4, (0.5,) * 4)


# --- recipes


def test_the_default_recipe_takes_four_channels_where_there_are_four_files(
    folder: Path, tmp_path: Path
) -> None:
    command = read_command([str(folder), "--output", str(tmp_path)], "")
    competition = prepare.read_competition(folder)
    resolved = resolve_recipe(command, competition)
    assert (resolved.recipe.channels, resolved.evidence.facts.channels) == (4, 4)
    first, *_ = describe_recipe(resolved.recipe, resolved.evidence)
    assert "four files" in first
    assert resolve_default(resolved.evidence, ["channels=3"]).channels == 3
    three = [image.replace(BRACES, "_{red,green,blue}.png") for image in competition.train_images]
    assert survey_images(folder, three, most_channels(three)).channels == 3
    assert resolve_default(RecipeEvidence(DatasetFacts(9, 32, True, 4))).channels == 1


def test_evidence_of_three_channels_is_written_as_before() -> None:
    three, four = (RecipeEvidence(DatasetFacts(9, 32, False, number)) for number in (3, 4))
    assert three.as_entry() == {"facts": {"num_images": 9, "side": 32, "grey": False}, "pretrained": False}
    assert four.as_entry() == {"facts": asdict(four.facts), "pretrained": False}
    assert RecipeEvidence.of_entry(three.as_entry()) == three
    assert RecipeEvidence.of_entry(four.as_entry()) == four
    assert RecipeEvidence.of_entry({"facts": {"side": 3}}) is None and RecipeEvidence.of_entry({}) is None


def test_channels_are_one_three_or_four_and_means_as_many() -> None:
    with pytest.raises(InputError, match=naming("channels", "1, 3 or 4")):
        override(RECIPES["quick"], ["channels=2"])
    with pytest.raises(InputError, match=naming("mean", "--set mean=", "--set channels=3")):
        override(RECIPES["speedrun"], ["channels=4"])
    assert override(RECIPES["speedrun"], ["channels=4", "mean=", "std="]).channels == 4


def test_images_of_fewer_files_are_refused_and_a_dropped_file_is_named() -> None:
    four, three, two = "train/a_{red,green,blue,yellow}.png", "train/b_{r,g,b}.png", "train/c_{r,g}.png"
    recipe = override(RECIPES["quick"], ["channels=4"])
    check_channels(recipe, [four])
    for image in (three, two, "test/d.png"):
        with pytest.raises(InputError, match=naming(image, "--set channels=3")):
            check_channels(recipe, [four, image])
        check_channels(RECIPES["quick"], [four, image])
        assert most_channels([four, image]) == 3
    assert describe_dropped(recipe, [four]) == describe_dropped(RECIPES["quick"], [three, two]) == []
    (sentence,) = describe_dropped(RECIPES["quick"], [four])
    assert "train/a_yellow.png" in sentence and "--set channels=4" in sentence


# --- stages


def test_prepare_refuses_four_channels_of_single_files(tmp_path: Path, make_competition: Any) -> None:
    folder = make_competition()
    with pytest.raises(InputError, match=naming("channels=4", "--set channels=3")):
        prepare.main(words_of(folder, tmp_path, "--set", "channels=4"))


def test_prepare_says_that_three_channels_drop_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert prepare.main(words_of(folder, tmp_path)) == 0
    assert "_yellow.png" in capsys.readouterr().out
    cache = open_run_cache(RunPaths(tmp_path / "cells" / "quick"), folder, SIDE)
    assert cache.pixels.shape[3] == 3


def test_two_files_of_competition_toml_are_two_of_three_channels(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cells"
    for subset, name, count in (("train", "a", COUNT), ("test", "b", NUM_TEST)):
        (copy / subset).mkdir(parents=True)
        for index in range(count):
            for word in FILES[:2]:
                file = f"{subset}/{name}{index}_{word}.png"
                (copy / file).write_bytes((folder / file).read_bytes())
    for table in ("train.csv", "sample_submission.csv"):
        (copy / table).write_bytes((folder / table).read_bytes())
    (copy / "competition.toml").write_text('files = ["{id}_green.png", "{id}_red.png"]')
    assert prepare.main(words_of(copy, tmp_path / "output")) == 0
    cache = open_run_cache(RunPaths(tmp_path / "output" / "cells" / "quick"), copy, SIDE)
    for row, image in enumerate(cache.index["path"]):
        layers = layers_of(folder, image.replace("{green,red}.png", BRACES.removeprefix("_")))
        expected = np.dstack([layers[..., 1], layers[..., 0], np.zeros((SIDE, SIDE), np.uint8)])
        np.testing.assert_array_equal(cache.pixels[row], expected)


def test_a_label_that_only_the_fourth_file_shows_is_learned(run: RunPaths) -> None:
    oof = load_npz(run.oof)
    assert (oof["probabilities"].argmax(axis=1) == oof["label"]).mean() >= 0.9
    test = load_npz(run.test)
    dark = [int(path.split("b")[1].split("_")[0]) % 2 == 0 for path in test["path"]]  # class 1 of two
    assert test["probabilities"].argmax(axis=1).tolist() == dark


def test_the_network_sees_the_values_of_the_files(run: RunPaths, folder: Path) -> None:
    cache, facts = open_run_cache(run, folder, SIDE), load_json(run.fold_run(0))
    image = f"test/b1{BRACES}"
    compute = build_compute("cpu", "fp32", *facts["normalisation"].values())
    seen = compute.normalise(torch.from_numpy(cache.pixels[cache.rows([image])]))
    expected = (layers_of(folder, image) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(seen[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert load_weights(run.weights(0), facts).features[0][0].in_channels == 4
    np.testing.assert_array_equal(compute.to_pixels(seen)[0], layers_of(folder, image)[..., :3])


def test_pictures_show_the_first_three_channels_and_say_so_once(run: RunPaths) -> None:
    image = make_images(1, 30)[0]
    assert encode_picture(image) == encode_picture(image[..., :3])
    drawn = draw_feature_maps(image, {})
    three = draw_feature_maps(np.ascontiguousarray(image[..., :3]), {})
    assert drawn.shape == three.shape
    np.testing.assert_array_equal(drawn[22:], three[22:])  # below the title, which says so
    assert not np.array_equal(drawn, three)
    assert run.report.read_text().count("first three of the four channels") == 1


def test_look_takes_the_four_files_in_one_name(run: RunPaths, folder: Path, capsys: Any) -> None:
    capsys.readouterr()
    assert look.main([str(run.root), str(folder / f"test/b1{BRACES}"), "--precision", "fp32"]) == 0
    assert "answer: bright" in capsys.readouterr().out
    with pytest.raises(InputError, match=naming("b1_red.png", "{red,green,blue,yellow}")):
        look.main([str(run.root), str(folder / "test/b1_red.png"), "--precision", "fp32"])


def test_the_files_of_new_images_are_joined_as_those_of_the_run(
    run: RunPaths, folder: Path, tmp_path: Path
) -> None:
    words = [str(folder / "test"), "--output", str(tmp_path / "new.csv"), "--device", "cpu"]
    assert predict.main([str(run.root), *words, "--precision", "fp32"]) == 0
    table, test = pd.read_csv(tmp_path / "new.csv"), load_npz(run.test)
    assert [Path(path).name for path in table["path"]] == [f"b{index}{BRACES}" for index in range(NUM_TEST)]
    stored = dict(
        zip([Path(path).name for path in test["path"].tolist()], test["probabilities"], strict=True)
    )
    expected = [stored[Path(path).name] for path in table["path"]]
    np.testing.assert_allclose(table[["probability_bright", "probability_dark"]], expected, atol=1e-6)
