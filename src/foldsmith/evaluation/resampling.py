"""The metrics where an image counts several times or not at all: what bags and bootstraps ask for.

N images · K classes. Predictions are reduced once to what the metric needs of every image; then any counts
(N,) are scored in a fraction of the time. With counts of one the scores are those of metrics.py.
"""

from collections.abc import Callable

import numpy as np

from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.metrics import LOWER_IS_BETTER, METRICS, bins_of
from foldsmith.seeding import derive_seed

NUM_DRAWS = 1000  # of a bootstrap; they know its standard error to about 2 %

# counts (N,) to a score; at least one count is above zero
Scorer = Callable[[np.ndarray], float]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    return _mean_of(probabilities.argmax(axis=1) == labels)


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    right = probabilities.argmax(axis=1) == labels

    def score(counts: np.ndarray) -> float:
        support = np.bincount(labels, counts)
        hits = np.bincount(labels, counts * right)
        return float((hits[support > 0] / support[support > 0]).mean())

    return score


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    return macro_f1_of_classes(labels, probabilities.argmax(axis=1), probabilities.shape[1])


def macro_f1_of_classes(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> Scorer:
    """Of predicted classes (N,) instead of probabilities."""
    right = predicted == labels

    def score(counts: np.ndarray) -> float:
        sides = np.bincount(labels, counts, num_classes) + np.bincount(predicted, counts, num_classes)
        hits = np.bincount(labels, counts * right, num_classes)
        return float((2 * hits[sides > 0] / sides[sides > 0]).mean())

    return score


def top5_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    given = probabilities[np.arange(len(labels)), labels][:, None]
    # of equal probabilities scikit-learn puts the last class first
    tied_after = (probabilities == given) & (np.arange(probabilities.shape[1]) > labels[:, None])
    return _mean_of(((probabilities > given) | tied_after).sum(axis=1) < 5)


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # scikit-learn's floor, which metrics.py has by it
    return _mean_of(-np.log(np.maximum(given, np.finfo(np.float32).eps)))


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    confidence = probabilities.max(axis=1).astype(np.float64)
    gaps = (probabilities.argmax(axis=1) == labels) - confidence
    bins = bins_of(confidence)
    return lambda counts: float(np.abs(np.bincount(bins, counts * gaps)).sum() / counts.sum())


def _mean_of(values: np.ndarray) -> Scorer:
    values = values.astype(np.float64)
    return lambda counts: float(counts @ values / counts.sum())


SCORERS: dict[str, Callable[[np.ndarray, np.ndarray], Scorer]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "top5_accuracy": top5_accuracy,
    "log_loss": log_loss,
    "expected_calibration_error": expected_calibration_error,
}


def sign_of(metric: str) -> int:
    """-1 where a lower score is the better one, else 1."""
    return -1 if metric in LOWER_IS_BETTER else 1


def draw_counts(num_images: int, draws: np.random.Generator) -> np.ndarray:
    """How often a bootstrap sample holds each image, float64 (N,), N in all."""
    return np.bincount(draws.integers(num_images, size=num_images), minlength=num_images).astype(np.float64)


def bootstrap_gain(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, metric: str, seed: int, num_draws: int = NUM_DRAWS
) -> PairedDifference:
    """How much better `other` is than `one` in the metric, both probabilities (N, K) of the same images.

    A positive difference is a gain, also where lower scores are better. The standard error is that of the
    paired bootstrap (Efron & Tibshirani 1993): both are scored on the same draws of N of the images.
    """
    difference = sign_of(metric) * (METRICS[metric](labels, other) - METRICS[metric](labels, one))
    score_one, score_other = (SCORERS[metric](labels, each) for each in (one, other))
    draws = np.random.default_rng(derive_seed(seed, "bootstrap"))
    gains = []
    for _ in range(num_draws):
        counts = draw_counts(len(labels), draws)
        gains.append(score_other(counts) - score_one(counts))
    return PairedDifference(difference, float(np.std(gains, ddof=1)))
