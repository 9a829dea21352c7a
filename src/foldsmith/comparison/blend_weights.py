"""Ensemble selection: weights for several runs, found greedily on their held-out predictions.

R runs · N images · K classes · P parts (the folds) · B bags. Weights (R,) are not negative and sum to 1.
"""

from dataclasses import dataclass

import numpy as np

from foldsmith.evaluation.resampling import draw_counts
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import METRICS

NUM_STEPS = 50  # of a climb: weights in fiftieths
NUM_BAGS = 10
TIE_BREAK = "log_loss"  # the metric that decides between equal scores
NUM_PARTS = 5  # into which the images of a single held-out share are dealt


@dataclass(frozen=True)
class Blend:
    """`weights` (R,) are found on all images, `weights_by_part` (P, R) on those of the other parts.

    `probabilities`, float32 (N, K), are cross-fitted: every image is blended by weights that never saw its
    part's labels. `parts` (N,) is in 0 … P-1.
    """

    weights: np.ndarray
    weights_by_part: np.ndarray
    parts: np.ndarray
    probabilities: np.ndarray


def mix(predictions: np.ndarray, weights: np.ndarray, task: Task) -> np.ndarray:
    """Return the weighted mean of runs' predictions (R, N, K), float32 (N, K)."""
    return task.finish(np.tensordot(weights.astype(np.float64), predictions, axes=1))


def climb(labels: np.ndarray, predictions: np.ndarray, metric: str, bags: np.ndarray) -> np.ndarray:
    """Weights (B, R) by greedy ensemble selection with replacement (Caruana et al. 2004), one row a bag.

    `predictions` are (R, N, K); `bags` (B, N) say how often an image counts in each bag. A climb begins with
    no run, adds the one that helps the metric most NUM_STEPS times, and ends where it stood best. Of equal
    scores the lower log loss is better, as most metrics do not notice a small step.
    """
    num_runs, stacked = len(predictions), predictions.reshape(len(predictions), -1)
    chosen = np.zeros((len(bags), num_runs), int)  # how often each run was added
    best, best_quality = chosen.copy(), [(-np.inf, -np.inf)] * len(bags)
    for _ in range(NUM_STEPS):
        candidates = (chosen[:, None] + np.eye(num_runs, dtype=int)).reshape(-1, num_runs)  # (B R, R)
        # bags that stand alike share the work
        mixtures, places = np.unique(candidates, axis=0, return_inverse=True)
        quality = [(0.0, 0.0)] * len(candidates)
        for place, mixture in enumerate(mixtures):
            weights = (mixture / mixture.sum()).astype(stacked.dtype)
            mixed = (weights @ stacked).reshape(predictions.shape[1:])  # (N, K)
            score, loss = METRICS[metric].scorer(labels, mixed), METRICS[TIE_BREAK].scorer(labels, mixed)
            for row in np.flatnonzero(places.ravel() == place):
                counts = bags[row // num_runs]
                quality[row] = METRICS[metric].sign * score(counts), METRICS[TIE_BREAK].sign * loss(counts)
        for bag in range(len(bags)):
            row = max(range(bag * num_runs, (bag + 1) * num_runs), key=quality.__getitem__)
            chosen[bag] = candidates[row]
            if quality[row] > best_quality[bag]:
                best[bag], best_quality[bag] = chosen[bag], quality[row]
    return best / best.sum(axis=1, keepdims=True)


def find_blend(
    task: Task, labels: np.ndarray, folds: np.ndarray, predictions: np.ndarray, metric: str, seed: int
) -> Blend:
    """Weights for runs' out-of-fold probabilities (R, N, K), and what they make of images they were not
    found on.

    Weights are means over NUM_BAGS climbs, each on a bootstrap sample of the images: Caruana et al. draw bags
    of runs, but of a handful of runs there is nothing to draw. A single held-out share, which has no other
    folds, is dealt into NUM_PARTS parts at random.
    """
    parts = parts_of(folds, seed)
    inside = [np.ones(len(labels), bool), *(parts != part for part in range(parts.max() + 1))]
    bags = []
    for place, images in enumerate(inside):
        for bag in range(NUM_BAGS):
            draws = np.random.default_rng(derive_seed(seed, "bag", place, bag))
            counts = np.zeros(len(labels))
            counts[images] = draw_counts(int(images.sum()), draws)
            bags.append(counts)
    climbed = climb(labels, predictions, metric, np.stack(bags))  # ((1 + P) B, R)
    weights = climbed.reshape(len(inside), NUM_BAGS, -1).mean(axis=1)
    probabilities = np.empty(predictions.shape[1:], np.float32)
    for part, found in enumerate(weights[1:]):
        probabilities[parts == part] = mix(predictions[:, parts == part], found, task)
    return Blend(weights[0], weights[1:], parts, probabilities)


def parts_of(folds: np.ndarray, seed: int) -> np.ndarray:
    """The part (N,) of each image, 0 … P-1: its fold, or where there is one fold, NUM_PARTS at random.

    No image's part depends on its label.
    """
    numbers, parts = np.unique(folds, return_inverse=True)
    if len(numbers) > 1:
        return parts
    draws = np.random.default_rng(derive_seed(seed, "parts"))
    return draws.permutation(len(folds)) % min(NUM_PARTS, len(folds))
