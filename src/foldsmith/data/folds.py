"""Which images are held out together: stratified, grouped, seeded, and independent of any order."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task

ALWAYS_TRAINED = -1


def assign_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Stratified folds: int64 (N,) in 0 … num_folds - 1. Samples of one group share a fold.

    Where every sample is a group of its own, the counts of each class, and of all images, differ by at most
    one between folds.
    """
    return _assign(labels, groups, np.full(num_folds, 1 / num_folds), seed)


def assign_holdout(labels: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """One held-out share: fold 0 where held out, ALWAYS_TRAINED elsewhere; int64 (N,)."""
    bins = _assign(labels, groups, np.array([share, 1 - share]), seed)
    return np.where(bins == 0, 0, ALWAYS_TRAINED)


def choose_limited(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """A stratified choice of `limit` samples: sorted indices, int64 (min(limit, N),)."""
    count = len(labels)
    if limit >= count:
        return np.arange(count)
    bins = _assign(labels, np.arange(count), np.array([limit / count, 1 - limit / count]), seed)
    # rounding class by class can miss the number by a few; samples from the larger side make it exact
    order = np.random.default_rng(derive_seed(seed, "limit")).permutation(count)
    ranked = order[np.argsort(bins[order], kind="stable")]
    return np.sort(ranked[:limit])


def build_folds(samples: pd.DataFrame, folds: Sequence[int], task: Task) -> pd.DataFrame:
    """Return the content of folds.csv: path, the task's target columns, fold."""
    return samples[["path", *task.target_columns]].assign(fold=np.asarray(folds))


def rare_classes(labels: np.ndarray, num_classes: int, num_folds: int) -> list[int]:
    """Classes with fewer samples than folds: some fold holds none of them out."""
    counts = np.bincount(labels, minlength=num_classes)
    return [int(label) for label in np.flatnonzero(counts < num_folds)]


def _assign(labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Deals groups into bins of the given shares, class by class as evenly as whole images allow."""
    rng = np.random.default_rng(derive_seed(seed, "folds"))
    wanted = np.bincount(labels)[:, None] * shares  # (K, bins)
    # a share of 1/3 of 9 images is 3, whatever floating point makes of it
    floors, ceilings = np.floor(wanted + 1e-9).tolist(), np.ceil(wanted - 1e-9).tolist()
    placed = np.zeros(wanted.shape).tolist()
    room = wanted.sum(axis=0).tolist()
    tie_break = rng.permutation(len(shares)).tolist()
    bins = np.empty(len(labels), dtype=np.int64)

    members = list(pd.Series(np.arange(len(labels))).groupby(groups).indices.values())
    units = [members[index] for index in rng.permutation(len(members))]
    # large groups first, while there is room to balance them; then class by class, in a random order within
    # each
    units.sort(key=lambda unit: (-len(unit), labels[unit[0]]))
    for unit in units:
        counts = Counter(labels[unit].tolist())

        def overfull(at: int, counts: Counter = counts) -> tuple[float, float, float, int]:
            """Whole images that fit come first, then the rounded-up one, then whatever is least overfull."""
            beyond_ceiling = sum(max(placed[c][at] + n - ceilings[c][at], 0) for c, n in counts.items())
            beyond_floor = sum(max(placed[c][at] + n - floors[c][at], 0) for c, n in counts.items())
            return beyond_ceiling, beyond_floor, -round(room[at] / shares[at], 6), tie_break[at]

        chosen = min(range(len(shares)), key=overfull)
        bins[unit] = chosen
        room[chosen] -= len(unit)
        for label, count in counts.items():
            placed[label][chosen] += count
    return bins
