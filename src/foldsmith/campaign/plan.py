"""The plan of a campaign: which steps, in which order, and how long each may take, by stated arithmetic.

A plan depends on the contest, the networks at hand and their measured speeds, and is written down first. What
a step is depends on the plan and on the scores of the steps before it, never on a clock: the same plan gives
the same runs. Imports no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from foldsmith.recipes.borrowed import MOST_SMALL_IMAGES, SMALL_SIDE

USABLE = 0.88  # of the budget that is planned; the rest is for blends, pages, and steps that take longer
START_SECONDS = 25.0  # of a run: its process, tables, report and submission
HEAD_SECONDS = 0.04  # a training image: the heads of a probe for all folds, on one core
VIEWS = 2  # of a prediction
# shares of the time left that a step may take: a first answer by a probe, or from scratch, where it teaches
# nothing about the later steps; a further probe, a training
FIRST_SHARE, QUICK_SHARE, PROBE_SHARE, TRAINING_SHARE = 0.25, 0.1, 0.15, 0.85
LEAST_SCRATCH = 1 / 4  # of the epochs from scratch that a recipe aims at; fewer are not worth their time
FEW = 2_000  # training images; with fewer no network is trained from scratch beside borrowed ones
PROBE, FINETUNE, SCRATCH, VARIATION = "probe", "finetune", "scratch", "variation"
SEED, ROUNDS, ORIENTATIONS = "seed=1", "rounds=2", "views=identity,hflip,vflip,rot180"
MORE_SEEDS = ("seed=2", "seed=3")  # where a long budget leaves time


@dataclass(frozen=True)
class Contest:
    """The facts of a contest that a plan depends on.

    `side` is that of a square image, in pixels; `held_out` the share of the images that a fold holds out.
    """

    num_images: int
    num_test: int
    num_folds: int
    side: int
    held_out: float = 0.2

    @property
    def trained_on(self) -> float:
        """Return the number of images that a fold's network is trained on."""
        return self.num_images * (1 - self.held_out)


@dataclass(frozen=True)
class Candidate:
    """A network, the recipe and settings that use it, and its measured speeds in images a second.

    `network` is the same for its probes and fine-tunings. `epochs` are those that the recipe aims at, 0 for a
    probe; `least` those that are worth their time.
    """

    name: str
    kind: str
    network: str
    recipe: str
    settings: tuple[str, ...]
    size: int
    epochs: int
    least: int
    forward: float
    training: float

    def words(self, epochs: int) -> tuple[str, ...]:
        """Return the words of the recipe for ./run.sh."""
        settings = [word for setting in self.settings for word in ("--set", setting)]
        length = ["--epochs", str(epochs)] if epochs else []
        return ("--recipe", self.recipe, *settings, *length)

    def run_name(self, epochs: int) -> str:
        """Return the name of a run, by what it is trained: another campaign takes such a run over."""
        return f"{self.recipe}-{self.name}" + (f"-{epochs}-epochs" if epochs else "")


@dataclass(frozen=True)
class Slot:
    """A step to come. `share` is how much of the time left it may take.

    Its candidate is fixed, or chosen when its turn comes: for fine-tuning the network of rank `rank` among
    those probed, from scratch the costliest recipe of which half of the epochs fit, for a variation the best
    run so far, with the setting `varied`.
    """

    name: str
    kind: str
    share: float
    candidate: Candidate | None = None
    rank: int = 0
    varied: str = ""


@dataclass(frozen=True)
class Plan:
    """The slots in their order, the seconds that are planned, and what they rest on.

    With `one_fold` every run trains the first fold alone, as all of them would not fit.
    """

    contest: Contest
    candidates: tuple[Candidate, ...]
    slots: tuple[Slot, ...]
    seconds: float
    one_fold: bool

    @property
    def folds_of_a_run(self) -> int:
        return 1 if self.one_fold else self.contest.num_folds

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, entry: Mapping[str, Any]) -> "Plan":
        slots = [
            Slot(**{**slot, "candidate": _candidate_of(slot["candidate"]) if slot["candidate"] else None})
            for slot in entry["slots"]
        ]
        candidates = tuple(_candidate_of(one) for one in entry["candidates"])
        contest = Contest(**entry["contest"])
        return cls(contest, candidates, tuple(slots), entry["seconds"], entry["one_fold"])


def _candidate_of(entry: Mapping[str, Any]) -> Candidate:
    return Candidate(**{**entry, "settings": tuple(entry["settings"])})


@dataclass(frozen=True)
class Step:
    """A slot whose run is decided: its name, the words of its recipe, and the seconds it should take."""

    slot: str
    run: str
    kind: str
    words: tuple[str, ...]
    seconds: float
    why: str
    candidate: Candidate
    epochs: int = 0


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


