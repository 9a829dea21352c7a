"""Campaigns: the plan by arithmetic, which steps are kept, and an answer after every interruption."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from conftest import MakeCompetition, naming
from scipy.stats import binom

import blend
import campaign as stage
import run as all_stages
from foldsmith.campaign import in_turn, side_by_side, work
from foldsmith.campaign import journal as states
from foldsmith.campaign.costs import (
    FINETUNE,
    PROBE,
    SCRATCH,
    VARIATION,
    Candidate,
    Contest,
    seconds_of,
    training_seconds,
)
from foldsmith.campaign.in_turn import InTurn
from foldsmith.campaign.journal import Answer, Entry, Journal
from foldsmith.campaign.judge import (
    LEVEL,
    SHARE_OF_A_PLAN,
    Images,
    Verdict,
    allowed_p,
    answer_of,
    choose,
    judge,
    nested_answer,
)
from foldsmith.campaign.page import Page, trend_in_words
from foldsmith.campaign.place import Place
from foldsmith.campaign.plan import make_plan, plan_rest
from foldsmith.campaign.steps import (
    NUMBERED,
    SHIFTED,
    Past,
    Plan,
    Step,
    decide,
    first_name,
    may_fit,
    most_steps,
)
from foldsmith.campaign.work import Campaign
from foldsmith.campaign.written import WrittenPlans
from foldsmith.errors import InputError
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.resampling import gain_with_error
from foldsmith.grid.driver import Progress
from foldsmith.grid.jobs import Needs
from foldsmith.grid.plan import GridRun
from foldsmith.process.files import load_json, save_json
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, write_stamp
from foldsmith.tasks import build_task
from foldsmith.tasks.metrics import find_metric

CLASSES, FOLDS = 4, 3


def candidate(name: str, kind: str, network: str = "", **words: object) -> Candidate:
    """Return a candidate that predicts 100 images a second and trains 20."""
    epochs = 0 if kind == PROBE else 10
    speeds = {"forward": 100.0, "training": 20.0}
    defaults = {"settings": (), "size": 64, "epochs": epochs, "least": epochs // 2, **speeds}
    return Candidate(name, kind, network or name, kind, **{**defaults, **words})


def follow(plan: Plan, quality: dict[str, float]) -> dict[str, Step | str]:
    """Return what becomes of every slot if runs have these qualities; a run that is not named has 0."""
    past, decided = Past(), {}
    for slot in plan.slots:
        step = decided[slot.name] = decide(plan, slot, past)
        if isinstance(step, Step):
            past.decided.append(step)
            past.finished.append((step, quality.get(step.run, 0.0)))
    return decided


BORROWED = [
    candidate("slow-128", PROBE, "slow", forward=20.0, size=128),
    candidate("fast-128", PROBE, "fast", size=128),
    candidate("slow-128", FINETUNE, "slow", size=128),
    candidate("fast-128", FINETUNE, "fast", size=128),
    candidate("fast-192", FINETUNE, "fast", size=192, training=8.0),
    candidate("small", SCRATCH),
]


@pytest.mark.parametrize("seconds", [300, 1200, 3600, 20_000])
@pytest.mark.parametrize("candidates", [BORROWED, BORROWED[-1:]])
def test_a_plan_fits_its_budget_and_is_the_same_from_its_file(
    seconds: float, candidates: list[Candidate]
) -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    plan = make_plan(contest, candidates, seconds)
    again = Plan.of_json(json.loads(json.dumps(plan.as_json())))
    decided = follow(plan, {})
    assert again == plan and follow(again, {}) == decided
    steps = [step for step in decided.values() if isinstance(step, Step)]
    quickest = min(seconds_of(contest, one, min(one.epochs, 1), 5) for one in candidates)
    # the first answer is given whatever it takes, but not a longer one than need be
    assert sum(step.seconds for step in steps) <= max(seconds, quickest + contest.preparing)
    assert len({step.run for step in steps}) == len(steps)


@pytest.mark.parametrize("lacking", [{"num_test": 0}, {"can_pseudo_label": False}])
def test_pseudo_labels_are_planned_only_where_there_can_be_some(lacking: dict[str, object]) -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    names = [[slot.name for slot in make_plan(one, BORROWED, 50_000).slots]
             for one in (contest, replace(contest, **lacking))]  # fmt: skip
    assert set(names[0]) - set(names[1]) == {"the best training with pseudo-labels"}


def test_the_network_that_was_probed_best_is_tuned_at_the_largest_side_that_fits() -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    long, short = (make_plan(contest, BORROWED, seconds) for seconds in (50_000, 3_000))
    for plan, sides in ((long, {"fast": 192, "slow": 128}), (short, {"fast": 128, "slow": 128})):
        for best in ("fast", "slow"):
            step = follow(plan, {f"probe-{best}-128": 1.0})["fine-tune the best network"]
            assert isinstance(step, Step)
            assert (step.candidate.network, step.candidate.size) == (best, sides[best])
    seed = follow(long, {"finetune-slow-128-10-epochs": 2.0})["the best training with another seed"]
    assert isinstance(seed, Step) and seed.words[-2:] == ("--set", "seed=1")
    assert seed.run.startswith("finetune-slow-128")


def test_the_first_answer_is_a_probe_that_leaves_time_or_what_is_done_first() -> None:
    sides = {128: 100.0, 224: 40.0, 288: 20.0}
    probes = [
        candidate(f"net-{side}", PROBE, "net", size=side, forward=forward, usual=side == 224)
        for side, forward in sides.items()
    ]
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    many = replace(contest, num_images=50_000, num_test=10_000)
    for where, seconds, first in (
        (contest, 3_000, "net-224"),  # the side of pretraining, though the costliest fits too
        (contest, 450, "net-128"),  # the costliest that fits in a quarter
        (many, 3_000, "small"),  # no probe leaves time for anything
    ):
        plan = make_plan(
            where, [*probes, candidate("small", SCRATCH, forward=2000.0, training=900.0)], seconds
        )
        assert plan.slots[0].candidate is not None and plan.slots[0].candidate.name == first
        step = decide(plan, plan.slots[0], Past())
        assert isinstance(step, Step) and step.seconds <= plan.seconds


def test_another_seed_has_the_epochs_that_are_left() -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    plan = make_plan(contest, [BORROWED[-1]], 6_000)
    decided = follow(plan, {"scratch-small-10-epochs": 1.0})
    seed = decided["the best training with another seed"]
    assert isinstance(seed, Step) and BORROWED[-1].least <= seed.epochs < 10
    assert seed.seconds == training_seconds(contest, BORROWED[-1], seed.epochs, 5)
    steps = [step for step in decided.values() if isinstance(step, Step)]
    assert sum(step.seconds for step in steps) <= plan.seconds
    assert all(step.words[:4] == BORROWED[-1].words(step.epochs)[:4] for step in steps)


def test_a_larger_network_is_trained_though_a_small_one_has_more_epochs() -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=32)
    small = candidate("small", SCRATCH, epochs=24, training=40.0)
    large = candidate("large", SCRATCH, training=20.0)
    assert seconds_of(contest, small, 24, 5) > seconds_of(contest, large, 10, 5)
    step = follow(make_plan(contest, [small, large], 10_000), {})["train from scratch"]
    assert isinstance(step, Step) and step.candidate == large


def test_shifted_views_have_the_time_that_the_best_training_leaves() -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    one = replace(BORROWED[-1], views=("identity",))
    views = 15 + 3 * (2 * 1000 + 5 * 500) / 100  # held-out images twice, test images by five folds
    epoch = training_seconds(contest, one, 2, 5) - training_seconds(contest, one, 1, 5)
    told = set()
    for seconds in range(1_800, 4_000, 30):
        plan = make_plan(contest, [one], seconds)
        names = [one.run_name(epochs) for epochs in range(5, 11)]
        decided = follow(plan, {name: float(rank + 1) for rank, name in enumerate(names)})
        first, trained, shifted, *later = decided.values()
        assert isinstance(first, Step) and isinstance(trained, Step)
        left = plan.seconds - first.seconds - trained.seconds
        assert isinstance(shifted, Step) == (left >= views)
        if isinstance(shifted, Step):
            assert shifted.seconds == pytest.approx(views)
            assert shifted.words == (*trained.words, "--set", "views=identity,up-left,down-right")
            assert shifted.trained_by == shifted.replaced == trained.run != shifted.run
            assert shifted.shortened(plan, 1e6) is None
        if not any(isinstance(step, Step) for step in later):  # no other training has time
            assert trained.epochs == 10 or left < epoch
            told.add((trained.epochs, isinstance(shifted, Step)))
    assert told >= {(8, True), (8, False), (9, True), (9, False), (10, True)}


@pytest.mark.parametrize("seconds", [100, 600, 3_000, 20_000])
def test_the_rest_of_a_budget_is_planned_for_what_was_left_out(seconds: float) -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    plan, past = make_plan(contest, BORROWED, 3_000), Past()
    for slot in plan.slots:
        step = decide(plan, slot, past)
        if isinstance(step, Step):
            past.decided.append(step)
            past.finished.append((step, float(len(past.decided))))
    before, names = past.planned, [step.run for step in past.decided]
    rest = plan_rest(plan, past, seconds, 2)
    steps = []
    for slot in rest.slots if rest else ():
        step = decide(rest, slot, past)
        if isinstance(step, Step):
            steps.append(step)
            past.decided.append(step)
            past.finished.append((step, 0.0))
    assert bool(steps) == (rest is not None) == (seconds > 100)
    assert past.planned - before <= seconds and not {step.run for step in steps} & {*names}
    if rest is not None:  # the longer the rest, the more of what was left out
        assert Plan.of_json(json.loads(json.dumps(rest.as_json()))) == rest
        undone = len(plan.slots) + len(plan.left_out) - len(names)
        assert len(rest.slots) + len(rest.left_out) == undone and (not rest.left_out or seconds < 20_000)


@pytest.mark.parametrize("kind", [SCRATCH, PROBE])
def test_a_shortened_step_fits_or_is_none(kind: str) -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    one = candidate("one", kind)
    plan = make_plan(contest, [one], 6_000)
    step = Step("x", kind, one, one.epochs, 1e6, "")
    for seconds in (0, 100, 1_300, 2_500, 10_000):
        shorter = step.shortened(plan, seconds)
        if shorter is None:
            assert kind == PROBE or training_seconds(contest, one, one.least, 5) > seconds
        else:
            assert one.least <= shorter.epochs <= step.epochs and shorter.seconds <= seconds
    assert replace(step, varied="rounds=2").shortened(plan, 10_000) is None


@pytest.mark.parametrize("seconds", [200, 600, 2000, 6000, 30_000])
@pytest.mark.parametrize("candidates", [BORROWED, BORROWED[-1:]])
def test_a_step_that_cannot_fit_is_not_in_the_plan(seconds: float, candidates: list[Candidate]) -> None:
    contest = Contest(num_images=1000, num_test=500, num_folds=5, side=200)
    plan = make_plan(contest, candidates, seconds)
    names = [one.run_name(one.epochs) for one in candidates]
    first = decide(plan, plan.slots[0], Past())
    assert isinstance(first, Step)
    assert all(may_fit(plan, slot, plan.seconds - first.seconds) for slot in plan.slots[1:])
    # what is decided on is among what may fit, whatever came before
    everything = replace(plan, slots=make_plan(contest, candidates, 10**6).slots)
    for best in names:
        past, bounds, num_decided = Past(), [], []
        for index, slot in enumerate(everything.slots):
            step = decide(everything, slot, past)
            bounds.append(most_steps(plan, everything.slots[index:], plan.seconds - past.planned))
            num_decided.append(len(past.decided))
            if isinstance(step, Step):
                assert not past.decided or may_fit(plan, slot, plan.seconds - past.planned)
                past.decided.append(step)
                past.finished.append((step, float(step.run == best)))
        # no more steps come than were said to fit, the first answer apart
        come = [len(past.decided) - before for before in num_decided]
        assert all(count <= bound for count, bound in list(zip(come, bounds, strict=True))[1:])


def test_a_contest_too_large_for_its_budget_trains_one_fold() -> None:
    contest = Contest(num_images=100_000, num_test=0, num_folds=5, side=32)
    plan = make_plan(contest, [candidate("small", SCRATCH, forward=1000.0, training=500.0)], 600)
    first = decide(plan, plan.slots[0], Past())
    assert plan.one_fold and isinstance(first, Step) and "--epochs" in first.words
    assert not make_plan(replace(contest, num_images=1000), plan.candidates, 600).one_fold


def images_of(count: int, seed: int) -> tuple[Images, np.ndarray]:
    """Return images with random targets, and the logits of a network that is right on most of them."""
    draws = np.random.default_rng(seed)
    targets = draws.integers(CLASSES, size=count)
    task = build_task("multiclass", CLASSES)
    images = Images(targets, np.arange(count) % FOLDS, task, find_metric("accuracy"), seed)
    return images, draws.normal(size=(count, CLASSES)) + 1.2 * np.eye(CLASSES)[targets]


def probabilities(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits)
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def test_a_step_is_kept_by_holms_bound_of_its_gain() -> None:
    images, logits = images_of(600, seed=0)
    base = probabilities(logits)
    better = probabilities(logits + 1.5 * np.eye(CLASSES)[images.targets])
    verdict = judge(images, [base], [base, better], allowed_p(0.01, num_counted=5, num_kept=2))
    gain = images.score(answer_of(images, [base, better])) - images.score(base)
    assert verdict.kept and verdict.gain.difference == pytest.approx(gain)
    before, after = (
        found.argmax(axis=1) == images.targets for found in (base, answer_of(images, [base, better]))
    )
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    assert verdict.p == pytest.approx(binom.sf(gained - 1, gained + lost, 0.5))  # the exact sign test
    assert verdict.allowed == pytest.approx(SHARE_OF_A_PLAN * (LEVEL - 0.01) / 3)
    assert not judge(images, [base], [base, base], LEVEL).kept
    runs, counted = {"base": base, "same": base, "better": better}, {"same": (0, 2), "better": (0, 2)}
    assert choose(images, runs, counted) == ["base", "better"]
    # a run that takes the place of another stands alone, judged by its own predictions
    assert choose(images, runs, counted, {"better": "base"}) == ["better"]
    assert choose(images, runs, counted, {"better": "same"}) == ["base", "better"]
    np.testing.assert_allclose(nested_answer(images, runs, counted, {"better": "base"}), better, atol=1e-6)


def test_luck_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # as tests/benchmarks/campaign_trap.py does on the predictions of real runs, with shorter climbs
    monkeypatch.setattr("foldsmith.comparison.blend_weights.NUM_STEPS", 8)
    monkeypatch.setattr("foldsmith.comparison.blend_weights.NUM_BAGS", 2)
    kept, seeds, better = 0, 60, 0
    for seed in range(seeds):
        images, logits = images_of(240, seed)
        base, lucky, draws = probabilities(logits), logits.copy(), np.random.default_rng(seed)
        right = base.argmax(axis=1) == images.targets
        num_gained = draws.binomial(30, 0.5)
        gained = draws.permutation(np.flatnonzero(~right))[:num_gained]
        lost = draws.permutation(np.flatnonzero(right))[: 30 - num_gained]
        lucky[gained, images.targets[gained]] += 5
        lucky[lost, (images.targets[lost] + 1) % CLASSES] += 5
        run = probabilities(lucky)
        gain = gain_with_error(images.targets, base, run, images.metric)
        better += gain.exceeds_error and gain.difference > 0
        kept += judge(images, [base], [base, run], allowed_p(0, num_counted=4, num_kept=0)).kept
    # a person who keeps what is better by one error keeps a sixth of such runs
    assert kept <= LEVEL * seeds < better


def test_the_nested_answer_of_an_image_does_not_depend_on_its_fold() -> None:
    images, logits = images_of(300, seed=1)
    draws = np.random.default_rng(2)
    runs = {name: probabilities(logits + draws.normal(size=logits.shape)) for name in ("a", "b", "c")}
    counted = dict.fromkeys(runs, (0, 2))
    nested = nested_answer(images, runs, counted)
    own = images.folds == 0
    # other targets of the fold, and other images' order, change nothing of its own answer
    changed = replace(images, targets=np.where(own, 0, images.targets))
    assert np.array_equal(nested_answer(changed, runs, counted)[own], nested[own])
    assert nested.shape == logits.shape and np.allclose(nested.sum(axis=1), 1, atol=1e-5)


class WithinThisProcess(InTurn):
    """Runs the stages here. `stops` says for a call, counted from 1, whether it is interrupted, and when.

    It is "before" or "after" the run; with "fails" the run fails.
    """

    def __init__(self, place: Place, stops: Mapping[int, str]) -> None:
        super().__init__(place, one_fold=False)
        self.place, self.stops, self.calls = place, stops, 0

    def run(self, step: Step, seconds: float, save: Callable[[], None]) -> tuple[str, str]:
        self.calls += 1
        save()
        when = self.stops.get(self.calls)
        if when == "before":
            raise KeyboardInterrupt
        if when == "fails":
            return states.FAILED, "the loss is not finite"
        self.place.copy_folds(step)
        assert all_stages.main([*self.place.words_of(step, False), "--until", "submit"]) == 0
        if when == "after":
            raise KeyboardInterrupt
        return states.DONE, ""


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(name="shapes", num_classes=2, per_class=8, test_per_class=2, size=16)


def campaign_of(
    folder: Path,
    output: Path,
    stops: Mapping[int, str],
    budget: float = 10_000.0,
    num_slots: int = 5,
    later: int = 0,
) -> Campaign:
    """Return a campaign of so many steps, the second of which is left out, and some for a later plan."""
    shared = ["--folds", "2", "--device", "cpu", "--precision", "fp32", "--workers", "0"]
    place = Place(folder, output / folder.name, "campaign", (*shared, "--output", str(output)), "")
    place.own.mkdir(parents=True, exist_ok=True)
    small = Candidate("small", SCRATCH, "small", "quick", ("image_size=16",), 16, 3, 1, 100.0, 10.0)
    plan = make_plan(Contest(16, 4, 2, 16, 0.5), [small], 200)
    plan = replace(plan, slots=plan.slots[:num_slots], left_out=plan.slots[num_slots:][:later])
    written = WrittenPlans(place.own / "plan.json", {}, budget, [plan], is_closed=not later)
    if written.path.is_file():
        written = WrittenPlans.load(written.path)
    page = Page(place, written, "./run.sh input/shapes --budget 4m")
    journal = Journal.load(place.own / "journal.json", budget)
    return Campaign(place, written, journal, WithinThisProcess(place, stops), page.show)


def verdicts(campaign: Campaign) -> list[tuple[object, ...]]:
    entries = campaign.journal.entries
    return [(one.slot, one.run, one.state, one.score, one.gain, one.p, one.kept) for one in entries]


def test_an_interrupted_campaign_does_the_same_and_plans_for_time_left_over(
    folder: Path, tmp_path: Path
) -> None:
    done = campaign_of(folder, tmp_path / "whole", {}, num_slots=2, later=3)
    done.work()
    first, *later = done.written.plans
    assert len(later) == 1 and done.written.is_closed
    names = {slot.name for slot in first.left_out}
    assert {first_name(slot.name) for slot in later[0].slots} >= names
    ran = [entry for entry in done.journal.entries if entry.state == states.DONE]
    assert len(ran) == 4 and all(NUMBERED in entry.slot and entry.plan == 1 for entry in ran[1:])
    page = (done.place.own / "campaign.html").read_text()
    # a slot that was planned again is told once, as it ended
    told = {entry.slot for entry in done.journal.entries if f">{entry.slot}<" in page}
    assert {first_name(slot) for slot in told} == {first_name(entry.slot) for entry in done.journal.entries}
    assert {entry.slot for entry in ran} <= told and len(told) == done.written.num_slots
    # the same command has nothing to do
    again = campaign_of(folder, tmp_path / "whole", {1: "fails"}, num_slots=2, later=3)
    again.work()
    assert verdicts(again) == verdicts(done) and again.written.plans == done.written.plans
    assert again.journal.answers == done.journal.answers
    # killed before the rest is planned, before its first step and after it, a campaign does the same
    for when in ("after", "before", "after"):
        with pytest.raises(KeyboardInterrupt):
            campaign_of(folder, tmp_path / "killed", {1: when}, num_slots=2, later=3).work()
    killed = campaign_of(folder, tmp_path / "killed", {}, num_slots=2, later=3)
    killed.work()
    assert verdicts(killed) == verdicts(done)
    for name in ("campaign/submission.csv", *(f"{entry.run}/oof.npz" for entry in ran)):
        own, other = (tmp_path / kind / folder.name / name for kind in ("whole", "killed"))
        assert own.read_bytes() == other.read_bytes()


def test_later_plans_share_what_dropped_steps_leave(tmp_path: Path) -> None:
    def entry(plan: int, kept: bool | None, allowed: float | None) -> Entry:
        return Entry("", states.DONE, "", plan=plan, kept=kept, allowed=allowed, p=allowed and 0.5)

    entries = [entry(0, True, None), entry(0, False, 0.01), entry(0, True, 0.02), entry(0, None, None)]
    entries += [entry(1, False, 0.008), entry(1, True, 0.01)]
    journal = Journal(tmp_path / "journal.json", 100.0, entries)
    assert [journal.num_kept(plan) for plan in (0, 1, 2)] == [1, 1, 0]
    spent = [journal.spent_by_others(plan) for plan in (0, 1, 2)]
    assert spent == pytest.approx([0.008, 0.01, 0.018])
    # whatever is dropped and kept in whatever plans, dropped steps were allowed no more than LEVEL together
    draws = np.random.default_rng(0)
    for _ in range(200):
        by_plan: list[float] = []
        for plan in range(4):
            count, kept, dropped = int(draws.integers(1, 6)), 0, 0.0
            for _ in range(count):
                allowed = allowed_p(sum(by_plan), count, kept)
                assert allowed > 0 and sum(by_plan) + dropped + allowed <= LEVEL + 1e-12
                if draws.random() < 0.3:
                    kept += 1
                else:
                    dropped += allowed
            assert len(by_plan) == plan
            by_plan.append(dropped)


def test_steps_side_by_side_take_time_of_the_budget(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(Journal, "seconds", property(lambda journal: now[0]))

    class Beside(WithinThisProcess):
        ended: ClassVar = {}

        def prepare(self, steps: Sequence[Step], seconds: float, save: Callable[[], None]) -> bool:
            for step in steps:
                self.ended[step.run] = super().run(step, seconds, save)
                now[0] += 3_000 / len(steps)
            return True

        def run(self, step: Step, seconds: float, save: Callable[[], None]) -> tuple[str, str]:
            return self.ended[step.run]

    for stopped, num_plans in ((False, 2), (True, 1)):
        begun = now[0]
        done = campaign_of(folder, tmp_path / str(stopped), {}, budget=6_600.0, num_slots=2, later=3)
        runner = Beside(done.place, {})
        runner.is_stopped = stopped
        done = Campaign(done.place, done.written, done.journal, runner, lambda journal: None)
        done.work()
        assert done.journal.side_by_side == now[0] - begun == 3_000 * num_plans
        assert len(done.written.plans) == num_plans and done.written.is_closed != stopped


def test_an_interrupted_step_is_cut_when_it_would_have_been(folder: Path, tmp_path: Path) -> None:
    entries = [Entry("a", states.DONE, "", "a", planned=100, took=100, kept=True)]
    entries.append(Entry("b", states.RUNNING, "", "b", planned=800, took=30, interrupted=True))
    campaign = campaign_of(folder, tmp_path, {}, budget=1_000.0)
    campaign.journal.entries = entries
    assert campaign._seconds_until_cut(entries[1]) == pytest.approx(1_020 - 100)
    entries[1].interrupted = False
    assert campaign._seconds_until_cut(entries[1]) == pytest.approx(1_020 - 100)
    assert campaign._seconds_until_cut() == pytest.approx(1_020 - 130)


def test_a_gain_that_is_not_defined_keeps_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undefined = Verdict(PairedDifference(np.nan, np.inf), 1.0, 0.01)
    monkeypatch.setattr(work, "judge", lambda *words: undefined)
    done = campaign_of(folder, tmp_path, {}, num_slots=3)
    done.work()
    judged = [entry for entry in done.journal.entries if entry.p is not None]
    assert judged and all(entry.kept is False and entry.gain is None for entry in judged)
    assert done.place.submission.is_file()


def test_a_step_that_fails_or_does_not_fit_leaves_the_answer(folder: Path, tmp_path: Path) -> None:
    done = campaign_of(folder, tmp_path, {2: "fails", 3: "fails"})
    done.work()
    by_slot = {entry.slot: entry for entry in done.journal.entries}
    assert by_slot["the best training with another seed"].state == states.FAILED
    assert by_slot["train from scratch"].state == states.LEFT_OUT
    assert done.journal.kept[0] == "quick-small-3-epochs" and done.place.submission.is_file()


def test_a_step_that_would_not_end_in_time_is_shortened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "slowness", property(lambda journal: 2.0))
    done = campaign_of(folder, tmp_path, {4: "before"}, num_slots=6)
    left = training_seconds(done.plan.contest, done.plan.candidates[0], 2, 2) - 0.1  # for one epoch
    monkeypatch.setattr(Campaign, "_left", lambda campaign: 2 * left)
    with pytest.raises(KeyboardInterrupt):
        done.work()
    monkeypatch.undo()  # what was begun stays as it was, at any speed
    done = campaign_of(folder, tmp_path, {}, num_slots=6)
    done.work()
    by_slot = {entry.slot: entry for entry in done.journal.entries}
    for name in ("the best training with another seed", "the best training with seed=2"):
        entry = by_slot[name]
        least = training_seconds(done.plan.contest, done.plan.candidates[0], entry.epochs, 2)
        assert (entry.state, entry.epochs) == (states.DONE, 1) and entry.planned == least <= left
        assert entry.run.startswith("quick-small-1-epochs") and done.place.run(entry.run).submission.is_file()
    assert by_slot["the best training with pseudo-labels"].state == states.LEFT_OUT


def test_a_kept_run_is_blended_into_the_answer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with sixteen images no gain is beyond luck: here the second run is kept whatever it gains
    monkeypatch.setattr(Verdict, "kept", property(lambda verdict: True))
    monkeypatch.setattr(work, "run_stages", lambda program, words: blend.main(words[1:]))
    done = campaign_of(folder, tmp_path, {3: "fails"}, num_slots=6)
    done.work()
    trained, shifted, *others = (entry for entry in done.journal.entries if entry.kept)
    # the views of the same networks take the place of fewer views, and nothing is trained for them
    assert shifted.replaced == trained.run and len(others) == 2
    same = [done.place.run(entry.run) for entry in (trained, shifted)]
    for fold in (0, 1):  # run.json says when a fold was trained, and how long it took
        assert same[0].fold_run(fold).read_bytes() == same[1].fold_run(fold).read_bytes()
    held_out = [load_json(run.heldout_stamp(1))["views"] for run in same]
    assert held_out[1] == [*held_out[0], *(view for view in held_out[1] if "-" in view)] != held_out[0]
    assert [len(answer.runs) for answer in done.journal.answers] == [1, 1, 2, 3]
    assert done.place.submission.read_bytes() == done.place.answer.submission.read_bytes()
    held = np.load(done.place.answer.oof)
    right = (held["probabilities"].argmax(axis=1) == held["label"]).mean()
    assert load_json(done.place.answer.cv)["metrics"]["accuracy"] == pytest.approx(right)
    # the run whose place was taken can be removed: nothing is decided anew
    before, answer = verdicts(done), done.place.submission.read_bytes()
    shutil.rmtree(same[0].root)
    done = campaign_of(folder, tmp_path, {1: "fails"}, num_slots=6)
    done.work()
    assert verdicts(done) == before and done.place.submission.read_bytes() == answer
    # a run that was removed is told, and the answer is of the others
    before_removal = tmp_path / "before"
    shutil.copytree(tmp_path / folder.name, before_removal / folder.name)
    shutil.rmtree(done.place.run(done.journal.kept[-1]).root)
    done = campaign_of(folder, tmp_path, {}, num_slots=6)
    done.work()
    states_found = [entry.state for entry in done.journal.entries if entry.run]
    assert states_found.count(states.FAILED) == 2 and done.journal.answers[-1].runs == done.journal.kept
    assert done.journal.kept == [entry.run for entry in (shifted, others[0])]
    # with the run that took a place, the one whose place it was is gone too
    done = campaign_of(folder, before_removal, {}, num_slots=6)
    shutil.rmtree(done.place.run(shifted.run).root)
    done.work()
    assert done.journal.kept == [entry.run for entry in others]


def trained_run(run: RunPaths, weights: str) -> None:
    """Write two trained folds of a run, as far as a copy of them looks."""
    for fold in (0, 1):
        run.fold(fold).mkdir(parents=True, exist_ok=True)
        run.weights(fold).write_text(weights)
        run.of_fold(fold).lock.write_text("")
        write_stamp(run.fold_run(fold), {"fold": fold}, [run.weights(fold)], finished=weights)
        write_stamp(run.heldout_stamp(fold), {"fold": fold}, [])
    write_stamp(run.stamp("validate"), {}, [], trained=digests_of_trained(run, (0, 1)))
    save_json(run.identity, {"seed": 0})


def test_the_folds_of_shifted_views_are_copied_whole_from_where_they_were_trained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(folder, tmp_path / folder.name, "campaign", ("--output", str(tmp_path)), "")
    step = Step("", VARIATION, replace(candidate("small", SCRATCH), recipe="quick"), 3, 1.0, "", SHIFTED)
    source, run = place.run(step.trained_by), place.run(step.run)
    monkeypatch.setattr(in_turn, "SOURCE", tmp_path)
    (tmp_path / "run.py").write_text(FAKE_STAGES)
    runner = InTurn(place, one_fold=False)
    state, reason = runner.run(step, 60.0, lambda: None)
    assert state == states.FAILED and source.root.name in reason  # nothing is trained there
    for weights in ("first", "again"):  # trained again, it is copied again
        trained_run(source, weights)
        source.threads.write_text(weights)
        for _ in range(2):
            assert runner.run(step, 60.0, lambda: None)[0] == states.DONE
            assert (run.weights(0).read_text(), run.threads.read_text()) == (weights, weights)
        assert not run.of_fold(0).lock.exists()
    # a command that was killed while it copied, or power that failed afterwards
    run.fold_run(0).unlink()
    (run.root / ".fold0.copy").mkdir()
    place.copy_folds(step)
    run.weights(0).write_text("half")
    place.copy_folds(step)
    assert run.weights(0).read_text() == "again" and run.fold_run(0).is_file()
    assert [path.name for path in run.root.iterdir() if "copy" in path.name] == []
    save_json(run.identity, {"seed": 1})  # another run of this name
    with pytest.raises(InputError, match=naming(run.root.name, "--name")):
        place.copy_folds(step)
    run.identity.unlink()
    shutil.rmtree(source.fold(1))  # the rest would be trained in a step that predicts
    with pytest.raises(InputError, match=naming(source.root.name, "removed")):
        place.copy_folds(step)
    source.weights(0).write_text("changed")
    with pytest.raises(InputError, match=naming("weights.safetensors", "changed")):
        place.copy_folds(step)


FAKE_STAGES = """
import signal, sys, time
words = sys.argv[1:]
if "fails" in words[words.index("--name") + 1]:
    print("error: the loss is not finite")
    sys.exit(1)
