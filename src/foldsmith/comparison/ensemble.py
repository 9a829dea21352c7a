"""Blends of runs: fit weights on out-of-fold predictions, and judge them on images they were not fitted on.

R runs · N images · K outputs · F folds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldsmith.comparison.blend_weights import Blend, find_blend, mix
from foldsmith.comparison.class_factors import apply_class_factors, fit_class_factors
from foldsmith.errors import InputError
from foldsmith.evaluation.calibration import apply_temperature, fit_cautiously
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.resampling import bootstrap_gain
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric


@dataclass(frozen=True)
class Adjustment:
    """A transformation of probabilities that can improve a metric: fit a value, then apply it.

    It is for the tasks of these names only: to others, it does nothing.
    """

    name: str
    tasks: tuple[str, ...]
    fit: Callable[[np.ndarray, np.ndarray], Any]  # labels, probabilities
    apply: Callable[[np.ndarray, Any], np.ndarray]  # probabilities, value


TEMPERATURE = Adjustment(
    "temperature", ("multiclass", "binary", "ordinal"), fit_cautiously, apply_temperature
)
# ordinal decides by the expected grade, which factors for the most probable one do not fit
CLASS_FACTORS = Adjustment("class factors", ("multiclass", "binary"), fit_class_factors, apply_class_factors)
ADJUSTMENTS = {
    "log_loss": TEMPERATURE,
    "expected_calibration_error": TEMPERATURE,
    "macro_f1": CLASS_FACTORS,
}


@dataclass(frozen=True)
class Ensemble:
    """The blend of R runs, or the best run alone; and an adjustment of its predictions.

    The blend is used if its gain over the best run exceeds one standard error, and the adjustment likewise.
    `scores` of the runs and `score` of the blend are out-of-fold; `best` is the index of the best run. Gains
    are positive if the metric improves. `value` is that of the adjustment, None if it is not used.
    `predictions`, float32 (N, K), are those of the result, out-of-fold and cross-fitted.
    """

    task: Task
    scores: list[float]
    best: int
    blend: Blend
    score: float
    gain: PairedDifference
    adjustment: Adjustment | None
    adjustment_gain: PairedDifference | None
    value: Any
    predictions: np.ndarray

    @property
    def blended(self) -> bool:
        return _is_gain(self.gain)

    def facts(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the content of blend.json for runs of these names."""
        runs = [
            {
                "run": name,
                "score": self.scores[run],
                "weight": float(self.blend.weights[run]),
                "weights_by_part": self.blend.weights_by_fold[:, run].tolist(),
            }
            for run, name in enumerate(names)
        ]
        adjustment = None
        if self.adjustment is not None:
            adjustment = {
                "name": self.adjustment.name,
                "gain": self.adjustment_gain.difference,
                "standard_error": self.adjustment_gain.known_error,
                "value": None if self.value is None else np.asarray(self.value).tolist(),
            }
        return {
            "runs": runs,
            "better_run": names[self.best],
            "score": self.score,
            "gain": self.gain.difference,
            "standard_error": self.gain.known_error,
            "blended": self.blended,  # if not, the predictions are those of the best run
            "adjustment": adjustment,
        }

    def predict(self, predictions: np.ndarray) -> np.ndarray:
        """Return predictions float32 (n, K) of test images from those of the runs (R, n, K).

        Means over folds are less confident than the predictions of single folds, on which the adjustment was
        fitted: after a temperature above 1 they are slightly underconfident.
        """
        blended = mix(predictions, self.blend.weights, self.task) if self.blended else predictions[self.best]
        if self.value is None:
            return blended
        return self.task.finish(self.adjustment.apply(blended, self.value))


def build_ensemble(
    task: Task, labels: np.ndarray, folds: np.ndarray, predictions: np.ndarray, metric: Metric, seed: int
) -> Ensemble:
    """Return the ensemble of runs by their out-of-fold predictions (R, N, K).

    Weights and adjustment of an image are never fitted on its own fold. Only two decisions use all images:
    which run is the best one, and whether a gain exceeds its standard error.

    Raise InputError where the metric is not defined on these images.
    """
    if any(metric.evaluate(labels, prediction) is None for prediction in predictions):
        raise InputError(
            f"{metric.name} is not defined on the {len(labels)} held-out images; blend by another metric "
            "(competition.toml), or hold out more images."
        )
    blend = find_blend(task, labels, folds, predictions, metric, seed)
    scores = [metric.evaluate(labels, prediction) for prediction in predictions]
    best = max(range(len(scores)), key=lambda run: metric.sign * scores[run])
    gain = bootstrap_gain(labels, predictions[best], blend.predictions, metric, seed)
    result, weights = blend.predictions, blend.weights_by_fold
    if not _is_gain(gain):
        result, weights = predictions[best], np.eye(len(scores))[[best] * len(blend.weights_by_fold)]
    adjustment, adjustment_gain, value = _adjustment_for(metric, task), None, None
    if adjustment is not None:
        adjusted = cross_fit(task, labels, blend.folds, predictions, weights, adjustment)
        adjustment_gain = bootstrap_gain(labels, result, adjusted, metric, seed)
        if _is_gain(adjustment_gain):
            blended = mix(predictions, blend.weights if _is_gain(gain) else weights[0], task)
            result, value = adjusted, adjustment.fit(labels, blended)
    score = metric.evaluate(labels, blend.predictions)
    return Ensemble(task, scores, best, blend, score, gain, adjustment, adjustment_gain, value, result)


def _adjustment_for(metric: Metric, task: Task) -> Adjustment | None:
    """Return the adjustment that can improve a metric of this task's predictions, or None."""
    adjustment = ADJUSTMENTS.get(metric.name)
    return adjustment if adjustment is not None and task.name in adjustment.tasks else None


def _is_gain(gain: PairedDifference) -> bool:
    return gain.exceeds_error and gain.difference > 0


def cross_fit(
    task: Task,
    labels: np.ndarray,
    folds: np.ndarray,
    predictions: np.ndarray,
    weights_by_fold: np.ndarray,
    adjustment: Adjustment,
) -> np.ndarray:
    """Return blended and adjusted probabilities, float32 (N, K), cross-fitted over folds (N,) in 0 … F-1.

    For a fold, the runs' probabilities (R, N, K) of all images are blended by its row of `weights_by_fold`.
    The adjustment is fitted on the other folds and applied to the fold.
    """
    adjusted = np.empty(predictions.shape[1:], np.float32)
    for fold, weights in enumerate(weights_by_fold):
        held_out, blended = folds == fold, mix(predictions, weights, task)
        value = adjustment.fit(labels[~held_out], blended[~held_out])
        adjusted[held_out] = task.finish(adjustment.apply(blended[held_out], value))
    return adjusted
