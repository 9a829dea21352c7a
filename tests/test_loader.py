"""Training batches: complete, even, in a new order every epoch, and the same for any number of workers."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foldsmith.data.augment import build_augmentation
from foldsmith.data.loader import AugmentedBatches, EpochBatches, build_loader


def orders(batches: EpochBatches, epoch: int) -> list[list[int]]:
    batches.epoch = epoch
    return [key.positions.tolist() for key in batches]


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 300), st.integers(1, 70), st.integers(0, 9), st.integers(0, 4), st.integers(0, 30))
def test_every_position_comes_once_an_epoch_in_batches_of_even_length(
    num_samples: int, batch_size: int, seed: int, fold: int, epoch: int
) -> None:
    batches = EpochBatches(num_samples, batch_size, seed, fold)
    drawn = orders(batches, epoch)
    assert sorted(position for batch in drawn for position in batch) == list(range(num_samples))
    lengths = [len(batch) for batch in drawn]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= max(batch_size, 3)
    assert len(batches) == len(drawn) <= math.ceil(num_samples / batch_size)


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
    """Pixels of a cache that holds other images too, the rows of the training images in it, their labels."""
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
    seen = []
    for images, given_labels in build_loader(dataset, EpochBatches(42, 8, 0, 0), 0, pin_memory=False):
        assert images.dtype == torch.uint8 and given_labels.dtype == torch.int64
        assert images.shape[1:] == (12, 12, 3) and len(images) == len(given_labels)
        for image, label in zip(images.numpy(), given_labels.tolist(), strict=True):
            assert known[image.tobytes()] == label
            seen.append(image.tobytes())
    assert sorted(seen) == sorted(known)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_nothing_from_the_global_streams(workers: int) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    digests(workers, (0, 1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
