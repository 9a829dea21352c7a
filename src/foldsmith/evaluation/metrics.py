"""Scores of predictions. They know no model: labels int (N,), probabilities float32 (N, K)."""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    recall_score,
    top_k_accuracy_score,
)

Metric = Callable[[np.ndarray, np.ndarray], float]
LOWER_IS_BETTER = frozenset({"log_loss", "expected_calibration_error"})
NUM_BINS = 15  # of confidence


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(accuracy_score(labels, probabilities.argmax(axis=1)))


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall over the classes that occur among `labels`."""
    predicted = probabilities.argmax(axis=1)
    return float(recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0))


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean F1 over the classes that occur among labels or predictions; 0 where it is undefined."""
    return float(f1_score(labels, probabilities.argmax(axis=1), average="macro", zero_division=0))


def top5_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of images whose class is among the five most probable; 1 for five classes or fewer."""
    num_classes = probabilities.shape[1]
    if num_classes <= 5:
        return 1.0
    return float(top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(num_classes)))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log likelihood, in nats."""
    return float(log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1])))


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, 0 … NUM_BINS - 1: (0, 1/15], (1/15, 2/15], …"""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean distance between confidence and accuracy over equal bins of confidence (Guo et al., 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    gaps = np.bincount(bins_of(confidence), correct - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "top5_accuracy": top5_accuracy,
    "log_loss": cross_entropy,
    "expected_calibration_error": expected_calibration_error,
}


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Every metric, by name."""
    return {name: metric(labels, probabilities) for name, metric in METRICS.items()}


def cross_validation(
    labels: np.ndarray, folds: np.ndarray, probabilities: np.ndarray, metric: str
) -> dict[str, object]:
    """The figures of cv.json: `metric` by fold with mean, standard deviation and error, and all metrics.

    The standard deviation is the sample's (divided by folds - 1), the standard error that over the root of
    the number of folds; both are None for a single fold. `oof` is the metric over all held-out images at
    once.
    """
    by_fold = [score(labels[folds == fold], probabilities[folds == fold]) for fold in np.unique(folds)]
    overall = score(labels, probabilities)
    scores = [fold[metric] for fold in by_fold]
    std = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return {
        "metric": metric,
        "folds": scores,
        "mean": float(np.mean(scores)),
        "std": std,
        "standard_error": std / len(scores) ** 0.5 if std is not None else None,
        "oof": overall[metric],
        "num_images": len(labels),
        "num_classes": probabilities.shape[1],
        "metrics": overall,
        "metrics_by_fold": {name: [fold[name] for fold in by_fold] for name in METRICS},
    }
