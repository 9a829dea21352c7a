"""The decision of an average of runs is fitted on the mean of their out-of-fold predictions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from test_decisions import draw_sets, thresholds_of

from foldsmith.comparison.average import fit_average
from foldsmith.comparison.members import CombineCommand
from foldsmith.evaluation.decisions import as_json, fit_decision
from foldsmith.process.files import load_json, load_npz, save_json, save_npz
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import write_stamp
from foldsmith.run.tables import save_table
from foldsmith.tasks import Multilabel

TASK = Multilabel(3)
TARGETS, PREDICTIONS = draw_sets()
# the second run predicts much lower: no threshold of a single run is one of the mean
SCORES = [PREDICTIONS, (PREDICTIONS / 4).astype(np.float32)]
FOLDS = np.arange(len(TARGETS)) % 4


def write_run(run: RunPaths, scores: np.ndarray, order: np.ndarray) -> None:
    """Write what a validated run of sets of labels has, with its rows in this order."""
    names = ["a", "b", "c"]
    save_table(run.classes, pd.DataFrame({"label": range(3), "category": names, "class_name": names}))
    paths = np.array([f"train/{row}.png" for row in range(len(order))])
    save_npz(run.oof, path=paths[order], label=TARGETS[order], fold=FOLDS[order], probabilities=scores[order])
    decision = fit_decision(TASK, TASK.metric("f1_samples"), TARGETS, scores, FOLDS)
    save_json(run.cv, {"metric": "f1_samples", "decision": as_json(decision)})
    write_stamp(run.stamp("validate"), {}, [run.oof, run.cv], trained={})


@pytest.fixture
def command(tmp_path: Path) -> CombineCommand:
    members = tuple(RunPaths(tmp_path / name) for name in ("a", "b"))
    for member, scores, seed in zip(members, SCORES, (0, 1), strict=True):
        member.root.mkdir()
        write_run(member, scores, np.random.default_rng(seed).permutation(len(TARGETS)))
    return CombineCommand(members, tmp_path, "average", 0, "", False, ())


def test_the_threshold_is_the_best_one_of_the_mean(command: CombineCommand) -> None:
    decision, said = fit_average(command, TASK)
    mean = np.mean([scores.astype(float) for scores in SCORES], axis=0)

    def score(threshold: float) -> float:
        return f1_score(TARGETS, mean >= threshold, average="samples", zero_division=1)

    assert (decision["kind"], decision["kept"]) == ("threshold", True) and "used" in said
    assert score(decision["values"][0]) == pytest.approx(max(map(score, thresholds_of(mean))))
    own = [load_json(member.cv)["decision"]["values"][0] for member in command.members]
    assert max(map(score, own)) < score(decision["values"][0])


def of_another_metric(run: RunPaths) -> None:
    save_json(run.cv, load_json(run.cv) | {"metric": "f2_samples"})
    write_stamp(run.stamp("validate"), {}, [run.oof, run.cv], trained={})


def of_own_metric(run: RunPaths) -> None:
    for member in (run, RunPaths(run.root.with_name("a"))):
        save_json(member.cv, load_json(member.cv) | {"metric": "own.py:cost"})
        write_stamp(member.stamp("validate"), {}, [member.oof, member.cv], trained={})


def of_other_labels(run: RunPaths) -> None:
    oof = load_npz(run.oof)
    save_npz(run.oof, **{**oof, "label": 1 - oof["label"]})
    write_stamp(run.stamp("validate"), {}, [run.oof, run.cv], trained={})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: run.stamp("validate").unlink(), "src/validate.py"),
        (lambda run: save_npz(run.oof, path=np.array(["x"])), "src/validate.py"),
        (of_another_metric, "different metrics"),
        (of_own_metric, "--metric own.py:cost"),
        (of_other_labels, "labels"),
    ],
)
def test_runs_that_have_no_mean_to_fit_on_keep_the_default_and_it_is_said(
    command: CombineCommand, change: Callable[[RunPaths], None], reason: str
) -> None:
    change(command.members[1])
    decision, said = fit_average(command, TASK)
    assert decision is None and reason in said and "own decision" in said
    for member in command.members:  # without a fitted decision there is nothing to miss
        save_json(member.cv, load_json(member.cv) | {"decision": None})
    assert fit_average(command, TASK) == (None, "")
