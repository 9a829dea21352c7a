"""The figures of cv.json: every metric by fold, their mean and spread, and over all images at once.

A metric that is not defined in a fold is None there and left out of the mean. An example is the area under
a ROC curve of a fold without a positive image.
"""

from collections.abc import Sequence

import numpy as np

from foldsmith.errors import first_of
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

Score = float | None


def score(
    targets: np.ndarray, predictions: np.ndarray, task: Task, metric: Metric | None = None
) -> dict[str, Score]:
    """Return all metrics of the task by name, and `metric` besides; None where one is not defined."""
    rows = {**task.metrics, **({} if metric is None else {metric.name: metric})}
    return {name: row.evaluate(targets, predictions) for name, row in rows.items()}


def cross_validation(
    targets: np.ndarray, folds: np.ndarray, predictions: np.ndarray, metric: Metric, task: Task
) -> dict[str, object]:
    """Return the figures of cv.json: `metric` by fold with mean, deviation and error, and all metrics.

    Mean, standard deviation (divided by folds - 1) and standard error (over the root of the number of folds)
    are those of the folds in which the metric is defined; None where there are too few. `oof` is the metric
    over all held-out images at once.
    """
    by_fold = [
        score(targets[folds == fold], predictions[folds == fold], task, metric) for fold in np.unique(folds)
    ]
    overall = score(targets, predictions, task, metric)
    scores = [fold[metric.name] for fold in by_fold]
    defined = [value for value in scores if value is not None]
    std = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
    return {
        "task": task.name,
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "folds": scores,
        "mean": float(np.mean(defined)) if defined else None,
        "std": std,
        "standard_error": std / len(defined) ** 0.5 if std is not None else None,
        "oof": overall[metric.name],
        "num_images": len(targets),
        "num_classes": predictions.shape[1],
        "metrics": overall,
        "metrics_by_fold": {name: [fold[name] for fold in by_fold] for name in overall},
    }


def undefined_notes(cv: dict) -> list[str]:
    """Return a sentence that counts the folds without a value of the run's metric; none if all have one."""
    missing = [str(fold) for fold, value in enumerate(cv["folds"]) if value is None]
    if not missing:
        return []
    kept = len(cv["folds"]) - len(missing)
    rest = f"the mean is that of the other {kept}" if kept else "there is no mean"
    return [f"{cv['metric']} is not defined in {len(missing)} of {len(cv['folds'])} folds: {rest}."]


def left_out_note(metric: Metric, targets: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Return a sentence on the columns of targets (N, K) that a mean over columns leaves out; none without."""
    if metric.left_out is None or targets.ndim != 2:
        return []
    columns = np.flatnonzero(metric.left_out(targets))
    if not len(columns):
        return []
    names = first_of([class_names[column] for column in columns])
    return [
        f"{metric.name} is a mean over columns and not defined in {len(columns)} of {targets.shape[1]}: {names}"
    ]
