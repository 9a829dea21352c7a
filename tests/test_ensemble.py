"""Blends against brute force, scikit-learn and analytic errors; weights are scored on other images."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest, ttest_rel

from foldsmith.comparison import blend_weights as selection
from foldsmith.comparison.blend_weights import climb, cross_fit_folds, find_blend, mix
from foldsmith.comparison.class_factors import apply_class_factors, fit_class_factors
from foldsmith.comparison.ensemble import ADJUSTMENTS, build_ensemble, cross_fit
from foldsmith.errors import InputError
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.resampling import bootstrap_gain, gain_with_error, p_of_gain
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.metrics import METRICS
from foldsmith.tasks.probabilities import floor_probabilities

CLASSES = 6
TASK = SingleLabel(CLASSES)
NAMES = list(TASK.metrics)
TIE_BREAK = METRICS[TASK.tie_break]


def make_runs(num_runs: int = 3, count: int = 400, seed: int = 0, noise: float = 1.5) -> tuple:
    """Return labels, folds, and probabilities (R, N, K) of runs; later runs err more."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(CLASSES, size=count)
    logits = 2.0 * np.eye(CLASSES)[labels] + draws.normal(0, 0.8, (count, CLASSES))
    runs = [
        floor_probabilities(softmax(logits + draws.normal(0, noise * (1 + run / 4), logits.shape), axis=1))
        for run in range(num_runs)
    ]
    return labels, np.arange(count) % 4, np.stack(runs)


def everyone(count: int) -> np.ndarray:
    return np.ones((1, count))


# --- the metrics with counts


@pytest.mark.parametrize("metric", NAMES)
@given(seed=st.integers(0, 10**6))
def test_a_count_is_as_good_as_an_image_repeated(metric: str, seed: int) -> None:
    draws = np.random.default_rng(seed)
    labels, probabilities = draws.integers(CLASSES, size=30), draws.random((30, CLASSES)).astype(np.float32)
    probabilities[::2] = np.round(probabilities[::2], 1) + 0.1  # ties
    probabilities = floor_probabilities(probabilities / probabilities.sum(axis=1, keepdims=True))
    counts = draws.integers(0, 4, size=30)
    counts[0] = 2
    repeated = np.repeat(np.arange(30), counts)
    expected = METRICS[metric].evaluate(labels[repeated], probabilities[repeated])
    score = METRICS[metric].scorer(labels, probabilities)(counts.astype(float))
    assert score == pytest.approx(np.nan if expected is None else expected, abs=1e-6, nan_ok=True)


def test_every_metric_can_be_resampled_and_has_a_direction() -> None:
    assert all(metric.bootstrappable for metric in METRICS.values())
    lower = {name for name, metric in METRICS.items() if metric.sign < 0}
    assert {"log_loss", "expected_calibration_error"} <= lower and "accuracy" not in lower


def test_without_a_scorer_of_its_own_a_metric_is_resampled_by_repeating_images() -> None:
    labels, _, (run, *_) = make_runs(count=60)
    counts = np.random.default_rng(1).integers(0, 4, size=60).astype(float)
    for metric in TASK.metrics.values():
        plain = replace(metric, weighted=None)
        expected = metric.scorer(labels, run)(counts)
        assert plain.scorer(labels, run)(counts) == pytest.approx(expected, abs=1e-6), metric.name


def test_a_metric_that_cannot_be_bootstrapped_is_refused_by_name() -> None:
    labels, _, (run, *_) = make_runs(count=60)
    with pytest.raises(InputError, match="macro_f1.*accuracy"):
        replace(METRICS["macro_f1"], bootstrappable=False).scorer(labels, run)


def test_draws_without_a_score_are_left_out_of_a_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, _, (baseline, candidate, _) = make_runs(count=40)
    # not every draw of 40 images has all six classes
    strict = replace(
        METRICS["accuracy"],
        weighted=None,
        is_defined=lambda targets, predictions: len(np.unique(targets)) > 5,
    )
    monkeypatch.setitem(METRICS, "accuracy", strict)
    gain = bootstrap_gain(labels, baseline, candidate, METRICS["accuracy"], seed=0, num_draws=60)
    assert np.isfinite([gain.difference, gain.standard_error]).all()
    seldom = replace(
        strict, is_defined=lambda targets, predictions: np.array_equal(targets, labels)
    )  # on no sample
    monkeypatch.setitem(METRICS, "accuracy", seldom)
    unknown = bootstrap_gain(labels, baseline, candidate, METRICS["accuracy"], seed=0, num_draws=60)
    assert np.isinf(unknown.standard_error) and unknown.known_error is None and not unknown.exceeds_error
    monkeypatch.setitem(METRICS, "accuracy", replace(strict, is_defined=lambda targets, predictions: False))
    with pytest.raises(InputError, match="accuracy.*40"):
        bootstrap_gain(labels, baseline, candidate, METRICS["accuracy"], seed=0)


