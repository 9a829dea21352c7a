"""The learning rate of every step, against the formula in plain Python."""

import math

import pytest
from conftest import naming
from hypothesis import given, settings
from hypothesis import strategies as st

from foldsmith.errors import InputError
from foldsmith.training.schedule import learning_rates


def rate(schedule: str, lr: float, warmup: int, total: int, step: int) -> float:
    """Return the rate of one step, as SGDR and a linear warm-up define it."""
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return lr
    if schedule == "one-cycle":
        return lr * (total - step) / (total - warmup)
    return lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["cosine", "one-cycle", "constant"]),
    st.floats(1e-6, 10),
    st.integers(1, 200),
    st.floats(0, 0.99),
)
def test_every_step_follows_the_formula(schedule: str, lr: float, total: int, share: float) -> None:
    warmup = round(share * total)
    rates = learning_rates(schedule, lr, warmup, total)
    expected = [rate(schedule, lr, warmup, total, step) for step in range(total)]
    assert rates.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert len(rates) == total and rates.min() > 0 and rates.max() <= lr * (1 + 1e-12)


def test_the_warm_up_rises_by_equal_steps_and_reaches_the_rate_right_after_it() -> None:
    assert learning_rates("constant", 0.5, 4, 7) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5])


def test_the_cosine_falls_to_half_in_the_middle_and_to_nearly_zero() -> None:
    rates = learning_rates("cosine", 0.2, 0, 100)
    assert rates[0] == pytest.approx(0.2)
    assert rates[50] == pytest.approx(0.1)
    assert 0 < rates[-1] < 1e-4
    assert all(a > b for a, b in zip(rates, rates[1:], strict=False))


def test_one_cycle_rises_to_its_peak_and_falls_by_equal_steps() -> None:
    assert learning_rates("one-cycle", 0.6, 2, 6) == pytest.approx([0.2, 0.4, 0.6, 0.45, 0.3, 0.15])


def test_a_warm_up_of_every_step_only_rises() -> None:
    assert learning_rates("cosine", 1.0, 3, 3) == pytest.approx([0.25, 0.5, 0.75])


def test_an_unknown_schedule_names_the_nearest() -> None:
    with pytest.raises(InputError, match=naming("'cosin'", "'cosine'")):
        learning_rates("cosin", 0.1, 0, 5)
