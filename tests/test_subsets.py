"""Scores of subsets of the images, of the surest ones, and against the last run."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from foldsmith.evaluation.last_run import compared_with, differing_settings, find_last_run
from foldsmith.evaluation.subsets import REST, image_attributes, scores_by, surest_shares
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, stamp_predicted, write_stamp
from foldsmith.tasks import SingleLabel

TASK = SingleLabel(3)


def predictions_of(labels: np.ndarray, right: np.ndarray) -> np.ndarray:
    decisions = np.where(right, labels, (labels + 1) % 3)
    return (np.eye(3)[decisions] * 0.7 + 0.1).astype(np.float32)


# --- by an attribute


def samples_of(**columns: object) -> pd.DataFrame:
    count = 60
    table = {
        "path": [f"train/{row}.png" for row in range(count)],
        "class_name": [f"kind {row % 3}" for row in range(count)],
        "group": "",
        "width": 64,
        "height": 48,
    }
    return pd.DataFrame({**table, **columns})


def test_attributes_that_divide_the_images_are_found() -> None:
    rows = np.arange(60)
    samples = samples_of(
        path=[f"train/{'night' if row < 20 else 'day'}/{row}.png" for row in rows],
        group=["" if row % 2 else "ward" for row in rows],
        width=10 + rows,
    )
    paths = list(samples["path"])[::-1]  # another order than in the table
    attributes = image_attributes(samples, paths)
    assert set(attributes) == {"group", "source folder", "image size"}
    assert attributes["source folder"].value_counts().to_dict() == {"train/night": 20, "train/day": 40}
    assert attributes["source folder"].iloc[-1] == "train/night"
    assert attributes["group"].nunique() == 2
    sizes = attributes["image size"]
    assert sizes.nunique() == 4 and sizes.value_counts().tolist() == [15] * 4
    assert sizes.iloc[0] == f"{np.sqrt(55 * 48):.0f} to {np.sqrt(69 * 48):.0f} px"


def test_attributes_that_say_nothing_are_left_out() -> None:
    assert image_attributes(samples_of(), list(samples_of()["path"])) == {}
    alone = samples_of(group=[f"patient {row}" for row in range(60)])
    by_class = samples_of(path=[f"train/kind {row % 3}/{row}.png" for row in range(60)])
    for samples in (alone, by_class):
        assert image_attributes(samples, list(samples["path"])) == {}
    few = samples_of(width=[32 if row < 30 else 64 for row in range(60)])
    assert image_attributes(few, list(few["path"]))["image size"].unique().tolist() == ["32 × 48", "64 × 48"]


def test_values_have_their_own_scores_and_small_ones_share_a_row() -> None:
    draws = np.random.default_rng(0)
    labels, right = draws.integers(3, size=200), draws.random(200) < 0.6
    values = pd.Series(["a"] * 120 + ["b"] * 70 + ["c"] * 6 + ["d"] * 4)
    table = scores_by(values, labels, predictions_of(labels, right), "accuracy", TASK)
    assert table["value"].tolist() == ["a", "b", REST] and table["images"].tolist() == [120, 70, 10]
    for row, inside in zip(
        table.itertuples(), (slice(0, 120), slice(120, 190), slice(190, 200)), strict=True
    ):
        assert row.score == pytest.approx(right[inside].mean())
        assert row.error == pytest.approx(stats.sem(right[inside]), rel=0.2)


# --- the surest images


def test_the_surest_images_are_those_of_the_highest_confidence() -> None:
    draws = np.random.default_rng(0)
    confidence = draws.random(40)
    credit = draws.random(40) < confidence
    table = surest_shares(confidence, credit).set_index("share")
    assert table.index.tolist() == [1.0, 0.9, 0.75, 0.5] and table["images"].tolist() == [40, 36, 30, 20]
    for share, row in table.iterrows():
        kept = confidence >= np.quantile(confidence, 1 - share, method="inverted_cdf")
        kept &= confidence >= np.sort(confidence)[-int(row["images"])]
        assert row["accuracy"] == pytest.approx(credit[kept].mean())
        assert row["threshold"] == confidence[kept].min()
        assert row["error"] >= stats.sem(credit[kept]) > 0
    assert (surest_shares(confidence, np.ones(40))["error"] > 0).all()


# --- the last run


def oof_of(right: np.ndarray, labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    labels = np.arange(len(right)) % 3 if labels is None else labels
    paths = np.array([f"train/{row}.png" for row in range(len(right))])
    folds = np.arange(len(right)) % 2
    return {"path": paths, "label": labels, "fold": folds, "probabilities": predictions_of(labels, right)}


def test_runs_are_compared_on_the_images_they_share() -> None:
    draws = np.random.default_rng(0)
    was, now = draws.random(90) < 0.5, draws.random(90) < 0.7
    previous, current = oof_of(was), oof_of(now)
    order = draws.permutation(90)[:80]  # other images in another order
    current = {name: values[order] for name, values in current.items()}
    found = compared_with(previous, current, "accuracy", TASK)
    assert (found.images, found.was, found.now) == pytest.approx((80, was[order].mean(), now[order].mean()))
    assert found.gain.difference == pytest.approx(found.now - found.was)
    assert found.gain.standard_error == pytest.approx(
        stats.sem(now[order].astype(float) - was[order]), rel=0.1
    )
    changed = found.changed.set_index("path")
    expected = {f"train/{row}.png": bool(now[row]) for row in order if was[row] != now[row]}
    assert changed["now_right"].to_dict() == expected
    assert (changed["was_right"] != changed["now_right"]).all()
    assert (found.test.only_a, found.test.only_b) == (
        (~changed["now_right"]).sum(),
        changed["now_right"].sum(),
    )
    for row in found.classes.itertuples():
        own = order[order % 3 == row.label]
        assert (row.support, row.was, row.now) == pytest.approx((len(own), was[own].mean(), now[own].mean()))
        assert row.difference == pytest.approx(row.now - row.was) and row.error > 0


def test_runs_without_a_common_image_are_not_compared() -> None:
    other = oof_of(np.ones(6, bool))
    other["path"] = np.array([f"train/other{row}.png" for row in range(6)])
    assert compared_with(oof_of(np.ones(6, bool)), other, "accuracy", TASK) is None


@pytest.mark.parametrize("metric", TASK.metrics)
def test_the_same_predictions_change_nothing(metric: str) -> None:
    oof = oof_of(np.arange(30) % 4 > 0)
    found = compared_with(oof, oof, metric, TASK)
    assert found.gain.difference == 0 and found.changed.empty and found.test.p == 1


def write_run(root: Path, name: str, time: int, **changes: object) -> RunPaths:
    """Write the files of a validated run that `find_last_run` reads, stamped at `time` seconds."""
    run, oof = RunPaths(root / name), changes.get("oof", oof_of(np.arange(12) < 7))
    run.root.mkdir(parents=True)
    np.savez(run.oof, **oof)
    folds = changes.get("folds", (0, 1))
    cv = {"task": "multiclass", "metric": changes.get("metric", "accuracy"), "folds": [0.5] * len(folds)}
    recipe = {"name": name, "lr": changes.get("lr", 0.1), "views": ["identity"]}
    plan = {"num_folds": 2, "holdout": None, "seed": 0, "limit": None}
    run.cv.write_text(json.dumps(cv))
    run.identity.write_text(json.dumps({"recipe": recipe, "folds": plan}))
    run.classes.write_text("label,category,class_name\n0,a,a\n1,b,b\n2,c,c\n")
    for fold in folds:
        run.fold(fold).mkdir()
        run.fold_run(fold).write_text("{}")
        run.heldout(fold).touch()
        stamp_predicted(run, fold, ["identity"])
    write_stamp(run.stamp("validate"), {}, [run.oof, run.cv], trained=digests_of_trained(run, folds))
    os.utime(run.stamp("validate"), (time, time))
    return run


def test_the_last_run_is_the_one_validated_before_this_one(tmp_path: Path) -> None:
    write_run(tmp_path, "first", 1)
    second = write_run(tmp_path, "second", 2, lr=0.2)
    here = write_run(tmp_path, "here", 3, lr=0.3)
    write_run(tmp_path, "later", 4)
    last = find_last_run(here)
    assert (last.name, last.differing) == ("second", [("lr", "0.2", "0.3")])
    second.fold_run(1).write_text('{"trained": "again"}')  # it is stale
    assert find_last_run(here).name == "first"
    assert find_last_run(RunPaths(tmp_path / "first")) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "macro_f1"},
        {"oof": oof_of(np.arange(12) < 7, labels=(np.arange(12) + 1) % 3)},
        {"folds": (0,), "oof": {name: values[:6] for name, values in oof_of(np.arange(12) < 7).items()}},
    ],
    ids=["another metric", "other labels", "half of the images"],
)
def test_a_run_that_is_not_comparable_is_passed_over(tmp_path: Path, changes: dict) -> None:
    write_run(tmp_path, "other", 1, **changes)
    here = write_run(tmp_path, "here", 2)
    assert find_last_run(here) is None
    write_run(tmp_path, "comparable", 0)
    assert find_last_run(here).name == "comparable"


def test_settings_that_differ_are_listed_with_both_values() -> None:
    there = {"recipe": {"name": "a", "lr": 0.1, "views": ["identity"]}, "folds": {"num_folds": 5}}
    here = {"recipe": {"name": "b", "lr": 0.1, "views": ["identity", "hflip"]}, "folds": {"num_folds": 3}}
    assert differing_settings(there, here) == [
        ("views", "identity", "identity,hflip"),
        ("num_folds", "5", "3"),
    ]