# --- the bootstrap


@pytest.mark.parametrize("metric", NAMES)
def test_a_gain_has_an_error_that_the_images_allow(metric: str) -> None:
    labels, _, (run, candidate) = make_runs(2, count=60)
    gain, plain = (
        gain_with_error(labels, run, candidate, METRICS[metric]),
        bootstrap_gain(labels, run, candidate, METRICS[metric], 0),
    )
    assert gain == plain
    same = gain_with_error(labels, run, run, METRICS[metric])
    assert same.difference == 0
    if METRICS[metric].bounds[1] == 1:
        assert same.standard_error >= 1 / 62
    single = gain_with_error(labels[:1], run[:1], candidate[:1], METRICS[metric])
    assert single.standard_error > 0.3


def test_the_p_of_a_gain_is_mcnemars_or_that_of_its_standard_errors() -> None:
    labels, _, (run, candidate) = make_runs(2, count=300)
    task = SingleLabel(run.shape[1])
    gain = gain_with_error(labels, run, candidate, METRICS["accuracy"])
    right = [predictions.argmax(axis=1) == labels for predictions in (run, candidate)]
    only = [(right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()]
    expected = binomtest(only[0], sum(only)).pvalue
    assert p_of_gain(labels, run, candidate, gain, task) == pytest.approx(expected)
    gain = gain_with_error(labels, run, candidate, METRICS["log_loss"])
    losses = [-np.log(predictions[np.arange(300), labels].astype(float)) for predictions in (run, candidate)]
    assert p_of_gain(labels, run, candidate, gain, task) == pytest.approx(ttest_rel(*losses).pvalue, abs=0.02)


def test_the_bootstrap_error_of_a_difference_of_accuracies_is_the_analytic_one() -> None:
    labels, _, (baseline, candidate) = make_runs(2, count=900)
    gain = bootstrap_gain(labels, baseline, candidate, METRICS["accuracy"], seed=0, num_draws=4000)
    correct = [run.argmax(axis=1) == labels for run in (baseline, candidate)]
    lost, won = (correct[0] & ~correct[1]).mean(), (correct[1] & ~correct[0]).mean()
    # the variance of a difference of two paired proportions
    variance = (lost + won - (lost - won) ** 2) / 900
    assert gain.difference == pytest.approx(won - lost)
    assert gain.standard_error == pytest.approx(variance**0.5, rel=0.05)


def test_the_bootstrap_error_of_a_difference_of_log_losses_is_that_of_a_mean() -> None:
    labels, _, (baseline, candidate) = make_runs(2, count=900)
    gain = bootstrap_gain(labels, baseline, candidate, METRICS["log_loss"], seed=0, num_draws=4000)
    rows = np.arange(900)
    losses = [-np.log(run[rows, labels].astype(float)) for run in (baseline, candidate)]
    gains = losses[0] - losses[1]  # lower is better
    assert gain.difference == pytest.approx(gains.mean(), abs=1e-6)
    assert gain.standard_error == pytest.approx(gains.std(ddof=1) / 30, rel=0.05)


@pytest.mark.parametrize("metric", NAMES)
def test_a_run_gains_nothing_over_itself_and_the_same_seed_gives_the_same_error(metric: str) -> None:
    labels, _, (run, candidate) = make_runs(2, count=100)
    assert bootstrap_gain(labels, run, run, METRICS[metric], seed=0, num_draws=20) == PairedDifference(
        0.0, 0.0
    )
    first, again, other = (
        bootstrap_gain(labels, run, candidate, METRICS[metric], seed, 50) for seed in (0, 0, 1)
    )
    assert first == again and first.standard_error != other.standard_error


def test_an_error_is_exceeded_by_gains_and_losses_but_not_by_rounding() -> None:
    assert PairedDifference(0.3, 0.2).exceeds_error and PairedDifference(-0.3, 0.2).exceeds_error
    assert not PairedDifference(0.2, 0.2).exceeds_error and not PairedDifference(1e-8, 1e-9).exceeds_error


# --- the greedy search


def simplex(num_runs: int, steps: int) -> list[np.ndarray]:
    """Return all weights that are multiples of 1 / steps."""
    grid = itertools.product(range(steps + 1), repeat=num_runs)
    return [np.array(counts) / steps for counts in grid if sum(counts) == steps]


@pytest.mark.parametrize("seed", range(3))
def test_a_climb_on_log_loss_comes_as_close_as_every_weighting_in_fiftieths(seed: int) -> None:
    labels, _, runs = make_runs(3, seed=seed)
    (weights,) = climb(labels, runs, METRICS["log_loss"], TIE_BREAK, everyone(len(labels)))
    # (R, N): probability of the true class
    true_class = runs[:, np.arange(len(labels)), labels].astype(float)
    losses = -np.log(np.stack(simplex(3, 50)) @ true_class).mean(axis=1)
    assert METRICS["log_loss"].score(labels, mix(runs, weights, TASK)) <= min(losses) + 2e-4
    assert max(losses) > min(losses) + 0.05  # the weighting matters


@pytest.mark.parametrize("metric", NAMES)
def test_a_climb_is_never_below_its_best_run_nor_above_what_brute_force_finds(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "NUM_STEPS", 20)  # few enough for brute force
    labels, _, runs = make_runs(2)
    (weights,) = climb(labels, runs, METRICS[metric], TIE_BREAK, everyone(len(labels)))
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
    reached = METRICS[metric].sign * METRICS[metric].score(labels, mix(runs, weights, TASK))
    alone = [METRICS[metric].sign * METRICS[metric].score(labels, point) for point in runs]
    assert reached >= max(alone) - 1e-6
    # a climb of n steps ends at a weighting in n-ths
    every = {tuple(point) for steps in range(1, selection.NUM_STEPS + 1) for point in simplex(2, steps)}
    most = max(
        METRICS[metric].sign * METRICS[metric].score(labels, mix(runs, np.array(point), TASK))
        for point in every
    )
    assert reached <= most + 1e-6


def climb_by_hand(labels: np.ndarray, runs: np.ndarray, steps: int) -> tuple[float, list[float]]:
    """Return the best accuracy of a greedy climb, and those of all its steps, in plain loops."""
    chosen, path = [], []
    for _ in range(steps):

        def quality(run: int, before: tuple = tuple(chosen)) -> tuple[float, float]:
            mixed = np.mean([runs[index].astype(float) for index in (*before, run)], axis=0)
            loss = -np.log(mixed[np.arange(len(labels)), labels]).mean()
            return sklearn.metrics.accuracy_score(labels, mixed.argmax(axis=1)), -loss

        chosen.append(max(range(len(runs)), key=quality))
        path.append(quality(chosen[-1], tuple(chosen[:-1]))[0])
    return max(path), path


def test_a_climb_returns_its_best_step_and_not_its_last() -> None:
    fell = 0
    for seed in range(6):
        labels, _, runs = make_runs(3, count=60, seed=seed)
        (weights,) = climb(labels, runs, METRICS["accuracy"], TIE_BREAK, everyone(60))
        best, path = climb_by_hand(labels, runs, selection.NUM_STEPS)
        assert METRICS["accuracy"].score(labels, mix(runs, weights, TASK)) == pytest.approx(best)
        fell += path[-1] < best
    assert fell > 0  # otherwise the test would show nothing


def test_bags_climb_together_as_they_do_alone() -> None:
    labels, _, runs = make_runs(3, count=150)
    bags = np.random.default_rng(0).integers(0, 3, (5, 150)).astype(float)
    together = climb(labels, runs, METRICS["accuracy"], TIE_BREAK, bags)
    alone = [climb(labels, runs, METRICS["accuracy"], TIE_BREAK, bag[None])[0] for bag in bags]
    np.testing.assert_array_equal(together, alone)


def test_a_useless_run_gets_almost_no_weight() -> None:
    labels, folds, runs = make_runs(2)
    useless = np.full_like(runs[0], 1 / CLASSES)
    blend = find_blend(TASK, labels, folds, np.stack([*runs, useless]), METRICS["log_loss"], seed=0)
    assert blend.weights[2] < 0.05 and blend.weights_by_fold[:, 2].max() < 0.05


# --- cross-fitting


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_weights_of_a_fold_do_not_depend_on_its_labels(metric: str) -> None:
    labels, folds, runs = make_runs(3, count=200)
    before = find_blend(TASK, labels, folds, runs, METRICS[metric], seed=0)
    for fold in range(4):
        scrambled = labels.copy()
        scrambled[folds == fold] = np.random.default_rng(fold).permutation(labels[folds == fold])
        after = find_blend(TASK, scrambled, folds, runs, METRICS[metric], seed=0)
        np.testing.assert_array_equal(after.weights_by_fold[fold], before.weights_by_fold[fold])
        np.testing.assert_array_equal(after.predictions[folds == fold], before.predictions[folds == fold])
        assert (after.weights != before.weights).any()  # the weights of all images do


@pytest.mark.parametrize("metric", ["log_loss", "macro_f1"])
def test_adjustments_of_a_fold_do_not_depend_on_its_labels(metric: str) -> None:
    labels, folds, runs = make_runs(2, count=200)
    weights = np.full((4, 2), 0.5)
    before = cross_fit(TASK, labels, folds, runs, weights, ADJUSTMENTS[metric])
    scrambled = np.where(folds == 1, (labels + 1) % CLASSES, labels)
    after = cross_fit(TASK, scrambled, folds, runs, weights, ADJUSTMENTS[metric])
    np.testing.assert_array_equal(after[folds == 1], before[folds == 1])
    assert (after[folds != 1] != before[folds != 1]).any()


def test_folds_are_blended_by_their_own_weights() -> None:
    labels, folds, runs = make_runs(3, count=200)
    blend = find_blend(TASK, labels, folds, runs, METRICS["log_loss"], seed=3)
    assert blend.weights_by_fold.shape == (4, 3)
    for row, fold in enumerate(folds):
        by_hand = (blend.weights_by_fold[fold][:, None] * runs[:, row].astype(float)).sum(axis=0)
        np.testing.assert_allclose(blend.predictions[row], by_hand, atol=1e-6)


def test_a_hold_out_is_split_into_random_folds_of_equal_size() -> None:
    folds = cross_fit_folds(np.zeros(52, int), seed=0)
    assert sorted(np.bincount(folds)) == [10, 10, 10, 11, 11]
    assert (cross_fit_folds(np.zeros(52, int), seed=1) != folds).any()
    np.testing.assert_array_equal(cross_fit_folds(np.array([2, 0, 2, 4]), seed=0), [1, 0, 1, 2])
    assert cross_fit_folds(np.zeros(2, int), seed=0).max() == 1


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_bags() -> None:
    labels, folds, runs = make_runs(3, count=200)
    first, again, other = (
        find_blend(TASK, labels, folds, runs, METRICS["accuracy"], seed) for seed in (0, 0, 1)
    )
    assert first.predictions.tobytes() == again.predictions.tobytes()
    assert (first.weights != other.weights).any()


# --- the whole blend


def test_two_good_runs_with_independent_errors_are_blended_with_a_significant_gain() -> None:
    labels, folds, runs = make_runs(2, count=1500)
    result = build_ensemble(TASK, labels, folds, runs, METRICS["accuracy"], seed=0)
    assert result.blended and result.gain.difference > result.gain.standard_error > 0
    assert result.score == pytest.approx(sklearn.metrics.accuracy_score(labels, result.predictions.argmax(1)))
    assert result.gain.difference == pytest.approx(result.score - max(result.scores))
    assert result.adjustment is None
    np.testing.assert_allclose(result.predict(runs[:, :5]), mix(runs[:, :5], result.blend.weights, TASK))


def test_a_gain_within_its_standard_error_is_not_used() -> None:
    within = 0
    for seed in range(12):
        labels, folds, runs = make_runs(2, count=80, seed=seed, noise=0.4)
        result = build_ensemble(TASK, labels, folds, runs, METRICS["accuracy"], seed=0)
        assert result.blended == (result.gain.difference > result.gain.standard_error)
        within += 0 < result.gain.difference <= result.gain.standard_error
        if not result.blended:
            assert result.predictions.tobytes() == runs[result.best].tobytes()
    assert within > 0


@pytest.mark.parametrize("metric", NAMES)
def test_a_run_blended_with_itself_is_itself_and_no_gain(metric: str) -> None:
    labels, folds, (run,) = make_runs(1, count=120)
    result = build_ensemble(TASK, labels, folds, np.stack([run, run]), METRICS[metric], seed=0)
    np.testing.assert_allclose(result.blend.predictions, run, atol=1e-6)
    assert not result.blended and abs(result.gain.difference) < 1e-6


def test_without_a_gain_the_best_run_is_used_unchanged() -> None:
    labels, folds, runs = make_runs(1, count=300)
    worse = np.full_like(runs[0], 1 / CLASSES)
    result = build_ensemble(TASK, labels, folds, np.stack([worse, runs[0]]), METRICS["accuracy"], seed=0)
    assert not result.blended and result.best == 1
    assert result.predictions.tobytes() == runs[0].tobytes()
    assert result.predict(np.stack([worse, runs[0]])).tobytes() == runs[0].tobytes()
    assert result.facts(["a", "b"])["better_run"] == "b" and result.facts(["a", "b"])["blended"] is False


def test_a_temperature_is_used_only_where_it_is_a_gain() -> None:
    labels, folds, runs = make_runs(2, count=1500)
    powers = runs**4  # overconfident
    sharpened = np.stack([floor_probabilities(run / run.sum(axis=1, keepdims=True)) for run in powers])
    result = build_ensemble(TASK, labels, folds, sharpened, METRICS["log_loss"], seed=0)
    assert result.value > 1 and result.adjustment_gain.difference > result.adjustment_gain.standard_error
    cross_fitted = sklearn.metrics.log_loss(labels, result.predictions)
    assert cross_fitted == pytest.approx(result.score - result.adjustment_gain.difference, abs=1e-6)
    # calibrated probabilities, from which the labels are drawn, gain nothing
    draws = np.random.default_rng(0)
    calibrated = runs[0]
    drawn = (calibrated.cumsum(axis=1) < draws.random((1500, 1))).sum(axis=1).clip(max=CLASSES - 1)
    fair = build_ensemble(TASK, drawn, folds, np.stack([calibrated, calibrated]), METRICS["log_loss"], seed=0)
    assert fair.value is None and fair.facts(["a", "b"])["adjustment"]["value"] is None


def make_rare(count: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Return labels with two rare classes, and calibrated probabilities, which seldom predict them."""
    draws = np.random.default_rng(1)
    shares = np.array([0.32, 0.3, 0.3, 0.04, 0.04])
    labels = draws.choice(5, size=count, p=shares)
    logits = 1.6 * np.eye(5)[labels] + draws.normal(0, 1, (count, 5)) + np.log(shares)
    return labels, floor_probabilities(softmax(logits, axis=1))


def test_class_factors_raise_the_macro_f1_of_images_they_were_not_fitted_on() -> None:
    labels, probabilities = make_rare()
    factors = fit_class_factors(labels[::2], probabilities[::2])
    assert factors[3:].min() > factors[:3].max() > 0
    predicted = (probabilities * factors).argmax(axis=1)
    np.testing.assert_array_equal(apply_class_factors(probabilities, factors).argmax(axis=1), predicted)
    score = {
        name: sklearn.metrics.f1_score(labels[1::2], decisions[1::2], average="macro")
        for name, decisions in (("plain", probabilities.argmax(axis=1)), ("factors", predicted))
    }
    assert score["factors"] > score["plain"] + 0.02


def test_class_factors_are_as_good_as_brute_force_over_pairs_of_factors() -> None:
    labels, probabilities = make_rare(600)
    three = np.stack([probabilities[:, :3].sum(axis=1), *probabilities[:, 3:].T], axis=1)
    labels = np.maximum(labels - 2, 0)
    grid = np.geomspace(1 / 8, 8, 13)
    best = max(
        sklearn.metrics.f1_score(labels, (three * [1, a, b]).argmax(axis=1), average="macro")
        for a, b in itertools.product(grid, grid)
    )
    decisions = (three * fit_class_factors(labels, three)).argmax(axis=1)
    assert sklearn.metrics.f1_score(labels, decisions, average="macro") >= best - 0.01


def test_class_factors_are_one_where_nothing_is_to_be_gained() -> None:
    labels = np.arange(40) % 4
    certain = floor_probabilities(np.eye(4)[labels])
    assert fit_class_factors(labels, certain).tolist() == [1, 1, 1, 1]
    assert fit_class_factors(np.zeros(3, int), np.ones((3, 1))).tolist() == [1]


def test_class_factors_are_used_for_macro_f1_where_they_are_a_gain() -> None:
    labels, probabilities = make_rare()
    result = build_ensemble(
        TASK, labels, np.arange(len(labels)) % 5, np.stack([probabilities] * 2), METRICS["macro_f1"], seed=0
    )
    assert not result.blended and result.value is not None and result.adjustment.name == "class factors"
    nested = sklearn.metrics.f1_score(labels, result.predictions.argmax(axis=1), average="macro")
    assert nested == pytest.approx(max(result.scores) + result.adjustment_gain.difference)
    np.testing.assert_allclose(result.predict(np.stack([probabilities] * 2)).sum(axis=1), 1, atol=1e-6)
