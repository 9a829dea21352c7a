"""Assign folds: stratified, grouped, seeded, and independent of the order of files."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldsmith.data.stratification import assign_iteratively
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task

ALWAYS_TRAINED = -1  # the fold of samples that no fold holds out


def assign_folds(strata: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return stratified folds, int64 (N,) in 0 … num_folds - 1. Samples of one group share a fold.

    `strata` are int (N,), or 0 and 1 (N, S) for samples of several strata. If every sample is its own group
    and in one stratum, the counts of each stratum, and of all samples, differ by at most one between folds.
    """
    return _assign(strata, groups, np.full(num_folds, 1 / num_folds), seed)


def assign_holdout(strata: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return fold 0 for a held-out share of the samples, ALWAYS_TRAINED for the others; int64 (N,)."""
    bins = _assign(strata, groups, np.array([share, 1 - share]), seed)
    return np.where(bins == 0, 0, ALWAYS_TRAINED)


def choose_limited(strata: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Return a stratified subset of `limit` samples: sorted indices, int64 (min(limit, N),)."""
    count = len(strata)
    if limit >= count:
        return np.arange(count)
    bins = _assign(strata, np.arange(count), np.array([limit / count, 1 - limit / count]), seed)
    # rounding per class can miss `limit` by a few; samples from the other bin make the number exact
    order = np.random.default_rng(derive_seed(seed, "limit")).permutation(count)
    ranked = order[np.argsort(bins[order], kind="stable")]
    return np.sort(ranked[:limit])


def build_folds(samples: pd.DataFrame, folds: Sequence[int], task: Task) -> pd.DataFrame:
    """Return the content of folds.csv: path, the task's target columns, fold."""
    return samples[["path", *task.target_columns]].assign(fold=np.asarray(folds))


def rare_classes(class_counts: np.ndarray, num_folds: int) -> list[int]:
    """Return classes with fewer samples than folds, so that some fold holds out none of theirs."""
    return [int(label) for label in np.flatnonzero(class_counts < num_folds)]


def _assign(strata: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Assign groups to bins of these shares, as evenly per stratum as whole samples allow; int64 (N,)."""
    rng = np.random.default_rng(derive_seed(seed, "folds"))
    if strata.ndim == 2:
        return assign_iteratively(strata, groups, shares, rng)
    return _assign_classes(strata, groups, shares, rng)


def _assign_classes(
    labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the bins of samples of one class each, int64 (N,)."""
    targets = np.bincount(labels)[:, None] * shares  # (K, bins)
    # a share of 1/3 of 9 samples is exactly 3: the tolerance absorbs floating-point error
    floors, ceilings = np.floor(targets + 1e-9).tolist(), np.ceil(targets - 1e-9).tolist()
    placed = np.zeros(targets.shape).tolist()
    room = targets.sum(axis=0).tolist()
    tie_break = rng.permutation(len(shares)).tolist()
    bins = np.empty(len(labels), dtype=np.int64)

    members = list(pd.Series(np.arange(len(labels))).groupby(groups).indices.values())
    units = [members[index] for index in rng.permutation(len(members))]
    # large groups first, while there is room to balance them; then by class, in random order within a class
    units.sort(key=lambda unit: (-len(unit), labels[unit[0]]))
    for unit in units:
        counts = Counter(labels[unit].tolist())

        def overfull(bin_: int, counts: Counter = counts) -> tuple[float, float, float, int]:
            """Return a bin's sort key: samples beyond the target rounded up, rounded down, negative room."""
            beyond_ceiling = sum(max(placed[c][bin_] + n - ceilings[c][bin_], 0) for c, n in counts.items())
            beyond_floor = sum(max(placed[c][bin_] + n - floors[c][bin_], 0) for c, n in counts.items())
            return beyond_ceiling, beyond_floor, -round(room[bin_] / shares[bin_], 6), tie_break[bin_]

        chosen = min(range(len(shares)), key=overfull)
        bins[unit] = chosen
        room[chosen] -= len(unit)
        for label, count in counts.items():
            placed[label][chosen] += count
    return bins
