"""Every metric against scikit-learn or a loop in plain Python."""

import json
import math
import statistics
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from foldsmith.competition.settings import read_settings
from foldsmith.evaluation.cross_validation import cross_validation, score, undefined_notes
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.metrics import METRICS, expected_calibration_error

Predictions = tuple[np.ndarray, np.ndarray]


def task_of(probabilities: np.ndarray) -> SingleLabel:
    return SingleLabel(probabilities.shape[1])


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    """Return labels (N,) and float32 probabilities (N, K); small sets lack classes or predictions of them."""
    num_classes, count = draw(st.integers(2, 9)), draw(st.integers(1, 50))
    draws = np.random.default_rng(draw(st.integers(0, 2**31)))
    labels = draws.integers(0, num_classes, count)
    logits = draws.normal(0, draw(st.sampled_from([0.1, 1.0, 6.0])), (count, num_classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


with_predictions = given(predictions())
often = settings(deadline=None, max_examples=60)


def counts_of(labels: np.ndarray, probabilities: np.ndarray) -> dict[int, tuple[int, int, int]]:
    """Return, for each class that occurs, how often it is true, predicted, and both."""
    predicted = [max(range(len(row)), key=lambda k: row[k]) for row in probabilities.tolist()]
    pairs = list(zip(labels.tolist(), predicted, strict=True))
    return {
        k: (
            sum(true == k for true, _ in pairs),
            sum(guess == k for _, guess in pairs),
            sum(true == guess == k for true, guess in pairs),
        )
        for k in sorted({k for pair in pairs for k in pair})
    }


@often
@with_predictions
def test_accuracies_and_f1_follow_their_definitions(case: Predictions) -> None:
    labels, probabilities = case
    scores, counts = score(labels, probabilities, task_of(probabilities)), counts_of(labels, probabilities)
    assert scores["accuracy"] == pytest.approx(sum(both for *_, both in counts.values()) / len(labels))
    recalls = [both / true for true, _, both in counts.values() if true]
    assert scores["balanced_accuracy"] == pytest.approx(statistics.mean(recalls))
    f1 = [2 * both / (true + guessed) for true, guessed, both in counts.values()]
    assert scores["macro_f1"] == pytest.approx(statistics.mean(f1))


@often
@with_predictions
def test_the_log_loss_is_the_mean_negative_log_probability(case: Predictions) -> None:
    labels, probabilities = case
    # probabilities are clipped at float32's epsilon
    surprise = [
        -math.log(max(row[label], 2**-23)) for row, label in zip(probabilities.tolist(), labels, strict=True)
    ]
    # scikit-learn divides by the sum of a row, which is 1 to seven digits in float32
    assert score(labels, probabilities, task_of(probabilities))["log_loss"] == pytest.approx(
        statistics.mean(surprise), abs=1e-5
    )


@often
@with_predictions
def test_the_top_five_are_the_five_most_probable(case: Predictions) -> None:
    labels, probabilities = case
    hits = [
        label in sorted(range(len(row)), key=lambda k: -row[k])[:5]
        for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
    ]
    assert score(labels, probabilities, task_of(probabilities))["top5_accuracy"] == pytest.approx(
        statistics.mean(hits)
    )


@often
@with_predictions
def test_the_calibration_error_is_the_weighted_gap_of_fifteen_bins(case: Predictions) -> None:
    labels, probabilities = case
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities.astype(np.float64), labels, strict=True):
        confidence = float(row.max())
        index = next(b for b in range(15) if confidence * 15 <= b + 1)  # (0, 1/15], (1/15, 2/15], …
        bins.setdefault(index, []).append((confidence, bool(row.argmax() == label)))
    expected = 0.0
    for content in bins.values():
        confidence = statistics.mean(value for value, _ in content)
        accuracy = statistics.mean(correct for _, correct in content)
        expected += len(content) / len(labels) * abs(accuracy - confidence)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected, abs=1e-9)


@often
@with_predictions
def test_scikit_learn_agrees(case: Predictions) -> None:
    labels, probabilities = case
    predicted, every = probabilities.argmax(axis=1), np.arange(probabilities.shape[1])
    scores = score(labels, probabilities, task_of(probabilities))
    with warnings.catch_warnings():
        # scikit-learn warns of predicted classes that never occur, and of k = all classes
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
            "macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
            "log_loss": sklearn_metrics.log_loss(labels, probabilities, labels=every),
        }
        if len(every) > 2:
            expected["top5_accuracy"] = sklearn_metrics.top_k_accuracy_score(
                labels, probabilities, k=5, labels=every
            )
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-9), name


def test_every_metric_is_a_plain_number_that_json_can_hold() -> None:
    scores = score(np.array([0, 1]), np.array([[0.9, 0.1], [0.4, 0.6]], dtype=np.float32), SingleLabel(2))
    assert list(scores) == list(SingleLabel(2).metrics) and set(scores) <= set(METRICS)
    assert all(type(value) is float for value in scores.values())


