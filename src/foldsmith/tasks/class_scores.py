"""Scores of decisions on classes: of one class an image, or of sets.

N images · K classes. Targets and decisions are class indices (N,), or 0 and 1 (N, K).
"""

from collections.abc import Callable

import numpy as np

NUM_BINS = 15  # of confidence, for the calibration error

Score = Callable[[np.ndarray, np.ndarray], float]  # targets, predictions or decisions -> score
Scorer = Callable[[np.ndarray], float]  # counts (N,), at least one above zero -> score


def decide(probabilities: np.ndarray) -> np.ndarray:
    """Return the most probable class of each image, int64 (N,); the first of equally probable ones."""
    return probabilities.argmax(axis=1)


# --- scores of all images at once
def accuracy(targets: np.ndarray, decisions: np.ndarray) -> float:
    """Return the share of images whose decision is the target; a set must be equal as a whole."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(targets, decisions))


def balanced_accuracy(labels: np.ndarray, decisions: np.ndarray) -> float:
    """Return the mean recall over the classes that occur in `labels`."""
    from sklearn.metrics import recall_score

    classes = np.unique(labels)
    return float(recall_score(labels, decisions, labels=classes, average="macro", zero_division=0))


def macro_f1(targets: np.ndarray, decisions: np.ndarray) -> float:
    """Return the mean F1 over the classes that occur in targets or decisions."""
    return f_beta(targets, decisions, beta=1.0, average="macro")


def f_beta(targets: np.ndarray, decisions: np.ndarray, beta: float, average: str) -> float:
    """Return the F-beta score, averaged as scikit-learn does: macro, micro, samples, weighted, binary.

    A class or a set that occurs in neither targets nor decisions has none: a mean over classes leaves it out,
    and an image without a label that gets none scores 1.
    """
    from sklearn.metrics import fbeta_score

    if targets.ndim == 2 and targets.shape[1] == 1:  # scikit-learn reads one label as two classes
        return weighted_f_beta(targets, decisions, beta, average)(np.ones(len(targets)))
    # of class indices, scikit-learn averages over those that occur
    undefined = 1.0 if average == "samples" else np.nan if targets.ndim == 2 and average == "macro" else 0
    score = fbeta_score(targets, decisions, beta=beta, average=average, zero_division=undefined)
    return float(np.nan_to_num(score))


def matthews_corrcoef(labels: np.ndarray, decisions: np.ndarray) -> float:
    """Return the Matthews correlation coefficient; 0 where labels or decisions are constant."""
    from sklearn import metrics

    return float(metrics.matthews_corrcoef(labels, decisions))


def quadratic_weighted_kappa(labels: np.ndarray, decisions: np.ndarray) -> float:
    """Return Cohen's kappa with squared distances of grades; labels must not all be equal."""
    from sklearn.metrics import cohen_kappa_score

    # without `labels` scikit-learn measures distances in the grades that occur
    grades = np.arange(max(labels.max(), decisions.max()) + 1)
    return float(cohen_kappa_score(labels, decisions, labels=grades, weights="quadratic"))


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, 0 … NUM_BINS - 1: (0, 1/15], (1/15, 2/15], …"""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy over equal confidence bins (Guo et al., 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (decide(probabilities) == labels).astype(np.float64)
    gaps = np.bincount(bins_of(confidence), correct - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))


# --- scores of weighted images: targets and decisions are reduced once to a few numbers per image
def weighted_accuracy(targets: np.ndarray, decisions: np.ndarray) -> Scorer:
    equal = targets == decisions
    return weighted_mean(equal if equal.ndim == 1 else equal.all(axis=1))


def weighted_balanced_accuracy(labels: np.ndarray, decisions: np.ndarray) -> Scorer:
    correct = decisions == labels

    def score(counts: np.ndarray) -> float:
        support = np.bincount(labels, counts)
        hits = np.bincount(labels, counts * correct)
        return float((hits[support > 0] / support[support > 0]).mean())

    return score


def weighted_f_beta(targets: np.ndarray, decisions: np.ndarray, beta: float, average: str) -> Scorer:
    """Return the scorer of `f_beta`."""
    if average == "samples":
        hits, own, decided = (values.sum(axis=1) for values in (targets & decisions, targets, decisions))
        sides = beta**2 * own + decided
        return weighted_mean(np.divide((1 + beta**2) * hits, sides, out=np.ones(len(hits)), where=sides > 0))
    count_classes = _counter_of(targets, decisions)

    def score(counts: np.ndarray) -> float:
        hits, own, decided = count_classes(counts)
        if average == "micro":
            hits, own, decided = (values.sum(keepdims=True) for values in (hits, own, decided))
        if average == "binary":
            hits, own, decided = (values[1:2] for values in (hits, own, decided))
        sides = beta**2 * own + decided
        occurs = sides > 0
        scores = (1 + beta**2) * hits[occurs] / sides[occurs]
        if average == "weighted":
            return float(scores @ own[occurs] / own.sum()) if own.sum() else 0.0
        return float(scores.mean()) if len(scores) else 0.0

    return score


def _counter_of(
    targets: np.ndarray, decisions: np.ndarray
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return a function from counts (N,) to the hits, targets and decisions of each class, all (K,)."""
    if targets.ndim == 2:
        sides = [values.astype(np.float64) for values in (targets & decisions, targets, decisions)]
        return lambda counts: (counts @ sides[0], counts @ sides[1], counts @ sides[2])
    num_classes, correct = int(max(targets.max(), decisions.max())) + 1, targets == decisions
    return lambda counts: (
        np.bincount(targets, counts * correct, num_classes),
        np.bincount(targets, counts, num_classes),
        np.bincount(decisions, counts, num_classes),
    )


