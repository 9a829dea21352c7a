"""Measure the seconds of a run by stage: its passes over the images, and what is neither; a repeated run.

.venv/bin/python tests/benchmarks/stages.py input/demo80 --recipe quick
.venv/bin/python tests/benchmarks/stages.py input/tiny80 --recipe resnet64 --limit 8000 --folds 2 --epochs 2

Runs all stages in one process, as src/run.py and run.sh do, then again, which finds them up to date.
"network" is the CPU time of epochs and predictions, "images" that of decoding and resizing; "neither" is the
rest. An import counts in the first stage that needs it. CPU seconds are less disturbed by other programs than
those on the clock. Use one thread: passes are timed in the thread that calls them.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

BEGUN = time.perf_counter(), time.process_time()  # before the imports below
SRC = Path(__file__).parents[2] / "src"
sys.path.insert(0, str(SRC))
METERED, UNMETERED = "--metered", "--unmetered"  # first word of the process that runs the stages
NETWORK, IMAGES = "network", "images"
# the passes over images, by the stage that makes them first: module, function, and what its time counts as
PASSES = {
    "prepare": [("foldsmith.data.images", name, IMAGES) for name in ("decode_image", "resize_image")],
    "train": [
        ("foldsmith.training.epoch", "train_one_epoch", NETWORK),
        ("foldsmith.inference.predict", "predict", NETWORK),
    ],
}


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, CPU seconds, and those of them that passes took."""

    clock: float
    processor: float
    network: float
    images: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(*(one - two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def neither(self) -> float:
        return self.processor - self.network - self.images


class Meter:
    """Adds up the CPU time of the calling threads within functions; of nested ones the outermost counts."""

    def __init__(self) -> None:
        self.seconds = {NETWORK: 0.0, IMAGES: 0.0}
        self._lock, self._inside = threading.Lock(), threading.local()

    def replace(self, module_name: str, name: str, kind: str) -> None:
        """Replace a function by a timed one, before other modules import it."""
        module = import_module(module_name)
        setattr(module, name, self._timed(getattr(module, name), kind))

    def _timed(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*words: Any, **named: Any) -> Any:
            if getattr(self._inside, "is_set", False):
                return function(*words, **named)
            self._inside.is_set, begun = True, time.thread_time()
            try:
                return function(*words, **named)
            finally:
                self._inside.is_set = False
                with self._lock:
                    self.seconds[kind] += time.thread_time() - begun

        return wrapper

    @property
    def cost(self) -> Cost:
        """The cost since the process began."""
        clock, processor = time.perf_counter() - BEGUN[0], time.process_time() - BEGUN[1]
        return Cost(clock, processor, self.seconds[NETWORK], self.seconds[IMAGES])


def run_stages(result: Path, words: list[str], metered: bool) -> int:
    """Run every stage in this process, and write the cost of each to `result`; return the exit status.

    Unless `metered`, passes are not timed, which would import what a stage that is up to date does not need.
    """
    from run import STAGES

    meter, costs, before, status = Meter(), {}, Cost(0.0, 0.0, 0.0, 0.0), 0
    for stage in STAGES:
        for replaced in PASSES.get(stage, []) if metered else []:
            meter.replace(*replaced)
        status = status or import_module(stage).main(words)
        costs[stage], before = asdict(meter.cost - before), meter.cost
    result.write_text(json.dumps(costs))
    return status


def costs_of(words: list[str], mode: str) -> dict[str, Cost]:
    """Return the cost of each stage in a process of its own for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "costs.json"
        command = [sys.executable, __file__, mode, str(result), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {stage: Cost(**cost) for stage, cost in json.loads(result.read_text()).items()}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0
    if sys.argv[1] in (METERED, UNMETERED):
        return run_stages(Path(sys.argv[2]), sys.argv[3:], sys.argv[1] == METERED)
    with tempfile.TemporaryDirectory() as output:
        words = [*sys.argv[1:], "--output", output]
        first, again = costs_of(words, METERED), costs_of(words, UNMETERED)
    titles = ("seconds", "CPU, s", NETWORK, IMAGES, "neither", "again, s", "CPU, s")
    print(f"{'stage':9s} " + " ".join(f"{title:>9s}" for title in titles))
    for costs in (first, again):
        costs["all"] = sum(costs.values(), Cost(0.0, 0.0, 0.0, 0.0))
    for stage, cost in first.items():
        seconds = (*astuple(cost), cost.neither, again[stage].clock, again[stage].processor)
        print(f"{stage:9s} " + " ".join(f"{value:9.2f}" for value in seconds))
    print(f"neither network nor images: {first['all'].neither / first['all'].processor:.1%} of the CPU time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
