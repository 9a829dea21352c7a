"""The figures of cv.json: every metric by fold, their mean, spread and error, and over all images at once.

A metric that is not defined in a fold is None there and left out of the mean. An example is the area under
a ROC curve of a fold without a positive image.
"""

from collections.abc import Sequence

import numpy as np

from foldsmith.errors import first_of
from foldsmith.evaluation.uncertainty import ScoreErrors, score_errors, score_interval, share_interval
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

Score = float | None


def score(targets: np.ndarray, predictions: np.ndarray, task: Task) -> dict[str, Score]:
    """Return all metrics of the task by name; None where one is not defined."""
    return {name: metric.evaluate(targets, predictions) for name, metric in task.metrics.items()}


def cross_validation(
    targets: np.ndarray,
    folds: np.ndarray,
    predictions: np.ndarray,
    metric: str,
    task: Task,
    groups: np.ndarray | None = None,
) -> dict[str, object]:
    """Return the figures of cv.json: `metric` by fold with mean, deviation, error and interval; all metrics.

    Mean and standard deviation (divided by folds - 1) are those of the folds in which the metric is defined;
    None where there are too few. The standard error is the larger of that of the images and that of the
    folds (see `score_errors`); `groups` (N,) numbers the images that are related. `oof` is the metric over
    all held-out images at once.
    """
    by_fold = [score(targets[folds == fold], predictions[folds == fold], task) for fold in np.unique(folds)]
    overall = score(targets, predictions, task)
    metrics_by_fold = {name: [fold[name] for fold in by_fold] for name in overall}
    errors = score_errors(targets, folds, predictions, metrics_by_fold, task, groups)
    scores = metrics_by_fold[metric]
    defined = [value for value in scores if value is not None]
    mean = float(np.mean(defined)) if defined else None
    interval = None
    if mean is not None and errors[metric].of_mean is not None:
        credit = float(np.mean(task.correct(targets, predictions)))
        is_share = overall[metric] is not None and abs(overall[metric] - credit) < 1e-9
        num_groups = len(targets) if groups is None else len(np.unique(groups))
        sizes = (num_groups, len(targets)) if is_share else None
        interval = _interval_of(mean, errors[metric], metric, task, sizes)
    return {
        "task": task.name,
        "metric": metric,
        "higher_is_better": task.metrics[metric].higher_is_better,
        "folds": scores,
        "mean": mean,
        "std": float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        "standard_error": errors[metric].of_mean,
        "standard_error_by": errors[metric].by,
        "interval": interval,
        "oof": overall[metric],
        "num_images": len(targets),
        "num_classes": predictions.shape[1],
        "metrics": overall,
        "metrics_by_fold": metrics_by_fold,
        "standard_errors": {name: error.of_mean for name, error in errors.items()},
        "standard_errors_by_fold": {name: error.by_fold for name, error in errors.items()},
    }


def _interval_of(
    mean: float, errors: ScoreErrors, metric: str, task: Task, sizes: tuple[int, int] | None
) -> list[float]:
    """Return the 95 % interval of the mean; `sizes` are the groups and images of a share, else None."""
    if sizes is not None and errors.by == "images":
        return list(share_interval(mean, errors.of_mean, *sizes))
    return list(score_interval(mean, errors.of_mean, task.metrics[metric]))


def undefined_notes(cv: dict) -> list[str]:
    """Return a sentence that counts the folds without a value of the run's metric; none if all have one."""
    missing = [str(fold) for fold, value in enumerate(cv["folds"]) if value is None]
    if not missing:
        return []
    kept = len(cv["folds"]) - len(missing)
    rest = f"the mean is that of the other {kept}" if kept else "there is no mean"
    return [f"{cv['metric']} is not defined in {len(missing)} of {len(cv['folds'])} folds: {rest}."]


def left_out_notes(metric: Metric, targets: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return a sentence on the columns of targets (N, K) that a mean over columns leaves out, or none."""
    if metric.left_out is None or targets.ndim != 2 or not (left_out := metric.left_out(targets)).any():
        return []
    columns = np.flatnonzero(left_out)
    return [
        f"{metric.name}, a mean over columns, is not defined in {len(columns)} of {len(left_out)} and leaves "
        f"them out: {first_of([names[column] for column in columns])}"
    ]
