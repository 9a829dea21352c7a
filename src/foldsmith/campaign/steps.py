"""The steps of a plan: what a slot becomes when its turn comes.

It depends on the plan and on the scores of the steps before it, never on a clock: the same plan gives the
same runs. Imports no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from foldsmith.campaign.costs import (
    FINETUNE,
    PROBE,
    SCRATCH,
    VARIATION,
    Candidate,
    Contest,
    fitting_epochs,
    predicting_seconds,
    seconds_of,
    training_seconds,
)
from foldsmith.inference.views import with_shifted

SEED, ROUNDS, ORIENTATIONS = "seed=1", "rounds=2", "views=identity,hflip,vflip,rot180"
NUMBERED = " (plan "  # stands before the plan's number in the name of a slot that is planned again
# steps of a wave do not depend on each other
WAVES = {PROBE: 0, FINETUNE: 1, SCRATCH: 1, VARIATION: 2}
SHIFTED = "shifted views"  # beside the recipe's own; the networks are those of a run that is trained


@dataclass(frozen=True)
class Slot:
    """A step to come. `share` is how much of the time left it may take.

    Its candidate is fixed, or chosen when its turn comes: for fine-tuning the network of rank `rank` among
    those probed, from scratch the slowest network of which half of the epochs fit, for a variation the best
    run so far, with the setting `varied`. `position` is its place among all slots of the first plan.
    """

    name: str
    kind: str
    share: float
    candidate: Candidate | None = None
    rank: int = 0
    varied: str = ""
    position: int = 0

    def numbered(self, plan: int) -> "Slot":
        """Return the slot as it is named in a later plan, of this number."""
        return replace(self, name=f"{first_name(self.name)}{NUMBERED}{plan})")


def first_name(slot: str) -> str:
    """Return the name that a slot had in the first plan."""
    return slot.partition(NUMBERED)[0]


@dataclass(frozen=True)
class Plan:
    """The slots in their order, the seconds that are planned, and what they rest on.

    With `one_fold` every run trains the first fold alone, as all of them would not fit. `left_out` are slots
    that cannot fit in these seconds.
    """

    contest: Contest
    candidates: tuple[Candidate, ...]
    slots: tuple[Slot, ...]
    seconds: float
    one_fold: bool
    left_out: tuple[Slot, ...] = ()

    @property
    def folds_of_a_run(self) -> int:
        return 1 if self.one_fold else self.contest.num_folds

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, entry: Mapping[str, Any]) -> "Plan":
        slots, left_out = (
            tuple(
                Slot(**{**slot, "candidate": _candidate_of(slot["candidate"]) if slot["candidate"] else None})
                for slot in entry.get(name, ())
            )
            for name in ("slots", "left_out")
        )
        candidates = tuple(_candidate_of(one) for one in entry["candidates"])
        contest = Contest(**entry["contest"])
        return cls(contest, candidates, slots, entry["seconds"], entry["one_fold"], left_out)


def _candidate_of(entry: Mapping[str, Any]) -> Candidate:
    listed = {name: tuple(entry[name]) for name in ("settings", "views") if name in entry}
    return Candidate(**{**entry, **listed})


@dataclass(frozen=True)
class Step:
    """A slot whose run is decided, and the seconds it should take; `varied` is a further setting."""

    slot: str
    kind: str
    candidate: Candidate
    epochs: int
    seconds: float
    why: str
    varied: str = ""

    @property
    def run(self) -> str:
        """Return the name of the run."""
        name = self.candidate.run_name(self.epochs)
        if not self.varied:
            return name
        endings = {ROUNDS: "pseudo-labels", ORIENTATIONS: "four-views", SHIFTED: "shifted-views"}
        return f"{name}-{endings.get(self.varied) or self.varied.replace('=', '-')}"

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words of the recipe for ./run.sh."""
        varied = self.varied
        if varied == SHIFTED:
            varied = f"views={','.join(with_shifted(self.candidate.views))}"
        return (*self.candidate.words(self.epochs), *(("--set", varied) if varied else ()))

    @property
    def trained_by(self) -> str:
        """Return the name of the run whose trained folds this one uses; empty if it trains its own."""
        return self.replaced if self.varied == SHIFTED else ""

    @property
    def replaced(self) -> str:
        """Return the name of the run that sees fewer views of the same, whose place it takes; maybe empty."""
        return self.candidate.run_name(self.epochs) if self.varied in (SHIFTED, ORIENTATIONS) else ""

    def shortened(self, plan: Plan, seconds: float) -> "Step | None":
        """Return the step with the epochs that fit in the seconds; None if they are not worth their time."""
        if self.varied in (ROUNDS, SHIFTED):
            return None
        epochs = fitting_epochs(plan.contest, self.candidate, seconds, plan.folds_of_a_run)
        if epochs < max(1, self.candidate.least):
            return None
        needed = training_seconds(plan.contest, self.candidate, epochs, plan.folds_of_a_run)
        why = f"{epochs} of {self.epochs} planned epochs, as steps take longer than planned"
        return replace(self, epochs=epochs, seconds=needed, why=why)


