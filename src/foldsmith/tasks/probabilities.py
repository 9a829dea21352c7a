"""Probabilities as they are saved, never zero and never one; and the prior of the classes."""

from collections.abc import Sequence

import numpy as np

# 2^-23, the machine epsilon of float32. With this floor one wrong image cannot make the log loss infinite,
# and log losses in float32 and float64 agree: neither clips a probability.
FLOOR = np.float32(2**-23)


def floor_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities float32 (N, K) of at least FLOOR that sum to 1."""
    floored = np.maximum(probabilities.astype(np.float64), 2 * FLOOR)
    return (floored / floored.sum(axis=1, keepdims=True)).astype(np.float32)


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Return natural logarithms of probabilities of any shape, float64; finite for zero too."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


def class_prior(labels: Sequence[int] | np.ndarray, num_classes: int) -> np.ndarray:
    """Return the share of each class among the training labels, float32 (K,)."""
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    return (counts / counts.sum()).astype(np.float32)
