"""The metrics of every task against scikit-learn, or against a formula, on random data with ties."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from conftest import naming
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from foldsmith.errors import InputError
from foldsmith.evaluation.cross_validation import left_out_notes
from foldsmith.tasks import TASKS, Task, build_task
from foldsmith.tasks.metrics import find_metric

COUNT = 60


def draw_case(name: str, seed: int) -> tuple[Task, np.ndarray, np.ndarray]:
    """Return a task with four outputs (two where it is binary), targets, and predictions with ties."""
    draws = np.random.default_rng(seed)
    if name == "regression":
        targets = draws.gamma(2, 3, (COUNT, 2))
        values = np.abs(targets + draws.normal(0, 2, targets.shape)).astype(np.float32)
        return build_task(name, 2, "ce", ((6.0, 4.0), (6.0, 4.0))), targets, values
    if name == "multilabel":
        targets = (draws.random((COUNT, 4)) < [0.5, 0.3, 0.1, 0.6]).astype(np.uint8)
        targets[:4] = np.eye(4)
        targets[4] = 0
        scores = np.round(np.clip(0.4 * targets + 0.6 * draws.random(targets.shape), 0.01, 0.99), 2)
        return build_task(name, 4), targets, scores.astype(np.float32)
    num_classes = 2 if name == "binary" else 4
    targets = np.concatenate([np.arange(num_classes), draws.integers(num_classes, size=COUNT - num_classes)])
    scores = np.round(draws.random((COUNT, num_classes)) + 0.3 * np.eye(num_classes)[targets], 1) + 0.05
    scores = scores / scores.sum(axis=1, keepdims=True)
    return build_task(name, num_classes), targets, scores.astype(np.float32)


def of_decisions(score: Callable, **words: object) -> Callable:
    return lambda task, targets, predictions: score(targets, task.decide(predictions), **words)


def of_columns(score: Callable) -> Callable:
    """Return the mean of a score over the columns: the positive class, the classes, or the labels."""

    def mean(task: Task, targets: np.ndarray, predictions: np.ndarray) -> float:
        if targets.ndim == 1:
            targets = targets[:, None] == np.arange(predictions.shape[1])
        columns = [1] if task.name == "binary" else range(predictions.shape[1])
        return float(np.mean([score(targets[:, column], predictions[:, column]) for column in columns]))

    return mean


def of_values(score: Callable) -> Callable:
    return lambda task, targets, predictions: score(targets, predictions)


def probabilistic_f1(task: Task, targets: np.ndarray, predictions: np.ndarray) -> float:
    hits = sum(p for p, y in zip(predictions[:, 1].tolist(), targets, strict=True) if y == 1)
    precision, recall = hits / predictions[:, 1].astype(float).sum(), hits / targets.sum()
    return 2 * precision * recall / (precision + recall)


def map_at_3(task: Task, targets: np.ndarray, predictions: np.ndarray) -> float:
    scores = []
    for row, target in zip(predictions, targets, strict=True):
        own = {int(target)} if targets.ndim == 1 else set(np.flatnonzero(target).tolist())
        hits = total = 0
        for rank, label in enumerate(sorted(range(len(row)), key=lambda k: -row[k])[:3], start=1):
            if label in own:
                hits += 1
                total += hits / rank
        scores.append(total / min(len(own), 3) if own else 0.0)
    return float(np.mean(scores))


def f_beta(average: str, beta: float, zero_division: float = 0) -> Callable:
    return of_decisions(sk.fbeta_score, average=average, beta=beta, zero_division=zero_division)


ONE_CLASS = {
    "accuracy": of_decisions(sk.accuracy_score),
    "balanced_accuracy": of_decisions(sk.balanced_accuracy_score),
    "macro_f1": f_beta("macro", 1),
    "f1_macro": f_beta("macro", 1),
    "f2_weighted": f_beta("weighted", 2),
    "f0.5_micro": f_beta("micro", 0.5),
    "matthews_corrcoef": of_decisions(sk.matthews_corrcoef),
    "log_loss": lambda task, targets, predictions: sk.log_loss(targets, predictions),
    "roc_auc": of_columns(sk.roc_auc_score),
    "average_precision": of_columns(sk.average_precision_score),
}
EXPECTED: dict[str, dict[str, Callable]] = {
    "multiclass": {
        **ONE_CLASS,
        "map_at_3": map_at_3,
        "top2_accuracy": lambda task, targets, predictions: sk.top_k_accuracy_score(
            targets, predictions, k=2, labels=range(4)
        ),
    },
    "binary": {
        **ONE_CLASS,
        "f1": f_beta("binary", 1),
        "f2": f_beta("binary", 2),
        "probabilistic_f1": probabilistic_f1,
    },
    "ordinal": {
        **ONE_CLASS,
        "quadratic_weighted_kappa": of_decisions(
            sk.cohen_kappa_score, weights="quadratic", labels=list(range(4))
        ),
    },
    "multilabel": {
        "accuracy": of_decisions(sk.accuracy_score),
        "macro_f1": f_beta("macro", 1, np.nan),
        "f2_samples": f_beta("samples", 2, 1),
        "f1_micro": f_beta("micro", 1),
        "f1_weighted": f_beta("weighted", 1),
        "log_loss": of_columns(lambda own, scores: sk.log_loss(own, scores, labels=[0, 1])),
        "roc_auc": of_columns(sk.roc_auc_score),
        "average_precision": of_columns(sk.average_precision_score),
        "map_at_3": map_at_3,
    },
    "regression": {
        "rmse": of_values(sk.root_mean_squared_error),
        "mae": of_values(sk.mean_absolute_error),
        "rmsle": of_values(sk.root_mean_squared_log_error),
        "r2": of_values(sk.r2_score),
    },
}
CASES = [(task, metric) for task, metrics in EXPECTED.items() for metric in metrics]


@pytest.mark.parametrize(("task", "metric"), CASES)
@given(seed=st.integers(0, 10**6))
def test_a_metric_is_that_of_scikit_learn_and_a_count_is_an_image_repeated(
    task: str, metric: str, seed: int
) -> None:
    built, targets, predictions = draw_case(task, seed)
    row = built.metric(metric)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of undefined figures
        expected = EXPECTED[task][metric](built, targets, predictions)
        assert row.score(targets, predictions) == pytest.approx(expected, abs=1e-6)
        if row.score_decisions is not None:
            decided = row.score_decisions(targets, built.decide(predictions))
            assert decided == row.score(targets, predictions)
        counts = np.random.default_rng(seed).integers(0, 3, COUNT)
        counts[:5] = 1
        repeated = np.repeat(np.arange(COUNT), counts)
        weighted = row.scorer(targets, predictions)(counts.astype(np.float64))
        assert weighted == pytest.approx(row.score(targets[repeated], predictions[repeated]), abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_of_a_task_is_tested_is_defined_here_and_has_a_direction(task: str) -> None:
    built, targets, predictions = draw_case(task, 0)
    tested = {*EXPECTED[task], "top5_accuracy", "expected_calibration_error"}
    assert set(built.metrics) <= tested and built.default_metric != ""
    perfect = targets if task in ("multilabel", "regression") else np.eye(built.num_outputs)[targets]
    finished = built.finish(perfect.astype(np.float32))
    for name in {*built.metrics, *EXPECTED[task]} - {"top5_accuracy"}:
        row = built.metric(name)
        low, high = row.bounds
        worse, best = row.evaluate(targets, predictions), row.evaluate(targets, finished)
        assert row.sign * best >= row.sign * worse and low - 1e-9 <= worse <= high + 1e-9, name


def test_undefined_columns_are_left_out_of_a_mean_and_named() -> None:
    task, targets, predictions = draw_case("multilabel", 1)
    targets[:, 2] = 0
    row = task.metric("roc_auc")
    rest = [0, 1, 3]
    expected = sk.roc_auc_score(targets[:, rest], predictions[:, rest], average="macro")
    assert row.evaluate(targets, predictions) == pytest.approx(expected)
    (note,) = left_out_notes(row, targets, ["a", "b", "c", "d"])
    assert "c" in note and "1 of 4" in note
    assert left_out_notes(row, targets[:, rest], ["a", "b", "d"]) == []
    assert row.evaluate(np.zeros_like(targets), predictions) is None


def test_metrics_that_need_more_than_one_value_are_undefined_without() -> None:
    grades, values = build_task("ordinal", 3), build_task("regression", 1, "ce", ((0.0, 1.0),))
    thirds = np.full((4, 3), 1 / 3, np.float32)
    assert grades.metric("quadratic_weighted_kappa").evaluate(np.ones(4, int), thirds) is None
    assert values.metric("r2").evaluate(np.ones(4), np.zeros((4, 1), np.float32)) is None
    assert values.metric("rmsle").evaluate(np.array([-2.0, 1]), np.zeros((2, 1), np.float32)) is None
    assert build_task("binary", 2).metric("roc_auc").evaluate(np.zeros(4, int), thirds[:, :2]) is None


@pytest.mark.parametrize(
    ("task", "metric"), [("multiclass", "rmse"), ("regression", "accuracy"), ("multiclass", "f2_samples")]
)
def test_a_metric_of_another_task_is_refused_with_those_of_this_one(task: str, metric: str) -> None:
    with pytest.raises(InputError, match=naming(metric, task, build_task(task, 3).tie_break)):
        build_task(task, 3).metric(metric)


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="roc_au.*roc_auc"):
        find_metric("roc_au")


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "samples"])
def test_the_f1_of_a_single_label_is_that_of_its_positive_images(average: str) -> None:
    draws = np.random.default_rng(1)
    targets = draws.integers(0, 2, (50, 1))
    predictions = draws.random((50, 1)).astype(np.float32)
    name = "macro_f1" if average == "macro" else f"f1_{average}"
    metric = build_task("multilabel", 1).metric(name)
    decided = predictions[:, 0] >= 0.5
    expected = sk.f1_score(targets[:, 0], decided)
    if average == "samples":  # an image without the label that gets none is right
        expected = np.mean(decided == targets[:, 0])
    assert metric.evaluate(targets, predictions) == pytest.approx(expected)
    assert metric.scorer(targets, predictions)(np.ones(50)) == pytest.approx(expected)
