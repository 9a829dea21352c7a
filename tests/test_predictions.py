"""Predictions keyed by path: scattered, floored and averaged."""

import numpy as np
import pandas as pd
import pytest
from conftest import naming
from hypothesis import given, settings
from hypothesis import strategies as st

from foldsmith.errors import InputError
from foldsmith.evaluation.predictions import average_predictions, scatter_oof
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.probabilities import class_prior, floor_probabilities

often = settings(deadline=None, max_examples=50)


def make_probabilities(count: int, num_classes: int, seed: int = 0, sharpness: float = 3.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, (count, num_classes))
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def make_folds(count: int = 12) -> pd.DataFrame:
    rows = range(count)
    return pd.DataFrame(
        {"path": [f"train/{row}.png" for row in rows], "label": 0, "fold": [row % 3 for row in rows]}
    )


def make_heldout(
    folds: pd.DataFrame, seed: int = 0
) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return the predictions of each fold, in an order of its own, and all of them by path."""
    probabilities = make_probabilities(len(folds), 4, seed, sharpness=1.0)
    by_path = dict(zip(folds["path"], probabilities, strict=True))
    heldout = []
    for fold in range(3):
        paths = list(folds.loc[folds["fold"] == fold, "path"])
        np.random.default_rng(fold).shuffle(paths)
        heldout.append(
            {"path": np.array(paths), "probabilities": np.stack([by_path[path] for path in paths])}
        )
    return heldout, by_path


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_held_out_predictions_are_matched_by_path_not_by_position(order: tuple[int, ...]) -> None:
    folds = make_folds()
    heldout, by_path = make_heldout(folds)
    folds = folds.sample(frac=1, random_state=1)
    oof = scatter_oof(folds, [heldout[fold] for fold in order], SingleLabel(4))
    assert oof.shape == (12, 4) and oof.dtype == np.float32
    np.testing.assert_allclose(oof, np.stack([by_path[path] for path in folds["path"]]), atol=1e-6)


def test_an_image_without_a_prediction_is_refused() -> None:
    folds = make_folds()
    heldout, _ = make_heldout(folds)
    with pytest.raises(InputError, match=naming(4, "train/1.png")):
        scatter_oof(folds, [heldout[0], heldout[2]], SingleLabel(4))


def test_an_image_predicted_twice_is_refused() -> None:
    folds = make_folds()
    heldout, _ = make_heldout(folds)
    with pytest.raises(InputError, match="train/"):
        scatter_oof(folds, [*heldout, heldout[1]], SingleLabel(4))


def test_an_image_that_is_not_in_the_folds_is_refused() -> None:
    folds = make_folds()
    heldout, _ = make_heldout(folds)
    heldout[0]["path"] = np.array(["train/elsewhere.png", *heldout[0]["path"][1:]])
    with pytest.raises(InputError, match=naming("train/elsewhere.png", "folds.csv")):
        scatter_oof(folds, heldout, SingleLabel(4))


@often
@given(st.integers(1, 30), st.integers(2, 300), st.sampled_from([0.1, 3.0, 60.0]), st.integers(0, 2**31))
def test_floored_probabilities_sum_to_one_and_are_never_zero(
    count: int, num_classes: int, sharpness: float, seed: int
) -> None:
    probabilities = make_probabilities(count, num_classes, seed, sharpness)
    floored = floor_probabilities(probabilities)
    assert floored.dtype == np.float32
    assert floored.min() > 0 and floored.max() <= 1
    assert floored.astype(np.float64).sum(axis=1) == pytest.approx(np.ones(count), abs=1e-6)
    np.testing.assert_allclose(floored, probabilities, atol=1e-4)
    assert np.array_equal(floored.argmax(axis=1), probabilities.argmax(axis=1))


def test_flooring_a_certain_prediction_keeps_the_others_above_zero() -> None:
    floored = floor_probabilities(np.array([[0.0, 1.0, 0.0]], dtype=np.float32))
    assert floored[0, 1] == pytest.approx(1, abs=1e-6)
    assert 1e-7 <= floored[0, 0] == floored[0, 2] <= 1e-6


@often
@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 2**31))
def test_the_average_is_the_mean_over_folds_in_any_order(num_folds: int, count: int, seed: int) -> None:
    folds = [make_probabilities(count, 5, seed + fold, sharpness=1.0) for fold in range(num_folds)]
    averaged = average_predictions(folds, SingleLabel(3))
    expected = [
        [sum(float(fold[row, k]) for fold in folds) / num_folds for k in range(5)] for row in range(count)
    ]
    assert averaged.dtype == np.float32
    np.testing.assert_allclose(averaged, expected, atol=2e-6)
    np.testing.assert_allclose(average_predictions(folds[::-1], SingleLabel(3)), averaged, atol=1e-7)


def test_averaging_does_not_change_its_arguments() -> None:
    folds = [make_probabilities(3, 4, seed) for seed in range(2)]
    before = [fold.copy() for fold in folds]
    average_predictions(folds, SingleLabel(3))
    assert all(np.array_equal(a, b) for a, b in zip(folds, before, strict=True))


def test_the_prior_is_the_share_of_each_class() -> None:
    prior = class_prior(np.array([0, 0, 3, 1]), 5)
    assert prior.dtype == np.float32
    assert prior.tolist() == [0.5, 0.25, 0.0, 0.25, 0.0]
    assert class_prior([1, 1], 2).tolist() == [0.0, 1.0]
