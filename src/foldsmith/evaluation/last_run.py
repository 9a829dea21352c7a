"""The run before this one, and the paired comparison with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.evaluation.chance import PairedDifference, PairedTest, compare_paired, mcnemar_exact
from foldsmith.evaluation.resampling import gain_with_error
from foldsmith.process.files import load_json, load_npz
from foldsmith.recipes.words import as_typed, in_distinct_words
from foldsmith.run.identity import load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_classes
from foldsmith.run.validated import is_stale, validated_runs
from foldsmith.tasks import Task


@dataclass(frozen=True)
class LastRun:
    """The run that was validated last before this one.

    `differing` lists what differs: (field of recipe or split, value there, value here).
    """

    run: RunPaths
    differing: list[tuple[str, str, str]]

    @property
    def name(self) -> str:
        return self.run.root.name


@dataclass(frozen=True)
class RunComparison:
    """This run against an earlier one on the images that both held out with the same target.

    `gain` is in the metric, positive if this run is better. `classes` has one row per class: label, support,
    was, now (recall), difference, error. `changed` has the images that changed side: path, was_right,
    now_right. `test` is McNemar's: only_a are the images that only the earlier run predicts correctly.
    """

    metric: str
    images: int
    was: float
    now: float
    gain: PairedDifference
    test: PairedTest
    classes: pd.DataFrame
    changed: pd.DataFrame


def find_last_run(run: RunPaths) -> LastRun | None:
    """Return the run of the same competition that was validated last before this one; None without one.

    It has the same task, metric and classes, is not stale and no blend, has all folds of its plan or holds
    out all images of this run, and has the same target for every image that both hold out. The time is that
    of the stamp of validate.py.
    """
    before = run.stamp("validate").stat().st_mtime_ns
    stamped = [
        (other.stamp("validate").stat().st_mtime_ns, other.root.name, other)
        for other in validated_runs(run.root.parent)
        if other.root != run.root and other.stamp("validate").is_file() and not other.blend.is_file()
    ]
    for time, _, other in sorted(stamped, key=lambda entry: entry[:2], reverse=True):
        if time <= before and not is_stale(other) and _is_comparable(other, run):
            return LastRun(other, differing_settings(load_identity(other), load_identity(run)))
    return None


def _is_comparable(other: RunPaths, run: RunPaths) -> bool:
    """Return whether both runs score the same targets by the same metric, and the other one is whole."""
    cv, other_cv = load_json(run.cv), load_json(other.cv)
    if any(cv[key] != other_cv.get(key) for key in ("task", "metric")):
        return False
    if not load_classes(run.classes).equals(load_classes(other.classes)):
        return False
    oof, other_oof = load_npz(run.oof), load_npz(other.oof)
    rows, other_rows = _shared_rows(other_oof, oof)
    if len(rows) == 0 or not np.array_equal(oof["label"][rows], other_oof["label"][other_rows]):
        return False
    return len(rows) == len(oof["path"]) or len(other_cv["folds"]) == _planned_folds(other)


def _planned_folds(run: RunPaths) -> int:
    plan = load_identity(run)["folds"]
    return 1 if plan["holdout"] is not None else plan["num_folds"]


def differing_settings(there: dict[str, Any], here: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (field, value there, value here) for what differs in recipe or split of two identities."""
    rows = []
    for entry, words in (("recipe", in_distinct_words), ("folds", _as_typed)):
        old, new = there.get(entry, {}), here.get(entry, {})
        for field in dict.fromkeys([*old, *new]):
            if field != "name" and as_typed(old.get(field)) != as_typed(new.get(field)):
                rows.append((field, *words([old.get(field), new.get(field)])))
    return rows


def _as_typed(values: Sequence[object]) -> list[str]:
    return [as_typed(value) for value in values]


def compared_with(
    previous: dict[str, np.ndarray], current: dict[str, np.ndarray], metric: str, task: Task
) -> RunComparison | None:
    """Return the comparison of two oof.npz (path, label, fold, probabilities); None without common images.

    Also None where the metric is not defined on the common images.
    """
    rows, earlier = _shared_rows(previous, current)
    if len(rows) == 0:
        return None
    targets, now = current["label"][rows], current[task.predictions_key][rows]
    was = previous[task.predictions_key][earlier]
    scores = [task.metrics[metric].evaluate(targets, predictions) for predictions in (was, now)]
    if None in scores:
        return None
    was_right, now_right = (task.correct(targets, predictions) == 1 for predictions in (was, now))
    changed = was_right != now_right
    return RunComparison(
        metric=metric,
        images=len(rows),
        was=scores[0],
        now=scores[1],
        gain=gain_with_error(targets, was, now, task.metrics[metric]),
        test=mcnemar_exact(was_right, now_right),
        classes=_compare_classes(targets, was, now, task),
        changed=pd.DataFrame(
            {
                "path": current["path"][rows][changed],
                "was_right": was_right[changed],
                "now_right": now_right[changed],
            }
        ),
    )


def _shared_rows(
    previous: dict[str, np.ndarray], current: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the images that both hold out, of `current` and of `previous`, (n,) each."""
    _, rows, earlier = np.intersect1d(current["path"], previous["path"], return_indices=True)
    return rows, earlier


def _compare_classes(targets: np.ndarray, was: np.ndarray, now: np.ndarray, task: Task) -> pd.DataFrame:
    """Return one row per class: label, support, was, now (recall), difference, error; NaN without images.

    Numbers have no row.
    """
    decisions = [task.decide(predictions) for predictions in (was, now)]
    table = []
    num_classes = task.num_outputs if task.predictions_key == "probabilities" else 0
    for label in range(num_classes):
        if targets.ndim == 1:
            own, hits = targets == label, [decided == label for decided in decisions]
        else:
            own, hits = targets[:, label] > 0, [decided[:, label] > 0 for decided in decisions]
        support = int(own.sum())
        figures = (np.nan,) * 4
        if support:
            paired = compare_paired(hits[0][own], hits[1][own])
            figures = (hits[0][own].mean(), hits[1][own].mean(), paired.difference, paired.standard_error)
        table.append((label, support, *figures))
    return pd.DataFrame(table, columns=["label", "support", "was", "now", "difference", "error"])
