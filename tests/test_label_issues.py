"""Suspected labels: planted errors come first, and the table repeats the arrays."""

import numpy as np
import pytest
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
from scipy.stats import median_abs_deviation, norm

from foldsmith.evaluation.label_issues import (
    COLUMNS,
    count_labels,
    describe_suspects,
    hold_back,
    rank_label_issues,
    rank_set_issues,
    rank_value_issues,
    why_not_judged,
)


def make_noisy(count: int = 1000, num_classes: int = 10, flipped: int = 30, seed: int = 0):
    draws = np.random.default_rng(seed)
    true = draws.integers(0, num_classes, count)
    logits = draws.normal(size=(count, num_classes))
    logits[np.arange(count), true] += 5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = draws.choice(count, flipped, replace=False)
    labels = true.copy()
    labels[rows] = (labels[rows] + draws.integers(1, num_classes, flipped)) % num_classes
    paths = np.array([f"train/{row}.png" for row in range(count)])
    return paths, labels, probabilities.astype(np.float32), rows


NAMES = [f"class {label}" for label in range(10)]


def test_flipped_labels_come_first() -> None:
    paths, labels, probabilities, rows = make_noisy()
    issues = rank_label_issues(paths, labels, probabilities, NAMES)
    assert np.isin(issues["path"].head(30), paths[rows]).mean() >= 0.9
    assert np.isin(paths[rows], issues.loc[issues["suspected"], "path"]).mean() >= 0.7


def test_each_row_repeats_the_arrays() -> None:
    paths, labels, probabilities, _ = make_noisy(300)
    issues = rank_label_issues(paths, labels, probabilities, NAMES)
    predicted = probabilities.argmax(axis=1)
    assert list(issues) == list(COLUMNS) and issues["rank"].tolist() == list(range(1, len(issues) + 1))
    assert set(issues["path"]) == set(paths[predicted != labels])
    assert issues["suspected"].is_monotonic_decreasing  # suspected labels come first
    for row in issues.itertuples():
        index = int(row.path.removeprefix("train/").removesuffix(".png"))
        assert (row.given, row.proposed) == (NAMES[labels[index]], NAMES[predicted[index]])
        assert row.probability_given == probabilities[index, labels[index]]
        assert row.probability_proposed == probabilities[index].max()


def test_the_order_of_the_images_does_not_matter() -> None:
    paths, labels, probabilities, _ = make_noisy(400)
    shuffled = np.random.default_rng(3).permutation(400)
    table = rank_label_issues(paths, labels, probabilities, NAMES)
    again = rank_label_issues(paths[shuffled], labels[shuffled], probabilities[shuffled], NAMES)
    assert table.equals(again)


@pytest.mark.parametrize(("count", "num_classes"), [(3, 3), (5, 1), (12, 9)])
def test_small_sets_and_classes_without_an_image_are_accepted(count: int, num_classes: int) -> None:
    paths, labels, probabilities, _ = make_noisy(count, num_classes, 0)
    rank_label_issues(paths, labels, probabilities, NAMES[:num_classes])
    labels[:] = labels[0]
    assert not rank_label_issues(paths, labels, probabilities, NAMES)["suspected"].any()


def make_noisy_sets(count: int = 600, flipped: int = 12, seed: int = 0):
    """Return paths, targets, probabilities and the (row, label) whose target was flipped."""
    draws = np.random.default_rng(seed)
    targets = draws.integers(0, 2, (count, 4)).astype(np.uint8)
    probabilities = 1 / (1 + np.exp(-draws.normal(8.0 * targets - 4, 1)))
    rows = draws.choice(count, flipped, replace=False)
    labels = draws.integers(0, 4, flipped)
    targets[rows, labels] = 1 - targets[rows, labels]
    paths = np.array([f"train/{row}.png" for row in range(count)])
    return (
        paths,
        targets,
        probabilities.astype(np.float32),
        set(zip(rows.tolist(), labels.tolist(), strict=True)),
    )


