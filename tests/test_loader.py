"""Training batches: complete, even, reshuffled every epoch, and identical for any number of workers."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from conftest import MakeCompetition, naming
from hypothesis import given, settings
from hypothesis import strategies as st

import infer
import prepare
import split
import train
import validate
from foldsmith.augment.host import apply_draws
from foldsmith.augment.rows import AUGMENTATIONS, Augmentation, build_augmentation
from foldsmith.data import loader
from foldsmith.data.loader import AugmentedBatches, DeviceBatches, EpochBatches, build_loader
from foldsmith.data.pixels import StreamedPixels
from foldsmith.errors import InputError, message_of
from foldsmith.inference.compute import augments_on_device, build_compute
from foldsmith.process.exit import run_main
from foldsmith.recipes import Recipe
from foldsmith.training.batches import LEAST_BATCH, fitted_batch_size


def orders(batches: EpochBatches, epoch: int) -> list[list[int]]:
    batches.epoch = epoch
    return [key.positions.tolist() for key in batches]


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 300), st.integers(1, 70), st.integers(0, 9), st.integers(0, 4), st.integers(0, 30))
def test_every_position_occurs_once_an_epoch_in_batches_of_even_length(
    num_samples: int, batch_size: int, seed: int, fold: int, epoch: int
) -> None:
    batches = EpochBatches(num_samples, batch_size, seed, fold)
    drawn = orders(batches, epoch)
    assert sorted(position for batch in drawn for position in batch) == list(range(num_samples))
    lengths = [len(batch) for batch in drawn]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= max(batch_size, 3)
    assert len(batches) == len(drawn) <= math.ceil(num_samples / batch_size)


@given(st.integers(2, 5000), st.integers(1, 512), st.integers(0, 100))
def test_batches_are_halved_until_an_epoch_has_the_least_steps_and_never_below_the_least_size(
    num_images: int, batch_size: int, least_steps: int
) -> None:
    recipe = Recipe(name="few", batch_size=batch_size, least_steps=least_steps)
    candidates = [batch_size >> halvings for halvings in range(10)]
    allowed = [size for size in candidates if size >= LEAST_BATCH] or [batch_size]
    enough = [size for size in allowed if size * least_steps < num_images + size]
    assert fitted_batch_size(recipe, num_images) == max(enough, default=min(allowed))


@settings(deadline=None, max_examples=80)
@given(st.integers(2, 300), st.integers(2, 70))
def test_no_batch_is_left_with_a_single_image_which_batch_norm_could_not_train_on(
    num_samples: int, batch_size: int
) -> None:
    assert min(len(batch) for batch in orders(EpochBatches(num_samples, batch_size, 0, 0), 0)) >= 2


def test_order_and_augmentation_differ_by_seed_fold_and_epoch_and_by_nothing_else() -> None:
    drawn = {}
    for seed in range(2):
        for fold in range(2):
            batches = EpochBatches(50, 8, seed, fold)
            for epoch in (3, 0, 1):
                drawn[seed, fold, epoch] = orders(batches, epoch)
                assert orders(EpochBatches(50, 8, seed, fold), epoch) == drawn[seed, fold, epoch]
    assert len({str(order) for order in drawn.values()}) == len(drawn)


def test_no_two_batches_share_the_seed_of_their_augmentation() -> None:
    seeds = []
    for seed in range(2):
        for fold in range(2):
            batches = EpochBatches(40, 4, seed, fold)
            for epoch in range(3):
                batches.epoch = epoch
                seeds += [key.seed for key in batches]
    assert len(set(seeds)) == len(seeds) == 2 * 2 * 3 * 10


def make_parts(count: int = 42, size: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels of a cache with other images too, the rows of the training images, and their labels."""
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (count + 20, size, size, 3), dtype=np.uint8)
    rows = draws.permutation(count + 20)[:count]
    return pixels, rows, rows % 5


