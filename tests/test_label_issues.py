"""Suspected labels: planted errors come first, and the table repeats the arrays."""

import numpy as np
import pytest

from foldsmith.evaluation.label_issues import COLUMNS, rank_label_issues


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
