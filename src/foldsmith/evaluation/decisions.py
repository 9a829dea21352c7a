"""Decisions fitted on out-of-fold predictions: thresholds, cut points, an unknown class, a temperature.

N images · K classes. A rule is fitted on some folds and judged on the others, so that its gain is that of
images it has not seen. It is kept only where the gain exceeds one standard error.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from foldsmith.evaluation.resampling import bootstrap_gain
from foldsmith.evaluation.rules import RULES, Problem, Rule, rules_of
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

# classes that stand for all that has no class of its own
UNKNOWN = re.compile(r"(new|unknown|other|others|none|no|nothing|background)([_ -].*)?", re.IGNORECASE)
NUM_DRAWS = 200  # bootstrap samples: a standard error within 5 %
SEED = 0  # of the bootstrap: the error of a gain does not depend on the run's seed


@dataclass(frozen=True)
class Decision:
    """A fitted rule from predictions to decisions, or to better predictions, and its cross-fitted gain.

    `kind` is a key of RULES, `values` its parameters, fitted on all images. `score` is the metric of rules
    that were fitted on the other folds, `default_score` that of the task's default decision.
    A positive `gain` is an improvement, also where lower scores are better.
    """

    kind: str
    values: list[float]
    gain: float
    standard_error: float
    score: float
    default_score: float
    kept: bool

    def apply(self, task: Task, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions (N, K), and decisions in the form of targets."""
        rule = RULES[self.kind]
        result = rule.apply(np.array(self.values), predictions)
        return (predictions, result) if rule.decides else (result, task.decide(result))

    @property
    def sentence(self) -> str:
        """Return what was fitted, with its gain and error, and whether it is used."""
        verdict = "used" if self.kept else "not more than one standard error: not used"
        shown = ", ".join(f"{value:.3f}" for value in self.values[:5]) + (
            ", …" if len(self.values) > 5 else ""
        )
        return (
            f"{RULES[self.kind].title} ({shown}): {self.default_score:.4f} becomes {self.score:.4f} "
            "on images that were not fitted on, a gain of "
            f"{self.gain:+.4f} ± {self.standard_error:.4f}: {verdict}"
        )

    @property
    def title(self) -> str:
        return f"with {RULES[self.kind].title}"

    @property
    def effect(self) -> str:
        """Return in a sentence by how much the submission's score differs from that of the predictions."""
        return (
            f"The submission is written {self.title}, fitted on the held-out images: it "
            f"scores {self.score:.4f} instead of {self.default_score:.4f}, on images that were not fitted on."
        )


def unknown_class(class_names: Sequence[str]) -> int | None:
    """Return the class of all that has no class of its own, such as new_whale; None unless there is one."""
    found = [label for label, name in enumerate(class_names) if UNKNOWN.fullmatch(name.strip())]
    return found[0] if len(found) == 1 and len(class_names) > 2 else None


def fit_decision(
    task: Task,
    metric: Metric,
    targets: np.ndarray,
    predictions: np.ndarray,
    folds: np.ndarray,
    class_names: Sequence[str] = (),
) -> Decision | None:
    """Return the fitted rule, kept only if its cross-fitted gain exceeds one standard error.

    Of several rules a richer one replaces a simpler one only if its gain over it exceeds one standard error.
    Return None where the metric and the task leave nothing to fit, and where the metric is not defined.
    """
    problem = Problem(task, metric, targets, predictions, unknown_class(class_names))
    default = task.decide(predictions) if metric.scores_decisions else predictions
    scored = metric.deciding(lambda decisions: decisions)
    default_score = scored.evaluate(targets, default)
    if default_score is None:
        return None
    best, chosen = default, None
    for rule in rules_of(problem):
        fitted = cross_fit(rule, problem, folds)
        if scored.evaluate(targets, fitted) is None:
            continue
        step = bootstrap_gain(targets, best, fitted, scored, SEED, NUM_DRAWS)
        better = step.difference > 0 and step.exceeds_error
        if chosen is None or better:
            whole = (
                step if chosen is None else bootstrap_gain(targets, default, fitted, scored, SEED, NUM_DRAWS)
            )
            chosen = Decision(
                kind=rule.name,
                values=np.atleast_1d(rule.fit(problem)).tolist(),
                gain=whole.difference,
                standard_error=whole.standard_error,
                score=float(scored.evaluate(targets, fitted)),
                default_score=float(default_score),
                kept=better,
            )
        if better:
            best = fitted
    return chosen


def cross_fit(rule: Rule, problem: Problem, folds: np.ndarray) -> np.ndarray:
    """Return what the metric scores for each image, by the rule with parameters of the other folds.

    A single fold is split into two halves.
    """
    groups = folds if len(np.unique(folds)) > 1 else np.arange(len(folds)) % 2
    result = None
    for group in np.unique(groups):
        others = groups != group
        values = rule.fit(problem.subset(others))
        applied = problem.subset(~others).outcome(rule.name, values)
        if result is None:
            result = np.empty((len(folds), *applied.shape[1:]), applied.dtype)
        result[~others] = applied
    return result


def decision_of(cv: dict) -> Decision | None:
    """Return the decision that cv.json holds, if it was kept."""
    saved = cv.get("decision")
    return Decision(**saved) if saved and saved["kept"] else None


def as_json(decision: Decision | None) -> dict[str, object] | None:
    return None if decision is None else asdict(decision)


def decider(decision: Decision | None, task: Task) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the function from predictions to predictions and decisions that a submission is filled with."""
    if decision is None:
        return lambda predictions: (predictions, task.decide(predictions))
    return lambda predictions: decision.apply(task, predictions)
