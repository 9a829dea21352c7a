"""Scores of probabilities, column by column: a class against the others, or a label of a set.

N images · C columns: the positive class of two, else one a class. Means over columns leave out those in which
the score is not defined.
"""

from collections.abc import Callable

import numpy as np

from foldsmith.tasks.class_scores import Scorer, weighted_mean


def columns_of(targets: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each image is positive, bool (N, C), and its probability, float64 (N, C)."""
    probabilities = predictions.astype(np.float64)
    if targets.ndim == 2:
        return targets.astype(bool), probabilities
    positive = targets[:, None] == np.arange(predictions.shape[1])
    return (positive[:, 1:], probabilities[:, 1:]) if predictions.shape[1] == 2 else (positive, probabilities)


# --- where they are defined
def without_both_values(targets: np.ndarray) -> np.ndarray:
    """Return the columns of sets (N, K) that are always or never positive, bool (K,)."""
    return targets.min(axis=0) == targets.max(axis=0)


def without_a_positive(targets: np.ndarray) -> np.ndarray:
    """Return the columns of sets (N, K) that are never positive, bool (K,)."""
    return targets.max(axis=0) == 0


def has_both_values(targets: np.ndarray, predictions: np.ndarray) -> bool:
    """Return whether some column has positive and negative images."""
    positive, _ = columns_of(targets, predictions)
    return not without_both_values(positive).all()


def has_a_positive(targets: np.ndarray, predictions: np.ndarray) -> bool:
    positive, _ = columns_of(targets, predictions)
    return bool(positive.any())


# --- scores of all images at once
def log_loss(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the mean negative log likelihood, in nats; of sets the mean over columns."""
    from sklearn import metrics

    if targets.ndim == 1:
        return float(metrics.log_loss(targets, predictions, labels=np.arange(predictions.shape[1])))
    return weighted_log_loss(targets, predictions)(np.ones(len(targets)))


def roc_auc(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the area under the ROC curve, the mean over columns."""
    return weighted_roc_auc(targets, predictions)(np.ones(len(targets)))


def average_precision(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the average precision, the mean over columns."""
    return weighted_average_precision(targets, predictions)(np.ones(len(targets)))


def probabilistic_f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the F1 of probabilities in place of decisions, for the positive class of two.

    Yacouby and Axman, Probabilistic extension of precision, recall, and F1 score, 2020.
    """
    return weighted_probabilistic_f1(targets, predictions)(np.ones(len(targets)))


# --- scores of weighted images
def weighted_log_loss(targets: np.ndarray, predictions: np.ndarray) -> Scorer:
    floor = np.finfo(np.float32).eps  # that of scikit-learn's log_loss for float32
    if targets.ndim == 1:
        own = predictions[np.arange(len(targets)), targets].astype(np.float64)
        return weighted_mean(-np.log(np.maximum(own, floor)))
    own = np.where(targets.astype(bool), predictions, 1 - predictions.astype(np.float64))
    return weighted_mean(-np.log(np.clip(own, floor, 1 - floor)).mean(axis=1))


def weighted_roc_auc(targets: np.ndarray, predictions: np.ndarray) -> Scorer:
    def area(positives: np.ndarray, negatives: np.ndarray) -> float:
        below = negatives.cumsum() - negatives / 2  # of equal probabilities half count as lower
        total = positives.sum() * negatives.sum()
        return float(positives @ below / total) if total > 0 else np.nan

    return _mean_over_columns(targets, predictions, area)


def weighted_average_precision(targets: np.ndarray, predictions: np.ndarray) -> Scorer:
    def precision(positives: np.ndarray, negatives: np.ndarray) -> float:
        hits = positives[::-1].cumsum()  # from the highest probability down
        found = hits + negatives[::-1].cumsum()
        precisions = np.divide(hits, found, out=np.zeros(len(hits)), where=found > 0)
        return float(positives[::-1] @ precisions / hits[-1]) if hits[-1] > 0 else np.nan

    return _mean_over_columns(targets, predictions, precision)


def _mean_over_columns(
    targets: np.ndarray, predictions: np.ndarray, score_column: Callable[[np.ndarray, np.ndarray], float]
) -> Scorer:
    """Return the scorer of a mean over columns.

    `score_column` gets the weights of positive and of negative images at each probability, from the lowest
    to the highest.
    """
    positive, probabilities = columns_of(targets, predictions)
    columns = [
        (positive[:, column], np.unique(probabilities[:, column], return_inverse=True)[1])
        for column in np.flatnonzero(positive.any(axis=0))
    ]

    def score(counts: np.ndarray) -> float:
        scores = [
            score_column(
                np.bincount(ranks, counts * own),
                np.bincount(ranks, counts * ~own),
            )
            for own, ranks in columns
        ]
        defined = [value for value in scores if np.isfinite(value)]
        return float(np.mean(defined)) if defined else np.nan

    return score


def weighted_probabilistic_f1(targets: np.ndarray, predictions: np.ndarray) -> Scorer:
    own, probabilities = targets.astype(np.float64), predictions[:, 1].astype(np.float64)

    def score(counts: np.ndarray) -> float:
        total = counts @ own + counts @ probabilities
        return float(2 * (counts @ (own * probabilities)) / total) if counts @ own > 0 else np.nan

    return score