def test_flipped_labels_of_sets_are_suspected_as_cleanlab_suspects_them() -> None:
    paths, targets, probabilities, flipped = make_noisy_sets()
    names = ["ant", "bee", "cat", "dog"]
    issues = rank_set_issues(paths, targets, probabilities, names)
    assert list(issues) == list(COLUMNS) and issues["suspected"].is_monotonic_decreasing
    sets = [np.flatnonzero(row).tolist() for row in targets]
    masks = find_multilabel_issues_per_class(sets, probabilities, min_examples_per_class=0, n_jobs=1)
    found = set()
    for row in issues.itertuples():
        index, name = int(row.path[6:-4]), row.given.removeprefix("not ")
        label = names.index(name)
        assert row.given == (name if targets[index, label] else f"not {name}")
        assert row.proposed == (f"not {name}" if targets[index, label] else name)
        assert row.probability_given + row.probability_proposed == pytest.approx(1)
        assert row.probability_proposed >= 0.5 and row.suspected == masks[index, label]
        found |= {(index, label)} if row.suspected else set()
    assert len(found & flipped) >= 0.7 * len(flipped)
    assert len(found) == masks.sum()


def test_numbers_are_suspected_by_their_robust_residual() -> None:
    draws = np.random.default_rng(0)
    values = draws.normal(50, 20, 400)
    targets = values + draws.normal(3, 2, 400)
    targets[:6] += 60  # wrong labels; the deviation without them is that with them
    paths = np.array([f"train/{row}.png" for row in range(400)])
    issues = rank_value_issues(paths, targets, values[:, None].astype(np.float32), ["price"])
    residuals = targets - values
    scores = np.abs(residuals - np.median(residuals)) / median_abs_deviation(residuals, scale="normal")
    order = sorted(np.flatnonzero(scores > 2), key=lambda row: -scores[row])
    assert list(issues) == list(COLUMNS) and issues["path"].tolist() == paths[order].tolist()
    np.testing.assert_array_equal(issues["suspected"], scores[order] > 3.5)
    assert set(paths[:6]) <= set(issues.loc[issues["suspected"], "path"])
    np.testing.assert_allclose(issues["quality"], 2 * norm.sf(scores[order]), rtol=1e-3, atol=1e-30)
    assert issues["given"].tolist() == targets[order].tolist()
    several = np.stack([targets, targets], axis=1)
    both = rank_value_issues(paths, several, np.stack([values, values + targets], axis=1), ["price", "size"])
    assert {cell.split()[0] for cell in both["given"]} <= {"price", "size"}


@pytest.mark.parametrize(
    ("change", "judged"),
    [
        ({}, True),
        ({"beats_baseline": None}, True),
        ({"beats_baseline": False}, False),
        ({"task": "regression", "metrics": {"rmse": 1.0}}, True),
        ({"task": "multilabel", "metrics": {"accuracy": 0.1}}, True),  # of whole sets
        ({"task": "multilabel", "beats_baseline": False}, False),
        ({"metrics": {"accuracy": 0.4}}, False),
    ],
)
def test_a_network_that_cannot_judge_suspects_no_label(change: dict, judged: bool) -> None:
    cv = {"task": "multiclass", "metrics": {"accuracy": 0.8}, "beats_baseline": True}
    cv |= {"num_images": 300, "num_classes": 10, **change}
    paths, labels, probabilities, _ = make_noisy(300)
    issues = hold_back(rank_label_issues(paths, labels, probabilities, NAMES), cv)
    assert issues["suspected"].any() == judged
    assert (why_not_judged(cv) == "") == judged
    labels_judged = 300 if cv["task"] == "multiclass" else 3000
    assert count_labels(cv) == labels_judged
    assert (f"{labels_judged:,}" in describe_suspects(3, cv)) == judged
