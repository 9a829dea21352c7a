"""Standard errors and intervals of scores, from the images and from the folds; recall by class.

N images · K outputs · F folds · D draws. Targets are (N,) or (N, K). An error covers the sampling of the
images, not the seed of the training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.evaluation.chance import NO_VARIATION
from foldsmith.evaluation.resampling import draw_counts
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

Score = float | None

NUM_DRAWS = 400  # bootstrap samples: an error is then known to about 4 %
Z = 1.959964  # standard errors on either side of a 95 % interval


@dataclass(frozen=True)
class ScoreErrors:
    """The errors of a metric: of the mean over folds, which of the two it is, and of each fold's score.

    `by` is "images" or "folds". All are None where nothing defines an error.
    """

    of_mean: Score
    by: str | None
    by_fold: list[Score]


def score_errors(
    targets: np.ndarray,
    folds: np.ndarray,
    predictions: np.ndarray,
    scores: Mapping[str, Sequence[Score]],
    task: Task,
    groups: np.ndarray | None = None,
) -> dict[str, ScoreErrors]:
    """Return the errors of every metric of `scores`, the folds' scores by metric, in the order of the folds.

    The error of the mean over folds is the larger of two: that of the images, by a bootstrap within the folds
    (see `_deviation`), and the deviation of the folds' scores over the root of their number.
    `groups` (N,) numbers the images that are resampled together, such as near-duplicates.
    """
    members = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    units = _units_of(members, groups)
    counts = np.array([unit.max() + 1 for unit in units])
    errors = {}
    for name, samples in _resample(targets, predictions, members, units, task.metrics).items():
        metric, has_score = task.metrics[name], np.array([score is not None for score in scores[name]])
        by_fold = [_deviation(samples[:, fold], int(counts[fold]), metric) for fold in range(len(members))]
        total, num_folds = int(counts[has_score].sum()), int(has_score.sum())
        of_images = _deviation(_means_of_defined(samples), total, metric, num_folds)
        of_folds = _error_of_mean([score for score in scores[name] if score is not None])
        errors[name] = ScoreErrors(of_images, None if of_images is None else "images", by_fold)
        if of_folds > max(of_images or 0.0, NO_VARIATION):
            errors[name] = ScoreErrors(of_folds, "folds", by_fold)
    return errors


def score_and_error(
    targets: np.ndarray,
    predictions: np.ndarray,
    metric: str,
    task: Task,
    groups: np.ndarray | None = None,
) -> tuple[Score, Score]:
    """Return the score of these images and its standard error; None where one is not defined.

    `groups` (N,) numbers the images that are resampled together, such as near-duplicates.
    """
    row, members = task.metrics[metric], [np.arange(len(targets))]
    units = _units_of(members, groups)
    scores = _resample(targets, predictions, members, units, {metric: row})[metric]
    return row.evaluate(targets, predictions), _deviation(scores[:, 0], int(units[0].max()) + 1, row)


def least_error(count: int) -> float:
    """Return the standard error of a share of `count` images that are all right (Agresti & Coull 1998)."""
    share = (count + 2) / (count + 4)
    return math.sqrt(share * (1 - share) / (count + 4))


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` independent images (Wilson 1927)."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def score_interval(score: float, error: float, metric: Metric) -> tuple[float, float]:
    """Return the 95 % interval of a score by its standard error, within the bounds of the metric."""
    low, high = metric.bounds
    return max(score - Z * error, low), min(score + Z * error, high)


def share_interval(share: float, error: float, num_groups: int, num_images: int) -> tuple[float, float]:
    """Return the Wilson interval of a share of the images with this standard error.

    Where images are in groups, it is that of as many independent images as have the same error.
    """
    independent = num_groups == num_images or share in (0.0, 1.0)
    count = num_groups if independent else min(num_images, share * (1 - share) / error**2)
    return wilson_interval(share, count)


def class_recalls(targets: np.ndarray, decisions: np.ndarray, num_classes: int) -> pd.DataFrame:
    """Return one row per class: label, support, recall, low, high (its 95 % Wilson interval).

    `decisions` are in the form of targets: (N,) or (N, K). Recall and interval are NaN for a class without an
    image.
    """
    rows = []
    for label in range(num_classes):
        if targets.ndim == 1:
            own, right = targets == label, decisions == label
        else:
            own, right = targets[:, label] > 0, decisions[:, label] > 0
        support = int(own.sum())
        recall = float(right[own].mean()) if support else math.nan
        interval = wilson_interval(recall, support) if support else (math.nan, math.nan)
        rows.append((label, support, recall, *interval))
    return pd.DataFrame(rows, columns=["label", "support", "recall", "low", "high"])


def _units_of(members: Sequence[np.ndarray], groups: np.ndarray | None) -> list[np.ndarray]:
    """Return for each fold's images the number of their group in it, from 0 on."""
    if groups is None:
        return [np.arange(len(rows)) for rows in members]
    return [np.unique(groups[rows], return_inverse=True)[1] for rows in members]


def _resample(
    targets: np.ndarray,
    predictions: np.ndarray,
    members: Sequence[np.ndarray],
    units: Sequence[np.ndarray],
    metrics: Mapping[str, Metric],
) -> dict[str, np.ndarray]:
    """Return the scores of each fold in bootstrap samples of its groups, by metric (D, F); NaN if undefined.

    A metric that cannot be bootstrapped has no sample.
    """
    folds = [(targets[rows], predictions[rows]) for rows in members]
    scorers = {
        (name, fold): metric.scorer(*images)
        for name, metric in metrics.items()
        for fold, images in enumerate(folds)
        if metric.bootstrappable and metric.is_defined(*images)
    }
    scores = {name: np.full((NUM_DRAWS, len(members)), np.nan) for name in metrics}
    draws = np.random.default_rng(derive_seed(0, "images"))
    for draw in range(NUM_DRAWS):
        counts = [draw_counts(int(unit.max()) + 1, draws)[unit] for unit in units]
        for (name, fold), scorer in scorers.items():
            scores[name][draw, fold] = scorer(counts[fold])
    return scores


def _deviation(scores: np.ndarray, count: int, metric: Metric, num_folds: int = 1) -> Score:
    """Return the standard error of a score of `count` groups by its bootstrap samples (D,).

    A metric with bounds has at least the error of as many images that are all right. None where too few
    samples are defined, or where nothing varies in a metric without bounds.
    """
    defined = scores[np.isfinite(scores)]
    if len(defined) < 2:
        return None
    error, per_fold = float(np.std(defined, ddof=1)), count / num_folds
    if per_fold > 1:
        error *= math.sqrt(per_fold / (per_fold - 1))  # the samples vary about their own mean
    low, high = metric.bounds
    if math.isfinite(high - low):
        error = max(error, (high - low) * least_error(count))
    return error if error > NO_VARIATION else None


def _means_of_defined(samples: np.ndarray) -> np.ndarray:
    """Return the mean over folds (D,) of scores (D, F) without those that are NaN; NaN where all are."""
    defined = np.isfinite(samples)
    counts = defined.sum(axis=1)
    totals = np.where(defined, samples, 0.0).sum(axis=1)
    return np.divide(totals, counts, out=np.full(len(samples), np.nan), where=counts > 0)


def _error_of_mean(scores: Sequence[float]) -> float:
    """Return the standard deviation of the scores over the root of their number; 0 for fewer than two."""
    return float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0
