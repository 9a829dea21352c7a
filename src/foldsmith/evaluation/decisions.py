"""Decisions fitted on out-of-fold predictions: thresholds, cut points, an unknown class, a temperature.

N images · K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric


@dataclass(frozen=True)
class Decision:
    """A fitted rule from predictions to decisions, or to better predictions, and its cross-fitted gain.

    `kind` is a name of RULES and `values` its parameters. `score` is the metric of decisions whose parameters
    were fitted on the other folds, `default_score` that of the task's default decision on the same images.
    """

    kind: str
    values: list[float]
    gain: float
    standard_error: float
    score: float
    default_score: float
    kept: bool


def fit_decision(
    task: Task,
    metric: Metric,
    targets: np.ndarray,
    predictions: np.ndarray,
    folds: np.ndarray,
    class_names: Sequence[str] = (),
) -> Decision | None:
    """Return the rule of the largest cross-fitted gain, kept only if that exceeds one standard error.

    Return None where the metric and the task leave nothing to fit.
    """
    raise NotImplementedError


def apply_decision(decision: Decision, task: Task, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions (N, K) and decisions, in the form of targets, by a rule that was kept."""
    raise NotImplementedError
