"""The rules that turn predictions into decisions, or into better predictions: how each is fitted and applied.

N images · K classes. Add a rule as two functions and a row of RULES.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foldsmith.evaluation.calibration import apply_temperature, fit_cautiously
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric
from foldsmith.tasks.probabilities import FLOOR, floor_probabilities

CANDIDATES = 200  # thresholds tried for one parameter; more cannot be told apart by a few thousand images
CLASS_CANDIDATES = 30
CLASS_IMAGES = 2000  # images that thresholds for each class are fitted on, where they depend on each other
MOST_CLASSES = 50  # beyond which such a fit takes minutes


@dataclass(frozen=True)
class Problem:
    """Targets and predictions of some images, the metric to raise, and the unknown class, if there is one."""

    task: Task
    metric: Metric
    targets: np.ndarray
    predictions: np.ndarray
    unknown: int | None = None

    def subset(self, rows: np.ndarray) -> "Problem":
        return Problem(self.task, self.metric, self.targets[rows], self.predictions[rows], self.unknown)

    def outcome(self, rule: str, values: np.ndarray) -> np.ndarray:
        """Return what the metric scores, by a rule with these parameters."""
        result = RULES[rule].apply(values, self.predictions)
        return (
            self.task.decide(result) if self.metric.scores_decisions and not RULES[rule].decides else result
        )

    def score(self, rule: str, values: np.ndarray) -> float:
        """Return the metric of a rule with these parameters, larger is better; -inf if undefined."""
        result = self.outcome(rule, values)
        if self.metric.weighted_decisions is not None:
            value = self.metric.weighted_decisions(self.targets, result)(np.ones(len(self.targets)))
        else:
            value = self.metric.deciding(lambda decisions: decisions).evaluate(self.targets, result)
        return -np.inf if value is None or not np.isfinite(value) else self.metric.sign * value


@dataclass(frozen=True)
class Rule:
    """A rule: `fit` returns its parameters, `apply` decisions for predictions (N, K).

    Where it does not decide, `apply` returns predictions.
    """

    name: str
    title: str
    fit: Callable[[Problem], np.ndarray]
    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]
    decides: bool = True


def cuts_between(values: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` thresholds between neighbouring values, and one below and above all."""
    distinct = np.unique(values.astype(np.float64))
    middles = (distinct[:-1] + distinct[1:]) / 2
    if len(middles) > count:
        middles = middles[np.linspace(0, len(middles) - 1, count).round().astype(int)]
    return np.concatenate([[distinct[0] - 1e-6], middles, [distinct[-1] + 1e-6]])


def _best(candidates: np.ndarray, score: Callable[[float], float], start: float) -> float:
    """Return the candidate of the largest score, of equal ones the nearest to `start`."""
    scores = np.array([score(value) for value in candidates])
    largest = max(scores.max(), score(start))
    if score(start) >= largest - 1e-12:
        return start
    best = candidates[scores >= largest - 1e-12]
    return float(best[np.abs(best - start).argmin()])


# --- one threshold: of all labels of sets, or of the positive class of two
def fit_threshold(problem: Problem) -> np.ndarray:
    return _fit_threshold(problem, "threshold", problem.predictions)


