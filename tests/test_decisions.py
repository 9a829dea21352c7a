"""Fitted decisions: as good as brute force, judged on images they were not fitted on, and saved exactly."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics

from foldsmith.competition.submission import SubmissionForm, fill_submission
from foldsmith.evaluation.decisions import as_json, decider, decision_of, fit_decision, unknown_class
from foldsmith.evaluation.rules import RULES, Problem
from foldsmith.tasks import build_task
from foldsmith.tasks.metrics import find_metric
from foldsmith.tasks.set_cells import SetCells


def draw_sets(num_images: int = 80, num_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rare labels, and probabilities that rank them well but stay below one half."""
    draws = np.random.default_rng(seed)
    targets = (draws.random((num_images, num_classes)) < 0.3).astype(np.uint8)
    scores = 0.15 * targets + 0.25 * draws.random((num_images, num_classes))
    return targets, scores.astype(np.float32)


def draw_classes(num_images: int = 80, num_classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    labels = draws.integers(num_classes, size=num_images)
    logits = draws.normal(size=(num_images, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return labels, (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def problem_of(task: str, metric: str, targets: np.ndarray, predictions: np.ndarray, **more: int) -> Problem:
    built = build_task(task, predictions.shape[1])
    return Problem(built, built.metric(metric), targets, predictions, **more)


def thresholds_of(values: np.ndarray) -> list[float]:
    """Return a threshold on every side of every value."""
    distinct = sorted(set(values.ravel().tolist()))
    return [distinct[0] - 1, *[(a + b) / 2 for a, b in zip(distinct, distinct[1:], strict=False)], 0.5, 2.0]


@pytest.mark.parametrize(("metric", "average", "beta"), [
    ("f1_samples", "samples", 1), ("f2_samples", "samples", 2), ("f1_micro", "micro", 1),
    ("macro_f1", "macro", 1),
])  # fmt: skip
def test_one_threshold_is_the_best_of_all(metric: str, average: str, beta: int) -> None:
    targets, predictions = draw_sets(num_images=60)
    fitted = RULES["threshold"].fit(problem_of("multilabel", metric, targets, predictions))

    def score(threshold: float) -> float:
        undefined = 1.0 if average == "samples" else 0.0
        return metrics.fbeta_score(
            targets, predictions >= threshold, beta=beta, average=average, zero_division=undefined
        )

    assert score(fitted[0]) == pytest.approx(max(map(score, thresholds_of(predictions))), abs=1e-9)


@pytest.mark.parametrize("beta", [1, 2])
def test_the_threshold_of_each_class_is_its_best_one_for_macro_f(beta: int) -> None:
    targets, predictions = draw_sets()
    fitted = RULES["class_thresholds"].fit(problem_of("multilabel", f"f{beta}_macro", targets, predictions))
    for label in range(3):
        scores = [
            metrics.fbeta_score(
                targets[:, label], predictions[:, label] >= threshold, beta=beta, zero_division=0
            )
            for threshold in thresholds_of(predictions[:, label])
        ]
        own = metrics.fbeta_score(targets[:, label], predictions[:, label] >= fitted[label], beta=beta)
        assert own == pytest.approx(max(scores))


@pytest.mark.parametrize(("metric", "score"), [
    ("f1", metrics.f1_score), ("accuracy", metrics.accuracy_score),
    ("matthews_corrcoef", metrics.matthews_corrcoef), ("balanced_accuracy", metrics.balanced_accuracy_score),
])  # fmt: skip
def test_the_threshold_of_two_classes_is_the_best_of_all(metric: str, score) -> None:
    labels, predictions = draw_classes(num_classes=2)
    fitted = RULES["binary_threshold"].fit(problem_of("binary", metric, labels, predictions))
    best = max(score(labels, predictions[:, 1] >= cut) for cut in thresholds_of(predictions[:, 1]))
    assert score(labels, predictions[:, 1] >= fitted[0]) == pytest.approx(best)


def test_probabilities_of_zero_and_one_have_the_f1_of_the_decisions() -> None:
    labels, predictions = draw_classes(num_classes=2)
    problem = problem_of("binary", "probabilistic_f1", labels, predictions)
    fitted = RULES["hard_threshold"].fit(problem)
    best = max(metrics.f1_score(labels, predictions[:, 1] >= cut) for cut in thresholds_of(predictions[:, 1]))
    assert problem.score("hard_threshold", fitted) == pytest.approx(best)


def test_cut_points_are_no_worse_than_rounding_and_near_a_fine_grid() -> None:
    labels, predictions = draw_classes(num_classes=3)
    fitted = RULES["cut_points"].fit(problem_of("ordinal", "quadratic_weighted_kappa", labels, predictions))
    expected = predictions.astype(float) @ np.arange(3)

    def kappa(low: float, high: float) -> float:
        return metrics.cohen_kappa_score(
            labels, (expected >= low) * 1 + (expected >= high), weights="quadratic"
        )

    grid = np.linspace(0, 2, 41)
    best = max(kappa(low, high) for low in grid for high in grid if low <= high)
    assert list(fitted) == sorted(fitted)
    assert kappa(0.5, 1.5) <= kappa(*fitted) + 1e-12
    assert kappa(*fitted) > best - 0.02


def test_the_unknown_class_is_placed_where_map_is_best() -> None:
    labels, predictions = draw_classes(num_classes=6)
    labels[::2] = 5  # the network never learned what has no class of its own
    predictions[:, 5] = 1e-3
    problem = problem_of("multiclass", "map_at_5", labels, predictions, unknown=5)
    fitted = RULES["unknown_class"].fit(problem)

    def score(least: float) -> float:
        raised = predictions.astype(float)
        raised[:, 5] = np.maximum(raised[:, 5], least)
        ranks = np.argsort(-raised, axis=1, kind="stable").tolist()
        return np.mean(
            [1 / (row.index(own) + 1) * (row.index(own) < 5) for row, own in zip(ranks, labels, strict=True)]
        )

    known = predictions[:, :5].max(axis=1)
    assert score(fitted[0]) == pytest.approx(max(map(score, thresholds_of(known))))
    assert RULES["unknown_class"].apply(fitted, predictions).sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_temperature_has_the_lowest_log_loss(task: str) -> None:
    targets, predictions = draw_classes() if task == "multiclass" else draw_sets()
    problem = problem_of(task, "log_loss", targets, predictions)
    name = "temperature" if task == "multiclass" else "set_temperature"
    fitted = RULES[name].fit(problem)
    oracle = minimize_scalar(
        lambda scale: -problem.score(name, np.array([1 / scale])), bounds=(0.05, 20), method="bounded"
    )
    # the fit allows for one mistake more than there is, so that its loss is not quite the least
    assert oracle.fun <= -problem.score(name, fitted) < oracle.fun + 0.2 / targets.size


@pytest.mark.parametrize("count", [20, 200])
def test_a_temperature_of_predictions_that_are_all_right_leaves_room_for_a_mistake(count: int) -> None:
    targets = np.arange(count) % 3
    predictions = np.full((count, 3), 0.1)
    predictions[np.arange(count), targets] = 0.8
    problem = problem_of("multiclass", "log_loss", targets, predictions)
    applied = RULES["temperature"].apply(RULES["temperature"].fit(problem), predictions)
    mistaken = 1 - applied.max(axis=1)
    assert mistaken == pytest.approx(1.5 / (count + 1), rel=0.5)


FOLDS = np.arange(80) % 4


def test_a_clear_gain_is_kept_and_measured_on_images_that_were_not_fitted_on() -> None:
    targets, predictions = draw_sets()
    task = build_task("multilabel", 3)
    decision = fit_decision(task, task.metric("f1_samples"), targets, predictions, FOLDS)
    assert decision.kept and decision.gain > decision.standard_error > 0
    assert decision.score - decision.default_score == pytest.approx(decision.gain)
    # by hand: each fold by the threshold of the others
    decided = np.zeros_like(targets)
    for fold in range(4):
        own = fold == FOLDS
        fitted = RULES[decision.kind].fit(
            problem_of("multilabel", "f1_samples", targets[~own], predictions[~own])
        )
        decided[own] = predictions[own] >= fitted
    assert decision.score == pytest.approx(
        metrics.f1_score(targets, decided, average="samples", zero_division=1.0)
    )


@pytest.mark.parametrize(("task", "metric"), [
    ("binary", "accuracy"), ("binary", "log_loss"), ("multiclass", "log_loss"), ("multilabel", "log_loss"),
])  # fmt: skip
def test_of_true_probabilities_there_is_rarely_anything_to_gain(task: str, metric: str) -> None:
    kept = 0
    for seed in range(6):
        draws = np.random.default_rng(seed)
        classes = 2 if task == "binary" else 3
        predictions = draws.dirichlet([2] * classes, size=80).astype(np.float32)
        targets = np.array([draws.choice(classes, p=row / row.sum()) for row in predictions.astype(float)])
        if task == "multilabel":
            targets = (draws.random((80, classes)) < predictions).astype(np.uint8)
        built = build_task(task, classes)
        kept += fit_decision(built, built.metric(metric), targets, predictions, FOLDS).kept
    assert kept <= 2  # one standard error lets one in six pass


@pytest.mark.parametrize(("task", "metric"), [
    ("multiclass", "accuracy"), ("multiclass", "log_loss"), ("binary", "roc_auc"), ("binary", "f1"),
    ("ordinal", "accuracy"), ("ordinal", "quadratic_weighted_kappa"), ("multilabel", "f1_macro"),
    ("multilabel", "roc_auc"), ("multilabel", "log_loss"),
])  # fmt: skip
def test_a_decision_survives_json_and_decides_the_same(task: str, metric: str) -> None:
    targets, predictions = (
        draw_sets() if task == "multilabel" else draw_classes(num_classes=2 + (task != "binary"))
    )
    built = build_task(task, predictions.shape[1])
    decision = fit_decision(built, built.metric(metric), targets, predictions, FOLDS)
    if metric in ("roc_auc",) or (task, metric) == ("multiclass", "accuracy"):
        assert decision is None
        return
    saved = json.loads(json.dumps({"decision": as_json(decision)}))
    loaded = decision_of(saved)
    assert (loaded == decision) if decision.kept else loaded is None
    for own, other in zip(
        decision.apply(built, predictions), decision.apply(built, predictions[:1]), strict=True
    ):
        np.testing.assert_allclose(own[:1], other)  # of one image as of many


def test_the_unknown_class_is_told_by_its_name() -> None:
    assert unknown_class(["w_1", "new_whale", "w_2"]) == 1
    assert unknown_class(["w_1", "w_2", "w_3"]) is None
    assert unknown_class(["none", "other", "cat"]) is None  # which of the two?
    assert unknown_class(["newfoundland", "cat", "northern lights"]) is None
    assert unknown_class(["no_finding", "nodule", "mass"]) == 0


def test_a_submission_is_written_by_the_rule_that_was_kept() -> None:
    targets, predictions = draw_sets()
    task = build_task("multilabel", 3)
    decision = fit_decision(task, task.metric("f1_samples"), targets, predictions, FOLDS)
    images = [f"test/{row}.png" for row in range(80)]
    cells = SetCells(["a", "b", "c"], task.decide)
    form = SubmissionForm(["id", "tags"], images, [(image,) for image in images], cells)
    by_image = dict(zip(images, predictions, strict=True))
    table = fill_submission(form, by_image, np.zeros(3), decider(decision, task))
    expected = [
        " ".join(word for word, above in zip("abc", row, strict=True) if above)
        for row in predictions >= decision.values
    ]
    assert table["tags"].tolist() == expected
    assert fill_submission(form, by_image, np.zeros(3))["tags"].tolist() == [""] * 80  # all below one half


def test_own_metrics_of_predictions_leave_nothing_to_fit() -> None:
    targets, predictions = draw_sets()
    task = build_task("multilabel", 3)
    assert fit_decision(task, find_metric("average_precision"), targets, predictions, FOLDS) is None
