"""A search over ranges of recipe fields: Optuna's TPE sampler proposes trials, each of which is a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldsmith.errors import InputError
from foldsmith.evaluation.predictions import match_rows
from foldsmith.evaluation.resampling import gain_with_error
from foldsmith.grid.scores import HeldOut, expected_lead
from foldsmith.recipes import read_settings
from foldsmith.seeding import derive_seed
from foldsmith.tasks.metrics import Metric

BATCH = 4  # trials that are proposed together, whatever runs them: so the same seed gives the same trials
REPEATS = 20  # proposals for each new one, before a search counts as exhausted
LOGARITHMIC = 10  # a range whose ends are positive and differ by this factor is searched by its logarithm
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Range:
    """The values of a field that are tried: from `low` to `high`, or one of `words`."""

    field: str
    low: float = 0.0
    high: float = 0.0
    is_integer: bool = False
    words: tuple[str, ...] = ()

    @property
    def is_logarithmic(self) -> bool:
        return self.low > 0 and self.high >= LOGARITHMIC * self.low

    @property
    def in_words(self) -> str:
        if self.words:
            return f"{self.field}: {', '.join(self.words)}"
        by = ", by its logarithm" if self.is_logarithmic else ""
        return f"{self.field}: {self.low:g} to {self.high:g}{by}"


def read_range(word: str) -> Range:
    """Return the range FIELD=LOW..HIGH or FIELD=WORD|WORD. Raise InputError for another form or field."""
    field, equals, values = word.partition("=")
    ends = re.fullmatch(rf"({NUMBER})\.\.({NUMBER})", values)
    if ends:
        low, high = float(ends[1]), float(ends[2])
        if not low < high:
            raise InputError(f"--search {word}: {ends[1]} must be below {ends[2]}.")
        # refuses an unknown field, and a number that it cannot take
        read = [read_settings([f"{field}={end}"])[field] for end in (ends[1], ends[2])]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in read):
            raise InputError(f"--search {word}: {field} is no number; write {field}=WORD|WORD.")
        return Range(field, low, high, is_integer=all(isinstance(value, int) for value in read))
    words = tuple(values.split("|"))
    if not equals or len(words) < 2:
        raise InputError(f"--search {word}: write FIELD=LOW..HIGH (lr=1e-3..1e-1), or FIELD=WORD|WORD.")
    for value in words:
        read_settings([f"{field}={value}"])
    return Range(field, words=words)


def read_ranges(words: Sequence[str]) -> list[Range]:
    """Return the ranges of a search. Raise InputError for two ranges of a field."""
    ranges = [read_range(word) for word in words]
    fields = [entry.field for entry in ranges]
    repeated = sorted({field for field in fields if fields.count(field) > 1})
    if repeated:
        raise InputError(f"--search has two ranges of {repeated[0]}; write one.")
    return ranges


@dataclass(frozen=True)
class Trial:
    """A point of the search and its out-of-fold score; None for a run that failed."""

    settings: dict[str, Any]
    score: float | None


def propose(ranges: Sequence[Range], trials: Sequence[Trial], metric: Metric, seed: int) -> list[dict]:
    """Return the settings of the next BATCH trials, which depend on the trials before and the seed alone.

    No settings are proposed twice; there are fewer, or none, once all of a finite search are tried. Raise
    InputError if Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            "--search needs Optuna: .venv/bin/python -m pip install -r requirements-grid.txt"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces = {entry.field: _distribution(optuna, entry) for entry in ranges}
    # a sampler of its own for each batch: a search that was interrupted proposes the same again
    sampler = optuna.samplers.TPESampler(
        seed=derive_seed(seed, "search", len(trials)) % 2**32, n_startup_trials=2 * BATCH, constant_liar=True
    )
    direction = "maximize" if metric.higher_is_better else "minimize"
    study = optuna.create_study(direction=direction, sampler=sampler)
    states = optuna.trial.TrialState
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.settings,
                distributions=spaces,
                value=trial.score,
                state=states.FAIL if trial.score is None else states.COMPLETE,
            )
        )
    known = [trial.settings for trial in trials]
    proposed: list[dict] = []
    for _ in range(REPEATS * BATCH):
        settings = study.ask(spaces).params
        if settings not in known:
            known.append(settings)
            proposed.append(settings)
        if len(proposed) == BATCH:
            break
    return proposed


def _distribution(optuna: Any, entry: Range) -> Any:
    kinds = optuna.distributions
    if entry.words:
        return kinds.CategoricalDistribution(entry.words)
    if entry.is_integer:
        return kinds.IntDistribution(int(entry.low), int(entry.high), log=entry.is_logarithmic)
    return kinds.FloatDistribution(entry.low, entry.high, log=entry.is_logarithmic)


def luck_in_words(held_out: dict[str, HeldOut], metric: Metric) -> str:
    """Return how sure the best trial's lead is: over the next, over the mean, and what luck explains.

    The noise of a trial is the paired standard error of its difference from the best, divided by the root of
    two, the median of all; of equal trials with it the best leads the mean by `expected_lead` on average.
    """
    scores = {name: metric.evaluate(entry.targets, entry.predictions) for name, entry in held_out.items()}
    known = sorted(
        (name for name, score in scores.items() if score is not None), key=lambda n: -metric.sign * scores[n]
    )
    if len(known) < 2:
        return "a single trial has no lead"
    best, gains = held_out[known[0]], {}
    for name in known[1:]:
        rows = match_rows(best.paths, held_out[name].paths, known[0])
        other = held_out[name]
        gains[name] = gain_with_error(other.targets, other.predictions, best.predictions[rows], metric)
    noise = float(np.median([gain.standard_error for gain in gains.values()])) / np.sqrt(2)
    lead = metric.sign * (scores[known[0]] - float(np.mean([scores[name] for name in known])))
    near = sum(gain.difference <= 2 * gain.standard_error for gain in gains.values())
    second = gains[known[1]]
    luck = expected_lead(len(known)) * noise
    return (
        f"{known[0]} leads the next, {known[1]}, by {second.difference:.4f} ± {second.standard_error:.4f}, "
        f"and {near} of {len(gains)} others are within two errors of it. It leads the mean of {len(known)} "
        f"trials by {lead:.4f}; the best of as many equal trials, with a noise of {noise:.4f}, would by "
        f"{luck:.4f}, by luck alone"
    )
