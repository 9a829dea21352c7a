"""The baseline beside a score: what predictions that ignore the images would reach."""

import numpy as np

from foldsmith.tasks import Task

CAUSES: tuple[str, ...] = ()  # of a score no better than the baseline, the most likely first


def baseline_figures(cv: dict, targets: np.ndarray, prior: np.ndarray, task: Task) -> dict[str, object]:
    """Return the keys `baseline` and `beats_baseline` of cv.json.

    `baseline` is {"commonest_class": score, "chance": score} in the run's metric: of the training prior (K,)
    as the prediction for every image, and of uniform guessing. `beats_baseline` is true if the score is
    better than both by more than two standard errors, and None where no baseline is meaningful.
    """
    raise NotImplementedError


def describe_baseline(cv: dict) -> str:
    """Return the baseline in words, `commonest class 0.1250, chance 0.1250`; "" for an older cv.json."""
    raise NotImplementedError


def warn_of_baseline(cv: dict) -> str:
    """Return a sentence where the score is no better than the baseline, without the causes; else ""."""
    raise NotImplementedError
