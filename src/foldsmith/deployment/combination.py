"""The runs that a run's predictions come from: itself, or the members of a blend or an average.

R runs · n images · K outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldsmith.comparison.blend_weights import mix
from foldsmith.comparison.ensemble import ADJUSTMENTS
from foldsmith.comparison.members import require_same_classes
from foldsmith.errors import InputError
from foldsmith.evaluation.decisions import Decision, decision_of
from foldsmith.process.files import load_json
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_task
from foldsmith.tasks import Task


@dataclass(frozen=True)
class Combination:
    """The member runs of a run that predict, with their weights (R,), and an adjustment of their mean.

    `adjustment` is a key of ADJUSTMENTS, with its fitted `value`; empty without one. `decision` is the fitted
    one that labels are decided by; None for the task's own.
    """

    task: Task
    members: Sequence[RunPaths]
    weights: np.ndarray
    adjustment: str = ""
    value: Any = None
    decision: Decision | None = None

    def combine(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Return the predictions float32 (n, K) of images from those of the members, R of (n, K)."""
        stacked = np.stack(predictions)
        combined = mix(stacked, self.weights, self.task) if len(stacked) > 1 else stacked[0]
        if not self.adjustment:
            return combined
        by_name = {adjustment.name: adjustment for adjustment in ADJUSTMENTS.values()}
        return self.task.finish(by_name[self.adjustment].apply(combined, np.asarray(self.value)))


def read_combination(run: RunPaths) -> Combination:
    """Return the members of a run: itself, or those of its blend.json that have a weight.

    Raise InputError if a member is not where the blend was made.
    """
    task, cv = load_task(run), load_json(run.cv) if run.cv.is_file() else {}
    if not run.blend.is_file():
        return Combination(task, [run], np.ones(1), decision=decision_of(cv))
    facts = load_json(run.blend)
    used = used_members(facts)
    adjustment = facts.get("adjustment") or {}
    value = adjustment.get("value")
    return Combination(
        task,
        [_member(run, name) for name, _ in used],
        np.array([weight for _, weight in used]),
        adjustment["name"] if value is not None else "",
        value,
        decision_of(facts) or decision_of(cv),
    )


def used_members(facts: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the members of blend.json that predict, each with its weight: one, where no blend was a gain."""
    weights = {entry["run"]: float(entry["weight"]) for entry in facts["runs"]}
    if not facts.get("blended", True):
        return [(facts["better_run"], 1.0)]
    return [(name, weight) for name, weight in weights.items() if weight]


def average_of(runs: Sequence[RunPaths]) -> Combination:
    """Return the equally weighted mean of several runs, or the one run. Raise InputError for other classes.

    Labels of a mean are by the task's own decision: one that was fitted on a single run is not that of the
    mean (src/submit.py RUN RUN fits one, as a run).
    """
    if len(runs) == 1:
        return read_combination(runs[0])
    combined = [run.root.name for run in runs if run.blend.is_file()]
    if combined:
        raise InputError(f"{combined[0]} combines other runs already; name it alone, or its members.")
    require_same_classes(runs)
    return Combination(load_task(runs[0]), runs, np.full(len(runs), 1 / len(runs)))


def _member(run: RunPaths, name: str) -> RunPaths:
    """Return the member of a blend. Raise InputError if it is not where the blend was made."""
    member = run.member(name)
    if not member.identity.is_file():
        raise InputError(
            f"{run.root} combines the run {name}, and there is no run {member.root}; put it there, or "
            "combine the runs again."
        )
    return member