def probe_seconds(contest: Contest, candidate: Candidate) -> float:
    """Return the seconds of a probe: features of all images in all views, once for all folds, and heads."""
    images = (contest.num_images + contest.num_test) * VIEWS
    return START_SECONDS + images / candidate.forward + HEAD_SECONDS * contest.num_images


def training_seconds(contest: Contest, candidate: Candidate, epochs: int, num_folds: int) -> float:
    """Return the seconds of training that many folds, with their predictions of held-out and test images."""
    held_out = contest.num_images - contest.trained_on
    trained = epochs * contest.trained_on / candidate.training
    predicted = ((epochs + VIEWS) * held_out + VIEWS * contest.num_test) / candidate.forward
    heads = HEAD_SECONDS * contest.num_images if candidate.kind == FINETUNE else 0.0
    return START_SECONDS + heads + num_folds * (trained + predicted)


def seconds_of(contest: Contest, candidate: Candidate, epochs: int, num_folds: int) -> float:
    """Return the seconds of a candidate; a probe serves all folds by one pass over the images."""
    if candidate.kind == PROBE:
        return probe_seconds(contest, candidate)
    return training_seconds(contest, candidate, epochs, num_folds)


def fitting_epochs(contest: Contest, candidate: Candidate, seconds: float, num_folds: int) -> int:
    """Return the epochs, at most those that the candidate aims at, that fit in the seconds; maybe 0."""
    epochs = candidate.epochs
    while epochs > 0 and training_seconds(contest, candidate, epochs, num_folds) > seconds:
        epochs -= 1
    return epochs


def make_plan(contest: Contest, candidates: Sequence[Candidate], seconds: float) -> Plan:
    """Return the plan for a budget of that many seconds, of at least one candidate.

    First comes an answer: the costliest probe that fits in FIRST_SHARE, as larger networks and sides are
    likely to be better, or else the quickest candidate. Then come the other probes, training from scratch and
    fine-tuning of the best networks, in the order of what they promise for such images, then variations of
    the best runs. Steps that cannot fit whatever the scores are left out, so that none of them counts
    against the others.
    """
    usable = USABLE * seconds

    def least_seconds(candidate: Candidate) -> float:
        return seconds_of(contest, candidate, min(candidate.epochs, 1), contest.num_folds)

    by_cost = sorted(candidates, key=least_seconds)
    probes = [one for one in by_cost if one.kind == PROBE]
    scratch = [one for one in by_cost if one.kind == SCRATCH]
    quick = [one for one in probes if least_seconds(one) <= FIRST_SHARE * usable]
    first = quick[-1] if quick else (probes or scratch)[0]
    networks = {one.network for one in candidates if one.kind == FINETUNE}
    tuning = [
        Slot(f"fine-tune the {name} network", FINETUNE, TRAINING_SHARE, rank=rank)
        for rank, name in enumerate(("best", "second")[: len(networks)])
    ]
    training = []
    if scratch and (not probes or contest.num_images >= FEW):
        training = [
            Slot(name, SCRATCH, TRAINING_SHARE, rank=rank)
            for rank, name in enumerate(("train from scratch", "train another recipe from scratch"))
        ][: max(1, len(scratch) - 1)]
    many_small = contest.side < SMALL_SIDE and contest.num_images > MOST_SMALL_IMAGES
    share = FIRST_SHARE if probes or len(scratch) == 1 else QUICK_SHARE
    slots = [
        Slot(f"{'probe' if probes else 'train'} {first.name}", first.kind, share, first),
        *(Slot(f"probe {one.name}", PROBE, PROBE_SHARE, one) for one in probes if one != first),
        *(training + tuning if many_small else tuning + training),
        Slot("the best training with another seed", VARIATION, 1.0, varied=SEED),
        Slot("the best training with pseudo-labels", VARIATION, 1.0, varied=ROUNDS),
    ]
    if probes:
        slots.append(Slot("the best probe in four views", VARIATION, 1.0, varied=ORIENTATIONS))
    slots += [Slot(f"the best training with {seed}", VARIATION, 1.0, varied=seed) for seed in MORE_SEEDS]
    plan = Plan(contest, tuple(candidates), tuple(slots), usable, one_fold=least_seconds(first) > usable)
    begun = decide(plan, slots[0], Past())
    left = usable - begun.seconds if isinstance(begun, Step) else usable
    return replace(plan, slots=(slots[0], *(slot for slot in slots[1:] if may_fit(plan, slot, left))))


def may_fit(plan: Plan, slot: Slot, left: float) -> bool:
    """Return whether a step could fit in the seconds left, with the scores that suit it best."""
    kinds = {slot.kind} if slot.kind != VARIATION else _varied_kinds(slot)
    cheapest = min(
        (
            seconds_of(plan.contest, one, one.least, plan.folds_of_a_run)
            for one in plan.candidates
            if one.kind in kinds and slot.candidate in (None, one)
        ),
        default=math.inf,
    )
    share = slot.share if slot.kind == PROBE else 1.0
    return cheapest * _longer(plan.contest, slot) <= share * left


