"""Adversarial validation: no shift where there is none, a planted one, and the error of an AUC."""

import numpy as np
import pytest

from foldsmith.evaluation.shift import auc_error, measure_shift


def make_features(difference: float, count: int = 300, size: int = 8, seed: int = 0):
    draws = np.random.default_rng(seed)
    features, is_test = draws.normal(size=(2 * count, size)), np.arange(2 * count) >= count
    features[is_test, 0] += difference
    return features.astype(np.float32), is_test


def test_images_of_one_distribution_show_no_shift() -> None:
    shift = measure_shift(*make_features(0.0))
    assert abs(shift.auc - 0.5) < 4 * shift.standard_error and not shift.is_significant


def test_a_planted_shift_is_significant_and_its_probabilities_follow_it() -> None:
    features, is_test = make_features(2.0)
    shift = measure_shift(features, is_test)
    assert shift.is_significant and shift.auc > 0.85
    assert np.corrcoef(features[:, 0], shift.test_probability)[0, 1] > 0.8
    again = measure_shift(features, is_test)
    assert np.array_equal(again.test_probability, shift.test_probability)


def test_too_few_images_of_a_kind_give_no_shift() -> None:
    features, is_test = make_features(1.0, 9)
    assert measure_shift(features, is_test) is None
    wide = np.random.default_rng(0).normal(size=(24, 100))  # more features than images
    assert measure_shift(wide, np.arange(24) % 2 == 0) is not None


@pytest.mark.parametrize("difference", [0.0, 1.0])
def test_the_error_of_an_auc_is_its_deviation_over_draws(difference: float) -> None:
    draws, areas = np.random.default_rng(0), []
    for _ in range(600):
        positive, negative = draws.normal(difference, 1, 80), draws.normal(0, 1, 60)
        areas.append((positive[:, None] > negative[None]).mean())
    assert auc_error(float(np.mean(areas)), 80, 60) == pytest.approx(np.std(areas), rel=0.12)
