"""Whether a confidence of 80 % is right in 80 % of cases, and the temperature that mends it.

N images · K classes. Probabilities at temperature T are p^(1/T), scaled to sum to 1 (Guo et al. 2017, where
the logits are divided by T). Above 1 they become more modest; the most probable class stays the same.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.tasks.metrics import NUM_BINS, bins_of, decide, expected_calibration_error
from foldsmith.tasks.probabilities import logarithms

LEAST, MOST = 0.05, 20.0  # temperatures beyond these say that the probabilities carry nothing, or everything


@dataclass(frozen=True)
class Calibration:
    """`temperature` is fitted on all images; the figures after it are cross-fitted: every fold is scored at
    the temperature of the others."""

    temperature: float
    error: float
    error_after: float
    log_loss: float
    log_loss_after: float


def bin_confidences(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """The reliability diagram: low, high, count, confidence and accuracy (means, NaN where empty) a bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = decide(probabilities) == labels
    bins = bins_of(confidence)
    counts = np.bincount(bins, minlength=NUM_BINS)
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    sums = [np.bincount(bins, values, minlength=NUM_BINS) for values in (confidence, right)]
    means = [np.divide(each, counts, out=np.full(NUM_BINS, np.nan), where=counts > 0) for each in sums]
    columns = {"low": edges[:-1], "high": edges[1:], "count": counts}
    return pd.DataFrame({**columns, "confidence": means[0], "accuracy": means[1]})


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, K) at a temperature, float64."""
    powers = logarithms(probabilities) / temperature
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature of the least log loss. The loss is convex in 1/T, so Newton's steps find it."""
    logits = logarithms(probabilities)  # (N, K)
    given = logits[np.arange(len(labels)), labels]
    scale = 1.0
    for _ in range(30):
        powers = np.exp(scale * logits - (scale * logits).max(axis=1, keepdims=True))
        powers /= powers.sum(axis=1, keepdims=True)
        means = (powers * logits).sum(axis=1)
        slope = (means - given).mean()
        curvature = ((powers * logits**2).sum(axis=1) - means**2).mean()
        if curvature <= 0:
            break
        # at most by half or double a step, as the curvature far away is no guide
        wanted = float(np.clip(scale - slope / curvature, scale / 2, scale * 2))
        wanted = float(np.clip(wanted, 1 / MOST, 1 / LEAST))
        if abs(wanted - scale) < 1e-7 * scale:
            break
        scale = wanted
    return 1 / scale


def calibrate(labels: np.ndarray, folds: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Fits the temperature, and scores it on images it was not fitted on: other folds, else other halves."""
    parts = folds if len(np.unique(folds)) > 1 else np.arange(len(folds)) % 2
    mended = np.empty(probabilities.shape)
    for part in np.unique(parts):
        others = parts != part
        temperature = fit_temperature(labels[others], probabilities[others]) if others.any() else 1.0
        mended[~others] = apply_temperature(probabilities[~others], temperature)
    return Calibration(
        temperature=fit_temperature(labels, probabilities),
        error=expected_calibration_error(labels, probabilities),
        error_after=expected_calibration_error(labels, mended),
        log_loss=_log_loss(labels, probabilities),
        log_loss_after=_log_loss(labels, mended),
    )


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log likelihood; scikit-learn's takes no single class."""
    return float(-logarithms(probabilities[np.arange(len(labels)), labels]).mean())
