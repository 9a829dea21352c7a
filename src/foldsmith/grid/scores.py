"""Scores of the runs of a grid by the folds trained so far, and which runs are stopped for them.

N images · K outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foldsmith.evaluation.predictions import match_rows
from foldsmith.evaluation.resampling import gain_with_error
from foldsmith.evaluation.uncertainty import score_and_error
from foldsmith.process.files import load_npz
from foldsmith.process.terminal import format_score, with_error
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_task
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

NUM_ERRORS = 2  # a run is stopped only if it is worse than the best by more standard errors


@dataclass(frozen=True)
class HeldOutScore:
    """The metric of a run on the images that its folds held out, with targets and predictions (N, K)."""

    paths: list[str]
    targets: np.ndarray
    predictions: np.ndarray
    score: float | None
    standard_error: float | None

    @property
    def in_words(self) -> str:
        return with_error(format_score(self.score), self.standard_error)


def score_folds(run: RunPaths, folds: Sequence[int], task: Task, metric: Metric) -> HeldOutScore:
    """Return the score of a run by the held-out predictions of these folds."""
    files = [load_npz(run.heldout(fold)) for fold in folds]
    targets = np.concatenate([file["label"] for file in files])
    predictions = task.finish(np.concatenate([file[task.predictions_key] for file in files]))
    score, error = score_and_error(targets, predictions, metric.name, task.with_metric(metric))
    paths = [path for file in files for path in file["path"].tolist()]
    return HeldOutScore(paths, targets, predictions, score, error)


def choose_stopped(scores: Mapping[str, HeldOutScore], metric: Metric, keep: float) -> dict[str, str]:
    """Return the runs that are stopped, each with the reason.

    They are of the worse half, or the share 1 - `keep`, and worse than the best run by more than NUM_ERRORS
    paired standard errors on the same images: a run whose deficit may be luck goes on. Runs without a score
    go on.
    """
    ranked = sorted(
        (name for name in scores if scores[name].score is not None),
        key=lambda name: -metric.sign * scores[name].score,
    )
    num_kept = max(1, round(keep * len(ranked)))
    stopped = {}
    for name in ranked[num_kept:]:
        best, other = scores[ranked[0]], scores[name]
        rows = match_rows(best.paths, other.paths, ranked[0])
        gain = gain_with_error(other.targets, other.predictions, best.predictions[rows], metric)
        if gain.difference > NUM_ERRORS * gain.standard_error:
            stopped[name] = (
                f"{ranked[0]} is better by {gain.difference:.4f} ± {gain.standard_error:.4f} on the same "
                f"{len(other.paths):,} images"
            )
    return stopped


def expected_lead(num_trials: int) -> float:
    """Return by how many standard deviations the best of equal trials exceeds their mean, on average.

    It is the mean of the largest of n independent normal values, by numerical integration.
    """
    from scipy.stats import norm

    return float(norm.expect(lambda value: value * num_trials * norm.cdf(value) ** (num_trials - 1)))


def metric_of(run: RunPaths, name: str) -> tuple[Task, Metric]:
    """Return a prepared run's task and its metric of this name, as src/validate.py chooses it."""
    from foldsmith.competition.found import load_found
    from foldsmith.tasks.own_metric import choose_metric

    task = load_task(run)
    return task, choose_metric(task, name, load_found(run.found).metric)
