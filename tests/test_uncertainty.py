"""Errors and intervals of scores against scipy, analytic errors and simulated coverage; baselines."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier

from foldsmith.evaluation.baseline import CAUSES, baseline_figures, describe_baseline, warn_of_baseline
from foldsmith.evaluation.cross_validation import cross_validation
from foldsmith.evaluation.uncertainty import class_recalls, score_and_error, wilson_interval
from foldsmith.process.terminal import format_error, with_error
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.metrics import METRICS

TASK = SingleLabel(3)


def predictions_of(labels: np.ndarray, right: np.ndarray, confidence: float = 0.8) -> np.ndarray:
    """Return probabilities (N, 3) that are right or wrong as `right` says, float32."""
    decisions = np.where(right, labels, (labels + 1) % 3)
    others = (1 - confidence) / 2
    return (np.eye(3)[decisions] * (confidence - others) + others).astype(np.float32)


def figures_of(right: np.ndarray, num_folds: int, groups: np.ndarray | None = None) -> dict:
    labels = np.arange(len(right)) % 3
    folds = np.arange(len(right)) * num_folds // len(right)
    return cross_validation(labels, folds, predictions_of(labels, right), "accuracy", TASK, groups)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (1, 1), (7, 9), (240, 240), (239, 240)])
def test_the_interval_of_a_share_is_wilsons(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
    interval = figures_of(np.arange(count) < hits, num_folds=1)["interval"]
    assert interval == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_the_error_of_an_accuracy_is_that_of_a_mean_over_images() -> None:
    right = np.random.default_rng(0).random(300) < 0.7
    cv = figures_of(right, num_folds=1)
    assert cv["standard_error_by"] == "images"
    assert cv["standard_error"] == pytest.approx(stats.sem(right), rel=0.12)
    labels = np.arange(300) % 3
    predictions = np.random.default_rng(1).dirichlet(np.ones(3), size=300).astype(np.float32)
    losses = -np.log(predictions[np.arange(300), labels].astype(float))
    found = score_and_error(labels, predictions, "log_loss", TASK)
    assert found == pytest.approx((losses.mean(), stats.sem(losses)), rel=0.12)


@pytest.mark.parametrize("num_folds", [1, 2, 5])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_folds_that_agree_and_perfect_scores_have_an_error(num_folds: int, share: float) -> None:
    right = np.arange(60) % 2 < 2 * share
    cv = figures_of(right, num_folds)
    assert len(set(cv["folds"])) == 1 and cv["standard_error"] > 0
    assert all(error > 0 for name, error in cv["standard_errors"].items() if METRICS[name].bounds[1] == 1)
    assert all(error > 0 for error in cv["standard_errors_by_fold"]["accuracy"])
    low, high = cv["interval"]
    assert 0 <= low <= cv["mean"] <= high <= 1 and low < high
    json.dumps(cv, allow_nan=False)


def test_folds_that_differ_more_than_their_images_give_the_error() -> None:
    right = np.repeat([True, False, True, False], 50)
    cv = figures_of(right, num_folds=4)
    assert cv["standard_error_by"] == "folds"
    assert cv["standard_error"] == pytest.approx(stats.sem(cv["folds"]))


def test_related_images_count_as_one() -> None:
    right = np.repeat(np.random.default_rng(0).random(60) < 0.6, 4)
    alone = figures_of(right, num_folds=1)
    related = figures_of(right, num_folds=1, groups=np.repeat(np.arange(60), 4))
    assert related["standard_error"] == pytest.approx(2 * alone["standard_error"], rel=0.15)
    assert np.ptp(related["interval"]) == pytest.approx(2 * np.ptp(alone["interval"]), rel=0.15)
    perfect = [figures_of(np.ones(240, bool), 1, groups=groups) for groups in (None, np.arange(240) // 4)]
    assert perfect[1]["standard_error"] > perfect[0]["standard_error"] > 0


def test_an_interval_covers_the_true_accuracy() -> None:
    draws = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        low, high = figures_of(draws.random(40) < 0.9, num_folds=2)["interval"]
        covered += low <= 0.9 <= high
    assert covered >= 35


def test_a_single_image_has_no_error_in_a_metric_without_bounds() -> None:
    labels = np.array([1])
    predictions = predictions_of(labels, np.array([True]))
    assert score_and_error(labels, predictions, "log_loss", TASK)[1] is None
    assert score_and_error(labels, predictions, "accuracy", TASK)[1] > 0.1


def test_recalls_of_classes_have_wilsons_intervals() -> None:
    labels = np.array([0] * 8 + [1] * 3)
    table = class_recalls(
        labels, TASK.decide(predictions_of(labels, np.arange(11) < 8)), TASK.num_outputs
    ).set_index("label")
    for label, hits, count in ((0, 8, 8), (1, 0, 3)):
        expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
        row = table.loc[label]
        assert (row["support"], row["recall"]) == (count, hits / count)
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert table.loc[2, "support"] == 0 and table.loc[2, ["recall", "low", "high"]].isna().all()


# --- the baseline


@pytest.mark.parametrize("metric", TASK.metrics)
def test_the_baseline_is_that_of_a_dummy_classifier(metric: str) -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    right = np.random.default_rng(0).random(100) < 0.8
    cv = cross_validation(labels, np.arange(100) % 4, predictions_of(labels, right), metric, TASK)
    figures = baseline_figures(cv, labels, TASK.prior(labels), TASK)
    images = np.zeros((100, 1))
    prior = DummyClassifier(strategy="prior").fit(images, labels).predict_proba(images)
    expected = METRICS[metric].evaluate(labels, prior.astype(np.float32))
    assert figures["baseline"]["commonest_class"] == pytest.approx(expected, abs=1e-5)
    chance = {"accuracy": 1 / 3, "balanced_accuracy": 1 / 3, "top5_accuracy": 1, "log_loss": np.log(3)}
    if metric in chance:
        assert figures["baseline"]["chance"] == pytest.approx(chance[metric], abs=0.01)
    # a constant prediction is perfect in the top five of three classes, and can be well calibrated
    meaningless = metric in ("top5_accuracy", "expected_calibration_error")
    assert figures["beats_baseline"] is (None if meaningless else True)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "macro_f1"])
def test_a_network_that_ignores_the_images_does_not_beat_the_baseline(metric: str) -> None:
    draws = np.random.default_rng(0)
    labels = draws.integers(3, size=90)
    cv = cross_validation(
        labels, np.arange(90) % 3, draws.dirichlet(np.ones(3), 90).astype(np.float32), metric, TASK
    )
    cv |= baseline_figures(cv, labels, TASK.prior(labels), TASK)
    assert cv["beats_baseline"] is False
    warning = warn_of_baseline(cv)
    assert metric in warning and f"{cv['mean']:.4f}" in warning and describe_baseline(cv) in warning
    assert warn_of_baseline({**cv, "beats_baseline": True}) == "" and len(CAUSES) > 3


# --- in words


def test_no_error_is_written_as_zero() -> None:
    assert [format_error(error) for error in (0.01234, 0.00005, 0.000013, None, np.nan, np.inf)] == [
        "0.0123",
        "0.0001",
        "1e-05",
        "–",
        "–",
        "–",
    ]
    assert with_error("0.98", 0.002) == "0.98 ± 0.0020" and with_error("0.98", None) == "0.98"
