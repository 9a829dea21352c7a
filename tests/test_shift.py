"""Telling training from test: chance where they are alike, sure where they differ, errors as drawn."""

import numpy as np
import pytest

from foldsmith.evaluation.shift import auc_error, tell_apart


def make_features(difference: float, count: int = 300, size: int = 8, seed: int = 0):
    draws = np.random.default_rng(seed)
    features, is_test = draws.normal(size=(2 * count, size)), np.arange(2 * count) >= count
    features[is_test, 0] += difference
    return features.astype(np.float32), is_test


def test_parts_that_are_alike_are_not_told_apart() -> None:
    shift = tell_apart(*make_features(0.0))
    assert abs(shift.auc - 0.5) < 4 * shift.standard_error and not shift.is_told_apart


def test_parts_that_differ_are_told_apart_and_the_surest_differ_most() -> None:
    features, is_test = make_features(2.0)
    shift = tell_apart(features, is_test)
    assert shift.is_told_apart and shift.auc > 0.85
    assert np.corrcoef(features[:, 0], shift.test)[0, 1] > 0.8
    assert np.array_equal(tell_apart(features, is_test).test, shift.test)


def test_a_part_of_few_images_is_not_examined() -> None:
    features, is_test = make_features(1.0, 9)
    assert tell_apart(features, is_test) is None
    wide = np.random.default_rng(0).normal(size=(24, 100))  # more features than images
    assert tell_apart(wide, np.arange(24) % 2 == 0) is not None


@pytest.mark.parametrize("difference", [0.0, 1.0])
def test_the_error_of_an_auc_is_its_spread_over_draws(difference: float) -> None:
    draws, areas = np.random.default_rng(0), []
    for _ in range(600):
        positive, negative = draws.normal(difference, 1, 80), draws.normal(0, 1, 60)
        areas.append((positive[:, None] > negative[None]).mean())
    assert auc_error(float(np.mean(areas)), 80, 60) == pytest.approx(np.std(areas), rel=0.12)
