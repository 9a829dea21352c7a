"""The decision of an average of runs: fitted on the mean of their out-of-fold predictions.

A rule that was fitted on one run's predictions is not that of their mean, which is less extreme.
"""

from collections.abc import Sequence

import numpy as np

from foldsmith.comparison.members import CombineCommand
from foldsmith.process.files import load_json, load_npz
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, is_from, trained_folds
from foldsmith.run.tables import load_classes
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import is_custom
from foldsmith.tasks.own_metric import choose_metric


def validations_of(command: CombineCommand) -> list[list[str]]:
    """Return by run the metric that it was validated with, and the digest of a metric's file, for stamps."""
    cvs = [load_json(member.cv) if member.cv.is_file() else {} for member in command.members]
    return [[cv.get("metric", ""), cv.get("metric_digest", "")] for cv in cvs]


def fit_average(command: CombineCommand, task: Task) -> tuple[dict[str, object] | None, str]:
    """Return the decision fitted on the mean of the runs' out-of-fold predictions, as JSON, and a sentence.

    It is None if the metric leaves nothing to fit, or if the runs have no out-of-fold predictions of the same
    images to fit it on; a sentence then says so if a run has a fitted decision of its own.
    """
    from foldsmith.evaluation.decisions import as_json, decision_of, fit_decision  # scipy takes a second
    from foldsmith.evaluation.predictions import average_predictions, stack_predictions

    members = command.members
    reason = _why_not(command)
    if reason:
        fitted = [run.cv.is_file() and decision_of(load_json(run.cv)) is not None for run in members]
        said = f"labels are by the task's own decision, not by those fitted for single runs: {reason}"
        return None, said if any(fitted) else ""
    metric = choose_metric(task, command.metric, load_json(members[0].cv)["metric"])
    first = load_npz(members[0].oof)
    stacked = stack_predictions([member.oof for member in members], first["path"].tolist(), task)
    names = list(load_classes(members[0].classes)["class_name"])
    averaged = average_predictions(stacked, task)
    decision = fit_decision(task.with_metric(metric), metric, first["label"], averaged, first["fold"], names)
    return as_json(decision), decision.sentence if decision else ""


def _why_not(command: CombineCommand) -> str:
    """Return why no decision can be fitted on the runs' mean; empty if one can."""
    stale = [run.root.name for run in command.members if not _is_validated(run)]
    if stale:
        return f"{', '.join(stale)} must be validated first (src/validate.py)"
    validations = validations_of(command)
    if any(validation != validations[0] for validation in validations):
        return "the runs were validated with different metrics"
    metric = validations[0][0]
    if is_custom(metric) and command.metric != metric:
        return f"their metric is a function of your own; add --metric {metric}"
    return "" if _same_images(command.members) else "the runs hold out other images, or other labels"


def _is_validated(run: RunPaths) -> bool:
    """Return whether a run has out-of-fold predictions of its present weights; a blend has been checked."""
    if run.stamp("blend").is_file():
        return True
    return is_from(run.stamp("validate"), digests_of_trained(run, trained_folds(run)))


def _same_images(members: Sequence[RunPaths]) -> bool:
    """Return whether all runs hold out the same images with the same targets."""
    tables = []
    for member in members:
        oof = load_npz(member.oof)
        order = np.argsort(oof["path"])
        tables.append((oof["path"][order], oof["label"][order]))
    return all(
        np.array_equal(paths, tables[0][0]) and np.array_equal(targets, tables[0][1])
        for paths, targets in tables
    )
