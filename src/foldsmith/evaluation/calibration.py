"""Reliability of confidences, and the temperature that calibrates them.

N images · K classes. Probabilities at temperature T are p^(1/T), scaled to sum to 1; dividing the logits by T
gives the same (Guo et al. 2017). A temperature above 1 lowers the confidence. The most probable class stays.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.tasks.metrics import NUM_BINS, bins_of, decide, expected_calibration_error
from foldsmith.tasks.probabilities import logarithms

# a fit beyond these means that every prediction is right, or that they carry no information
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class Calibration:
    """Calibration error and log loss, before and after temperature scaling.

    `temperature` is fitted on all images. The figures after it are cross-fitted: each fold is scored at a
    temperature fitted on the other folds.
    """

    temperature: float
    error: float
    error_after: float
    log_loss: float
    log_loss_after: float
    is_applied: bool = False  # to submission.csv

    @property
    def improves(self) -> bool:
        """Return whether the temperature lowers the log loss, and does not raise the calibration error."""
        return self.log_loss_after < self.log_loss and self.error_after <= self.error


def bin_confidences(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the reliability diagram, one row per bin: low, high, count, confidence, accuracy.

    `confidence` and `accuracy` are means over the bin's images, NaN where it has none.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = decide(probabilities) == labels
    bins = bins_of(confidence)
    counts = np.bincount(bins, minlength=NUM_BINS)
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    sums = [np.bincount(bins, values, minlength=NUM_BINS) for values in (confidence, correct)]
    means = [np.divide(total, counts, out=np.full(NUM_BINS, np.nan), where=counts > 0) for total in sums]
    columns = {"low": edges[:-1], "high": edges[1:], "count": counts}
    return pd.DataFrame({**columns, "confidence": means[0], "accuracy": means[1]})


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (N, K) at a temperature, float64."""
    powers = logarithms(probabilities) / temperature
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature of the lowest log loss.

    The loss is convex in 1/T, so Newton's method converges.
    """
    logits = logarithms(probabilities)  # (N, K)
    label_logits = logits[np.arange(len(labels)), labels]
    scale = 1.0
    for _ in range(30):
        powers = np.exp(scale * logits - (scale * logits).max(axis=1, keepdims=True))
        powers /= powers.sum(axis=1, keepdims=True)
        means = (powers * logits).sum(axis=1)
        slope = (means - label_logits).mean()
        curvature = ((powers * logits**2).sum(axis=1) - means**2).mean()
        if curvature <= 0:
            break
        # far from the minimum the curvature misleads: limit a step to a factor of 2
        updated = float(np.clip(scale - slope / curvature, scale / 2, scale * 2))
        updated = float(np.clip(updated, 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE))
        if abs(updated - scale) < 1e-7 * scale:
            break
        scale = updated
    return 1 / scale


def fit_cautiously(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature with one more image: of median confidence, labelled as its second class.

    Without a mistake among few images the fit would make every prediction certain, and a single mistake among
    the test images would then cost more than all others together (Laplace's rule of succession).
    """
    median = np.argsort(probabilities.max(axis=1), kind="stable")[len(probabilities) // 2]
    second = np.argsort(-probabilities[median], kind="stable")[1]
    return fit_temperature(
        np.append(labels, second), np.concatenate([probabilities, probabilities[[median]]])
    )


def calibrate(
    labels: np.ndarray, folds: np.ndarray, probabilities: np.ndarray, is_applied: bool = False
) -> Calibration:
    """Return the temperature, and its figures on images it was not fitted on.

    With `is_applied` it is fitted as that of a submission is. Cross-fitting is over the folds; a single fold
    is split into two halves.
    """
    fit = fit_cautiously if is_applied else fit_temperature
    groups = folds if len(np.unique(folds)) > 1 else np.arange(len(folds)) % 2
    calibrated = np.empty(probabilities.shape)
    for group in np.unique(groups):
        others = groups != group
        temperature = fit(labels[others], probabilities[others]) if others.any() else 1.0
        calibrated[~others] = apply_temperature(probabilities[~others], temperature)
    return Calibration(
        temperature=fit(labels, probabilities),
        error=expected_calibration_error(labels, probabilities),
        error_after=expected_calibration_error(labels, calibrated),
        log_loss=_log_loss(labels, probabilities),
        log_loss_after=_log_loss(labels, calibrated),
        is_applied=is_applied,
    )


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log likelihood; scikit-learn's log_loss refuses a single class."""
    return float(-logarithms(probabilities[np.arange(len(labels)), labels]).mean())
