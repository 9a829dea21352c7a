"""Predictions keyed by path: collected, averaged, and never mixed up by position."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from foldsmith.errors import InputError

# 2^-23: the smallest step below 1 in float32. No class is ever called impossible, so that one wrong image
# cannot make the log loss infinite, and float32 and float64 clip nothing when they compute it.
FLOOR = np.float32(2**-23)


def floor_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities float32 (N, K), none below FLOOR, that sum to 1."""
    floored = np.maximum(probabilities.astype(np.float64), 2 * FLOOR)
    return (floored / floored.sum(axis=1, keepdims=True)).astype(np.float32)


def scatter_oof(
    folds: pd.DataFrame, heldout: Iterable[dict[str, np.ndarray]], num_classes: int
) -> np.ndarray:
    """The held-out probabilities of every row of folds.csv, float32 (N, K), matched by path.

    Raises InputError if a row has none, two, or a path is unknown.
    """
    row = {path: index for index, path in enumerate(folds["path"])}
    probabilities = np.full((len(folds), num_classes), np.nan, dtype=np.float32)
    for predicted in heldout:
        for path, values in zip(predicted["path"].tolist(), predicted["probabilities"], strict=True):
            if path not in row or not np.isnan(probabilities[row[path], 0]):
                raise InputError(
                    f"{path} was predicted twice, or is not in folds.csv; run src/train.py --again."
                )
            probabilities[row[path]] = values
    absent = np.flatnonzero(np.isnan(probabilities).any(axis=1))
    if len(absent):
        first = folds["path"].iloc[absent[0]]
        raise InputError(
            f"{len(absent)} held-out images have no prediction (first: {first}); run src/train.py."
        )
    return floor_probabilities(probabilities)


def class_prior(labels: Sequence[int] | np.ndarray, num_classes: int) -> np.ndarray:
    """The share of each class among the training labels, float32 (K,)."""
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    return (counts / counts.sum()).astype(np.float32)


def average(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of probabilities (N, K) over folds, float32 (N, K)."""
    return floor_probabilities(np.mean([each.astype(np.float64) for each in predictions], axis=0))
