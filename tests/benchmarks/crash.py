"""Kill runs with SIGKILL at random moments of every stage, resume them, and compare every byte.

OMP_NUM_THREADS=1 PYTHONPATH=src:tests .venv/bin/python tests/benchmarks/crash.py --kills 300

Prints one row a stage: the kills that hit it, how many of these the resumed run survived, and the seconds
that its processes took. The test suite repeats a few dozen of the same kills.
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

# imported once here, because every forked process would otherwise import again what stages import late
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
PATIENCE = 120  # seconds, after which a stage counts as hanging

# Files in output/<competition>/ whose bytes depend on the command alone. A log's do too, except for its last
# two columns: seconds, images a second. A cache's JSON files are left out: they hold modification times.
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
    """A stage failed after a kill, or the resumed run ended with different files or different bytes."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL in a stage, at the moment that `moment` and `at` describe.

    `seconds`: after `at` seconds. `calls`: at function call number `at`, in Python or C. Anything else is a
    pattern: before matching file operation number `at` in the output folder. Both count from 1.
    """

    stage: str
    moment: str
    at: float


@dataclass(frozen=True)
class Trace:
    """A stage without interruption: its file operations in the output folder, its calls, its seconds."""

    operations: list[str]
    calls: int
    seconds: float


@dataclass
class Outcome:
    """The kills that hit a run, and the seconds of each stage's processes."""

    hits: list[Kill] = field(default_factory=list)
    seconds: Counter = field(default_factory=Counter)


@dataclass(frozen=True)
class Case:
    """A competition folder, the command-line words of a run, and the log of its processes."""

    folder: Path
    words: Sequence[str]
    log: Path

    def fork(self, stage: str, output: Path, arm: Callable[[], object], seconds: float | None = None) -> int:
        """Run a stage in a forked process; return its exit status, negative for the signal that ended it.

        The process calls `arm` first and saves a checkpoint after every step. It is killed after `seconds`,
        unless None.
        """
        process = os.fork()
        if process == 0:
            status = 1
            try:
                gc.freeze()  # else the collector touches, and so copies, all memory from before the fork
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
        """Run every stage without interruption; count function calls only if `calls`."""
        traces, file = {}, self.log.with_suffix(".trace")
        for stage in STAGES:
            begun = time.monotonic()
            status = self.fork(stage, output, partial(record, output, file, calls))
            refuse_unless(status == 0, f"{stage} failed before any kill: {self.last_words()}")
            traces[stage] = Trace(*json.loads(file.read_text()), time.monotonic() - begun)
        return traces

    def run(self, output: Path, kills: Sequence[Kill], outcome: Outcome) -> None:
        """Repeat the command after every kill until it completes, and record kills and seconds in `outcome`.

        Each attempt at a stage uses up one kill; kills left when the stage completes are dropped. Raise
        WrongOutcome if a stage fails.
        """
        left = {stage: [kill for kill in kills if kill.stage == stage] for stage in STAGES}
        while not self._attempt(output, left, outcome):
            pass

    def _attempt(self, output: Path, left: dict[str, list[Kill]], outcome: Outcome) -> bool:
        """Run the stages in order until one is killed; return whether all completed."""
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
    """Return whether a forked process can train: not if this one has trained and there is a GPU."""
    process = os.fork()
    if process == 0:
        try:
            torch.ones(1, requires_grad=True).sum().backward()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(process, 0)[1] == 0


def refuse_unless(correct: bool, message: str) -> None:
    if not correct:
        raise WrongOutcome(message)


def record(output: Path, file: Path, calls: bool) -> Callable[[], object]:
    """Count this process's operations and calls; return a function that writes them to `file`."""
    operations, counter = [], itertools.count()
    watch_operations(output, operations.append)
    if calls:
        watch_calls(partial(next, counter))

    def write() -> None:
        sys.setprofile(None)
        file.write_text(json.dumps([operations, next(counter)]))

    return write


def arm(kill: Kill | None, output: Path) -> None:
    """Make this process kill itself at that moment."""
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
        watch_operations(output, lambda operation: count() if re.search(kill.moment, operation) else None)


def watch_operations(output: Path, report: Callable[[str], None]) -> None:
    """Report every operation that changes the output folder, before it happens, until this process ends."""
    root, process = str(output), os.getpid()

    def watch(event: str, words: tuple) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") or os.getpid() != process:
            return
        paths = [str(word) for word in words[: 2 if event == "os.rename" else 1]]  # or a descriptor
        changes = event != "open" or words[2] & (os.O_WRONLY | os.O_RDWR)
        if changes and paths[0].startswith(root):
            report(" ".join([event, *(os.path.relpath(path, root) for path in paths)]))

    sys.addaudithook(watch)


def watch_calls(report: Callable[[], object]) -> None:
    """Report every call in this thread until sys.setprofile(None)."""
    sys.setprofile(lambda frame, event, argument: report() if event in ("call", "c_call") else None)


def files_of(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*")}


def artefacts_of(output: Path) -> dict[str, bytes]:
    """Return the content that must be identical, by file name."""
    (root,) = output.iterdir()
    content = {str(path.relative_to(root)): path.read_bytes() for glob in SAME for path in root.glob(glob)}
    logs = {path: path.read_bytes().splitlines() for path in root.glob(LOGS)}
    content |= {
        str(path.relative_to(root)): b"\n".join(line.rsplit(b",", 2)[0] for line in lines)
        for path, lines in logs.items()
    }
    return content


def refuse_other(output: Path, reference: Path, context: str) -> None:
    """Raise WrongOutcome unless both hold the same finished files with the same bytes."""
    here, there = files_of(output), files_of(reference)
    stray = here ^ there | {name for name in here if name.endswith(".part") or "checkpoint" in name}
    refuse_unless(not stray, f"files are left, or missing: {sorted(stray)} {context}")
    here, there = artefacts_of(output), artefacts_of(reference)
    other = [name for name in there if here[name] != there[name]]
    refuse_unless(not other, f"{other} differ {context}")


def draw_kills(count: int, traces: dict[str, Trace], draws: np.random.Generator) -> list[Kill]:
    """Draw the kills of one run, by time or file operation; half are weighted by the time of stages."""
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
    parser.add_argument("--kills", type=int, default=300, help="number of kills that hit a stage (300)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
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
                context = f"after {kills} of {name}"
                try:
                    Case(folder, words, log).run(Path(output), kills, outcome)
                    refuse_other(Path(output), reference, context)
                    survived.update(kill.stage for kill in outcome.hits)
                except WrongOutcome as error:
                    if not outcome.hits:  # it fails without a kill too
                        raise
                    print(f"{error} {context}", file=sys.stderr)
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