def _varied_kinds(slot: Slot) -> set[str]:
    return {PROBE} if slot.varied == ORIENTATIONS else {FINETUNE, SCRATCH}


def _longer(contest: Contest, slot: Slot) -> float:
    """Return how many times as long as the run itself its variation takes."""
    if slot.varied == ROUNDS:
        return 2 + 0.5 * contest.num_test / contest.trained_on  # half of the test images get labels
    return 2.0 if slot.varied == ORIENTATIONS else 1.0


def decide(plan: Plan, slot: Slot, past: Past) -> Step | str:
    """Return the step of a slot, or why there is none, by the plan and the past alone."""
    left = plan.seconds - past.planned
    if slot.kind == VARIATION:
        return _vary(plan, slot, past, left)
    candidate = slot.candidate or _trained_candidate(plan, slot, past, left)
    if candidate is None:
        return "there is no further network"
    is_first, allowed = not past.decided, slot.share * left
    epochs, least = 0, 0 if not past.decided else candidate.least
    if candidate.kind != PROBE:
        epochs = fitting_epochs(plan.contest, candidate, allowed, plan.folds_of_a_run)
        if epochs < least:  # a short training is worth more than what comes after it
            allowed = left
            epochs = min(least, fitting_epochs(plan.contest, candidate, left, plan.folds_of_a_run))
        epochs = max(epochs, 1) if is_first else epochs  # there must be an answer
    needed = seconds_of(plan.contest, candidate, max(epochs, least), plan.folds_of_a_run)
    if not is_first and (needed > allowed or epochs < least):
        return f"needs {needed:,.0f} s, and may take {allowed:,.0f} s of the {left:,.0f} s left"
    length = f"{epochs} of {candidate.epochs} epochs, " if epochs else ""
    why = f"{length}about {needed:,.0f} s of the {left:,.0f} s left"
    name, words = candidate.run_name(epochs), candidate.words(epochs)
    if name in [step.run for step in past.decided]:
        return f"{name} is a step already"
    return Step(slot.name, name, slot.kind, words, needed, why, candidate, epochs)


def _trained_candidate(plan: Plan, slot: Slot, past: Past, left: float) -> Candidate | None:
    """Return the costliest of the slot's candidates of which half of the epochs fit, or else the cheapest.

    To be fine-tuned is the network of the slot's rank, at one of the sides. The second recipe from scratch is
    none that is trained already, the first answer's included.
    """
    fitting = [one for one in plan.candidates if one.kind == slot.kind]
    if slot.kind == SCRATCH and slot.rank:
        trained = [step.candidate for step in past.decided]
        fitting = [one for one in fitting if one not in trained]
    if slot.kind == FINETUNE:
        probed = list(dict.fromkeys(step.candidate.network for step in past.best(PROBE)))
        if slot.rank >= len(probed):
            return None
        fitting = [one for one in fitting if one.network == probed[slot.rank]]
    folds = plan.folds_of_a_run
    fitting.sort(key=lambda one: -training_seconds(plan.contest, one, one.epochs, folds))
    for one in fitting:
        if fitting_epochs(plan.contest, one, slot.share * left, folds) >= one.epochs / 2:
            return one
    return fitting[-1] if fitting else None


def _vary(plan: Plan, slot: Slot, past: Past, left: float) -> Step | str:
    """Return the best run with another setting; in less time than it took it has fewer epochs.

    A probe is seen in other views. Pseudo-labels come from a run of as many epochs.
    """
    # a first answer may have so few epochs that another one is not worth its time
    ranked = [step for step in past.best(*_varied_kinds(slot)) if step.epochs >= step.candidate.least]
    if not ranked:
        return "there is no run to vary"
    if slot.varied == ROUNDS and not plan.contest.num_test:
        return "there are no test images"
    best, longer = ranked[0], _longer(plan.contest, slot)
    epochs, needed = best.epochs, longer * best.seconds
    if needed > left and epochs and slot.varied != ROUNDS:
        fitting = fitting_epochs(plan.contest, best.candidate, left, plan.folds_of_a_run)
        if fitting >= best.candidate.least:
            epochs = fitting
            needed = training_seconds(plan.contest, best.candidate, epochs, plan.folds_of_a_run)
    if needed > left:
        return f"needs {needed:,.0f} s, and {left:,.0f} s are left"
    ending = {ROUNDS: "pseudo-labels", ORIENTATIONS: "four-views"}.get(
        slot.varied, slot.varied.replace("=", "-")
    )
    shorter = f", {epochs} epochs" if epochs != best.epochs else ""
    why = f"{best.run} again{shorter}, about {needed:,.0f} s of the {left:,.0f} s left"
    words = (*best.candidate.words(epochs), "--set", slot.varied)
    run = f"{best.candidate.run_name(epochs)}-{ending}"
    return Step(slot.name, run, slot.kind, words, needed, why, best.candidate, epochs)
