"""The paired bootstrap over images: the difference of two runs in a metric, and its standard error."""

import numpy as np

from foldsmith.errors import InputError
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.seeding import derive_seed
from foldsmith.tasks.metrics import Metric

NUM_DRAWS = 1000  # bootstrap samples: the standard error is then known to about 2 %


def draw_counts(num_images: int, draws: np.random.Generator) -> np.ndarray:
    """Return how often each image is in a bootstrap sample of N images, float64 (N,)."""
    return np.bincount(draws.integers(num_images, size=num_images), minlength=num_images).astype(np.float64)


def bootstrap_gain(
    labels: np.ndarray,
    baseline: np.ndarray,
    candidate: np.ndarray,
    metric: Metric,
    seed: int,
    num_draws: int = NUM_DRAWS,
) -> PairedDifference:
    """Return the gain of `candidate` over `baseline`, both predictions (N, K) of the same images.

    A positive difference is a gain, also where lower scores are better. The standard error is that of the
    paired bootstrap (Efron & Tibshirani 1993): both are scored on the same samples of N images.

    Raise InputError where the metric is not defined on these images.
    """
    scores = [metric.evaluate(labels, predictions) for predictions in (baseline, candidate)]
    if None in scores:
        raise InputError(
            f"{metric.name} is not defined on these {len(labels)} held-out images, so that it cannot compare "
            "runs; choose another metric in competition.toml, or hold out more images."
        )
    score_baseline, score_candidate = (
        metric.scorer(labels, predictions) for predictions in (baseline, candidate)
    )
    draws = np.random.default_rng(derive_seed(seed, "bootstrap"))
    gains = []
    for _ in range(num_draws):
        counts = draw_counts(len(labels), draws)
        gains.append(score_candidate(counts) - score_baseline(counts))
    # samples in which the metric is not defined are left out
    defined = [gain for gain in gains if np.isfinite(gain)]
    error = float(np.std(defined, ddof=1)) if len(defined) > 1 else np.nan
    return PairedDifference(metric.sign * (scores[1] - scores[0]), error)