def test_perfect_predictions_have_perfect_scores() -> None:
    labels = np.arange(7)
    scores = score(labels, np.eye(7, dtype=np.float32) * (1 - 1e-6) + 1e-6 / 7, SingleLabel(7))
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy"):
        assert scores[name] == 1.0
    assert scores["log_loss"] == pytest.approx(0, abs=1e-5)
    assert scores["expected_calibration_error"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_five_classes_or_fewer_are_always_among_the_top_five(num_classes: int) -> None:
    probabilities = np.full((4, num_classes), 1 / num_classes, dtype=np.float32)
    assert score(np.array([0, 1, 1, 0]), probabilities, task_of(probabilities))["top5_accuracy"] == 1.0


def test_a_class_never_predicted_counts_as_zero_and_an_absent_one_is_left_out() -> None:
    labels = np.array([0, 0, 1, 1])  # class 2 never occurs, class 1 is never predicted
    probabilities = np.array([[0.8, 0.1, 0.1]] * 4, dtype=np.float32)
    scores = score(labels, probabilities, task_of(probabilities))
    assert scores["accuracy"] == 0.5
    assert scores["balanced_accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx((2 * 2 / (2 + 4) + 0) / 2)


def test_a_single_image_can_be_scored() -> None:
    scores = score(np.array([1]), np.array([[0.3, 0.6, 0.1]], dtype=np.float32), SingleLabel(3))
    assert scores["accuracy"] == scores["balanced_accuracy"] == scores["macro_f1"] == 1.0
    assert scores["log_loss"] == pytest.approx(-math.log(0.6), abs=1e-6)
    assert scores["expected_calibration_error"] == pytest.approx(0.4, abs=1e-6)


def make_oof() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = np.random.default_rng(3)
    labels, folds = draws.integers(0, 4, 90), np.repeat([0, 1, 2], [20, 30, 40])
    logits = draws.normal(size=(90, 4)) + 1.5 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, folds, probabilities.astype(np.float32)


@pytest.mark.parametrize("metric", SingleLabel(4).metrics)
def test_cross_validation_gives_mean_and_deviation_over_folds(metric: str) -> None:
    labels, folds, probabilities = make_oof()
    cv = cross_validation(labels, folds, probabilities, metric, task_of(probabilities))
    scores = [
        score(labels[folds == k], probabilities[folds == k], task_of(probabilities))[metric] for k in range(3)
    ]
    assert cv["metric"] == metric
    assert cv["folds"] == pytest.approx(scores, abs=1e-12)
    assert cv["mean"] == pytest.approx(statistics.mean(scores), abs=1e-12)
    assert cv["std"] == pytest.approx(statistics.stdev(scores), abs=1e-12)
    assert cv["standard_error"] >= statistics.stdev(scores) / math.sqrt(3) - 1e-12
    assert cv["standard_error"] == cv["standard_errors"][metric]
    assert cv["interval"][0] <= cv["mean"] <= cv["interval"][1]
    assert cv["oof"] == cv["metrics"][metric] == score(labels, probabilities, task_of(probabilities))[metric]
    assert cv["metrics_by_fold"][metric] == cv["folds"]
    assert (cv["num_images"], cv["num_classes"]) == (90, 4)


def test_the_mean_weighs_folds_equally_and_the_out_of_fold_score_images() -> None:
    labels, folds, probabilities = make_oof()
    cv = cross_validation(labels, folds, probabilities, "accuracy", task_of(probabilities))
    assert cv["oof"] == pytest.approx(np.average(cv["folds"], weights=[20, 30, 40]))


def test_one_held_out_share_has_no_deviation() -> None:
    labels, _, probabilities = make_oof()
    cv = cross_validation(labels, np.zeros(90, dtype=int), probabilities, "accuracy", task_of(probabilities))
    assert cv["std"] is None and cv["standard_error_by"] == "images"
    assert cv["mean"] == cv["oof"] == cv["folds"][0]


def test_the_order_of_the_rows_does_not_matter() -> None:
    labels, folds, probabilities = make_oof()
    order = np.random.default_rng(0).permutation(90)
    cv = cross_validation(labels, folds, probabilities, "accuracy", task_of(probabilities))
    shuffled = cross_validation(
        labels[order], folds[order], probabilities[order], "accuracy", task_of(probabilities)
    )
    assert shuffled["folds"] == cv["folds"]
    assert shuffled["metrics"] == pytest.approx(cv["metrics"])


def test_competition_toml_may_name_every_metric(tmp_path: Path) -> None:
    for name in METRICS:
        (tmp_path / "competition.toml").write_text(f'metric = "{name}"')
        assert read_settings(tmp_path).metric == name


def test_a_metric_that_a_fold_lacks_is_left_out_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, folds, probabilities = make_oof()
    labels[folds == 1] = 0
    needs_two = replace(
        METRICS["accuracy"], is_defined=lambda targets, predictions: len(np.unique(targets)) > 1
    )
    monkeypatch.setitem(METRICS, "accuracy", needs_two)
    cv = cross_validation(labels, folds, probabilities, "accuracy", task_of(probabilities))
    kept = [cv["folds"][0], cv["folds"][2]]
    assert cv["folds"][1] is None and cv["metrics_by_fold"]["accuracy"][1] is None
    assert cv["mean"] == pytest.approx(np.mean(kept)) and cv["std"] == pytest.approx(np.std(kept, ddof=1))
    right = probabilities.argmax(axis=1) == labels
    variances = [right[folds == fold].var(ddof=1) / (folds == fold).sum() for fold in (0, 2)]
    assert cv["standard_error"] == pytest.approx(sum(variances) ** 0.5 / 2, rel=0.15)
    assert cv["standard_errors_by_fold"]["accuracy"][1] is None
    (note,) = undefined_notes(cv)
    assert "accuracy" in note and "1 of 3" in note
    json.dumps(cv, allow_nan=False)

    inside = folds == 1
    alone = cross_validation(
        labels[inside], folds[inside], probabilities[inside], "accuracy", task_of(probabilities)
    )
    undefined = ("mean", "std", "standard_error", "standard_error_by", "interval", "oof")
    assert {alone[name] for name in undefined} == {None}
    assert undefined_notes(alone)
