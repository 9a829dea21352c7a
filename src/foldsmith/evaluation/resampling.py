"""The paired bootstrap over images: the difference of two runs in a metric, and its standard error."""

import numpy as np
from scipy.special import ndtr

from foldsmith.errors import InputError
from foldsmith.evaluation.chance import (
    NO_VARIATION,
    ROUNDING,
    PairedDifference,
    least_paired_error,
    mcnemar_exact,
)
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
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
    paired bootstrap (Efron & Tibshirani 1993): both are scored on the same samples of N images. It is
    infinite where the metric is defined in fewer than two of them.

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
    error = float(np.std(defined, ddof=1)) if len(defined) > 1 else np.inf
    return PairedDifference(metric.sign * (scores[1] - scores[0]), error)


def gain_with_error(
    labels: np.ndarray, baseline: np.ndarray, candidate: np.ndarray, metric: Metric, seed: int = 0
) -> PairedDifference:
    """Return `bootstrap_gain` with an error that is never smaller than the images allow.

    If no sample varies, a metric with bounds has the error of `least_paired_error`; one without bounds has
    none, so that it is infinite, unless the predictions are equal. It is also infinite for a metric that
    cannot be bootstrapped. Raise InputError where the metric is not defined on these images.
    """
    if not metric.bootstrappable:
        scores = [metric.evaluate(labels, predictions) for predictions in (baseline, candidate)]
        return PairedDifference(metric.sign * (scores[1] - scores[0]), np.inf)
    gain = bootstrap_gain(labels, baseline, candidate, metric, seed)
    if gain.standard_error > NO_VARIATION:
        return gain
    low, high = metric.bounds
    if np.isfinite(high - low):
        error = (high - low) * least_paired_error(gain.difference / (high - low), len(labels))
        return PairedDifference(gain.difference, error)
    return PairedDifference(gain.difference, 0.0 if np.array_equal(baseline, candidate) else np.inf)


def p_of_gain(
    labels: np.ndarray, baseline: np.ndarray, candidate: np.ndarray, gain: PairedDifference, task: Task
) -> float:
    """Return the two-sided p of a gain of `candidate` over `baseline` if both were equally good.

    It is McNemar's exact one where the gain is a difference of shares of right images, and otherwise that of
    the gain in standard errors.
    """
    credits = [task.correct(labels, predictions) for predictions in (baseline, candidate)]
    shares = [credit.mean() for credit in credits]
    whole = all(np.isin(credit, (0, 1)).all() for credit in credits)
    if whole and abs(shares[1] - shares[0] - gain.difference) < NO_VARIATION:
        return mcnemar_exact(*(credit == 1 for credit in credits)).p
    if abs(gain.difference) <= ROUNDING or not np.isfinite(gain.standard_error):
        return 1.0
    return float(2 * ndtr(-abs(gain.difference) / gain.standard_error))
