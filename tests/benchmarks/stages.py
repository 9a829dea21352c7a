"""The seconds of a run by stage and in one process: what is training, and what a second start costs.

.venv/bin/python tests/benchmarks/stages.py input/demo80 --recipe quick
.venv/bin/python tests/benchmarks/stages.py input/tiny80 --recipe resnet64 --limit 8000 --folds 2 --epochs 2

Runs the words given twice in an output folder of its own, every stage as a process of its own, and then twice
in another by src/run.py, as run.sh does. Outside training is everything but the seconds that run.json notes
as those of epochs. Beside the seconds by the clock stand those of processors, which other programs on the
machine disturb less; of these what training took is its seconds by the clock, if it runs on one thread.
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
    """Seconds by the clock, and of processors."""

    clock: float
    processor: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.clock + other.clock, self.processor + other.processor)

    def __str__(self) -> str:
        return f"{self.clock:9.2f} {self.processor:10.2f}"


def cost_of(script: str, words: Sequence[str]) -> Cost:
    """Run a script of src/ in a process of its own; what it costs."""
    clock, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, str(SRC / f"{script}.py"), *words], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - clock, processor)


def training_of(words: Sequence[str]) -> float:
    command = read_command(list(words), __doc__)
    return sum(load_json(command.run.fold_run(fold))["training_seconds"] for fold in command.folds_to_train)


def show(name: str, first: Cost, again: Cost) -> None:
    print(f"{name:32s} {first} {again}")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    with tempfile.TemporaryDirectory() as output:
        apart = [*sys.argv[1:], "--output", f"{output}/apart"]
        first = {stage: cost_of(stage, apart) for stage in STAGES}
        again = {stage: cost_of(stage, apart) for stage in STAGES}
        together = [*sys.argv[1:], "--output", f"{output}/together"]
        one_process = [cost_of("run", together) for _ in range(2)]
        trained = [training_of(words) for words in (apart, together)]
    print(f"{'':32s} {'seconds':>9s} {'processor':>10s} {'once more':>9s} {'processor':>10s}")
    for stage in STAGES:
        show(stage, first[stage], again[stage])
    many = [sum(costs.values(), Cost(0.0, 0.0)) for costs in (first, again)]
    show("all, a process each", *many)
    show("all, in one process", *one_process)
    for name, cost, seconds in zip(
        ("a process each", "in one process"), (many[0], one_process[0]), trained, strict=True
    ):
        print(f"outside training, {name:14s} {Cost(cost.clock - seconds, cost.processor - seconds)}")
    print(f"epochs of training {trained[0]:.2f} s and {trained[1]:.2f} s")
    print(
        f"the longest start of a stage that is up to date {max(cost.clock for cost in again.values()):.2f} s"
    )


if __name__ == "__main__":
    main()
