"""Follow a plan: decide on its steps, have them run, judge their runs, and keep an answer to hand in."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from foldsmith.campaign.in_turn import Runner
from foldsmith.campaign.journal import DONE, FAILED, LEFT_OUT, RUNNING, Answer, Entry, Journal, changed_by
from foldsmith.campaign.judge import Images, allowed_p, judge, nested_answer
from foldsmith.campaign.place import Place
from foldsmith.campaign.plan import SPARED, USABLE, plan_rest
from foldsmith.campaign.steps import WAVES, Past, Slot, Step, decide, most_steps
from foldsmith.campaign.written import WrittenPlans
from foldsmith.errors import InputError
from foldsmith.evaluation.decisions import decision_of
from foldsmith.evaluation.predictions import match_rows, stack_predictions
from foldsmith.evaluation.uncertainty import score_and_error
from foldsmith.grid.scores import load_held_out, metric_of
from foldsmith.process.files import atomic_copy, load_json
from foldsmith.process.pipeline import run_stages
from foldsmith.process.terminal import format_score, in_time, say, with_error
from foldsmith.tasks import Task

SOURCE = Path(__file__).parents[2]  # src/
# shares of the budget: until when a step should end, and when it is cut, as it may be almost done
SHOULD_END, CUT_AT = 0.97, 1.02
UNSCORED = -1e30  # the quality of a run that its metric does not define: a number that JSON holds
LEAST_REST = 0.05  # of the budget: less that is left over is not planned for


class Campaign:
    """Plans that are followed: `show` is called with the journal whenever something has changed."""

    def __init__(
        self,
        place: Place,
        written: WrittenPlans,
        journal: Journal,
        runner: Runner,
        show: Callable[[Journal], None],
    ) -> None:
        self.place, self.written, self.journal = place, written, journal
        self.plan, self._number = written.plans[0], 0  # the one that is followed
        self._runner, self._show = runner, show
        self._past, self._held_out = Past(), dict[str, np.ndarray]()
        self._decided = dict[str, Step | str]()  # by slot: a step, or why there is none
        self._images: Images | None = None
        self._paths: list[str] = []

    def work(self) -> None:
        """Do all steps that are not done; then score the answer without luck in choosing."""
        while self._number < len(self.written.plans) or self._plan_rest():
            self.plan = self.written.plans[self._number]
            self._follow()
            self._forget_left_out()
            self._number += 1
        self._runner.stop()
        self._close()

    def _plan_rest(self) -> bool:
        """Plan for the time that is left over, if that is much and no command did; return whether it did."""
        if self.written.is_closed or self._runner.is_stopped or not self.journal.judged:
            return False
        # at the end every verdict is made again without each fold
        left = self._left() - SPARED - self.plan.contest.num_folds * self.journal.judging
        rest = None
        if left >= LEAST_REST * self.journal.budget:
            seconds = USABLE * left / self.journal.slowness
            rest = plan_rest(self.plan, self._past, seconds, len(self.written.plans) + 1)
        if rest is None:
            self.written.close()
            return False
        self.written.add(rest)
        say(f"campaign: {in_time(left)} are left over: up to {len(rest.slots)} steps more")
        return True

    def _forget_left_out(self) -> None:
        """Forget the steps that were left out by the clock: a later plan may plan them again."""
        left_out = {entry.slot for entry in self.journal.entries if entry.state == LEFT_OUT}
        self._past.decided = [step for step in self._past.decided if step.slot not in left_out]

    def _follow(self) -> None:
        """Do all steps of the plan that are not done, in their waves."""
        entries = {entry.slot: entry for entry in self.journal.entries}
        for _, wave in groupby(self.plan.slots, key=lambda slot: WAVES[slot.kind]):
            slots = list(wave)
            self._decide(slots)
            decided = [(slot, self._decided[slot.name]) for slot in slots]
            open_steps = [
                step for slot, step in decided if isinstance(step, Step) and slot.name not in entries
            ]
            were_run = self._side_by_side(open_steps)
            for slot, step in decided:
                entry = entries.get(slot.name)
                if entry is None:
                    entry = self._begin(slot, step if were_run else self._fitted(step))
                if isinstance(step, str) or entry.state == LEFT_OUT:
                    continue
                step = replace(step, epochs=entry.epochs, seconds=entry.planned)
                if not entry.is_over:
                    entry.interrupted = slot.name in entries
                    self._run(entry, step)
                if entry.state == DONE:
                    self._take_note(entry, step)
                elif entry.quality is not None:  # it was judged, and its run is gone
                    self._past.finished.append((step, entry.quality))

    def _side_by_side(self, steps: Sequence[Step]) -> bool:
        """Return whether the runner ran the steps of a wave side by side; the time is written down."""
        before, begun = self.journal.side_by_side, self.journal.seconds

        def save() -> None:
            self.journal.side_by_side = before + self.journal.seconds - begun
            self.journal.save()

        if not self._runner.prepare(steps, self._seconds_until_cut(), save):
            return False
        save()
        return True

    def _decide(self, slots: Sequence[Slot]) -> None:
        """Decide on the steps of a wave; a step that is left out by the plan takes no time."""
        for slot in slots:
            step = self._decided[slot.name] = decide(self.plan, slot, self._past)
            if isinstance(step, Step):
                self._past.decided.append(step)

    def _counted(self) -> int:
        """Return how many steps the plan judges at most: those that it decided on, and those it still may.

        It depends on no clock, and on the scores of earlier waves alone. The first answer is not judged.
        """
        slots = {slot.name for slot in self.plan.slots}
        left = self.plan.seconds - self._past.planned
        open_slots = [slot for slot in self.plan.slots if slot.name not in self._decided]
        decided = sum(step.slot in slots for step in self._past.decided[1:])
        return decided + most_steps(self.plan, open_slots, left)

    def _fitted(self, step: Step | str) -> Step | str:
        """Return the step, or a shorter one if it would not end in time at the speed so far, or why not."""
        slowness, left = self.journal.slowness, self._left()
        if isinstance(step, str) or not self.journal.judged or step.seconds * slowness <= left:
            return step
        needed = step.seconds * slowness
        why = f"at the speed so far it needs {in_time(needed)}, and {in_time(max(0, left))} are left"
        return step.shortened(self.plan, left / slowness) or why

    def _begin(self, slot: Slot, step: Step | str) -> Entry:
        """Write down that a step is begun, or why it is not."""
        if isinstance(step, str):
            entry = Entry(slot.name, LEFT_OUT, step)
        else:
            entry = Entry(slot.name, RUNNING, step.why, step.run, list(step.words), step.epochs, step.seconds)
            entry.replaced, entry.plan = step.replaced, self._number
            entry.taken_over = self.place.run(step.run).stamp("report").is_file()
        self.journal.entries.append(entry)
        self.journal.save()
        say(f"campaign: {slot.name}: {entry.why}")
        return entry

    def _left(self) -> float:
        """Return the seconds of the budget that are left for a step."""
        return SHOULD_END * self.journal.budget - self.journal.accounted

    def _seconds_until_cut(self, entry: Entry | None = None) -> float:
        """Return the seconds after which a step is cut; there is no limit as long as there is no answer.

        A step that was interrupted has the time that it had.
        """
        if not self.journal.judged:
            return math.inf
        own = self.journal.accounted_for(entry) if entry else 0.0
        return CUT_AT * self.journal.budget - self.journal.accounted + own

    def _run(self, entry: Entry, step: Step) -> None:
        begun, limit = self.journal.seconds - entry.took, self._seconds_until_cut(entry)

        def save() -> None:
            entry.took = self.journal.seconds - begun
            self.journal.save()

        entry.state, reason = self._runner.run(step, limit, save)
        entry.why = reason or entry.why
        save()
        if entry.state != DONE:
            say(f"campaign: {entry.slot} {entry.state}: {entry.why}")
            self._show(self.journal)

    def _take_note(self, entry: Entry, step: Step) -> None:
        """Score a finished run and judge it, unless the journal says how it was judged."""
        try:
            predictions, task = self._load(step.run)
        except (InputError, FileNotFoundError) as error:
            if entry.quality is not None:  # later steps stay as they were
                self._past.finished.append((step, entry.quality))
            if entry.quality is None or step.run in self.journal.kept:
                self._give_up(entry, f"its predictions cannot be used: {error}")
            return
        images = self._images
        self._held_out[step.run] = predictions
        begun = self.journal.seconds
        if entry.quality is None:
            entry.score, entry.error = score_and_error(images.targets, predictions, images.metric.name, task)
            entry.quality = UNSCORED if entry.score is None else images.metric.sign * entry.score
        self._past.finished.append((step, entry.quality))
        if entry.kept is not None:
            return
        kept = self.journal.kept
        if not kept:
            entry.kept = True
        else:
            entry.counted, plan = self._counted(), entry.plan
            spent, num_kept = self.journal.spent_by_others(plan), self.journal.num_kept(plan)
            allowed = allowed_p(spent, entry.counted, num_kept)
            changed = changed_by(kept, step.run, entry.replaced)
            both = ([self._held_out[name] for name in names] for names in (kept, changed))
            verdict = judge(images, *both, allowed)
            if math.isfinite(verdict.gain.difference):  # the metric defines it
                entry.gain, entry.gain_error = verdict.gain.difference, verdict.gain.known_error
            entry.p, entry.allowed, entry.kept = verdict.p, verdict.allowed, verdict.kept
        if entry.kept and not self._hand_in():
            entry.kept, entry.why = False, "its blend with the answer failed; the messages stand above"
        entry.judging = self.journal.seconds - begun
        self.journal.save()
        say(f"campaign: {self.place.folder_of(entry.run)} {in_words(entry, self.journal.verdict_of(entry))}")
        self._show(self.journal)

    def _give_up(self, entry: Entry, why: str) -> None:
        """Write down that a run is gone, and with it the one whose place it took, if that is gone too."""
        entry.state, entry.why, entry.kept = FAILED, why, None
        for other in self.journal.entries:
            if other.kept and other.run == entry.replaced and other.run not in self._held_out:
                self._give_up(other, "its predictions were removed")
        self.journal.save()

    def _load(self, name: str) -> tuple[np.ndarray, Task]:
        """Return a run's held-out predictions in the order of the first run's images, and the task."""
        run = self.place.run(name)
        task, metric = metric_of(run, self.place.metric)
        folds = [0] if self.plan.one_fold else range(self.plan.contest.num_folds)
        held_out = load_held_out(run, list(folds), task)
        if self._images is None:
            self._images = Images(held_out.targets, held_out.folds, task.with_metric(metric), metric)
            self._paths = held_out.paths
        rows = match_rows(held_out.paths, self._paths, name)
        return held_out.predictions[rows], self._images.task

    def _hand_in(self) -> bool:
        """Replace the submission by that of the runs that are kept, and write its score down.

        Return False where the blend fails, which leaves the submission as it was.
        """
        kept = self.journal.kept
        run = self.place.run(kept[0])
        if len(kept) > 1:
            run = self.place.answer
            words = [*(str(self.place.run(name).root) for name in kept), "--name", run.root.name, "--again"]
            words += ["--folder", str(self.place.contest)]
            words += ["--metric", self.place.metric] if self.place.metric else []
            status = run_stages(Path(sys.executable), [str(SOURCE / "blend.py"), *words])
            if status:
                return False
        if run.submission.is_file():
            atomic_copy(run.submission, self.place.submission)
        # the score of what is handed in: a blend may be of the best run alone, or be adjusted
        images = self._images
        predictions = stack_predictions([run.oof], self._paths, images.task)[0]
        score, error = score_and_error(images.targets, predictions, images.metric.name, images.task)
        decision = decision_of(load_json(run.cv))
        decided = decision.score if decision else None
        self.journal.nested = self.journal.nested_error = self.journal.luck = None  # of another answer
        self.journal.answers.append(Answer(self.journal.seconds, score, error, kept, decided))
        return True

    def _close(self) -> None:
        """Score the answer with every choice made anew on the other folds, and show all."""
        if not self.journal.judged:
            raise InputError(
                f"no step gave an answer; {self.place.own / 'journal.json'} says why, and logs/ holds their "
                "messages. A run of the same name with other settings or images may be in the way: remove "
                "it, or write elsewhere with --output DIR."
            )
        last = self.journal.answers[-1] if self.journal.answers else None
        kept, held = self.journal.kept, last is not None and self.place.submission.is_file()
        if not (held and last.runs == kept) and not (kept and self._hand_in()):
            raise InputError(
                f"a run of the answer in {self.place.runs} was removed or changed; plan anew with --again."
            )
        gone = [name for name in self.journal.judged if name not in self._held_out]
        if self.journal.nested is None and gone:
            say(f"campaign: what choosing adds is not known: {gone[0]} was removed")
        elif self.journal.nested is None and len(self.journal.judged) > 1:
            runs = {name: self._held_out[name] for name in self.journal.judged}
            counted = {entry.run: (entry.plan, entry.counted or 0) for entry in self.journal.entries}
            replaced = {entry.run: entry.replaced for entry in self.journal.entries}
            try:
                nested = nested_answer(self._images, runs, counted, replaced)
            except InputError as error:  # a metric that some of the folds do not define
                say(f"campaign: what choosing adds is not known: {error}")
            else:
                images = self._images
                self.journal.nested, self.journal.nested_error = score_and_error(
                    images.targets, nested, images.metric.name, images.task
                )
                score = self.journal.answers[-1].score
                if score is not None and self.journal.nested is not None:
                    self.journal.luck = images.metric.sign * (score - self.journal.nested)
        self.journal.save()
        self._show(self.journal)


def in_words(entry: Entry, verdict: str) -> str:
    """Return the score of a judged run and its verdict."""
    score = with_error(format_score(entry.score), entry.error)
    if entry.p is None:
        return f"scores {score}: the first answer"
    gain = "nothing that is defined"
    if entry.gain is not None:
        gain = with_error(f"{entry.gain:+.4f}", entry.gain_error)
    chance = f"p {entry.p:.2g} of {entry.allowed:.2g} allowed"
    return f"scores {score}; the answer gains {gain} by it, {chance}: {verdict}"
