"""The training samples and the held-out samples of a fold."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.data.cache import PixelCache
from foldsmith.run.paths import FoldPaths, RunPaths
from foldsmith.run.tables import load_task
from foldsmith.tasks import Task


@dataclass(frozen=True)
class Samples:
    """Images: their `paths`, `rows` in the cache int64 (n,), and `labels`, the task's targets (n, …)."""

    paths: list[str]
    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Fold:
    """A fold of a run: its number, its training and held-out samples, and the cache with their pixels."""

    run: RunPaths
    number: int
    task: Task
    cache: PixelCache
    training: Samples
    held_out: Samples

    @property
    def paths(self) -> FoldPaths:
        return self.run.of_fold(self.number)


def select_samples(folds: pd.DataFrame, chosen: pd.Series, cache: PixelCache, task: Task) -> Samples:
    """Return the samples of folds.csv where `chosen` is true."""
    paths = list(folds.loc[chosen, "path"])
    return Samples(paths, cache.rows(paths), task.targets(folds.loc[chosen]))


def select_fold(run: RunPaths, number: int, folds: pd.DataFrame, cache: PixelCache, loss: str) -> Fold:
    """Return a fold of the run: it holds out its own samples of folds.csv and trains on all others.

    `loss` is the loss of its networks.
    """
    task = load_task(run, loss)
    return Fold(
        run=run,
        number=number,
        task=task,
        cache=cache,
        training=select_samples(folds, folds["fold"] != number, cache, task),
        held_out=select_samples(folds, folds["fold"] == number, cache, task),
    )
