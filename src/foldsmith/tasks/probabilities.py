"""Probabilities as files hold them: never zero, never one, and the prior of the classes."""

from collections.abc import Sequence

import numpy as np

# 2^-23: the smallest step below 1 in float32. No class is ever called impossible, so that one wrong image
# cannot make the log loss infinite, and float32 and float64 clip nothing when they compute it.
FLOOR = np.float32(2**-23)


def floor_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities float32 (N, K), none below FLOOR, that sum to 1."""
    floored = np.maximum(probabilities.astype(np.float64), 2 * FLOOR)
    return (floored / floored.sum(axis=1, keepdims=True)).astype(np.float32)


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Return natural logarithms of probabilities of any shape, float64, finite where one is zero."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


def class_prior(labels: Sequence[int] | np.ndarray, num_classes: int) -> np.ndarray:
    """Return the share of each class among the training labels, float32 (K,)."""
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    return (counts / counts.sum()).astype(np.float32)