def loaded(workers: int, epochs: tuple[int, ...]) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    pixels, rows, labels = make_parts()
    dataset = AugmentedBatches(pixels, rows, labels, build_augmentation("photo", 12))
    batches = EpochBatches(len(rows), 8, 0, 0)
    loader = build_loader(dataset, batches, workers, pin_memory=False)
    for epoch in epochs:
        batches.epoch = epoch
        yield [(images.clone(), labels.clone()) for images, labels in loader]


def digests(workers: int, epochs: tuple[int, ...]) -> list[list[bytes]]:
    return [
        [images.numpy().tobytes() + labels.numpy().tobytes() for images, labels in epoch]
        for epoch in loaded(workers, epochs)
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes_in_every_epoch(workers: int) -> None:
    alone = digests(0, (0, 1))
    assert digests(workers, (0, 1)) == alone
    assert set(alone[0]).isdisjoint(alone[1])


def test_an_epoch_is_the_same_whatever_was_loaded_before_it() -> None:
    assert digests(0, (2,))[0] == digests(1, (0, 2))[1]


def test_images_and_labels_belong_together() -> None:
    pixels, rows, labels = make_parts()
    dataset = AugmentedBatches(pixels, rows, labels, build_augmentation("none", 12))
    known = {pixels[row].tobytes(): label for row, label in zip(rows, labels, strict=True)}
    loaded = []
    for images, given_labels in build_loader(dataset, EpochBatches(42, 8, 0, 0), 0, pin_memory=False):
        assert images.dtype == torch.uint8 and given_labels.dtype == torch.int64
        assert images.shape[1:] == (12, 12, 3) and len(images) == len(given_labels)
        for image, label in zip(images.numpy(), given_labels.tolist(), strict=True):
            assert known[image.tobytes()] == label
            loaded.append(image.tobytes())
    assert sorted(loaded) == sorted(known)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_uses_no_global_random_state(workers: int) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    digests(workers, (0, 1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


# --- several processes, each with a shard of every batch


@settings(max_examples=80)
@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 5), st.integers(0, 3))
def test_the_shards_of_a_batch_are_the_whole_batch(
    num_samples: int, batch_size: int, num_shards: int, start: int
) -> None:
    def batches_of(which: int) -> EpochBatches:
        batches = EpochBatches(num_samples, batch_size, 0, 0, (which, num_shards))
        batches.epoch, batches.start = 2, start
        return batches

    by_part = [list(batches_of(which)) for which in range(num_shards)]
    all_positions: list[int] = []
    for keys in zip(*by_part, strict=True):
        count = sum(len(key.positions) for key in keys)
        assert {(key.seed, key.within.count) for key in keys} == {(keys[0].seed, count)}
        begin = 0
        for key in keys:  # consecutive, their lengths differing by at most one
            assert key.within.start == begin or not len(key.positions)
            begin += len(key.positions)
        lengths = [len(key.positions) for key in keys]
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) >= 2 or num_samples < 2 * num_shards
        all_positions += np.concatenate([key.positions for key in keys]).tolist()
    assert len(set(all_positions)) == len(all_positions)
    if start == 0:
        assert sorted(all_positions) == list(range(num_samples))


def test_one_process_has_the_batches_of_several_where_their_number_is_the_same() -> None:
    alone = list(EpochBatches(40, 8, 0, 0))
    halves = [list(EpochBatches(40, 8, 0, 0, (which, 2))) for which in range(2)]
    for whole, *shards in zip(alone, *halves, strict=True):
        np.testing.assert_array_equal(np.concatenate([shard.positions for shard in shards]), whole.positions)
        assert {shard.seed for shard in shards} == {whole.seed}


def images_of_shard(name: str, shard: tuple[int, int]) -> list[np.ndarray]:
    pixels, rows, labels = make_parts()
    dataset = AugmentedBatches(pixels, rows, labels, AUGMENTATIONS[name])
    batches = EpochBatches(len(rows), 8, 0, 0, shard)
    return [images.numpy() for images, _ in build_loader(dataset, batches, 0, pin_memory=False)]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_images_of_all_shards_are_those_of_the_whole_batch(name: str) -> None:
    shards = [images_of_shard(name, (which, 3)) for which in range(3)]
    for whole, *pieces in zip(images_of_shard(name, (0, 1)), *shards, strict=True):
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


