"""Chance between folds and between runs, against scipy, plain loops and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foldsmith.evaluation.chance import compare_paired, holm, mcnemar_exact, spread_of_folds


def test_the_expected_spread_is_that_of_simulated_folds() -> None:
    draws, folds = np.random.default_rng(0), np.arange(1000) % 5
    observed, expected, significant = [], [], []
    for _ in range(1000):
        spread = spread_of_folds(draws.random(1000) < 0.3, folds)
        observed.append(spread.observed**2)
        expected.append(spread.expected**2)
        significant.append(spread.p < 0.05)
    assert np.mean(expected) == pytest.approx(np.mean(observed), rel=0.06)
    assert 0.03 < np.mean(significant) < 0.07


def test_the_p_of_a_spread_is_that_of_the_contingency_table() -> None:
    draws = np.random.default_rng(1)
    correct, folds = draws.random(500) < 0.7, draws.integers(0, 4, 500)
    table = [[(correct[folds == fold]).sum(), (~correct[folds == fold]).sum()] for fold in range(4)]
    assert spread_of_folds(correct, folds).p == pytest.approx(stats.chi2_contingency(table).pvalue)


def test_an_outlier_is_significant_and_one_fold_has_no_spread() -> None:
    folds = np.repeat(np.arange(4), 100)
    correct = np.concatenate([np.arange(100) < share for share in (80, 82, 79, 40)])
    assert spread_of_folds(correct, folds).p < 1e-6
    assert spread_of_folds(correct, np.zeros(400, int)) is None
    assert spread_of_folds(np.ones(400, bool), folds) is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_paired_comparisons_equal_those_of_scipy(pairs: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(values, dtype=bool) for values in zip(*pairs, strict=True))
    paired, test = compare_paired(a, b), mcnemar_exact(a, b)
    assert paired.difference == pytest.approx(b.mean() - a.mean())
    expected = stats.sem(b.astype(float) - a.astype(float))
    if expected > 0:
        assert paired.standard_error == pytest.approx(expected)
    else:  # the images do not show that there is no difference
        assert 1 / (len(pairs) + 2) <= paired.standard_error <= 1
    assert test.only_a == sum(x and not y for x, y in pairs)
    assert test.only_b == sum(y and not x for x, y in pairs)
    unequal, least = test.only_a + test.only_b, min(test.only_a, test.only_b)
    # the two-sided p-value of a symmetric binomial is twice its smaller tail
    assert test.p == pytest.approx(min(1.0, 2 * stats.binom.cdf(least, unequal, 0.5)) if unequal else 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_p_are_those_of_a_step_by_step_holm(p_values: list[float]) -> None:
    adjusted = holm(np.array(p_values))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    largest = 0.0
    for step, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - step)))
        assert adjusted[index] == pytest.approx(largest)
