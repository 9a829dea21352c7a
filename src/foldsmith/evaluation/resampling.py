"""The paired bootstrap over images: what two predictions of the same images differ by, and its error."""

import numpy as np

from foldsmith.errors import InputError
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.seeding import derive_seed
from foldsmith.tasks.metrics import METRICS

NUM_DRAWS = 1000  # of a bootstrap; they know its standard error to about 2 %


def draw_counts(num_images: int, draws: np.random.Generator) -> np.ndarray:
    """How often a bootstrap sample holds each image, float64 (N,), N in all."""
    return np.bincount(draws.integers(num_images, size=num_images), minlength=num_images).astype(np.float64)


def bootstrap_gain(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, metric: str, seed: int, num_draws: int = NUM_DRAWS
) -> PairedDifference:
    """How much better `other` is than `one` in the metric, both probabilities (N, K) of the same images.

    A positive difference is a gain, also where lower scores are better. The standard error is that of the
    paired bootstrap (Efron & Tibshirani 1993): both are scored on the same draws of N of the images.
    """
    row = METRICS[metric]
    scores = [row.evaluate(labels, predictions) for predictions in (one, other)]
    if None in scores:
        raise InputError(
            f"{metric} is not defined on these {len(labels)} images, so that runs cannot be compared by it."
        )
    score_one, score_other = (row.scorer(labels, predictions) for predictions in (one, other))
    draws = np.random.default_rng(derive_seed(seed, "bootstrap"))
    gains = []
    for _ in range(num_draws):
        counts = draw_counts(len(labels), draws)
        gains.append(score_other(counts) - score_one(counts))
    # a draw in which the metric is not defined is left out
    defined = [gain for gain in gains if np.isfinite(gain)]
    error = float(np.std(defined, ddof=1)) if len(defined) > 1 else np.nan
    return PairedDifference(row.sign * (scores[1] - scores[0]), error)