# --- alternating flips


def mirrored_of(seed: int = 0, fold: int = 0, shard: tuple[int, int] = (0, 1), epoch: int = 0) -> np.ndarray:
    """Return for every position whether it is flipped."""
    batches = EpochBatches(200, 16, seed, fold, shard, alternating=True)
    batches.epoch = epoch
    found = np.full(200, -1)
    for key in batches:
        found[key.positions] = key.within.mirrored
    return found


def test_every_image_is_mirrored_in_exactly_one_of_two_consecutive_epochs() -> None:
    epochs = [mirrored_of(epoch=epoch) for epoch in range(5)]
    for before, after in zip(epochs, epochs[1:], strict=False):
        np.testing.assert_array_equal(before + after, 1)
    assert 70 <= epochs[0].sum() <= 130
    assert not np.array_equal(epochs[0], mirrored_of(seed=1))
    assert not np.array_equal(epochs[0], mirrored_of(fold=1))


def test_processes_mirror_the_images_that_one_does() -> None:
    whole, shards = mirrored_of(epoch=3), [mirrored_of(shard=(which, 3), epoch=3) for which in range(3)]
    np.testing.assert_array_equal(np.max(shards, axis=0), whole)


@pytest.mark.parametrize("name", ["flip", "crop-flip", "study-resnet", "none"])
def test_alternating_flips_mirror_where_the_row_does_and_change_nothing_else(name: str) -> None:
    pixels, rows, labels = make_parts()
    row, count = AUGMENTATIONS[name], 0
    batches = EpochBatches(len(rows), 8, 0, 0, alternating=True)
    there = DeviceBatches(pixels, rows, labels, row, batches, torch.device("cpu"))
    here = build_loader(AugmentedBatches(pixels, rows, labels, row), batches, 0, pin_memory=False)
    for key, (images, _), (on_device, _) in zip(batches, here, there, strict=True):
        draws = row.draw(key.seed, key.within.count, 12)
        if row.hflip:
            draws.flip[:, 0] = key.within.mirrored
            count += key.within.mirrored.sum()
        expected = apply_draws(pixels[rows[key.positions]], draws)
        np.testing.assert_array_equal(images, expected)
        if name != "study-resnet":  # its rotation fades at the border
            assert (on_device - images.float()).abs().max() <= 1.01
    assert (count > 0) == row.hflip


# --- smaller training images


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_workers_and_device_give_images_of_the_size_of_the_epoch(name: str) -> None:
    pixels, rows, labels = make_parts(size=24)
    row, batches = AUGMENTATIONS[name], EpochBatches(len(rows), 8, 0, 0)
    there = DeviceBatches(pixels, rows, labels, row, batches, torch.device("cpu"))
    here = build_loader(AugmentedBatches(pixels, rows, labels, row), batches, 2, pin_memory=False)
    for epoch, side in enumerate((16, 20, 24)):
        batches.epoch, batches.side = epoch, side
        for (images, _), (on_device, _) in zip(here, there, strict=True):
            assert images.shape[1:] == on_device.shape[1:] == (side, side, 3)


# --- batches that are augmented on the device