@dataclass
class Past:
    """The steps that were decided, and those that are finished, with their quality; higher is better."""

    decided: list[Step] = field(default_factory=list)
    finished: list[tuple[Step, float]] = field(default_factory=list)

    @property
    def planned(self) -> float:
        """Return the seconds that were planned so far, those of steps that failed included."""
        return sum(step.seconds for step in self.decided)

    def best(self, *kinds: str) -> list[Step]:
        """Return the finished steps of these kinds, the best first."""
        chosen = [entry for entry in self.finished if entry[0].kind in kinds]
        return [step for step, _ in sorted(chosen, key=lambda entry: -entry[1])]


def may_fit(plan: Plan, slot: Slot, left: float) -> bool:
    """Return whether a step could fit in the seconds left, with the scores that suit it best."""
    share = slot.share if slot.kind == PROBE else 1.0
    return _least_seconds(plan, slot) <= share * left


def most_steps(plan: Plan, slots: Sequence[Slot], left: float) -> int:
    """Return how many of these steps could fit in the seconds left together, at most."""
    costs = np.sort([_least_seconds(plan, slot) for slot in slots if may_fit(plan, slot, left)])
    return int((np.cumsum(costs) <= left).sum())


def _least_seconds(plan: Plan, slot: Slot) -> float:
    """Return the seconds of the cheapest run that a step could become."""
    kinds = {slot.kind} if slot.kind != VARIATION else _varied_kinds(slot)
    return min(
        (
            _seconds_of(plan, slot.varied, one, one.least)
            for one in plan.candidates
            if one.kind in kinds and slot.candidate in (None, one)
        ),
        default=math.inf,
    )


def _varied_kinds(slot: Slot) -> set[str]:
    return {PROBE} if slot.varied == ORIENTATIONS else {FINETUNE, SCRATCH}


def _seconds_of(plan: Plan, varied: str, candidate: Candidate, epochs: int) -> float:
    """Return the seconds of a candidate's run with this further setting."""
    contest = plan.contest
    if varied == SHIFTED:
        return predicting_seconds(contest, candidate, len(with_shifted(candidate.views)), plan.folds_of_a_run)
    seconds = seconds_of(contest, candidate, epochs, plan.folds_of_a_run)
    if varied == ROUNDS:
        seconds *= 2 + 0.5 * contest.num_test / contest.trained_on  # half of the test images get labels
    if varied == ORIENTATIONS:
        more = len(ORIENTATIONS.split(",")) - len(candidate.views)
        seconds += more * (contest.num_images + contest.num_test) / candidate.forward
    return seconds


def decide(plan: Plan, slot: Slot, past: Past) -> Step | str:
    """Return the step of a slot, or why there is none, by the plan and the past alone."""
    if not past.decided and slot.candidate is not None:
        return _first_step(plan, slot, slot.candidate)
    left = plan.seconds - past.planned
    if slot.kind == VARIATION:
        return _vary(plan, slot, past, left)
    candidate = slot.candidate or _trained_candidate(plan, slot, past, left)
    if candidate is None:
        return "there is no further network"
    epochs, allowed = 0, slot.share * left
    if candidate.kind != PROBE:
        epochs = fitting_epochs(plan.contest, candidate, allowed, plan.folds_of_a_run)
        if not _leaves_a_training(plan, slot, candidate, epochs, left):
            allowed = left
            epochs = fitting_epochs(plan.contest, candidate, allowed, plan.folds_of_a_run)
    needed = seconds_of(plan.contest, candidate, max(epochs, candidate.least), plan.folds_of_a_run)
    if needed > allowed or epochs < candidate.least:
        return f"needs {needed:,.0f} s, and may take {allowed:,.0f} s of the {left:,.0f} s left"
    step = Step(slot.name, slot.kind, candidate, epochs, needed, _why(candidate, epochs, needed, left))
    if step.run in [other.run for other in past.decided]:
        return f"an earlier step is the same run, {step.run}"
    return step


