"""Measure training steps by number of threads and how they wait, alone and beside a program that computes.

nice -n -5 .venv/bin/python tests/benchmarks/threads.py quick
nice -n -5 .venv/bin/python tests/benchmarks/threads.py small-images-fast --rounds 3

A thread of OpenMP that waits for the others spins for a while, which takes a core from another program, or
from the very thread it waits for. The variables act when torch's OpenMP is loaded, so every row is a process
of its own, which is stopped while it is not its turn. All rows take turns within a round. A turn in which
other programs took more than a tenth of a core is repeated, up to --tries times, and the quietest one counts;
what they took is printed. The table is Markdown: images a second as multiples of one thread alone, medians of
the rounds' ratios.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SPINS = (1000, 10_000, 100_000)
ROWS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads, libgomp's default": {},
    **{
        f"2 threads, OMP_WAIT_POLICY={policy}": {"OMP_WAIT_POLICY": policy}
        for policy in ("passive", "active")
    },
    **{f"2 threads, GOMP_SPINCOUNT={count}": {"GOMP_SPINCOUNT": str(count)} for count in SPINS},
}
QUIET = 0.1  # cores that other programs may take in a turn
TICKS = os.sysconf("SC_CLK_TCK")


class Turn(NamedTuple):
    """The cores that other programs took during a turn, and the images a second of its steps."""

    others: float
    rate: float


class Row:
    """A process that takes training steps of a recipe with these variables, when it is its turn."""

    def __init__(self, recipe: str, variables: dict[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}
        self.process = subprocess.Popen(
            [sys.executable, __file__, recipe, "--steps"],
            env={**kept, "OMP_NUM_THREADS": "2", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self.process.stdout.readline().strip()
        self.process.send_signal(signal.SIGSTOP)

    def take_turn(self, seconds: float, crowded: bool, tries: int) -> Turn:
        """Return a turn of at least that many seconds, beside a program that computes if it is crowded."""
        turns: list[Turn] = []
        while len(turns) < tries and (not turns or turns[-1].others > QUIET):
            with computing(crowded) as program:
                pids, begun = [self.process.pid, *program], time.perf_counter()
                before = machine_seconds() - sum(map(seconds_of, pids))
                self.process.send_signal(signal.SIGCONT)
                self.process.stdin.write(f"{seconds}\n")
                self.process.stdin.flush()
                rate = float(self.process.stdout.readline())
                self.process.send_signal(signal.SIGSTOP)
                taken = machine_seconds() - sum(map(seconds_of, pids)) - before
                turns.append(Turn(taken / (time.perf_counter() - begun), rate))
        return min(turns)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def machine_seconds() -> float:
    """Return the seconds for which the machine's cores have computed."""
    user, nice, system, _, _, *more = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(more)) / TICKS


def seconds_of(pid: int) -> float:
    """Return the processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


@contextmanager
def computing(enabled: bool) -> Iterator[list[int]]:
    """Run a program that computes on one core within the block, and yield its process id."""
    if not enabled:
        yield []
        return
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield [program.pid]
    finally:
        program.kill()
        program.wait()


def take_steps(name: str) -> None:
    """Take steps for the seconds of every line of the standard input, and print images a second."""
    import torch
    from precision import build_step

    from foldsmith.inference.compute import build_compute
    from foldsmith.recipes import find_recipe

    recipe = find_recipe(name)
    compute = build_compute("cpu", "auto", (0.5,), (0.5,))
    step = build_step(recipe, compute.precision, torch.channels_last, reconstruct=False)
    step()
    about = f"{recipe.image_size} px, batches of {recipe.batch_size}, {compute.precision}"
    print(f"{name}: {recipe.model}, {about}, torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        begun, taken = time.perf_counter(), 0
        while time.perf_counter() - begun < float(line):
            step()
            taken += 1
        print(taken * recipe.batch_size / (time.perf_counter() - begun), flush=True)


def measure(recipe: str, seconds: float, rounds: int, tries: int) -> dict[tuple[str, bool], list[Turn]]:
    """Return the turns of all rounds for every row, alone (False) and beside another program (True)."""
    rows = {name: Row(recipe, variables) for name, variables in ROWS.items()}
    turns: dict[tuple[str, bool], list[Turn]] = {
        (name, crowded): [] for name in rows for crowded in (False, True)
    }
    print(f"{rows['1 thread'].about}\n", flush=True)
    try:
        for number in range(rounds):
            for name in list(rows)[:: -1 if number % 2 else 1]:
                for crowded in (False, True):
                    turns[name, crowded].append(rows[name].take_turn(seconds, crowded, tries))
    finally:
        for row in rows.values():
            row.end()
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--seconds", type=float, default=0.7, help="length of a turn (0.7)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if typed.steps:
        take_steps(typed.recipe)
        return
    turns = measure(typed.recipe, typed.seconds, typed.rounds, typed.tries)
    one = [turn.rate for turn in turns["1 thread", False]]
    print(f"1 thread alone: {statistics.median(one):,.0f} images/s\n")
    print("| threads, and how they wait | alone | beside one program | others, cores |")
    print("| --- | ---: | ---: | ---: |")
    for name in ROWS:
        states = [turns[name, crowded] for crowded in (False, True)]
        ratios = [
            statistics.median(turn.rate / base for turn, base in zip(state, one, strict=True))
            for state in states
        ]
        others = statistics.median(turn.others for state in states for turn in state)
        print(f"| {name} | {ratios[0]:.2f} | {ratios[1]:.2f} | {others:.2f} |")


if __name__ == "__main__":
    main()