@pytest.mark.parametrize("shard", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("name", ["none", "flip", "crop-flip", "pad-crop-flip"])
def test_batches_augmented_on_the_device_are_those_of_the_workers(
    name: str, shard: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "CHUNK", 10)  # rows are copied in several chunks
    pixels, rows, labels = make_parts()
    augmentation, batches = AUGMENTATIONS[name], EpochBatches(len(rows), 8, 0, 0, shard)
    there = DeviceBatches(pixels, rows, labels, augmentation, batches, torch.device("cpu"))
    here = build_loader(AugmentedBatches(pixels, rows, labels, augmentation), batches, 0, pin_memory=False)
    assert len(there) == len(batches)
    for epoch, start in ((0, 0), (3, 0), (3, 2)):
        batches.epoch, batches.start = epoch, start
        count = 0
        for (images, their_labels), (expected, expected_labels) in zip(there, here, strict=True):
            assert images.dtype == torch.float32 and their_labels.dtype == torch.int64
            assert images.shape == expected.shape
            assert torch.equal(their_labels, expected_labels)
            assert (images - expected.float()).abs().max() <= 1.01
            count += 1
        assert count == len(batches) - start


# --- augment_on


def recipe_of(**fields: object) -> Recipe:
    return Recipe(name="test", image_size=16, **fields)


def test_on_a_cpu_the_host_augments_unless_set_otherwise() -> None:
    pixels = np.zeros((4, 16, 16, 3), np.uint8)
    compute = build_compute("cpu", "fp32", (0.5,) * 3, (0.5,) * 3)
    for word, expected in (("auto", False), ("workers", False), ("device", True)):
        recipe = recipe_of(augment_on=word)
        assert augments_on_device(recipe, Augmentation(), pixels, 4, compute) is expected


@pytest.mark.parametrize(("streamed", "remedy"), [(False, "augment_on=auto"), (True, "cache=on")])
def test_the_device_augments_only_stored_pixels_with_our_own_augmentations(
    streamed: bool, remedy: str
) -> None:
    compute = build_compute("cpu", "fp32", (0.5,) * 3, (0.5,) * 3)
    pixels, augmentation = np.zeros((4, 16, 16, 3), np.uint8), albumentations.Compose([])
    if streamed:
        pixels, augmentation = StreamedPixels([], np.ones(0, bool), np.zeros((0, 2)), 16), Augmentation()
    for word in ("auto", "workers"):
        assert not augments_on_device(recipe_of(augment_on=word), augmentation, pixels, 4, compute)
    with pytest.raises(InputError, match=naming("augment_on=device", f"--set {remedy}")):
        augments_on_device(recipe_of(augment_on="device"), augmentation, pixels, 4, compute)


SMALL = ["--recipe", "quick", "--image-size", "16", "--batch-size", "8", "--folds", "2", "--device", "cpu"]
SMALL += ["--precision", "fp32", "--workers", "0"]


def test_a_run_that_augments_on_the_device_trains_on_a_cpu_too(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(per_class=9)
    words = [str(folder), *SMALL, "--set", "augment_on=device", "--epochs", "8", "--output", str(tmp_path)]
    for stage in (prepare, split, train, validate, infer):
        assert stage.main(words) == 0
    run = tmp_path / folder.name / "quick"
    assert json.loads((run / "cv.json").read_text())["oof"] >= 0.8
    weights = (run / "fold0" / "weights.safetensors").read_bytes()
    train.main([*words, "--fold", "0", "--again"])
    assert (run / "fold0" / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("other", "remedy"), [("cache=off", "--set cache=on"), ("augment=flip.json", "--set augment_on=auto")]
)
def test_device_augmentation_that_is_impossible_is_refused_before_anything_is_decoded(
    other: str,
    remedy: str,
    make_competition: MakeCompetition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_competition()
    monkeypatch.chdir(tmp_path)
    albumentations.save(albumentations.HorizontalFlip(), "flip.json")
    words = [str(folder), *SMALL, "--set", "augment_on=device", "--set", other, "--output", "output"]
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: prepare.main(words))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: ") and re.search(naming("augment_on=device", remedy), error)
    assert not (tmp_path / "output").exists()


# --- errors in a worker


@pytest.mark.parametrize("workers", [0, 1])
def test_an_input_error_in_a_worker_has_the_same_message(workers: int) -> None:
    pixels, rows, labels = make_parts()
    pipeline = albumentations.Compose([albumentations.Normalize()])
    dataset = AugmentedBatches(pixels, rows, labels, pipeline)
    with pytest.raises(InputError) as caught:
        list(build_loader(dataset, EpochBatches(42, 8, 0, 0), workers, pin_memory=False))
    sentence = message_of(caught.value)
    for fact in ("Normalize", "12 x 12", "float32 (12, 12, 3)"):
        assert fact in sentence
    assert "Traceback" not in sentence and "\n" not in sentence
    caught.value.__traceback__ = None  # it keeps the loader alive in a reference cycle
