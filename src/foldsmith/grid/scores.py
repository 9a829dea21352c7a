"""Scores of the runs of a grid by the folds trained so far, and which runs are stopped for them.

N images · K outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm, studentized_range

from foldsmith.evaluation.predictions import average_predictions, match_rows
from foldsmith.evaluation.resampling import gain_with_error
from foldsmith.evaluation.uncertainty import score_and_error
from foldsmith.process.files import load_npz
from foldsmith.process.terminal import format_score, with_error
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_task
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

CHANCE = 0.05  # of grids of equal runs in which luck stops any run


@dataclass(frozen=True)
class Score:
    """The metric of a run on held-out images, and its standard error; None where one is not defined."""

    value: float | None
    standard_error: float | None

    @property
    def in_words(self) -> str:
        return with_error(format_score(self.value), self.standard_error)


@dataclass(frozen=True)
class HeldOut:
    """Held-out predictions (N, K) of some folds, with the images' `paths`, targets and folds (N,)."""

    paths: list[str]
    targets: np.ndarray
    predictions: np.ndarray
    folds: np.ndarray

    def score(self, task: Task, metric: Metric) -> Score:
        with_metric = task.with_metric(metric)
        return Score(*score_and_error(self.targets, self.predictions, metric.name, with_metric))


def load_held_out(run: RunPaths, folds: Sequence[int], task: Task) -> HeldOut:
    """Return the held-out predictions of a run's folds."""
    files = [load_npz(run.heldout(fold)) for fold in folds]
    predictions = task.finish(np.concatenate([file[task.predictions_key] for file in files]))
    paths = [path for file in files for path in file["path"].tolist()]
    numbers = np.repeat(folds, [len(file["path"]) for file in files])
    return HeldOut(paths, np.concatenate([file["label"] for file in files]), predictions, numbers)


def mean_of(held_out: Sequence[HeldOut], task: Task) -> HeldOut:
    """Return the mean predictions of runs that differ in their seed, matched by path."""
    first = held_out[0]
    matched = [other.predictions[match_rows(other.paths, first.paths, "a run")] for other in held_out]
    return replace(first, predictions=average_predictions(matched, task))


def choose_stopped(
    held_out: Mapping[str, HeldOut], task: Task, metric: Metric, keep: float
) -> dict[str, str]:
    """Return the combinations that are stopped, each with the reason.

    They are of the worse share, 1 - `keep`, and worse than the best on the same images by more paired
    standard errors than `errors_needed` says: a combination whose deficit may be luck goes on, as do those
    without a score. The error is that of the images; the seeds of a combination are judged together.
    """
    scores = {name: metric.evaluate(entry.targets, entry.predictions) for name, entry in held_out.items()}
    ranked = sorted(
        (name for name, score in scores.items() if score is not None),
        key=lambda name: -metric.sign * scores[name],
    )
    needed = errors_needed(len(ranked))
    stopped = {}
    for name in ranked[max(1, round(keep * len(ranked))) :]:
        best, other = held_out[ranked[0]], held_out[name]
        rows = match_rows(best.paths, other.paths, ranked[0])
        gain = gain_with_error(other.targets, other.predictions, best.predictions[rows], metric)
        if gain.difference > needed * gain.standard_error:
            stopped[name] = (
                f"{ranked[0]} is better by {gain.difference:.4f} ± {gain.standard_error:.4f} on the same "
                f"{len(other.paths):,} images, and {needed:.1f} errors are more than luck among {len(ranked)}"
            )
    return stopped


def errors_needed(count: int) -> float:
    """Return by how many paired standard errors the best of `count` equal runs exceeds another by luck.

    It is exceeded in the share CHANCE of grids: the studentized range (Tukey 1949), as the best and the worst
    are chosen after looking. Of two runs it is 1.96, of 30 it is 3.8.
    """
    if count < 2:
        return np.inf
    return float(studentized_range.ppf(1 - CHANCE, count, np.inf) / np.sqrt(2))


def expected_lead(num_trials: int) -> float:
    """Return by how many standard deviations the best of equal trials exceeds their mean, on average.

    It is the mean of the largest of n independent normal values, by numerical integration.
    """
    return float(norm.expect(lambda value: value * num_trials * norm.cdf(value) ** (num_trials - 1)))


def metric_of(run: RunPaths, name: str) -> tuple[Task, Metric]:
    """Return a prepared run's task and its metric of this name, as src/validate.py chooses it."""
    from foldsmith.competition.found import load_found
    from foldsmith.tasks.own_metric import choose_metric

    task = load_task(run)
    return task, choose_metric(task, name, load_found(run.found).metric)
