"""Balanced epochs: every class occurs equally often, and within it every image."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foldsmith.data.loader import BalancedBatches, EpochBatches
from foldsmith.data.sampling import balanced_order

some_labels = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(np.array)


@given(some_labels, st.integers(0, 99))
def test_classes_and_their_images_occur_equally_often(labels: np.ndarray, seed: int) -> None:
    order = balanced_order(labels, np.random.default_rng(seed))
    assert len(order) == len(labels)
    classes, counts = np.unique(labels[order], return_counts=True)
    present = np.unique(labels)
    assert set(classes) <= set(present)
    by_class = dict(zip(classes, counts, strict=True))
    shares = [by_class.get(label, 0) for label in present]
    assert max(shares) - min(shares) <= 1
    times = np.bincount(order, minlength=len(labels))
    for label in present:
        assert np.ptp(times[labels == label]) <= 1


def test_over_many_epochs_every_class_and_every_image_of_it_has_its_share() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    orders = [balanced_order(labels, np.random.default_rng(seed)) for seed in range(400)]
    times = np.bincount(np.concatenate(orders), minlength=100) / 400
    for label, count in ((0, 70), (1, 20), (2, 10)):
        np.testing.assert_allclose(times[labels == label], 100 / 3 / count, rtol=0.25)
        np.testing.assert_allclose(times[labels == label].sum(), 100 / 3, rtol=0.005)
    # no class is concentrated at the beginning
    positions = np.concatenate([np.flatnonzero(labels[order] == 2) for order in orders])
    assert abs(positions.mean() - 49.5) < 1


def test_a_balanced_epoch_has_the_usual_length_and_depends_on_its_seed() -> None:
    labels = np.repeat([0, 1], [50, 5])

    def epoch(number: int, seed: int = 0, fold: int = 0, start: int = 0) -> list[list[int]]:
        batches = BalancedBatches(labels, 8, seed, fold)
        batches.epoch, batches.start = number, start
        return [key.positions.tolist() for key in batches]

    assert [len(batch) for batch in epoch(0)] == [len(key.positions) for key in EpochBatches(55, 8, 0, 0)]
    drawn = [str(epoch(number, seed, fold)) for number in (0, 1) for seed in (0, 1) for fold in (0, 1)]
    assert len(set(drawn)) == 8 and str(epoch(0)) == drawn[0]
    assert epoch(1, start=3) == epoch(1)[3:]
