"""Several runs made into one: weights found on held-out predictions, and judged where they were not found.

R runs · N images · K classes · P parts (the folds).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldsmith.comparison.blend_weights import Blend, find_blend, mix
from foldsmith.comparison.class_factors import apply_class_factors, fit_class_factors
from foldsmith.errors import InputError
from foldsmith.evaluation.calibration import apply_temperature, fit_temperature
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.resampling import bootstrap_gain
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import METRICS


@dataclass(frozen=True)
class Adjustment:
    """What may be done to probabilities for the sake of a metric: a value is fitted, then applied."""

    name: str
    fit: Callable[[np.ndarray, np.ndarray], Any]  # labels, probabilities
    apply: Callable[[np.ndarray, Any], np.ndarray]  # probabilities, value


TEMPERATURE = Adjustment("temperature", fit_temperature, apply_temperature)
CLASS_FACTORS = Adjustment("class factors", fit_class_factors, apply_class_factors)
ADJUSTMENTS = {
    "log_loss": TEMPERATURE,
    "expected_calibration_error": TEMPERATURE,
    "macro_f1": CLASS_FACTORS,
}


@dataclass(frozen=True)
class Ensemble:
    """What became of R runs: a blend, if it gains more than one standard error over the better run, or else
    that run alone; then an adjustment, if it gains as much.

    `scores` (R,) and `score` are out-of-fold, the latter of the blend; `better` is the index of the better
    run. A gain is positive where the metric becomes better. `value` is the adjustment's, None where it is not
    kept; `probabilities`, float32 (N, K), are out-of-fold and cross-fitted, of what is used.
    """

    task: Task
    scores: list[float]
    better: int
    blend: Blend
    score: float
    gain: PairedDifference
    adjustment: Adjustment | None
    adjustment_gain: PairedDifference | None
    value: Any
    probabilities: np.ndarray

    @property
    def blended(self) -> bool:
        return _earns(self.gain)

    def facts(self, names: Sequence[str]) -> dict[str, Any]:
        """What blend.json says of runs of these names."""
        runs = [
            {
                "run": name,
                "score": self.scores[run],
                "weight": float(self.blend.weights[run]),
                "weights_by_part": self.blend.weights_by_part[:, run].tolist(),
            }
            for run, name in enumerate(names)
        ]
        adjustment = None
        if self.adjustment is not None:
            adjustment = {
                "name": self.adjustment.name,
                "gain": self.adjustment_gain.difference,
                "standard_error": self.adjustment_gain.standard_error,
                "value": None if self.value is None else np.asarray(self.value).tolist(),
            }
        return {
            "runs": runs,
            "better_run": names[self.better],
            "score": self.score,
            "gain": self.gain.difference,
            "standard_error": self.gain.standard_error,
            "blended": self.blended,  # else the better run's predictions are used
            "adjustment": adjustment,
        }

    def predict(self, predictions: np.ndarray) -> np.ndarray:
        """Probabilities float32 (n, K) from those of the runs (R, n, K), of images none was trained on.

        Where those are means over folds, they are less sure than a fold's own, to which the adjustment was
        fitted: a temperature above 1 then makes them a little too modest.
        """
        used = mix(predictions, self.blend.weights, self.task) if self.blended else predictions[self.better]
        if self.value is None:
            return used
        return self.task.finish(self.adjustment.apply(used, self.value))


def build_ensemble(
    task: Task, labels: np.ndarray, folds: np.ndarray, predictions: np.ndarray, metric: str, seed: int
) -> Ensemble:
    """Blends, judges and adjusts runs by their out-of-fold probabilities (R, N, K).

    Weights and adjustment of an image are never fitted to its own fold. Only two yes-or-no questions are
    answered by all images: which run is the better one, and whether a gain exceeds its error.
    """
    if any(METRICS[metric].evaluate(labels, prediction) is None for prediction in predictions):
        raise InputError(
            f"{metric} is not defined on the {len(labels)} held-out images; blend by another metric "
            "(competition.toml), or hold out more images."
        )
    blend = find_blend(task, labels, folds, predictions, metric, seed)
    scores = [METRICS[metric].evaluate(labels, each) for each in predictions]
    better = max(range(len(scores)), key=lambda run: METRICS[metric].sign * scores[run])
    gain = bootstrap_gain(labels, predictions[better], blend.probabilities, metric, seed)
    used, weights = blend.probabilities, blend.weights_by_part
    if not _earns(gain):
        used, weights = predictions[better], np.eye(len(scores))[[better] * len(blend.weights_by_part)]
    adjustment, adjustment_gain, value = ADJUSTMENTS.get(metric), None, None
    if adjustment is not None:
        adjusted = cross_fit(task, labels, blend.parts, predictions, weights, adjustment)
        adjustment_gain = bootstrap_gain(labels, used, adjusted, metric, seed)
        if _earns(adjustment_gain):
            everywhere = mix(predictions, blend.weights if _earns(gain) else weights[0], task)
            used, value = adjusted, adjustment.fit(labels, everywhere)
    score = METRICS[metric].evaluate(labels, blend.probabilities)
    return Ensemble(task, scores, better, blend, score, gain, adjustment, adjustment_gain, value, used)


def _earns(gain: PairedDifference) -> bool:
    return gain.exceeds_error and gain.difference > 0


def cross_fit(
    task: Task,
    labels: np.ndarray,
    parts: np.ndarray,
    predictions: np.ndarray,
    weights_by_part: np.ndarray,
    adjustment: Adjustment,
) -> np.ndarray:
    """Blended and adjusted probabilities, float32 (N, K), of images that neither weights nor value saw.

    For part p the runs' probabilities (R, N, K) are blended by its weights everywhere, the adjustment is
    fitted on the other parts, and applied to part p.
    """
    adjusted = np.empty(predictions.shape[1:], np.float32)
    for part, weights in enumerate(weights_by_part):
        held_out, blended = parts == part, mix(predictions, weights, task)
        value = adjustment.fit(labels[~held_out], blended[~held_out])
        adjusted[held_out] = task.finish(adjustment.apply(blended[held_out], value))
    return adjusted
