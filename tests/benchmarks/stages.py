"""Measure the seconds of a run by stage, and of one process for all: training, overhead, a repeated run.

.venv/bin/python tests/benchmarks/stages.py input/demo80 --recipe quick
.venv/bin/python tests/benchmarks/stages.py input/tiny80 --recipe resnet64 --limit 8000 --folds 2 --epochs 2

Runs the command twice with a process for each stage, and twice in another output folder by src/run.py, as
run.sh does. "Outside training" is everything except the epochs' seconds in run.json. The CPU seconds are less
disturbed by other programs than the wall seconds. Training's wall seconds are subtracted from both, so use
one thread.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from foldsmith.process.files import load_json
from foldsmith.run.command import read_command
from run import STAGES

SRC = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Cost:
    """Wall seconds and CPU seconds."""

    clock: float
    processor: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.clock + other.clock, self.processor + other.processor)

    def __str__(self) -> str:
        return f"{self.clock:9.2f} {self.processor:10.2f}"


def cost_of(script: str, words: Sequence[str]) -> Cost:
    """Run a script of src/ in a process of its own; return its cost."""
    clock, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, str(SRC / f"{script}.py"), *words], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - clock, processor)


def training_of(words: Sequence[str]) -> float:
    command = read_command(list(words), __doc__)
    return sum(load_json(command.run.fold_run(fold))["training_seconds"] for fold in command.folds_to_train)


def show(name: str, first: Cost, again: Cost) -> None:
    print(f"{name:37s} {first} {again}")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    with tempfile.TemporaryDirectory() as output:
        separate = [*sys.argv[1:], "--output", f"{output}/apart"]
        first = {stage: cost_of(stage, separate) for stage in STAGES}
        again = {stage: cost_of(stage, separate) for stage in STAGES}
        together = [*sys.argv[1:], "--output", f"{output}/together"]
        one_process = [cost_of("run", together) for _ in range(2)]
        trained = [training_of(words) for words in (separate, together)]
    print(f"{'':37s} {'first, s':>9s} {'CPU, s':>10s} {'again, s':>9s} {'CPU, s':>10s}")
    for stage in STAGES:
        show(stage, first[stage], again[stage])
    many = [sum(costs.values(), Cost(0.0, 0.0)) for costs in (first, again)]
    show("all, a process per stage", *many)
    show("all, in one process", *one_process)
    for name, cost, seconds in zip(
        ("a process per stage", "in one process"), (many[0], one_process[0]), trained, strict=True
    ):
        print(f"outside training, {name:19s} {Cost(cost.clock - seconds, cost.processor - seconds)}")
    print(f"training epochs {trained[0]:.2f} s and {trained[1]:.2f} s")
    print(f"slowest up-to-date stage {max(cost.clock for cost in again.values()):.2f} s")


if __name__ == "__main__":
    main()
