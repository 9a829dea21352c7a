"""Ensemble selection: weights of several runs, by hill climbing on their out-of-fold predictions.

R runs · N images · K outputs · F folds · B bags. Weights (R,) are not negative and sum to 1.
"""

from dataclasses import dataclass

import numpy as np

from foldsmith.evaluation.resampling import draw_counts
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

NUM_STEPS = 50  # of a climb: weights are multiples of 1/50 at its end
NUM_BAGS = 10
NUM_FOLDS = 5  # random folds of the images of a hold-out


@dataclass(frozen=True)
class Blend:
    """Weights, and the blend they give.

    `weights` (R,) are fitted on all images; row f of `weights_by_fold` (F, R) on the images of the other
    folds. `folds` (N,) is in 0 … F-1. `predictions`, float32 (N, K), are cross-fitted: an image is blended
    by the weights of its fold.
    """

    weights: np.ndarray
    weights_by_fold: np.ndarray
    folds: np.ndarray
    predictions: np.ndarray


def mix(predictions: np.ndarray, weights: np.ndarray, task: Task) -> np.ndarray:
    """Return the weighted mean of runs' predictions (R, N, K), float32 (N, K)."""
    return task.finish(np.tensordot(weights.astype(np.float64), predictions, axes=1))


def climb(
    labels: np.ndarray, predictions: np.ndarray, metric: Metric, tie_break: Metric, bags: np.ndarray
) -> np.ndarray:
    """Return weights (B, R) by greedy ensemble selection with replacement (Caruana et al. 2004).

    `predictions` are (R, N, K); `bags` (B, N) count the images in each bag. A climb starts without a run,
    adds NUM_STEPS times the run that improves the metric most, and returns its best step. `tie_break`, such
    as log loss, decides between equal scores, because most metrics do not change with a small step, and in a
    bag in which the metric is undefined.
    """
    num_runs, stacked = len(predictions), predictions.reshape(len(predictions), -1)
    chosen = np.zeros((len(bags), num_runs), int)  # how often a run was added
    best, best_quality = chosen.copy(), [(-np.inf, -np.inf)] * len(bags)
    for _ in range(NUM_STEPS):
        candidates = (chosen[:, None] + np.eye(num_runs, dtype=int)).reshape(-1, num_runs)  # (B R, R)
        # bags with the same candidate share its scorers
        mixtures, indices = np.unique(candidates, axis=0, return_inverse=True)
        quality = [(0.0, 0.0)] * len(candidates)
        for index, mixture in enumerate(mixtures):
            weights = (mixture / mixture.sum()).astype(stacked.dtype)
            mixed = (weights @ stacked).reshape(predictions.shape[1:])  # (N, K)
            score, loss = metric.scorer(labels, mixed), tie_break.scorer(labels, mixed)
            for row in np.flatnonzero(indices.ravel() == index):
                counts = bags[row // num_runs]
                value = metric.sign * score(counts)
                # undefined on a bag, so that the tie-break alone decides there
                value = value if np.isfinite(value) else -np.inf
                quality[row] = value, tie_break.sign * loss(counts)
        for bag in range(len(bags)):
            row = max(range(bag * num_runs, (bag + 1) * num_runs), key=quality.__getitem__)
            chosen[bag] = candidates[row]
            if quality[row] > best_quality[bag]:
                best[bag], best_quality[bag] = chosen[bag], quality[row]
    return best / best.sum(axis=1, keepdims=True)


def find_blend(
    task: Task, labels: np.ndarray, folds: np.ndarray, predictions: np.ndarray, metric: Metric, seed: int
) -> Blend:
    """Return the blend of runs' out-of-fold predictions (R, N, K).

    Weights are means over NUM_BAGS climbs, each on a bootstrap sample of the images. Caruana et al. draw bags
    of runs instead, but there are too few runs here. The folds are those of `cross_fit_folds`.
    """
    folds = cross_fit_folds(folds, seed)
    fitted_on = [np.ones(len(labels), bool), *(folds != fold for fold in range(folds.max() + 1))]
    bags = []
    for index, images in enumerate(fitted_on):
        for bag in range(NUM_BAGS):
            draws = np.random.default_rng(derive_seed(seed, "bag", index, bag))
            counts = np.zeros(len(labels))
            counts[images] = draw_counts(int(images.sum()), draws)
            bags.append(counts)
    tie_break = task.metric(task.tie_break)
    climbed = climb(labels, predictions, metric, tie_break, np.stack(bags))  # ((1 + F) B, R)
    weights = climbed.reshape(len(fitted_on), NUM_BAGS, -1).mean(axis=1)
    blended = np.empty(predictions.shape[1:], np.float32)
    for fold, fold_weights in enumerate(weights[1:]):
        blended[folds == fold] = mix(predictions[:, folds == fold], fold_weights, task)
    return Blend(weights[0], weights[1:], folds, blended)


def cross_fit_folds(folds: np.ndarray, seed: int) -> np.ndarray:
    """Return the folds (N,), numbered 0 … F-1; a hold-out is split into NUM_FOLDS at random.

    The random folds do not depend on labels.
    """
    numbers, indices = np.unique(folds, return_inverse=True)
    if len(numbers) > 1:
        return indices
    draws = np.random.default_rng(derive_seed(seed, "parts"))
    return draws.permutation(len(folds)) % min(NUM_FOLDS, len(folds))
