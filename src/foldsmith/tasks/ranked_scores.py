"""Scores of the k most probable classes of an image.

N images · K classes. Targets are class indices (N,), or 0 and 1 (N, K).
"""

import numpy as np

from foldsmith.tasks.class_scores import Scorer, weighted_mean


def top_k_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Return the share of images whose class is among the k most probable; 1 for at most k classes."""
    from sklearn.metrics import top_k_accuracy_score

    num_classes = probabilities.shape[1]
    if num_classes <= k:
        return 1.0
    if num_classes == 2:  # scikit-learn then wants one probability
        return float(weighted_top_k_accuracy(labels, probabilities, k)(np.ones(len(labels))))
    return float(top_k_accuracy_score(labels, probabilities, k=k, labels=np.arange(num_classes)))


def weighted_top_k_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> Scorer:
    own = probabilities[np.arange(len(labels)), labels][:, None]
    # of equal probabilities scikit-learn ranks the last class first
    tied_after = (probabilities == own) & (np.arange(probabilities.shape[1]) > labels[:, None])
    return weighted_mean(((probabilities > own) | tied_after).sum(axis=1) < k)


def map_at_k(targets: np.ndarray, predictions: np.ndarray, k: int) -> float:
    """Return the mean average precision of the k most probable classes, of equal ones the first ones.

    With one class an image it is the mean of 1 / rank, 0 beyond k. Of a set it is the mean over its labels,
    at most k of them, of the precision down to each; an image without a label scores 0.
    """
    return weighted_map_at_k(targets, predictions, k)(np.ones(len(targets)))


def weighted_map_at_k(targets: np.ndarray, predictions: np.ndarray, k: int) -> Scorer:
    ranked = np.argsort(-predictions, axis=1, kind="stable")[:, :k]  # (N, k)
    if targets.ndim == 1:
        hits = ranked == targets[:, None]
        possible = np.ones(len(targets))
    else:
        hits = np.take_along_axis(targets, ranked, axis=1).astype(bool)
        possible = np.clip(targets.sum(axis=1), 1, k)
    precisions = hits.cumsum(axis=1) / np.arange(1, ranked.shape[1] + 1)
    return weighted_mean((hits * precisions).sum(axis=1) / possible)