def weighted_macro_f1_of_classes(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> Scorer:
    """Return the scorer of macro F1 for predicted classes (N,) of `num_classes`."""
    correct = predicted == labels

    def score(counts: np.ndarray) -> float:
        sides = np.bincount(labels, counts, num_classes) + np.bincount(predicted, counts, num_classes)
        hits = np.bincount(labels, counts * correct, num_classes)
        return float((2 * hits[sides > 0] / sides[sides > 0]).mean())

    return score


def weighted_matthews_corrcoef(labels: np.ndarray, decisions: np.ndarray) -> Scorer:
    num_classes = int(max(labels.max(), decisions.max())) + 1
    cells = labels * num_classes + decisions

    def score(counts: np.ndarray) -> float:
        matrix = np.bincount(cells, counts, num_classes**2).reshape(num_classes, num_classes)
        own, decided, total = matrix.sum(axis=1), matrix.sum(axis=0), matrix.sum()
        covariance = np.trace(matrix) * total - own @ decided
        spread = (total**2 - own @ own) * (total**2 - decided @ decided)
        return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0

    return score


def weighted_quadratic_weighted_kappa(labels: np.ndarray, decisions: np.ndarray) -> Scorer:
    own, decided = labels.astype(np.float64), decisions.astype(np.float64)

    def score(counts: np.ndarray) -> float:
        total = counts.sum()
        observed = counts @ (own - decided) ** 2
        expected = counts @ own**2 + counts @ decided**2 - 2 * (counts @ own) * (counts @ decided) / total
        return float(1 - observed / expected) if expected > 0 else np.nan

    return score


def weighted_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    confidence = probabilities.max(axis=1).astype(np.float64)
    gaps = (decide(probabilities) == labels) - confidence
    bins = bins_of(confidence)
    return lambda counts: float(np.abs(np.bincount(bins, counts * gaps)).sum() / counts.sum())


def weighted_mean(values: np.ndarray) -> Scorer:
    """Return the scorer of a mean of values (N,)."""
    values = values.astype(np.float64)
    return lambda counts: float(counts @ values / counts.sum())
