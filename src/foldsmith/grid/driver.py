"""Work through a grid: prepare its runs, train their folds, stop the worse ones, finish the others."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from foldsmith.errors import InputError
from foldsmith.grid.executors import Executor
from foldsmith.grid.jobs import FINISH, FOLD, PREPARE, Job, Needs, Outcome, jobs_of
from foldsmith.grid.plan import GridRun
from foldsmith.grid.scores import Score, choose_stopped, load_held_out, mean_of, metric_of
from foldsmith.process.files import atomic_write
from foldsmith.process.terminal import in_time, say
from foldsmith.run.stamps import check_identity, digests_of_trained, is_from, trained_folds

OTHER_OUTPUT = "write the grid elsewhere with --output DIR"  # the names of its runs are given
WAITS = 5.0  # seconds after which the table is looked at while no job ends
WAITING, PREPARING, TRAINING, FINISHING = "waiting", "preparing", "training", "finishing"
DONE, STOPPED, FAILED = "done", "stopped", "failed"


@dataclass(frozen=True)
class Halving:
    """After `after` folds only the share `keep` of the runs goes on, apart from those that may be as good."""

    keep: float
    after: int


@dataclass
class Progress:
    """How far a run is: `state` is one of the words above, `reason` why it stopped or failed.

    `where` is by fold the machine that trained it last; `score` that of the folds so far.
    """

    run: GridRun
    state: str = WAITING
    reason: str = ""
    trained: list[int] = field(default_factory=list)
    where: dict[int, str] = field(default_factory=dict)
    score: Score | None = None

    @property
    def is_over(self) -> bool:
        return self.state in (DONE, STOPPED, FAILED)


class Grid:
    """The runs of a grid, the jobs of which an executor runs as they become ready.

    What is done already is found in the runs' folders, so that the same grid goes on after it was killed. A
    run whose folder holds another recipe, or other folds, has failed.
    """

    def __init__(
        self,
        runs: Sequence[GridRun],
        executor: Executor,
        needs: Callable[[GridRun], Needs],
        halving: Halving | None = None,
    ) -> None:
        self.progress = {run.name: Progress(run) for run in runs}
        self.is_cut_off = False  # whether the time was over before all runs were
        self._executor, self._halving = executor, halving
        self._jobs: Mapping[str, dict[str, list[Job]]] = {run.name: jobs_of(run, needs(run)) for run in runs}
        self._seconds: list[float] = []  # of the trained folds
        self._halved = halving is None
        self._open = 0  # jobs that were submitted and have not ended

    def work(self, show: Callable[["Grid"], None], deadline: float | None = None) -> None:
        """Run all jobs; `show` is called after each change, and at times.

        After the `deadline`, a time of time.monotonic, no job is begun and those that run are asked to save.
        """
        for progress in self.progress.values():
            self._prepare(progress)
        self._halve()
        while self._open:
            for job, outcome in self._executor.finished(WAITS):
                self._open -= 1
                self._end(job, outcome)
            show(self)
            if self._open and deadline is not None and time.monotonic() > deadline:
                say("grid: the time is over; the same command goes on from the checkpoints")
                self.is_cut_off = True
                self._executor.stop()
                return

    def seconds_left(self) -> float | None:
        """Return the seconds that the folds to be trained take, by the mean of those trained; None before."""
        if not self._seconds:
            return None
        left = sum(
            len(progress.run.folds) - len(progress.trained)
            for progress in self.progress.values()
            if not progress.is_over
        )
        return left * sum(self._seconds) / len(self._seconds) / self._executor.slots

    def _submit(self, jobs: Sequence[Job]) -> None:
        self._open += len(jobs)
        for job in jobs:
            self._executor.submit(job)

    def _prepare(self, progress: Progress) -> None:
        """Begin a run, or go on with one that is prepared."""
        run = progress.run.command.run
        try:
            check_identity(run, remedy=OTHER_OUTPUT, **progress.run.command.identity)
        except InputError as error:
            self._fail(progress, str(error))
            return
        trained = [fold for fold in trained_folds(run) if fold in progress.run.folds]
        if len(trained) == len(progress.run.folds) and is_finished(progress.run):
            progress.trained = trained
            self._score(progress)
            if progress.score is not None:
                progress.state = DONE
                return
        progress.state = PREPARING
        self._submit(self._jobs[progress.run.name][PREPARE])

    def _train(self, progress: Progress) -> None:
        """Submit the folds of a prepared run: those before the halving, or all that are not trained."""
        run = progress.run
        progress.state = TRAINING
        already = set(trained_folds(run.command.run))
        progress.trained = [fold for fold in run.folds if fold in already]
        if progress.trained:
            self._score(progress)
        wanted = run.folds if self._halved else run.folds[: self._halving.after]
        jobs = [job for job in self._jobs[run.name][FOLD] if job.fold in wanted and job.fold not in already]
        if jobs:
            self._submit(jobs)
        elif self._halved:
            self._finish(progress)
        else:
            self._halve()

    def _finish(self, progress: Progress) -> None:
        progress.state = FINISHING
        self._submit(self._jobs[progress.run.name][FINISH])

    def _end(self, job: Job, outcome: Outcome) -> None:
        """Take note of a job that ended, and submit what it makes possible."""
        progress = self.progress[job.run]
        self._write_log(job, outcome)
        again = f"; begun {outcome.tries} times, {in_time(outcome.lost)} lost" if outcome.tries > 1 else ""
        if outcome.status:
            self._fail(progress, f"{job.name.removeprefix(job.run).strip()}: {outcome.reason}", again)
            return
        say(f"grid: {job.name} ({in_time(outcome.seconds)}, {outcome.host}){again}")
        if progress.is_over:  # another fold of it failed
            return
        if job.kind == PREPARE:
            self._train(progress)
        elif job.kind == FINISH:
            progress.state = DONE
        else:
            self._seconds.append(outcome.seconds)
            progress.trained = sorted({*progress.trained, job.fold})
            progress.where[job.fold] = outcome.host
            self._score(progress)
            if self._halved and len(progress.trained) == len(progress.run.folds):
                self._finish(progress)
            elif not self._halved:
                self._halve()

    def _fail(self, progress: Progress, reason: str, again: str = "") -> None:
        """Give a run up, without the jobs of it that have not begun."""
        name = progress.run.name
        say(f"grid: {name} failed{again}: {reason}")
        if progress.state != FAILED:
            progress.state, progress.reason = FAILED, reason
            self._open -= self._executor.withdraw(name)
        self._halve()

    def _score(self, progress: Progress) -> None:
        """Score a run by its trained folds; a file that cannot be read is told, and its stages repair it."""
        run = progress.run.command
        try:
            task, metric = metric_of(run.run, run.metric)
            progress.score = load_held_out(run.run, progress.trained, task).score(task, metric)
        except (InputError, OSError, ValueError, KeyError) as error:
            progress.score = None
            say(f"grid: {progress.run.name} has no score yet: {error}")

    def _halve(self) -> None:
        """Stop the worse runs, once, when all that go on have trained the folds that decide it."""
        if self._halved:
            return
        after = self._halving.after
        judged = [progress for progress in self.progress.values() if progress.state != FAILED]
        ready = all(
            progress.state == DONE
            or (progress.state == TRAINING and {*progress.run.folds[:after]} <= {*progress.trained})
            for progress in judged
        )
        if not ready:
            return
        self._halved = True
        if judged:
            self._stop_worse(judged, after)
        for progress in judged:
            if progress.state == TRAINING:
                self._train(progress)

    def _stop_worse(self, judged: Sequence[Progress], after: int) -> None:
        """Stop combinations, with all their seeds, by the mean predictions of these."""
        command = judged[0].run.command
        task, metric = metric_of(command.run, command.metric)
        by_combination: dict[str, list[Progress]] = {}
        for progress in judged:
            by_combination.setdefault(progress.run.combination, []).append(progress)
        held_out = {
            name: mean_of(
                [load_held_out(one.run.command.run, one.run.folds[:after], task) for one in members], task
            )
            for name, members in by_combination.items()
        }
        for name, reason in choose_stopped(held_out, task, metric, self._halving.keep).items():
            for progress in by_combination[name]:
                if progress.state == TRAINING:
                    progress.state, progress.reason = STOPPED, reason
                    say(f"grid: {progress.run.name} is stopped after {after} folds: {reason}")

    def _write_log(self, job: Job, outcome: Outcome) -> None:
        """Keep the end of a job's output beside the runs, in grid/."""
        run = self.progress[job.run].run.command.run
        with atomic_write(run.root.parent / "grid" / f"{job.name.replace(' ', '-')}.log") as temporary:
            temporary.write_text(outcome.output, encoding="utf-8")


def is_finished(run: GridRun) -> bool:
    """Return whether a run has the report and the scores of its trained folds."""
    paths = run.command.run
    trained = digests_of_trained(paths, run.folds)
    return is_from(paths.stamp("validate"), trained) and paths.stamp("report").is_file()
