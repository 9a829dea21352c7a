"""Where the jobs of a grid run: on this machine in turn, or submitted to Slurm."""

import math
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from foldsmith.errors import InputError
from foldsmith.grid.jobs import SOURCE, Job, JobKilled, Outcome, run_job
from foldsmith.run.paths import RunPaths

TRIES = 3  # of a job whose process or machine was lost
MANY = 1000  # jobs that are submitted to Slurm at a time, unless --max-parallel is typed
SAVES = 60.0  # seconds in which interrupted jobs save their checkpoints


class Executor(Protocol):
    """Runs jobs elsewhere. `slots` is how many it runs at a time, as far as known; `gpus` those it has."""

    slots: int
    gpus: float

    def submit(self, job: Job) -> None: ...

    def withdraw(self, run: str) -> int:
        """Forget the jobs of a run that have not begun; return how many."""
        ...

    def finished(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Return the jobs that ended since the last call; wait for one, at most `timeout` seconds."""
        ...

    def stop(self) -> None:
        """Ask all jobs to save and end, and wait until they have. A second call does nothing."""
        ...


def saved_at(job: Job) -> float:
    """Return when a job last saved a checkpoint (seconds of time.time); 0 if it has none."""
    if job.fold is None:
        return 0.0
    output = Path(job.words[job.words.index("--output") + 1])
    run = RunPaths(output / Path(job.words[0]).name / job.run)
    checkpoint = run.checkpoint(job.fold)
    return checkpoint.stat().st_mtime if checkpoint.is_file() else 0.0


def failed(job: Job, error: BaseException) -> Outcome:
    """Return the outcome of a job that ended with an exception of the machine it ran on."""
    return Outcome(1, f"error: {job.name}: {type(error).__name__}: {error}", "", 0.0)


class Here:
    """Run jobs as processes of this machine, `slots` at a time, in the order in which they were submitted."""

    gpus = 0.0  # as far as a job asks for one: --device decides

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots)
        self._futures: dict[Future[Outcome], Job] = {}
        self._stopping = threading.Event()

    def submit(self, job: Job) -> None:
        self._futures[self._pool.submit(self._run, job)] = job

    def withdraw(self, run: str) -> int:
        withdrawn = [future for future, job in self._futures.items() if job.run == run and future.cancel()]
        for future in withdrawn:
            del self._futures[future]
        return len(withdrawn)

    def finished(self, timeout: float) -> list[tuple[Job, Outcome]]:
        done, _ = wait(self._futures, timeout, FIRST_COMPLETED)
        return [(self._futures.pop(future), future.result()) for future in done]

    def stop(self) -> None:
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)

    def _run(self, job: Job) -> Outcome:
        lost = 0.0
        for attempt in range(1, TRIES + 1):
            begun = time.time()
            try:
                return replace(run_job(job, self._stopping), tries=attempt, lost=lost)
            except JobKilled as error:
                last, lost = error, lost + time.time() - max(begun, saved_at(job))
        return failed(job, last)


class Submitted:
    """Submit jobs to Slurm, or with partition `local` to processes of this machine, through submitit.

    `gpus` is what a job asks for; `slots` how many jobs are submitted at a time.
    """

    def __init__(self, folder: Path, partition: str, hours: float, gpus: float, slots: int | None) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError(
                "--slurm needs submitit: .venv/bin/python -m pip install -r requirements-grid.txt"
            ) from error
        is_local = partition == "local"
        self.gpus, self.slots = gpus, slots or (1 if is_local else MANY)
        # the job's process imports foldsmith from here
        os.environ["PYTHONPATH"] = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
        self._executor = submitit.AutoExecutor(folder=folder, cluster="local" if is_local else "slurm")
        self._executor.update_parameters(timeout_min=round(60 * hours), name="foldsmith")
        if not is_local:
            self._executor.update_parameters(slurm_partition=partition)
        self._waiting: list[tuple[Job, int]] = []  # with the number of tries
        self._running: list[tuple[Job, int, Any]] = []

    def submit(self, job: Job) -> None:
        self._waiting.append((job, 1))
        self._start()

    def withdraw(self, run: str) -> int:
        kept = [entry for entry in self._waiting if entry[0].run != run]
        withdrawn, self._waiting = len(self._waiting) - len(kept), kept
        return withdrawn

    def finished(self, timeout: float) -> list[tuple[Job, Outcome]]:
        threading.Event().wait(min(timeout, 1.0))
        done = [entry for entry in self._running if entry[2].done()]
        self._running = [entry for entry in self._running if entry not in done]
        outcomes = []
        for job, tries, submitted in done:
            error = submitted.exception()
            if error is not None and tries < TRIES:  # the process or its machine was lost
                self._waiting.append((job, tries + 1))
            else:
                outcome = failed(job, error) if error else submitted.result()
                outcomes.append((job, replace(outcome, tries=tries)))
        self._start()
        return outcomes

    def stop(self) -> None:
        self._waiting.clear()
        for _, _, submitted in self._running:
            submitted.cancel()
        until = time.monotonic() + SAVES
        while time.monotonic() < until and not all(entry[2].done() for entry in self._running):
            threading.Event().wait(1.0)
        self._running.clear()

    def _start(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            job, tries = self._waiting.pop(0)
            needs = job.needs
            self._executor.update_parameters(
                cpus_per_task=needs.cpus, gpus_per_node=math.ceil(needs.gpus), mem_gb=needs.memory / 2**30
            )
            self._running.append((job, tries, self._executor.submit(run_job, job)))