def _first_step(plan: Plan, slot: Slot, candidate: Candidate) -> Step:
    """Return the first answer, whatever it takes: its run also checks and decodes all images."""
    contest, epochs = plan.contest, 0
    if candidate.kind != PROBE:
        allowed = slot.share * (plan.seconds - contest.preparing)
        epochs = max(1, fitting_epochs(contest, candidate, allowed, plan.folds_of_a_run))
    needed = contest.preparing + seconds_of(contest, candidate, epochs, plan.folds_of_a_run)
    return Step(
        slot.name, slot.kind, candidate, epochs, needed, _why(candidate, epochs, needed, plan.seconds)
    )


def _why(candidate: Candidate, epochs: int, needed: float, left: float) -> str:
    length = f"{epochs} of {candidate.epochs} epochs, " if epochs else ""
    return f"{length}about {needed:,.0f} s of the {left:,.0f} s left"


def _leaves_a_training(plan: Plan, slot: Slot, candidate: Candidate, epochs: int, left: float) -> bool:
    """Return whether a training is worth its time, and a later one may fit beside it in the seconds left."""
    if epochs < candidate.least:
        return False
    left -= training_seconds(plan.contest, candidate, epochs, plan.folds_of_a_run)
    # an epoch more is worth more than further views, which take as long: they have what is left
    later = plan.slots[plan.slots.index(slot) + 1 :]
    return any(may_fit(plan, one, left) for one in later if one.varied not in (SHIFTED, ORIENTATIONS))


def _trained_candidate(plan: Plan, slot: Slot, past: Past, left: float) -> Candidate | None:
    """Return the slot's slowest network of which half of the epochs fit, or else the one that is done first.

    To be fine-tuned is the network of the slot's rank, at one of the sides. None is fine-tuned twice, and the
    second recipe from scratch is not the first answer's.
    """
    fitting = [one for one in plan.candidates if one.kind == slot.kind]
    if slot.kind == FINETUNE or slot.rank:
        trained = [step.candidate for step in past.decided]
        fitting = [one for one in fitting if one not in trained]
    if slot.kind == FINETUNE:
        probed = list(dict.fromkeys(step.candidate.network for step in past.best(PROBE)))
        if slot.rank >= len(probed):
            return None
        fitting = [one for one in fitting if one.network == probed[slot.rank]]
    folds = plan.folds_of_a_run
    # per image, as a small network may have more epochs
    for one in sorted(fitting, key=lambda one: one.training):
        if fitting_epochs(plan.contest, one, slot.share * left, folds) >= one.epochs / 2:
            return one
    quickest = sorted(fitting, key=lambda one: training_seconds(plan.contest, one, one.epochs, folds))
    return quickest[0] if quickest else None


def _vary(plan: Plan, slot: Slot, past: Past, left: float) -> Step | str:
    """Return the best run with another setting; in less time than it took it has fewer epochs.

    A probe is seen in other views, and a training in shifted ones, by its own networks. Pseudo-labels come
    from a run of as many epochs.
    """
    # a first answer may have so few epochs that another one is not worth its time
    ranked = [step for step in past.best(*_varied_kinds(slot)) if step.epochs >= step.candidate.least]
    if not ranked:
        return "there is no run to vary"
    best = ranked[0]
    needed = _seconds_of(plan, slot.varied, best.candidate, best.epochs)
    which = f"the networks of {best.run}" if slot.varied == SHIFTED else f"{best.run} again"
    why = f"{which}, about {{:,.0f}} s of the {left:,.0f} s left"
    step = replace(best, slot=slot.name, kind=slot.kind, seconds=needed, varied=slot.varied)
    if step.seconds > left:
        shorter = step.shortened(plan, left)
        if shorter is None:
            return f"needs {step.seconds:,.0f} s, and {left:,.0f} s are left"
        step, why = shorter, why.replace("again", f"again, {shorter.epochs} epochs")
    return replace(step, why=why.format(step.seconds))
