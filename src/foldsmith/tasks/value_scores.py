"""Scores of numbers: means over the M numbers of an image, as scikit-learn's `uniform_average`.

N images. Targets are (N,) or (N, M), values (N, M).
"""

import numpy as np

from foldsmith.tasks.class_scores import Scorer


def as_columns(targets: np.ndarray) -> np.ndarray:
    """Return targets as float64 (N, M)."""
    return targets.reshape(len(targets), -1).astype(np.float64)


def has_logarithms(targets: np.ndarray, values: np.ndarray) -> bool:
    return bool((targets >= 0).all())


def constant_columns(targets: np.ndarray) -> np.ndarray:
    """Return the columns with one value only, bool (M,)."""
    columns = as_columns(targets)
    return columns.min(axis=0) == columns.max(axis=0)


def varies(targets: np.ndarray, values: np.ndarray) -> bool:
    return not constant_columns(targets).all()


def rmse(targets: np.ndarray, values: np.ndarray) -> float:
    """Return the root of the mean squared error."""
    return weighted_rmse(targets, values)(np.ones(len(targets)))


def mae(targets: np.ndarray, values: np.ndarray) -> float:
    """Return the mean absolute error."""
    return weighted_mae(targets, values)(np.ones(len(targets)))


def rmsle(targets: np.ndarray, values: np.ndarray) -> float:
    """Return the root mean squared error of log(1 + value); a value below 0 counts as 0."""
    return weighted_rmsle(targets, values)(np.ones(len(targets)))


def r2(targets: np.ndarray, values: np.ndarray) -> float:
    """Return the coefficient of determination; constant columns are left out of its mean."""
    return weighted_r2(targets, values)(np.ones(len(targets)))


def weighted_rmse(targets: np.ndarray, values: np.ndarray) -> Scorer:
    squared = (as_columns(targets) - values) ** 2
    return lambda counts: float(np.sqrt(counts @ squared / counts.sum()).mean())


def weighted_mae(targets: np.ndarray, values: np.ndarray) -> Scorer:
    absolute = np.abs(as_columns(targets) - values)
    return lambda counts: float((counts @ absolute / counts.sum()).mean())


def weighted_rmsle(targets: np.ndarray, values: np.ndarray) -> Scorer:
    if not has_logarithms(targets, values):
        return lambda counts: np.nan
    return weighted_rmse(np.log1p(as_columns(targets)), np.log1p(np.maximum(values.astype(np.float64), 0)))


def weighted_r2(targets: np.ndarray, values: np.ndarray) -> Scorer:
    columns = as_columns(targets)
    squared = (columns - values) ** 2

    def score(counts: np.ndarray) -> float:
        means = counts @ columns / counts.sum()
        total, unexplained = counts @ (columns - means) ** 2, counts @ squared
        defined = ~constant_columns(columns[counts > 0])  # rounding leaves a trace of variance
        return float((1 - unexplained[defined] / total[defined]).mean()) if defined.any() else np.nan

    return score