if "killed" in words[words.index("--name") + 1]:
    signal.raise_signal(signal.SIGKILL)
if "long" in words[words.index("--name") + 1]:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("name", "state", "told"),
    [
        ("done", states.DONE, ""),
        ("fails", states.FAILED, "the loss is not finite"),
        ("killed", states.FAILED, "SIGKILL"),
        ("long", states.CUT, "over"),
    ],
)
def test_how_a_step_ended_is_told(
    name: str, state: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.py").write_text(FAKE_STAGES)
    monkeypatch.setattr(in_turn, "SOURCE", tmp_path)
    monkeypatch.setattr(in_turn, "LOOKS", 0.05)
    place = Place(tmp_path / "contest", tmp_path / "runs", "campaign", (), "")
    logs = place.own / "logs"
    logs.mkdir(parents=True)
    step = Step("x", SCRATCH, candidate(name, SCRATCH), 3, 1.0, "")
    (logs / f"{step.run}.log").write_text("error: an earlier one\n")
    saves: list[int] = []
    seconds = 0.1 if name == "long" else 60.0
    found, reason = InTurn(place, one_fold=False).run(step, seconds, lambda: saves.append(1))
    assert found == state and told in reason and "earlier" not in reason
    assert InTurn(place, one_fold=False).run(step, 0.0, lambda: None)[0] == states.CUT


def test_no_step_is_begun_after_the_time_and_the_first_always_is(folder: Path, tmp_path: Path) -> None:
    late = campaign_of(folder, tmp_path, {}, budget=0.1)
    late.work()
    begun = [entry for entry in late.journal.entries if entry.state != states.LEFT_OUT]
    assert [entry.slot for entry in begun] == [late.plan.slots[0].name]
    assert late.place.submission.is_file()


class FakeGrid:
    """A grid that ends as `ends` says, by run, instead of working."""

    ends: Mapping[str, tuple[str, str]] = {}

    def __init__(self, runs: Sequence[GridRun], executor: object, needs: Callable[[GridRun], Needs]) -> None:
        assert all(needs(run).gpus == 0 for run in runs)
        self.progress = {run.name: Progress(run, *self.ends[run.name]) for run in runs}
        self.is_cut_off = "training" in {progress.state for progress in self.progress.values()}

    def work(self, show: Callable[[object], None], deadline: float) -> None:
        show(self)


def test_steps_of_a_wave_run_side_by_side_on_a_cluster(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "OnRay", lambda *words: SimpleNamespace(gpus=0.0))
    monkeypatch.setattr(side_by_side, "Grid", FakeGrid)
    small = replace(candidate("small", SCRATCH), recipe="quick")
    place = Place(folder, tmp_path / folder.name, "campaign", ("--output", str(tmp_path)), "")
    steps = [Step("", SCRATCH, small, epochs, 1.0, "") for epochs in (3, 4, 5)]
    outcomes = {("done", ""): states.DONE, ("failed", "bad"): states.FAILED, ("training", ""): states.CUT}
    runner, saves = side_by_side.SideBySide(place, False, "auto"), []
    shifted = replace(steps[0], varied=SHIFTED)
    runner.prepare([shifted], 10.0, lambda: saves.append(0))
    assert runner.run(shifted, 10.0, lambda: None)[0] == states.FAILED  # no networks are there yet
    trained_run(place.run(shifted.trained_by), "weights")
    FakeGrid.ends = {shifted.run: ("done", "")}
    runner.prepare([shifted], 10.0, lambda: None)
    assert runner.run(shifted, 10.0, lambda: None)[0] == states.DONE
    assert place.run(shifted.run).weights(0).is_file()
    FakeGrid.ends = {step.run: end for step, end in zip(steps, outcomes, strict=True)}
    runner.prepare(steps, 10.0, lambda: saves.append(1))
    found = [runner.run(step, 10.0, lambda: None)[0] for step in steps]
    assert found == [states.DONE, states.FAILED, states.CUT] and saves == [1]
    # the connection ended with the time: later waves are not begun
    runner.prepare([replace(steps[0], epochs=6)], 10.0, lambda: saves.append(1))
    assert runner.run(replace(steps[0], epochs=6), 10.0, lambda: None)[0] == states.CUT and saves == [1]


def test_what_an_interruption_costs_does_not_count(tmp_path: Path) -> None:
    done = Entry("a", states.DONE, "", planned=50.0, took=100.0, judging=3.0)
    resumed = Entry("b", states.DONE, "", planned=30.0, took=500.0, interrupted=True)
    found = Entry("c", states.DONE, "", planned=40.0, took=1.0, taken_over=True)
    journal = Journal(tmp_path / "journal.json", 900.0, [done, resumed, found], planning=7.0)
    assert journal.slowness == 2.0
    assert journal.accounted == 7 + 100 + 3 + 30 * 2 + 1
    journal.save()
    assert Journal.load(journal.path, 900.0).accounted == journal.accounted


def test_a_trend_is_told_from_two_answers_on(tmp_path: Path) -> None:
    # a tenth for ten times the time, after a first answer that is far worse
    scores = {6.0: 0.0, 60.0: 0.5, 600.0: 0.6, 6000.0: 0.7}
    answers = [Answer(seconds, score, 0.01, ["a"]) for seconds, score in scores.items()]
    journal = Journal(tmp_path / "journal.json", 9000.0, [Entry("x", states.DONE, "")], answers, spent=6000.0)
    expected = 0.1 * np.log10((6000 + 3600) / 6000)
    assert f"{expected:+.4f}"[:6] in trend_in_words(journal)
    assert "+0" not in trend_in_words(replace(journal, answers=answers[:1]))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--recipe", "quick"], ["--recipe"]),
        (["--set", "lr=1"], ["--set"]),
        (["--seed", "3"], ["--seed"]),
        (["--batch-size=8"], ["--batch-size"]),
        (["--fold", "0"], ["--fold"]),
        (["--name", "a/b"], ["a/b"]),
        (["--budget", "30s"], ["30s"]),
        (["--budget", "soon"], ["soon"]),
    ],
)
def test_words_that_a_campaign_cannot_take_are_refused(words: list[str], named: list[str]) -> None:
    with pytest.raises(InputError, match=naming(*named)):
        stage.read_words(["input/x", "--budget", "20m", *words])


