"""Runs killed with SIGKILL at any moment of any stage, gone on with, and compared byte for byte.

OMP_NUM_THREADS=1 PYTHONPATH=src:tests .venv/bin/python tests/benchmarks/crash.py --kills 300

Prints a row for every stage: how many kills hit it, how many of these the same command survived, and the
seconds that its processes took. The suite tries some tens of the same kills.
"""

import argparse
import gc
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

# what stages import late is imported here once, and not by every process that is forked and killed
import albumentations  # noqa: F401
import cleanlab.filter
import cleanlab.rank  # noqa: F401
import numpy as np
import torch
import torch._dynamo
import torch._inductor  # noqa: F401
from conftest import write_competition

import examine
import infer
import prepare
import pretrain
import report
import split
import submit
import train
import validate
from foldsmith.evaluation import cross_validation, label_issues, shift  # noqa: F401
from foldsmith.inference import features  # noqa: F401
from foldsmith.report import page, provenance  # noqa: F401
from foldsmith.training import check, pretraining, resume, rounds  # noqa: F401

STAGES = (prepare, split, pretrain, train, validate, infer, submit, examine, report)
STAGES = {stage.__name__: stage.main for stage in STAGES}
WORDS = ["--name", "run", "--folds", "2", "--precision", "fp32", "--device", "cpu"]
RECIPES = {
    "quick": ["--recipe", "quick", "--image-size", "16", "--batch-size", "4", "--epochs", "3"],
    "rounds": ["--recipe", "quick", "--image-size", "16", "--batch-size", "6", "--epochs", "2"]
    + ["--rounds", "2", "--set", "seeds=2"],
    "autoencoder": ["--recipe", "autoencoder-lenet-upsampled", "--image-size", "52", "--batch-size", "6"]
    + ["--epochs", "2", "--set", "pretrain_epochs=2", "--set", "pretrain_batch_size=8"],
}
ANY = "."  # every operation
PATIENCE = 120  # seconds: a stage that takes longer hangs

# what a run leaves in output/<competition>/ of which every byte is a function of the command; the logs are,
# but for their last two columns: seconds, images a second
# a cache's record.json also holds when its files were written
SAME = (
    "cache/*/*.csv",
    "cache/*/*.npy",
    "run/*.csv",
    "run/**/*.npz",
    "run/cv.json",
    "run/**/*.safetensors",
)
SAME += ("run/pretrain/*.png",)
LOGS = "run/**/log.csv"


class WrongOutcome(AssertionError):
    """A stage failed after a kill, or a run that went on ended with other files or other bytes."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL in a stage: `at` so many `seconds`, at that one of its `calls` of functions, of Python or C, or
    else before that one of its operations on files of the output that match the pattern `moment`.

    Calls and operations are counted from 1.
    """

    stage: str
    moment: str
    at: float


@dataclass(frozen=True)
class Trace:
    """What a stage did without interruption: its operations on files of the output, its calls, its time."""

    operations: list[str]
    calls: int
    seconds: float


@dataclass
class Outcome:
    """The kills that hit a run, and the seconds that each stage's processes took."""

    hits: list[Kill] = field(default_factory=list)
    seconds: Counter = field(default_factory=Counter)


