"""Temperatures against scipy's minimiser; the reliability diagram against plain loops and the metric."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from foldsmith.comparison.ensemble import ADJUSTMENTS
from foldsmith.evaluation.calibration import (
    NUM_BINS,
    apply_temperature,
    bin_confidences,
    calibrate,
    fit_cautiously,
    fit_temperature,
)
from foldsmith.evaluation.decisions import fit_decision
from foldsmith.tasks import build_task
from foldsmith.tasks.metrics import expected_calibration_error


def make_predictions(temperature: float, count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn from probabilities, and these with their logits multiplied by `temperature`."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 2, (count, 5))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < draws.random((count, 1))).sum(axis=1)
    return labels, softmax(logits * temperature, axis=1).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_fitted_temperature_is_scipys_and_the_true_one(temperature: float) -> None:
    labels, probabilities = make_predictions(temperature)
    logits = np.log(probabilities.astype(np.float64))

    def loss(scale: float) -> float:
        return -log_softmax(scale * logits, axis=1)[np.arange(len(labels)), labels].mean()

    scale = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}).x
    fitted = fit_temperature(labels, probabilities)
    assert fitted == pytest.approx(1 / scale, rel=1e-4)
    assert fitted == pytest.approx(temperature, rel=0.1)


def test_a_temperature_changes_no_predicted_class_and_no_sum() -> None:
    labels, probabilities = make_predictions(2.0)
    calibrated = apply_temperature(probabilities, 1.7)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert (calibrated.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities, atol=1e-6)


def test_cross_fitted_figures_use_the_temperature_of_the_other_folds() -> None:
    labels, probabilities = make_predictions(3.0, 900)
    folds = np.arange(900) % 3
    calibrated = np.empty(probabilities.shape)
    for fold in range(3):
        inside = folds == fold
        other = fit_temperature(labels[~inside], probabilities[~inside])
        calibrated[inside] = softmax(np.log(probabilities[inside].astype(np.float64)) / other, axis=1)
    calibration = calibrate(labels, folds, probabilities)
    assert calibration.log_loss_after == pytest.approx(log_loss(labels, calibrated))
    assert calibration.error_after == pytest.approx(expected_calibration_error(labels, calibrated))
    assert calibration.log_loss == pytest.approx(log_loss(labels, probabilities), rel=1e-6)
    assert calibration.error_after < calibration.error / 2


def test_one_fold_is_cross_fitted_by_halves_and_one_class_has_no_error() -> None:
    labels, probabilities = make_predictions(3.0, 600)
    calibration = calibrate(labels, np.zeros(600, int), probabilities)
    assert calibration.log_loss_after < calibration.log_loss
    alone = calibrate(np.zeros(10, int), np.arange(10) % 2, np.ones((10, 1), np.float32))
    assert (alone.error, alone.log_loss_after) == (0.0, 0.0)


def test_temperatures_of_perfect_and_of_wrong_predictions_stay_within_the_limits() -> None:
    labels = np.arange(20) % 4
    certain = np.eye(4, dtype=np.float32)[labels]
    assert 0 < fit_temperature(labels, certain) <= 1
    # a temperature that is applied, to a run or a blend, leaves room for a mistake
    cautious = ADJUSTMENTS["log_loss"].fit(labels, certain)
    assert cautious == fit_cautiously(labels, certain) > fit_temperature(labels, certain)
    assert fit_temperature((labels + 1) % 4, certain) == pytest.approx(20)


def test_bins_hold_each_image_once_and_give_the_calibration_error() -> None:
    labels, probabilities = make_predictions(2.0, 700)
    bins = bin_confidences(labels, probabilities)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    assert bins["count"].sum() == 700 and len(bins) == NUM_BINS
    for row in bins.itertuples():
        inside = (confidence > row.low) & (confidence <= row.high)
        assert abs(inside.sum() - row.count) <= 1  # a confidence on an edge, in float32
        if inside.sum() == row.count > 0:
            assert row.accuracy == pytest.approx(correct[inside].mean())
    weighted = (bins["count"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / 700
    assert weighted == pytest.approx(expected_calibration_error(labels, probabilities), abs=1e-6)


def test_the_temperature_of_a_submission_is_shown_as_it_is_applied() -> None:
    labels, probabilities = make_predictions(3.0, 60)
    folds, task = np.arange(60) % 3, build_task("multiclass", 5)
    decision = fit_decision(task, task.metric("log_loss"), labels, probabilities, folds)
    assert decision.kind == "temperature"
    shown = calibrate(labels, folds, probabilities, is_applied=True)
    assert shown.temperature == pytest.approx(decision.values[0])
    assert shown.log_loss_after == pytest.approx(decision.score, rel=1e-6)
    assert calibrate(labels, folds, probabilities).temperature != pytest.approx(shown.temperature)