def test_another_budget_or_contest_is_another_plan(
    make_competition: MakeCompetition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_competition(name="shapes", num_classes=2, per_class=8, test_per_class=2, size=16)
    monkeypatch.setattr(stage, "make", lambda *words: campaign_of(folder, tmp_path / "made", {}).plan)
    words = [str(folder), "--budget", "20m", "--output", str(tmp_path)]

    def plan_of(*more: str) -> WrittenPlans:
        typed, others = stage.read_words([*words, *more])
        command = stage.read_command(others, "")
        place = stage.place_of(typed, command, others)
        place.own.mkdir(parents=True, exist_ok=True)
        return stage.written_plan(typed, command, place)

    assert plan_of() == plan_of()
    with pytest.raises(InputError, match=naming("20 min", "--name", "--again")):
        plan_of("--budget", "30m")
    plan_of("--budget", "30m", "--again")
    assert load_json(tmp_path / "shapes" / "campaign" / "plan.json")["budget"] == 1800
    path = tmp_path / "shapes" / "campaign" / "plan.json"
    held = {name: load_json(path)[name] for name in ("inputs", "budget", "plan")}  # without later plans
    path.write_text(json.dumps(held))
    assert plan_of("--budget", "30m").is_closed  # a campaign that ended is not reopened
    path.write_text(json.dumps({**held, "inputs": "0123", "plan": {}}))  # as an earlier version wrote it
    with pytest.raises(InputError, match=naming("version", "--again")):
        plan_of("--budget", "30m")
    plan_of("--budget", "30m", "--again")
    next((folder / "test").iterdir()).unlink()
    with pytest.raises(InputError, match=naming("contest", "--again")):
        plan_of("--budget", "30m")