@dataclass(frozen=True)
class Case:
    """A competition and the words of a run; `log` is where its processes write."""

    folder: Path
    words: Sequence[str]
    log: Path

    def fork(self, stage: str, output: Path, arm: Callable[[], object], seconds: float | None = None) -> int:
        """The exit status of a stage in a process of its own, negative for the signal that ended it.

        `arm` is called in the process first. After so many `seconds`, if given, it is killed. Checkpoints are
        saved after every step.
        """
        process = os.fork()
        if process == 0:
            status = 1
            try:
                gc.freeze()  # else the collector touches, and so copies, all that was there before the fork
                signal.alarm(PATIENCE)
                sys.stdout = sys.stderr = self.log.open("a", buffering=1)
                os.dup2(sys.stdout.fileno(), 1)
                os.dup2(sys.stdout.fileno(), 2)
                resume.CHECKPOINT_SECONDS = 0.0
                disarm = arm()
                status = STAGES[stage]([str(self.folder), *WORDS, *self.words, "--output", str(output)])
                if disarm is not None:
                    disarm()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def trace(self, output: Path, calls: bool = False) -> dict[str, Trace]:
        """Runs every stage without interruption; its calls are counted only if asked for."""
        traces, told = {}, self.log.with_suffix(".trace")
        for stage in STAGES:
            begun = time.monotonic()
            status = self.fork(stage, output, partial(record, output, told, calls))
            refuse_unless(status == 0, f"{stage} failed before any kill: {self.last_words()}")
            traces[stage] = Trace(*json.loads(told.read_text()), time.monotonic() - begun)
        return traces

    def run(self, output: Path, kills: Sequence[Kill], outcome: Outcome) -> None:
        """Gives the command again after every kill, until it completes; `outcome` is told what came of it.

        A stage's kills come one in each attempt; those left over when it ends are left out. Raises
        WrongOutcome if a stage fails.
        """
        left = {stage: [kill for kill in kills if kill.stage == stage] for stage in STAGES}
        while not self._attempt(output, left, outcome):
            pass

    def _attempt(self, output: Path, left: dict[str, list[Kill]], outcome: Outcome) -> bool:
        """Runs the stages in order until one is killed; whether none was."""
        for stage, kills in left.items():
            kill, begun = kills.pop(0) if kills else None, time.monotonic()
            if kill and kill.moment == "seconds":
                status = self.fork(stage, output, lambda: None, kill.at)
            else:
                status = self.fork(stage, output, partial(arm, kill, output))
            outcome.seconds[stage] += time.monotonic() - begun
            if kill and status == -signal.SIGKILL:
                outcome.hits.append(kill)
                return False
            refuse_unless(
                status == 0, f"{stage} ended with {status} after {outcome.hits}: {self.last_words()}"
            )
            kills.clear()
        return True

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def can_train_after_a_fork() -> bool:
    """Whether a process that is forked here can train: not where this one has trained, and there is a GPU."""
    process = os.fork()
    if process == 0:
        try:
            torch.ones(1, requires_grad=True).sum().backward()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(process, 0)[1] == 0


def refuse_unless(correct: bool, told: str) -> None:
    if not correct:
        raise WrongOutcome(told)


def record(output: Path, told: Path, calls: bool) -> Callable[[], object]:
    """Counts this process's operations and calls; what it returns writes them to `told`."""
    operations, counter = [], itertools.count()
    watch_operations(output, operations.append)
    if calls:
        watch_calls(partial(next, counter))

    def write() -> None:
        sys.setprofile(None)
        told.write_text(json.dumps([operations, next(counter)]))

    return write


def arm(kill: Kill | None, output: Path) -> None:
    """Lets this process kill itself at that moment."""
    if kill is None:
        return
    left = int(kill.at)

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill.moment == "calls":
        watch_calls(count)
    else:
        watch_operations(output, lambda told: count() if re.search(kill.moment, told) else None)


def watch_operations(output: Path, tell: Callable[[str], None]) -> None:
    """Tells of every operation that changes the output, before it is done, until this process ends."""
    root, process = str(output), os.getpid()

    def watch(event: str, words: tuple) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") or os.getpid() != process:
            return
        paths = [str(word) for word in words[: 2 if event == "os.rename" else 1]]  # a descriptor is a number
        changes = event != "open" or words[2] & (os.O_WRONLY | os.O_RDWR)
        if changes and paths[0].startswith(root):
            tell(" ".join([event, *(os.path.relpath(path, root) for path in paths)]))

    sys.addaudithook(watch)