def apply_threshold(threshold: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return sets, uint8 (N, K), by one threshold or by one for each class (K,)."""
    return (predictions >= threshold).astype(np.uint8)


def fit_binary_threshold(problem: Problem) -> np.ndarray:
    return _fit_threshold(problem, "binary_threshold", problem.predictions[:, 1])


def apply_binary_threshold(threshold: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return the class of two, int64 (N,)."""
    return (predictions[:, 1] >= threshold).astype(np.int64)


def fit_hard_threshold(problem: Problem) -> np.ndarray:
    return _fit_threshold(problem, "hard_threshold", problem.predictions[:, 1])


def apply_hard_threshold(threshold: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return probabilities of 0 and 1, float32 (N, 2), whose probabilistic F1 is the F1 of the decisions."""
    positive = (predictions[:, 1] >= threshold).astype(np.float32)
    return np.stack([1 - positive, positive], axis=1)


def _fit_threshold(problem: Problem, rule: str, values: np.ndarray) -> np.ndarray:
    def score(threshold: float) -> float:
        return problem.score(rule, np.array([threshold]))

    return np.array([_best(cuts_between(values, CANDIDATES), score, 0.5)])


# --- a threshold for each class of sets
def fit_class_thresholds(problem: Problem) -> np.ndarray:
    """Return thresholds (K,), by coordinate ascent from the best single one.

    Of a mean over classes each class has its own best threshold: the largest F on its precision-recall curve.
    """
    start = np.repeat(fit_threshold(problem), problem.predictions.shape[1])
    macro = re.fullmatch(r"f(.+)_macro|macro_f1", problem.metric.name)
    if macro:
        return _fit_curves(problem, start, float(macro[1] or 1))
    if len(start) > MOST_CLASSES:
        return start
    rows = np.linspace(0, len(problem.targets) - 1, min(len(problem.targets), CLASS_IMAGES)).astype(int)
    some, thresholds = problem.subset(rows), start.copy()
    for label in range(len(start)):

        def score(value: float, label: int = label) -> float:
            changed = thresholds.copy()
            changed[label] = value
            return some.score("class_thresholds", changed)

        candidates = cuts_between(some.predictions[:, label], CLASS_CANDIDATES)
        thresholds[label] = _best(candidates, score, thresholds[label])
    return thresholds


def _fit_curves(problem: Problem, start: np.ndarray, beta: float) -> np.ndarray:
    from sklearn.metrics import precision_recall_curve

    thresholds = start.copy()
    for label in range(len(start)):
        if not problem.targets[:, label].any():
            continue
        precision, recall, cuts = precision_recall_curve(
            problem.targets[:, label], problem.predictions[:, label].astype(np.float64)
        )
        both = beta**2 * precision + recall
        scores = np.divide((1 + beta**2) * precision * recall, both, out=np.zeros(len(both)), where=both > 0)
        best = int(scores[:-1].argmax())
        # between this probability and the next lower one, so that both sides have room
        below = cuts[best - 1] if best else cuts[best] - 1e-6
        thresholds[label] = (cuts[best] + below) / 2
    return thresholds


# --- cut points between grades
def fit_cut_points(problem: Problem) -> np.ndarray:
    """Return K - 1 cut points of the expected grade, by Nelder and Mead; halves if none are better."""
    from scipy.optimize import minimize

    halves = np.arange(problem.predictions.shape[1] - 1) + 0.5
    steps = np.vstack([halves, halves + 0.25 * np.eye(len(halves))])
    found = minimize(
        lambda cuts: -problem.score("cut_points", np.sort(cuts)),
        halves,
        method="Nelder-Mead",
        options={"initial_simplex": steps, "maxiter": 200 * len(halves)},
    )
    better = -found.fun > problem.score("cut_points", halves) + 1e-12
    return np.sort(found.x) if better else halves


def apply_cut_points(cuts: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return the number of cut points at or below the expected grade, int64 (N,)."""
    expected = predictions.astype(np.float64) @ np.arange(predictions.shape[1])
    return np.searchsorted(cuts, expected, side="right").astype(np.int64)


def apply_most_probable(values: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return predictions.argmax(axis=1)


# --- a class for all that has no class of its own
def fit_unknown(problem: Problem) -> np.ndarray:
    """Return the least probability of the unknown class, which known ones must exceed, and its index."""
    known = np.delete(problem.predictions, problem.unknown, axis=1).max(axis=1)

    def score(least: float) -> float:
        return problem.score("unknown_class", np.array([least, problem.unknown]))

    return np.array([_best(cuts_between(known, CANDIDATES), score, 0.0), problem.unknown])


def apply_unknown(values: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return probabilities, float64 (N, K), with the least one for the unknown class; rows sum to 1."""
    raised = predictions.astype(np.float64)
    unknown = int(values[1])
    raised[:, unknown] = np.maximum(raised[:, unknown], values[0])
    return raised / raised.sum(axis=1, keepdims=True)


# --- confidence
def fit_class_temperature(problem: Problem) -> np.ndarray:
    return np.array([fit_cautiously(problem.targets, problem.predictions)])


def apply_class_temperature(temperature: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return probabilities at a temperature, float32 (N, K); rows sum to 1."""
    return floor_probabilities(apply_temperature(predictions, float(temperature[0])))


def fit_set_temperature(problem: Problem) -> np.ndarray:
    targets = problem.targets.ravel().astype(np.int64)
    return np.array([fit_cautiously(targets, _two_sided(problem.predictions))])


def apply_set_temperature(temperature: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return the probability of each label at a temperature, float32 (N, K)."""
    changed = apply_temperature(_two_sided(predictions), float(temperature[0]))[:, 1]
    return np.clip(changed, FLOOR, 1 - FLOOR).reshape(predictions.shape).astype(np.float32)


def _two_sided(predictions: np.ndarray) -> np.ndarray:
    """Return the probabilities of no and yes for each label of each image, float64 (N * K, 2)."""
    yes = predictions.astype(np.float64).ravel()
    return np.stack([1 - yes, yes], axis=1)


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("threshold", "one threshold for all labels", fit_threshold, apply_threshold),
        Rule("class_thresholds", "a threshold for each label", fit_class_thresholds, apply_threshold),
        Rule(
            "binary_threshold",
            "a threshold for the positive class",
            fit_binary_threshold,
            apply_binary_threshold,
        ),
        Rule(
            "hard_threshold",
            "probabilities of 0 and 1 by a threshold",
            fit_hard_threshold,
            apply_hard_threshold,
            decides=False,
        ),
        Rule("cut_points", "cut points between grades", fit_cut_points, apply_cut_points),
        Rule("most_probable", "the most probable grade", lambda problem: np.empty(0), apply_most_probable),
        Rule(
            "unknown_class",
            "a least probability of the unknown class",
            fit_unknown,
            apply_unknown,
            decides=False,
        ),
        Rule(
            "temperature",
            "a temperature",
            fit_class_temperature,
            apply_class_temperature,
            decides=False,
        ),
        Rule(
            "set_temperature",
            "a temperature",
            fit_set_temperature,
            apply_set_temperature,
            decides=False,
        ),
    )
}


def rules_of(problem: Problem) -> list[Rule]:
    """Return the rules that can raise the metric, simple ones first."""
    metric, task, names = problem.metric, problem.task.name, []
    if metric.scores_decisions and task == "multilabel":
        names = ["threshold", "class_thresholds"]
    elif metric.scores_decisions and task == "binary":
        names = ["binary_threshold"]
    elif metric.scores_decisions and task == "ordinal":
        names = ["cut_points"] + ["most_probable"] * (metric.name != "quadratic_weighted_kappa")
    elif metric.name == "probabilistic_f1":
        names = ["hard_threshold"]
    elif metric.name == "log_loss":
        names = ["set_temperature" if task == "multilabel" else "temperature"]
    elif problem.unknown is not None and task == "multiclass":
        ranks = metric.name.startswith(("map_at_", "top"))
        names = ["unknown_class"] if metric.scores_decisions or ranks else []
    return [RULES[name] for name in names]
