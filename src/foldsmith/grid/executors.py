"""Where the jobs of a grid run: on this machine in turn, or submitted to Slurm."""

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


class Executor(Protocol):
    """Runs jobs elsewhere. `slots` is how many it runs at a time, as far as known."""

    slots: int

    def submit(self, job: Job) -> None: ...

    def finished(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Return the jobs that ended since the last call; wait for one, at most `timeout` seconds."""
        ...

    def stop(self) -> None:
        """Ask all jobs to save and end, and wait until they have."""
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

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots)
        self._futures: dict[Future[Outcome], Job] = {}
        self._stopping = threading.Event()

    def submit(self, job: Job) -> None:
        self._futures[self._pool.submit(self._run, job)] = job

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
    """Submit jobs to Slurm, or with `cluster` local to processes of this machine, through submitit."""

    def __init__(self, folder: Path, cluster: str, partition: str, hours: float, slots: int) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError(
                "--slurm needs submitit: .venv/bin/python -m pip install -r requirements-grid.txt"
            ) from error
        self.slots = slots
        # the job's process imports foldsmith from here
        os.environ["PYTHONPATH"] = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
        self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        self._executor.update_parameters(timeout_min=round(60 * hours), name="foldsmith")
        if cluster == "slurm":
            self._executor.update_parameters(slurm_partition=partition)
        self._jobs: list[tuple[Job, Any]] = []

    def submit(self, job: Job) -> None:
        needs = job.needs
        self._executor.update_parameters(
            cpus_per_task=needs.cpus, gpus_per_node=max(0, round(needs.gpus)), mem_gb=needs.memory / 2**30
        )
        self._jobs.append((job, self._executor.submit(run_job, job)))

    def finished(self, timeout: float) -> list[tuple[Job, Outcome]]:
        threading.Event().wait(min(timeout, 1.0))
        done = [(job, submitted) for job, submitted in self._jobs if submitted.done()]
        self._jobs = [entry for entry in self._jobs if entry not in done]
        return [(job, self._outcome(job, submitted)) for job, submitted in done]

    def stop(self) -> None:
        for _, submitted in self._jobs:
            submitted.cancel()

    def _outcome(self, job: Job, submitted: Any) -> Outcome:
        error = submitted.exception()
        return failed(job, error) if error else submitted.result()
