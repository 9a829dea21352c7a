"""The report pages of the tasks beside multiclass: their figures against scikit-learn and plain counting."""

import re
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from test_report import Page, make_evidence, write_page

from foldsmith.evaluation.baseline import baseline_figures
from foldsmith.evaluation.cross_validation import cross_validation
from foldsmith.evaluation.decisions import Decision
from foldsmith.evaluation.label_issues import rank_issues_of
from foldsmith.evaluation.last_run import compared_with
from foldsmith.report import binary, multilabel, ordinal, regression
from foldsmith.report.evidence import Evidence
from foldsmith.tasks import TASKS, build_task

COUNT = 120
NAMES = {
    "binary": ["healthy", "ill"],
    "ordinal": ["none", "mild", "severe", "worst"],
    "multilabel": ["ant", "bee", "cat", "dog"],
    "regression": ["width", "height"],
}
DECISIONS = {
    "binary": ("binary_threshold", [0.3]),
    "ordinal": ("cut_points", [0.2, 1.1, 2.9]),
    "multilabel": ("class_thresholds", [0.2, 0.4, 0.6, 0.7]),
}


def predict(name: str, targets: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return predictions that are right more often than not, float32 (N, K)."""
    if name == "regression":
        return (targets + draws.normal(0, 2, targets.shape)).astype(np.float32)
    if name == "multilabel":
        return (1 / (1 + np.exp(-draws.normal(3 * targets - 1.5, 1.5)))).astype(np.float32)
    logits = draws.normal(size=(len(targets), len(NAMES[name])))
    logits[np.arange(len(targets)), targets] += 1.5
    exponents = np.exp(logits)
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def evidence_of(name: str, seed: int = 0, decided: bool = False) -> Evidence:
    """Return random evidence of a task; `decided` adds the fitted decision of DECISIONS to cv.json."""
    draws, names = np.random.default_rng(seed), NAMES[name]
    fixed = np.random.default_rng(99)  # the labels are the same for every seed
    task = build_task(name, len(names), "ce", ((10.0, 4.0), (0.0, 3.0)) if name == "regression" else ())
    targets = {
        "binary": lambda: fixed.integers(0, 2, COUNT),
        "ordinal": lambda: fixed.integers(0, 4, COUNT),
        "multilabel": lambda: fixed.integers(0, 2, (COUNT, 4)).astype(np.uint8),
        "regression": lambda: fixed.normal([10, 0], [4, 3], (COUNT, 2)),
    }[name]()
    folds, predictions = np.arange(COUNT) % 4, predict(name, targets, draws)
    task = task.with_metric(task.metric(task.default_metric))
    cv = cross_validation(targets, folds, predictions, task.default_metric, task)
    cv |= baseline_figures(cv, targets, task.prior(targets), task)
    if decided:
        kind, values = DECISIONS[name]
        cv["decision"] = asdict(Decision(kind, values, 0.1, 0.01, 0.9, 0.8, kept=True))
    paths = np.array([f"train/{row}.png" for row in range(COUNT)])
    samples = pd.DataFrame({"path": paths, "group": np.where(folds < 2, "left", "right"), "digest": ""})
    samples = samples.assign(near="", width=8, height=8, class_name=[f"{row % 3}" for row in range(COUNT)])
    return replace(
        make_evidence(COUNT, 3, 4),
        task=task,
        cv=cv,
        labels=targets,
        folds=folds,
        probabilities=predictions,
        class_names=names,
        class_counts=task.class_counts(targets),
        paths=paths,
        samples=samples,
        issues=rank_issues_of(task, paths, targets, predictions, names),
    )


def compared(name: str) -> Evidence:
    """Return evidence with the comparison to a run of other predictions."""
    now, was = evidence_of(name, decided=name in DECISIONS), evidence_of(name, seed=1)
    key = now.task.predictions_key
    arrays = [{"path": run.paths, "label": run.labels, key: run.probabilities} for run in (was, now)]
    comparison = compared_with(*arrays, now.cv["metric"], now.task)
    return replace(now, comparison=comparison, last_run="before")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_every_task_is_whole(tmp_path: Path, name: str) -> None:
    evidence = compared(name)
    text = write_page(tmp_path, evidence)
    page = Page(text)
    assert page.unbalanced == [] and "nan" not in page.text.lower().split()
    assert [tag for tag, _ in page.tags].count("h2") == len(TASKS[name].report_sections)
    links = {words["href"] for _, words in page.tags if words.get("href", "").startswith("#")}
    assert {link[1:] for link in links} <= {words["id"] for _, words in page.tags if "id" in words}
    assert f"{evidence.comparison.gain.difference:+.4f}" in page.text
    assert "left 60" in page.text and "right 60" in page.text  # the scores by group
    assert ("became wrong" in page.text) == (name != "regression")
    assert f"{evidence.cv['mean']:.4f}" in page.text


def test_numbers_have_no_finding_about_classes_or_accuracy(tmp_path: Path) -> None:
    evidence = evidence_of("regression")
    text = write_page(tmp_path, evidence)
    head = Page(text[: text.index("<section")]).text
    assert not re.search(r"class|accuracy", head, re.IGNORECASE)
    assert f"mean of the labels {evidence.cv['baseline']['commonest_class']:.4f}" in head


@pytest.mark.parametrize("decided", [False, True])
def test_scores_of_labels_are_those_of_scikit_learn(decided: bool) -> None:
    evidence = evidence_of("multilabel", decided=decided)
    table = multilabel.score_labels(evidence).set_index("name")
    thresholds = DECISIONS["multilabel"][1] if decided else [0.5] * 4
    assert table["f1"].is_monotonic_increasing
    for column, name in enumerate(NAMES["multilabel"]):
        truth, scores = evidence.labels[:, column], evidence.probabilities[:, column]
        own = scores >= thresholds[column]
        assert table.loc[name, ["images", "threshold"]].tolist() == [truth.sum(), thresholds[column]]
        for figure, expected in {
            "share": truth.mean(),
            "auc": sklearn_metrics.roc_auc_score(truth, scores),
            "average_precision": sklearn_metrics.average_precision_score(truth, scores),
            "f1": sklearn_metrics.f1_score(truth, own),
            "precision": sklearn_metrics.precision_score(truth, own),
            "recall": sklearn_metrics.recall_score(truth, own),
        }.items():
            assert table.loc[name, figure] == pytest.approx(expected), (name, figure)


def test_a_label_without_an_image_has_no_figures(tmp_path: Path) -> None:
    evidence = evidence_of("multilabel")
    labels, probabilities = evidence.labels.copy(), evidence.probabilities.copy()
    labels[:, 2], probabilities[:, 2] = 0, 0.1
    bare = replace(evidence, labels=labels, probabilities=probabilities, class_counts=labels.sum(axis=0))
    last = multilabel.score_labels(bare).iloc[-1]
    assert last["name"] == "cat" and last[["auc", "average_precision", "f1", "recall"]].isna().all()
    assert "nan" not in Page(write_page(tmp_path, bare)).text.lower().split()


def test_pairs_of_labels_are_counted() -> None:
    evidence, names = evidence_of("multilabel", decided=True), NAMES["multilabel"]
    own = evidence.labels.tolist()
    decided = (evidence.probabilities >= DECISIONS["multilabel"][1]).tolist()
    expected = {}
    for a, b in combinations(range(4), 2):
        share = sum(row[a] for row in own) * sum(row[b] for row in own) / COUNT
        counts = [sum(bool(row[a] and row[b]) for row in rows) for rows in (own, decided)]
        expected[names[a], names[b]] = (counts[0], pytest.approx(share), counts[1])
    table = multilabel.count_pairs(evidence.labels, evidence.decided, names)
    assert table["observed"].is_monotonic_decreasing
    rows = table.itertuples()
    assert {(row.first, row.second): (row.observed, row.expected, row.predicted) for row in rows} == expected


def test_the_surest_mistakes_of_labels_come_first() -> None:
    evidence = evidence_of("multilabel", decided=True)
    chances, thresholds = evidence.probabilities, DECISIONS["multilabel"][1]
    cells = [(row, label) for row in range(COUNT) for label in range(4)]
    false = [c for c in cells if chances[c] >= thresholds[c[1]] and not evidence.labels[c]]
    missed = [c for c in cells if chances[c] < thresholds[c[1]] and evidence.labels[c]]
    sides = multilabel.surest_mistakes(evidence.labels, evidence.decided, chances)
    for found, every, sign in zip(sides, (false, missed), (-1, 1), strict=True):
        assert found == sorted(every, key=lambda cell: sign * chances[cell])[: multilabel.MISTAKES]


def test_the_roc_curve_has_the_area_of_scikit_learn_and_the_decisions_in_use() -> None:
    evidence = evidence_of("binary", decided=True)
    positive, scores = evidence.labels == 1, evidence.probabilities[:, 1]
    roc = binary.describe_roc(evidence)["roc"]
    assert roc["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores))
    assert roc["average_precision"] == pytest.approx(
        sklearn_metrics.average_precision_score(positive, scores)
    )
    decided = scores >= 0.3
    assert roc["recall"] == pytest.approx(sklearn_metrics.recall_score(positive, decided))
    assert roc["precision"] == pytest.approx(sklearn_metrics.precision_score(positive, decided))
    assert roc["false_rate"] == pytest.approx(sklearn_metrics.recall_score(~positive, decided))
    assert (roc["positive"], roc["threshold"]) == ("ill", 0.3)
    points = re.search(r'points="([^"]*)"', roc["curve"]).group(1).split()
    corners = np.array([[float(value) for value in point.split(",")] for point in points])
    width, height = np.ptp(corners, axis=0)
    drawn = np.trapezoid(corners[0, 1] - corners[:, 1], corners[:, 0]) / (width * height)
    assert drawn == pytest.approx(roc["auc"], abs=0.01)
    assert binary.describe_roc(replace(evidence, labels=np.ones(COUNT, int)))["roc"] is None


def test_distances_of_grades_are_counted_and_the_farthest_come_first(tmp_path: Path) -> None:
    evidence = evidence_of("ordinal", decided=True)
    expected_grade = evidence.probabilities.astype(float) @ np.arange(4)
    decided = np.digitize(expected_grade, DECISIONS["ordinal"][1])
    difference = decided - evidence.labels
    table = ordinal.count_distances(evidence.decided - evidence.labels, 4)
    for row in table.itertuples():
        off = np.abs(difference) == row.distance
        assert (row.images, row.share) == (off.sum(), pytest.approx(off.mean()))
        assert row.within == pytest.approx((np.abs(difference) <= row.distance).mean())
        if row.distance:
            assert (row.low, row.high) == ((off & (difference < 0)).sum(), (off & (difference > 0)).sum())
    assert table["images"].sum() == COUNT
    context = ordinal.describe_distances(evidence)
    assert context["mean_distance"] == pytest.approx(
        sklearn_metrics.mean_absolute_error(evidence.labels, decided)
    )
    wrong = sorted(
        np.flatnonzero(difference),
        key=lambda row: (-abs(difference[row]), -evidence.probabilities[row, decided[row]]),
    )
    assert [card["path"] for card in context["far_cards"]] == [evidence.paths[row] for row in wrong[:24]]
    counts = sklearn_metrics.confusion_matrix(evidence.labels, decided)
    cell = r"<title>true none · predicted worst · (\d+) of"
    found = re.search(cell, write_page(tmp_path, evidence))
    assert int(found.group(1) if found else 0) == counts[0, 3]


def test_residuals_are_those_of_pandas_and_the_worst_images_come_first() -> None:
    evidence = evidence_of("regression")
    context = regression.describe_numbers(evidence)
    assert [number["name"] for number in context["numbers"]] == NAMES["regression"]
    for column, number in enumerate(context["numbers"]):
        true = evidence.labels[:, column]
        residuals = pd.Series(evidence.probabilities[:, column] - true)
        groups = residuals.groupby(pd.qcut(true, 10, labels=False))
        tenths = pd.DataFrame(number["tenths"])
        np.testing.assert_array_equal(tenths["images"], groups.size())
        for figure in ("mean", "median", "std"):
            np.testing.assert_allclose(tenths[figure], groups.agg(figure), rtol=1e-6)
        assert number["all"]["mae"] == pytest.approx(residuals.abs().mean())
        expected = stats.pearsonr(true, evidence.probabilities[:, column].astype(float)).statistic
        assert number["correlation"] == pytest.approx(expected)
        worst = residuals.abs().sort_values(ascending=False, kind="stable").index[: regression.WORST]
        assert [card["path"] for card in number["worst"]] == [evidence.paths[row] for row in worst]
        assert number["scatter"].count("<circle") == COUNT


def test_equal_numbers_share_a_row_and_many_images_are_thinned() -> None:
    true = np.array([0.0] * 50 + [1.0] * 50)
    table = regression.residuals_by_tenths(true, np.arange(100.0))
    assert table["images"].tolist() == [50, 50] and table["low"].tolist() == [0, 1]
    many = np.arange(3 * regression.MAX_POINTS, dtype=float)
    drawn = regression.draw_scatter(many, many[::-1]).count("<circle")
    assert 0.9 * regression.MAX_POINTS < drawn <= regression.MAX_POINTS
    assert regression.draw_scatter(np.ones(3), np.ones(3)).count("<circle") == 3
