"""The plan of a campaign: which steps, in which order, and how long each may take, by stated arithmetic.

A plan depends on the contest, the networks at hand and their measured speeds, and is written down first.
Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import replace

from foldsmith.campaign.costs import FINETUNE, PROBE, SCRATCH, VARIATION, Candidate, Contest, seconds_of
from foldsmith.campaign.steps import (
    ORIENTATIONS,
    ROUNDS,
    SEED,
    SHIFTED,
    Past,
    Plan,
    Slot,
    Step,
    decide,
    may_fit,
)
from foldsmith.recipes.borrowed import MOST_SMALL_IMAGES, SMALL_SIDE

# of the time that is planned, but for some seconds; the rest is for blends, pages, and steps that take longer
USABLE, SPARED = 0.95, 30.0
# shares of the time left that a step may take: a first answer by a probe, or from scratch, where it teaches
# nothing about the later steps; a further probe, a training
FIRST_SHARE, QUICK_SHARE, PROBE_SHARE, TRAINING_SHARE = 0.25, 0.1, 0.2, 0.85
FEW = 2_000  # training images; with fewer no network is trained from scratch beside borrowed ones
MORE_SEEDS = tuple(f"seed={seed}" for seed in range(2, 6))  # where a long budget leaves time


def make_plan(contest: Contest, candidates: Sequence[Candidate], seconds: float) -> Plan:
    """Return the plan for that many seconds, of at least one candidate.

    First comes an answer: the costliest probe at its usual side that fits in FIRST_SHARE, as larger networks
    are likely to be better, or else the costliest at another side, or else the candidate that is done first.
    Then come the other probes, training from scratch and fine-tuning of the best networks, in the order of
    what they promise for such images, then the best of them at another side, and variations of the best runs.
    Steps that cannot fit whatever the scores are left out, so that none of them counts against the others.
    """
    usable = USABLE * seconds - SPARED

    def least_seconds(candidate: Candidate) -> float:
        return seconds_of(contest, candidate, min(candidate.epochs, 1), contest.num_folds)

    by_cost = sorted(candidates, key=least_seconds)
    probes = [one for one in by_cost if one.kind == PROBE]
    scratch = [one for one in by_cost if one.kind == SCRATCH]
    quick = [one for one in probes if least_seconds(one) <= FIRST_SHARE * usable - contest.preparing]
    quick.sort(key=lambda one: one.usual)  # the costliest of those at the usual side is the last
    first = quick[-1] if quick else next(one for one in by_cost if one.kind != FINETUNE)
    num_networks = len({one.network for one in candidates if one.kind == FINETUNE})
    ranks = list(enumerate(("best", "second", "third")))[:num_networks]
    tuning = [
        Slot(f"fine-tune the {name} network", FINETUNE, TRAINING_SHARE, rank=rank) for rank, name in ranks
    ]
    tuning += [
        Slot(f"fine-tune the {name} network at another side", FINETUNE, TRAINING_SHARE, rank=rank)
        for rank, name in ranks[:1]
    ]
    training = []
    if scratch and (not quick or contest.num_images >= FEW):
        training = [
            Slot(name, SCRATCH, TRAINING_SHARE, rank=rank)
            for rank, name in enumerate(("train from scratch", "train another recipe from scratch"))
        ][: max(1, len(scratch) - 1)]
    many_small = contest.side < SMALL_SIDE and contest.num_images > MOST_SMALL_IMAGES
    share = FIRST_SHARE if first.kind == PROBE or len(candidates) == 1 else QUICK_SHARE
    slots = [
        Slot(f"{'probe' if first.kind == PROBE else 'train'} {first.name}", first.kind, share, first),
        *(Slot(f"probe {one.name}", PROBE, PROBE_SHARE, one) for one in probes if one != first),
        *(training + tuning if many_small else tuning + training),
        Slot("the best training in shifted views", VARIATION, 1.0, varied=SHIFTED),
        Slot("the best training with another seed", VARIATION, 1.0, varied=SEED),
    ]
    if contest.num_test and contest.can_pseudo_label:
        slots.append(Slot("the best training with pseudo-labels", VARIATION, 1.0, varied=ROUNDS))
    if probes:
        slots.append(Slot("the best probe in four views", VARIATION, 1.0, varied=ORIENTATIONS))
    slots += [Slot(f"the best training with {seed}", VARIATION, 1.0, varied=seed) for seed in MORE_SEEDS]
    slots = tuple(replace(slot, position=position) for position, slot in enumerate(slots))
    plan = Plan(contest, tuple(candidates), slots, usable, one_fold=least_seconds(first) > usable)
    begun = decide(plan, slots[0], Past())
    left = usable - begun.seconds if isinstance(begun, Step) else usable
    return _of_those_that_fit(replace(plan, slots=slots[:1]), slots[1:], left)


def plan_rest(plan: Plan, past: Past, seconds: float, number: int) -> Plan | None:
    """Return a plan of that many seconds more, if steps took less time than planned; None if nothing fits.

    Its slots are those of `plan` that are no step of the past, and those that it left out, by the same rules.
    `number` is that of the plan, from 2 on: it ends the names of the slots.
    """
    done = {step.slot for step in past.decided}
    slots = [slot for slot in (*plan.slots, *plan.left_out) if slot.name not in done]
    slots.sort(key=lambda slot: slot.position)
    empty = replace(plan, slots=(), seconds=past.planned + seconds)
    rest = _of_those_that_fit(empty, [slot.numbered(number) for slot in slots], seconds)
    return rest if any(isinstance(decide(rest, slot, past), Step) for slot in rest.slots) else None


def _of_those_that_fit(plan: Plan, slots: Sequence[Slot], left: float) -> Plan:
    """Return the plan with those of the slots that may fit in the seconds left; the others are left out."""
    fitting = tuple(slot for slot in slots if may_fit(plan, slot, left))
    others = tuple(slot for slot in slots if slot not in fitting)
    return replace(plan, slots=(*plan.slots, *fitting), left_out=others)
