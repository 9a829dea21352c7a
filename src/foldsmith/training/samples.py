"""The samples of a fold: those it trains on, and those it holds out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.data.cache import PixelCache
from foldsmith.run.paths import FoldPaths, RunPaths
from foldsmith.run.tables import load_classes


@dataclass(frozen=True)
class Samples:
    """Images by their `paths`, their `rows` in the cache int64 (n,), and their `labels` int64 (n,)."""

    paths: list[str]
    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Fold:
    """A fold of a run, by its `number`: training and held-out samples, and the cache with their pixels."""

    run: RunPaths
    number: int
    num_classes: int
    cache: PixelCache
    training: Samples
    held_out: Samples

    @property
    def paths(self) -> FoldPaths:
        return self.run.of_fold(self.number)


def select_samples(folds: pd.DataFrame, chosen: pd.Series, cache: PixelCache) -> Samples:
    """Return the samples of folds.csv where `chosen` is true."""
    paths = list(folds.loc[chosen, "path"])
    return Samples(paths, cache.rows(paths), folds.loc[chosen, "label"].to_numpy(np.int64))


def select_fold(run: RunPaths, number: int, folds: pd.DataFrame, cache: PixelCache) -> Fold:
    """Return a fold of the run: it holds out its own samples of folds.csv, and trains on all others."""
    return Fold(
        run=run,
        number=number,
        num_classes=len(load_classes(run.classes)),
        cache=cache,
        training=select_samples(folds, folds["fold"] != number, cache),
        held_out=select_samples(folds, folds["fold"] == number, cache),
    )
