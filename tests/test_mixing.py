"""Mixup and CutMix: pixels and targets against numpy, parameters against their distributions."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from foldsmith.data.loader import EpochBatches
from foldsmith.tasks import SingleLabel
from foldsmith.training.mixing import Mix, Mixing, apply_mix

SIZE, CLASSES, COUNT = 16, 5, 9
MIXUP = Mixing(mixup=0.4, cutmix=0.0, share=1.0, num_epochs=10, seed=3, purpose=0, task=SingleLabel(CLASSES))
CUTMIX = replace(MIXUP, mixup=0.0, cutmix=1.0)
BOTH = replace(MIXUP, cutmix=1.0)
CPU = torch.device("cpu")


def make_batch(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return images, draws.integers(0, CLASSES, count)


def draws_of(mixing: Mixing, count: int = 2000, size: int = SIZE) -> list[Mix | None]:
    return [mixing.draw(batch % 10, batch, COUNT, size) for batch in range(count)]


def test_mixup_mixes_images_and_targets_by_the_same_weights() -> None:
    images, labels = make_batch()
    mix = MIXUP.draw(0, 0, COUNT, SIZE)
    expected = mix.kept * images.astype(float) + (1 - mix.kept) * images[mix.partners].astype(float)
    hot = np.eye(CLASSES)
    expected_targets = mix.kept * hot[labels] + (1 - mix.kept) * hot[labels[mix.partners]]
    mixed, targets = apply_mix(torch.from_numpy(images).float(), torch.from_numpy(hot[labels]).float(), mix)
    np.testing.assert_allclose(mixed, expected, atol=1e-3)
    np.testing.assert_allclose(targets, expected_targets, atol=1e-6)


def test_cutmix_replaces_a_box_and_its_share_of_the_target() -> None:
    images, labels = make_batch()
    hot = np.eye(CLASSES)
    for batch in range(50):
        mix = CUTMIX.draw(0, batch, COUNT, SIZE)
        x, y, width, height = mix.box
        inside = np.zeros((SIZE, SIZE, 1), bool)
        inside[y : y + height, x : x + width] = True
        mixed, targets = apply_mix(
            torch.from_numpy(images).float(), torch.from_numpy(hot[labels]).float(), mix
        )
        np.testing.assert_array_equal(mixed, np.where(inside, images[mix.partners], images))
        share = inside.mean()
        expected_targets = (1 - share) * hot[labels] + share * hot[labels[mix.partners]]
        np.testing.assert_allclose(targets, expected_targets, atol=1e-6)


def test_mixup_weights_follow_the_beta_distribution() -> None:
    kept = [mix.kept for mix in draws_of(MIXUP)]
    assert scipy.stats.kstest(kept, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    assert scipy.stats.kstest(kept, scipy.stats.beta(0.6, 0.6).cdf).pvalue < 1e-3


def test_cutmix_boxes_follow_the_published_distribution() -> None:
    size = 1000
    boxes = np.array([mix.box for mix in draws_of(CUTMIX, size=size)])
    whole = boxes[(boxes[:, :2] > 0).all(axis=1) & ((boxes[:, :2] + boxes[:, 2:]) < size).all(axis=1)]
    assert np.abs(whole[:, 2] - whole[:, 3]).max() <= 1  # a square, unless the border clips it
    # sampled and clipped as in the paper, with an independent generator
    stream = np.random.default_rng(9)
    cut = size * np.sqrt(1 - stream.beta(1, 1, 4000))
    centres = stream.uniform(0, size, (2, 4000))
    low, high = np.clip(centres - cut / 2, 0, size), np.clip(centres + cut / 2, 0, size)
    expected = np.prod(high - low, axis=0)
    assert scipy.stats.ks_2samp(boxes[:, 2] * boxes[:, 3], expected).pvalue > 0.01
    assert scipy.stats.ks_2samp(boxes[:, 0], low[0]).pvalue > 0.01
    kept = np.array([mix.kept for mix in draws_of(CUTMIX, size=size)])
    np.testing.assert_allclose(kept, 1 - boxes[:, 2] * boxes[:, 3] / size**2)


def test_with_both_each_batch_samples_one_and_the_share_of_mixed_batches_is_exact() -> None:
    drawn = draws_of(replace(BOTH, share=0.6))
    mixed = [mix for mix in drawn if mix]
    assert scipy.stats.binomtest(len(mixed), len(drawn), 0.6).pvalue > 0.01
    cut = sum(mix.box is not None for mix in mixed)
    assert scipy.stats.binomtest(cut, len(mixed), 0.5).pvalue > 0.01
    assert not any(draws_of(replace(BOTH, share=0.0)))


def test_the_last_epochs_are_not_mixed() -> None:
    half = replace(MIXUP, num_epochs=0.5 * 3)
    assert [half.draw(epoch, 0, COUNT, SIZE) is not None for epoch in range(3)] == [True, True, False]
    assert not any(replace(MIXUP, num_epochs=0).draw(epoch, 0, COUNT, SIZE) for epoch in range(3))


def test_mixing_depends_on_seed_purpose_epoch_and_batch_alone() -> None:
    mixings = [MIXUP, replace(MIXUP, seed=4), replace(MIXUP, purpose=1)]
    positions = [(0, 0), (0, 1), (1, 0)]
    kept = [mixing.draw(*position, COUNT, SIZE).kept for mixing in mixings for position in positions]
    assert len(set(kept)) == len(kept)
    assert kept == [mixing.draw(*position, COUNT, SIZE).kept for mixing in mixings for position in positions]


class Loader:
    """A loader that yields the images and labels of the keys of EpochBatches."""

    def __init__(self, batches: EpochBatches) -> None:
        self.batches = batches
        self.images, self.labels = map(torch.from_numpy, make_batch(batches.num_samples))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for key in self.batches:
            yield self.images[key.positions], self.labels[key.positions]


def make_batches(shard: tuple[int, int] = (0, 1), start: int = 0) -> EpochBatches:
    batches = EpochBatches(31, 8, 0, 0, shard)
    batches.epoch, batches.start = 2, start
    return batches


def test_batches_keep_their_length_and_unmixed_ones_are_unchanged() -> None:
    batches = make_batches()
    mixing = replace(BOTH, share=0.5)
    kinds = set()
    for (images, labels), (new_images, targets) in zip(
        Loader(batches), mixing.mixed(Loader(batches), batches, CPU), strict=True
    ):
        kinds.add(targets.ndim)
        assert new_images.shape == images.shape and len(targets) == len(labels)
        if targets.ndim == 1:
            assert torch.equal(new_images, images) and torch.equal(targets, labels)
        else:
            torch.testing.assert_close(targets.sum(dim=1), torch.ones(len(labels)))
    assert kinds == {1, 2}


def test_a_resumed_epoch_mixes_the_remaining_batches_as_the_whole_epoch_does() -> None:
    whole = list(BOTH.mixed(Loader(make_batches()), make_batches(), CPU))
    left = list(BOTH.mixed(Loader(make_batches(start=2)), make_batches(start=2), CPU))
    assert len(left) == len(whole) - 2
    for (images, targets), (ours, our_targets) in zip(whole[2:], left, strict=True):
        assert torch.equal(images, ours) and torch.equal(targets, our_targets)


class Together:
    """A stand-in for Processes whose joined batches are known."""

    def __init__(self) -> None:
        self.wholes = (whole for batch in Loader(make_batches()) for whole in batch)

    def join_batch(self, rows: torch.Tensor, start: int, count: int) -> torch.Tensor:
        whole = next(self.wholes).to(rows.dtype)
        assert len(whole) == count and torch.equal(whole[start : start + len(rows)], rows)
        return whole


@pytest.mark.parametrize("count", [2, 3])
def test_the_shards_of_several_processes_are_mixed_as_the_whole_batch(count: int) -> None:
    whole = list(BOTH.mixed(Loader(make_batches()), make_batches(), CPU))
    pieces = []
    for which in range(count):
        batches = make_batches((which, count))
        pieces.append(list(BOTH.mixed(Loader(batches), batches, CPU, Together())))
    for (images, targets), *shards in zip(whole, *pieces, strict=True):
        assert torch.equal(torch.cat([shard[0] for shard in shards]), images)
        assert torch.equal(torch.cat([shard[1] for shard in shards]), targets)