def watch_calls(tell: Callable[[], object]) -> None:
    """Tells of every call in this thread until sys.setprofile(None)."""
    sys.setprofile(lambda frame, event, argument: tell() if event in ("call", "c_call") else None)


def files_of(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*")}


def artefacts_of(output: Path) -> dict[str, bytes]:
    """What must be the same, by file name."""
    (root,) = output.iterdir()
    content = {str(path.relative_to(root)): path.read_bytes() for each in SAME for path in root.glob(each)}
    logs = {path: path.read_bytes().splitlines() for path in root.glob(LOGS)}
    content |= {
        str(path.relative_to(root)): b"\n".join(line.rsplit(b",", 2)[0] for line in lines)
        for path, lines in logs.items()
    }
    return content


def refuse_other(output: Path, reference: Path, told: str) -> None:
    """Raises WrongOutcome unless both hold the same files, all of them finished, and the same bytes."""
    here, there = files_of(output), files_of(reference)
    stray = here ^ there | {name for name in here if name.endswith(".part") or "checkpoint" in name}
    refuse_unless(not stray, f"files are left, or missing: {sorted(stray)} {told}")
    here, there = artefacts_of(output), artefacts_of(reference)
    other = [name for name in there if here[name] != there[name]]
    refuse_unless(not other, f"{other} differ {told}")


def draw_kills(count: int, traces: dict[str, Trace], draws: np.random.Generator) -> list[Kill]:
    """Kills of one run, by the clock and before operations on files; half of them where time is spent."""
    kills, stages = [], list(traces)
    seconds = np.array([traces[stage].seconds for stage in stages])
    for _ in range(count):
        chances = None if draws.random() < 0.5 else seconds / seconds.sum()
        stage = stages[draws.choice(len(stages), p=chances)]
        if draws.random() < 0.5 and traces[stage].operations:
            at = int(draws.integers(1, len(traces[stage].operations) + 1))
            kills.append(Kill(stage, ANY, at))
        else:
            kills.append(Kill(stage, "seconds", float(draws.uniform(0, traces[stage].seconds))))
    return kills


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300, help="kills that hit a stage (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    typed = parser.parse_args(argv)
    draws = np.random.default_rng(typed.seed)
    tried, survived, seconds, runs, begun = Counter(), Counter(), Counter(), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch) / "crash", Path(scratch) / "log.txt"
        write_competition(folder, per_class=8)
        traces: dict[str, dict[str, Trace]] = {}
        while tried.total() < typed.kills:
            name = list(RECIPES)[runs % len(RECIPES)]
            reference = Path(scratch) / name
            if name not in traces:
                traces[name] = Case(folder, [*RECIPES[name], "--workers", "0"], log).trace(reference)
            words = [*RECIPES[name], "--workers", str(draws.choice([0, 0, 0, 1]))]
            kills = draw_kills(int(draws.integers(2, 13)), traces[name], draws)
            kills = kills[: typed.kills - tried.total()]
            outcome = Outcome()
            with tempfile.TemporaryDirectory(dir=scratch) as output:
                told = f"after {kills} of {name}"
                try:
                    Case(folder, words, log).run(Path(output), kills, outcome)
                    refuse_other(Path(output), reference, told)
                    survived.update(kill.stage for kill in outcome.hits)
                except WrongOutcome as error:
                    if not outcome.hits:  # nor would it end without a kill
                        raise
                    print(f"{error} {told}", file=sys.stderr)
            tried.update(kill.stage for kill in outcome.hits)
            seconds += outcome.seconds
            runs += 1
    print("| stage | kills | survived | seconds |\n| --- | --- | --- | --- |")
    for stage in STAGES:
        print(f"| {stage} | {tried[stage]} | {survived[stage]} | {seconds[stage]:.0f} |")
    print(f"| {runs} runs | {tried.total()} | {survived.total()} | {time.monotonic() - begun:.0f} |")
    return int(survived != tried)


if __name__ == "__main__":
    sys.exit(main())
