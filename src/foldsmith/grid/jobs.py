"""The jobs of a grid's runs: prepare a run, train a fold, finish a run. Each runs stages as a process."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foldsmith.grid.plan import GridRun
from foldsmith.process.devices import PR_SET_PDEATHSIG
from foldsmith.run.command import Command

PREPARE, FOLD, FINISH = "prepare", "fold", "finish"
SOURCE = Path(__file__).parents[2]  # src/
CHECKED = 0.5  # seconds after which a running job looks whether it should stop
GIB = 2**30
SMALL = 64  # pixels up to which four folds share a GPU
TAIL = 4000  # characters at the end of a job's output that are kept


@dataclass(frozen=True)
class Needs:
    """What a job asks of a machine: processor cores, which are its threads, a share of a GPU, bytes."""

    cpus: int
    gpus: float
    memory: int


def needs_of(command: Command, cpus: int, gpus: float | None, gpus_there: float) -> Needs:
    """Return what the jobs of a run ask of a machine: `gpus` of a GPU, if any is there; None: by its side."""
    is_small = command.recipe.image_size <= SMALL
    share = gpus if gpus is not None else (0.25 if is_small else 1.0)
    on_cpu = not gpus_there or command.device == "cpu"
    return Needs(cpus, 0.0 if on_cpu else share, (2 if is_small else 4) * GIB)


@dataclass(frozen=True)
class Job:
    """A process: `stage` is a script in src/, `words` its words; `fold` is None for a whole run."""

    run: str
    kind: str
    fold: int | None
    stage: str
    words: tuple[str, ...]
    needs: Needs

    @property
    def name(self) -> str:
        return f"{self.run} {self.kind}" + ("" if self.fold is None else f" {self.fold}")


def last_error(output: str) -> str:
    """Return the last line of a process's output that is an error, or its last line; empty without a line."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [""])[-1].removeprefix("error: ")


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its exit status, the end of its output, the machine, and the seconds it took.

    A negative status is a signal's number. `tries` counts how often it was begun, as processes or machines
    were lost, and `lost` the seconds since the last checkpoint that this cost.
    """

    status: int
    output: str
    host: str
    seconds: float
    tries: int = 1
    lost: float = 0.0

    @property
    def reason(self) -> str:
        """Return the last error of the output, or its last line."""
        return last_error(self.output) or f"exit status {self.status}"


class JobKilled(RuntimeError):
    """The process of a job was killed, as by a machine without memory: it may be tried again."""


def jobs_of(run: GridRun, needs: Needs) -> dict[str, list[Job]]:
    """Return the jobs of a run by their kind, the folds in their order."""

    def job(kind: str, stage: str, fold: int | None = None, more: Sequence[str] = ()) -> Job:
        return Job(run.name, kind, fold, stage, (*run.words, *more), needs)

    return {
        PREPARE: [job(PREPARE, "run", more=("--until", "pretrain"))],
        FOLD: [job(FOLD, "train", fold, ("--fold", str(fold))) for fold in run.folds],
        FINISH: [job(FINISH, "run")],
    }


def run_job(job: Job, stopping: threading.Event | None = None) -> Outcome:
    """Run a job as a process on this machine, and wait. Raise JobKilled if it was killed.

    When `stopping` is set, or on an interruption, the process is asked to end, and saves a checkpoint.
    """
    begun = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, str(SOURCE / f"{job.stage}.py"), *job.words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment_of(job)},
            preexec_fn=end_with_parent,
            process_group=0,  # Ctrl-C reaches it through this process alone
        )
        try:
            status = wait_for(process, stopping)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
        output.seek(max(0, output.tell() - TAIL))
        text = output.read().decode(errors="replace")
    if status == -signal.SIGKILL:
        raise JobKilled(f"{job.name} was killed on {os.uname().nodename}; most likely memory ran out")
    return Outcome(status, text, os.uname().nodename, time.monotonic() - begun)


def wait_for(process: subprocess.Popen, stopping: threading.Event | None) -> int:
    """Return the exit status of a process, which is asked to end when `stopping` is set."""
    asked_to_end = False
    while True:
        try:
            return process.wait(CHECKED)
        except subprocess.TimeoutExpired:
            if stopping is not None and stopping.is_set() and not asked_to_end:
                process.send_signal(signal.SIGTERM)
                asked_to_end = True


def environment_of(job: Job) -> dict[str, str]:
    """Return the variables of a job's process: results depend on the number of threads, so it is set."""
    return {"OMP_NUM_THREADS": str(job.needs.cpus), "NO_ALBUMENTATIONS_UPDATE": "1"}


def end_with_parent() -> None:
    """Ask Linux to kill this process with the one that started it, so that none trains on unseen.

    It is killed at once, as the job may be tried again at once, and resumes from its checkpoint.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
