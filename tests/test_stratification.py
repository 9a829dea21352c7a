"""Folds of sets and numbers: every label and every quantile is in all folds, and groups stay whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

from foldsmith.data.folds import ALWAYS_TRAINED, assign_folds, assign_holdout, choose_limited
from foldsmith.tasks import Regression


def draw_sets(seed: int, count: int = 300) -> np.ndarray:
    """Return sets of six labels, from frequent to rare, some of them correlated; uint8 (N, 6)."""
    draws = np.random.default_rng(seed)
    sets = draws.random((count, 6)) < [0.6, 0.3, 0.2, 0.1, 0.05, 0.03]
    sets[:, 1] |= sets[:, 5]
    return sets.astype(np.uint8)


def deviation(strata: np.ndarray, folds: np.ndarray, num_folds: int) -> float:
    """Return the largest distance of a stratum's count in a fold from an equal share."""
    counts = np.stack([strata[folds == fold].sum(axis=0, dtype=int) for fold in range(num_folds)])
    return float(np.abs(counts - strata.sum(axis=0, dtype=int) / num_folds).max())


@given(seed=st.integers(0, 10**6), num_folds=st.integers(2, 6))
def test_labels_are_spread_over_folds_better_than_at_random(seed: int, num_folds: int) -> None:
    sets = draw_sets(seed)
    folds = assign_folds(sets, np.arange(len(sets)), num_folds, seed)
    sizes = np.bincount(folds, minlength=num_folds)
    assert sizes.max() - sizes.min() <= 0.1 * len(sets)
    at_random = np.empty(len(sets), int)
    for fold, (_, held_out) in enumerate(KFold(num_folds, shuffle=True, random_state=seed).split(sets)):
        at_random[held_out] = fold
    assert deviation(sets, folds, num_folds) <= min(3.0, deviation(sets, at_random, num_folds))
    rare = sets[:, sets.sum(axis=0) >= num_folds]
    assert all(rare[folds == fold].any(axis=0).all() for fold in range(num_folds))


@given(seed=st.integers(0, 10**6), num_folds=st.integers(2, 6))
def test_sets_of_one_label_are_split_as_evenly_as_scikit_learn_splits_classes(
    seed: int, num_folds: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, 120)
    one_hot = np.eye(5, dtype=np.uint8)[labels]
    folds = assign_folds(one_hot, np.arange(120), num_folds, seed)
    theirs = np.empty(120, int)
    for fold, (_, held_out) in enumerate(StratifiedKFold(num_folds).split(labels, labels)):
        theirs[held_out] = fold
    assert deviation(one_hot, folds, num_folds) <= deviation(one_hot, theirs, num_folds) + 1e-9


@given(seed=st.integers(0, 10**6))
def test_groups_stay_whole_and_the_same_seed_gives_the_same_folds(seed: int) -> None:
    sets, groups = draw_sets(seed), np.random.default_rng(seed).integers(0, 60, 300)
    folds = assign_folds(sets, groups, 4, seed)
    assert all(len(set(folds[groups == group])) == 1 for group in np.unique(groups))
    assert set(folds) == {0, 1, 2, 3}
    np.testing.assert_array_equal(folds, assign_folds(sets, groups, 4, seed))
    assert deviation(sets, folds, 4) <= 20


def test_folds_do_not_depend_on_which_images_are_equal_but_on_the_seed() -> None:
    sets = draw_sets(0)
    first, other = (assign_folds(sets, np.arange(300), 5, seed) for seed in (0, 1))
    assert (first != other).any()


def test_a_hold_out_and_a_limit_keep_the_shares_of_the_labels() -> None:
    sets = draw_sets(3, 400)
    held_out = assign_holdout(sets, np.arange(400), 0.25, 0)
    assert set(held_out) == {0, ALWAYS_TRAINED}
    np.testing.assert_allclose(sets[held_out == 0].sum(0), sets.sum(0) / 4, atol=2)
    chosen = choose_limited(sets, 100, 0)
    assert len(chosen) == len(set(chosen)) == 100 and (np.diff(chosen) > 0).all()
    np.testing.assert_allclose(sets[chosen].sum(0), sets.sum(0) / 4, atol=3)


@pytest.mark.parametrize("num_numbers", [1, 3])
def test_every_fold_has_numbers_from_the_whole_range(num_numbers: int) -> None:
    numbers = np.random.default_rng(0).gamma(2, 3, (200, num_numbers))
    task = Regression(num_numbers, "ce", ((0.0, 1.0),) * num_numbers)
    strata = task.strata(numbers[:, 0] if num_numbers == 1 else numbers)
    folds = assign_folds(strata, np.arange(200), 4, 0)
    for column in numbers.T:
        tenth = np.searchsorted(np.quantile(column, np.linspace(0, 1, 11)[1:-1]), column)
        counts = np.array([np.bincount(tenth[folds == fold], minlength=10) for fold in range(4)])
        assert np.abs(counts - 5).max() <= (1 if num_numbers == 1 else 3)


def test_numbers_with_few_values_have_few_strata() -> None:
    strata = Regression(1).strata(np.array([1.0, 1, 1, 2, 2, 2, 2, 9]))
    assert len(set(strata)) == 3 and (np.diff(strata) >= 0).all()
