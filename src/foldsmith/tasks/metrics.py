"""The metrics, one row each in METRICS: their score, where it is defined, and how it is resampled.

N images · K classes. Targets are int (N,) for `multiclass`; predictions are probabilities float32 (N, K).
Add a metric as a function and a row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foldsmith.errors import InputError

NUM_BINS = 15  # of confidence, for the calibration error

Score = Callable[[np.ndarray, np.ndarray], float]  # targets, predictions -> score
Scorer = Callable[[np.ndarray], float]  # counts (N,), at least one above zero -> score


@dataclass(frozen=True)
class Metric:
    """A metric and its properties.

    `is_defined` returns whether targets and predictions have a score; by default they always have.
    `weighted` returns a scorer of counts (N,), with which bags and bootstraps count an image several times or
    not at all. Without one the images are repeated, which gives the same score and is slower.
    `bootstrappable` is false for a metric that is not a function of the images' joint distribution.
    `has_baseline` is false for a metric in which a prediction that ignores the image can be perfect.
    `tasks` are the names of the tasks that the metric is for.
    """

    name: str
    title: str  # in the report
    score: Score
    higher_is_better: bool = True
    is_defined: Callable[[np.ndarray, np.ndarray], bool] = lambda targets, predictions: True
    weighted: Callable[[np.ndarray, np.ndarray], Scorer] | None = None
    bootstrappable: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)  # the lowest and the highest possible score
    has_baseline: bool = True
    tasks: tuple[str, ...] = ("multiclass",)

    @property
    def sign(self) -> int:
        """-1 where a lower score is better, else 1."""
        return 1 if self.higher_is_better else -1

    def evaluate(self, targets: np.ndarray, predictions: np.ndarray) -> float | None:
        """Return the score, or None where the metric is not defined."""
        return self.score(targets, predictions) if self.is_defined(targets, predictions) else None

    def scorer(self, targets: np.ndarray, predictions: np.ndarray) -> Scorer:
        """Return a function from counts (N,), how often each image counts, to the score; NaN if undefined.

        Raise InputError for a metric that is not bootstrappable.
        """
        if not self.bootstrappable:
            raise InputError(
                f"the metric {self.name} cannot be bootstrapped, which a comparison of runs needs; set "
                f"another metric in competition.toml: {', '.join(bootstrappable_metrics())}."
            )
        if self.weighted is not None:
            return self.weighted(targets, predictions)

        def score(counts: np.ndarray) -> float:
            rows = np.repeat(np.arange(len(counts)), counts.astype(np.int64))
            score = self.evaluate(targets[rows], predictions[rows])
            return np.nan if score is None else score

        return score


def decide(probabilities: np.ndarray) -> np.ndarray:
    """Return the most probable class of each image, int64 (N,); the first of equally probable ones."""
    return probabilities.argmax(axis=1)


# --- scores of all images at once
def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose class is the most probable one."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, decide(probabilities)))


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean recall over the classes that occur in `labels`."""
    from sklearn.metrics import recall_score

    classes = np.unique(labels)
    return float(
        recall_score(labels, decide(probabilities), labels=classes, average="macro", zero_division=0)
    )


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean F1 over the classes that occur in labels or predictions; an undefined F1 is 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, decide(probabilities), average="macro", zero_division=0))


def top5_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose class is among the five most probable; 1 for at most five classes."""
    from sklearn.metrics import top_k_accuracy_score

    num_classes = probabilities.shape[1]
    if num_classes <= 5:
        return 1.0
    return float(top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(num_classes)))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log likelihood, in nats."""
    from sklearn import metrics

    return float(metrics.log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1])))


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, 0 … NUM_BINS - 1: (0, 1/15], (1/15, 2/15], …"""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy over equal confidence bins (Guo et al., 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (decide(probabilities) == labels).astype(np.float64)
    gaps = np.bincount(bins_of(confidence), correct - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))


# --- scores of weighted images: predictions are reduced once to one or two numbers per image
def weighted_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    return _weighted_mean(decide(probabilities) == labels)


def weighted_balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    correct = decide(probabilities) == labels

    def score(counts: np.ndarray) -> float:
        support = np.bincount(labels, counts)
        hits = np.bincount(labels, counts * correct)
        return float((hits[support > 0] / support[support > 0]).mean())

    return score


def weighted_macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    return weighted_macro_f1_of_classes(labels, decide(probabilities), probabilities.shape[1])


def weighted_macro_f1_of_classes(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> Scorer:
    """Return the scorer of macro F1 for predicted classes (N,) instead of probabilities."""
    correct = predicted == labels

    def score(counts: np.ndarray) -> float:
        sides = np.bincount(labels, counts, num_classes) + np.bincount(predicted, counts, num_classes)
        hits = np.bincount(labels, counts * correct, num_classes)
        return float((2 * hits[sides > 0] / sides[sides > 0]).mean())

    return score


def weighted_top5_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    own = probabilities[np.arange(len(labels)), labels][:, None]
    # of equal probabilities scikit-learn ranks the last class first
    tied_after = (probabilities == own) & (np.arange(probabilities.shape[1]) > labels[:, None])
    return _weighted_mean(((probabilities > own) | tied_after).sum(axis=1) < 5)


def weighted_log_loss(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # the floor of scikit-learn's log_loss for float32
    return _weighted_mean(-np.log(np.maximum(own, np.finfo(np.float32).eps)))


def weighted_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    confidence = probabilities.max(axis=1).astype(np.float64)
    gaps = (decide(probabilities) == labels) - confidence
    bins = bins_of(confidence)
    return lambda counts: float(np.abs(np.bincount(bins, counts * gaps)).sum() / counts.sum())


def _weighted_mean(values: np.ndarray) -> Scorer:
    values = values.astype(np.float64)
    return lambda counts: float(counts @ values / counts.sum())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy", accuracy, weighted=weighted_accuracy),
        Metric(
            "balanced_accuracy", "Balanced accuracy", balanced_accuracy, weighted=weighted_balanced_accuracy
        ),
        Metric("macro_f1", "Macro F1", macro_f1, weighted=weighted_macro_f1),
        Metric("top5_accuracy", "Top-5 accuracy", top5_accuracy, weighted=weighted_top5_accuracy),
        Metric(
            "log_loss",
            "Log loss",
            log_loss,
            higher_is_better=False,
            weighted=weighted_log_loss,
            bounds=(0.0, np.inf),
        ),
        Metric(
            "expected_calibration_error",
            "Expected calibration error",
            expected_calibration_error,
            higher_is_better=False,
            weighted=weighted_calibration_error,
            has_baseline=False,
        ),
    )
}


def bootstrappable_metrics() -> list[str]:
    """Return the names of the metrics that comparisons and blends of runs can use."""
    return [name for name, metric in METRICS.items() if metric.bootstrappable]
