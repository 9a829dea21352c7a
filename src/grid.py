"""Many runs of a competition: every combination of recipes, settings and seeds.

.venv/bin/python src/grid.py input/tiny80 --recipes default finetune --set lr=.01,.02 --seeds 3
.venv/bin/python src/grid.py input/tiny80 --recipes quick --search lr=1e-3..1e-1 --trials 30
.venv/bin/python src/grid.py input/tiny80 --recipes default quick --address auto      # on a Ray cluster

All other words are those of ./run.sh, for every run. The same command goes on after an interruption.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from foldsmith.errors import InputError
from foldsmith.grid.jobs import Needs
from foldsmith.grid.plan import GridRun, GridWords, build_run, expand, read_grid_words
from foldsmith.process.exit import run_main
from foldsmith.process.pipeline import run_stages
from foldsmith.process.terminal import say
from foldsmith.run.command import WordParser

if TYPE_CHECKING:
    from foldsmith.grid.driver import Grid
    from foldsmith.grid.executors import Executor

GIB = 2**30
SMALL = 64  # pixels up to which four folds share a GPU


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    typed, others = read_words(words)
    asked_for = read_grid_words(others)
    runs = expand(asked_for) if not typed.search else []
    first = runs[0] if runs else build_run(asked_for, "trial-000", asked_for.recipes[0], {})
    # imported here: torch and scipy take seconds, and --help does not need them
    from foldsmith.grid.board import Board
    from foldsmith.grid.driver import Grid, Halving

    command = first.command
    executor = executor_of(typed, command.output, command.competition)
    folder = command.output / command.competition
    board = Board(folder, command.competition, shlex.join(["src/grid.py", *words]))
    deadline = time.monotonic() + 3600 * typed.max_hours if typed.max_hours else None
    needs = needs_of(typed, getattr(executor, "gpus", 0.0))
    halving = Halving(typed.keep, typed.after) if typed.keep < 1 else None

    def work(batch: list[GridRun]) -> "Grid":
        grid = Grid(batch, executor, needs, halving)
        grid.work(board.show, deadline)
        board.show(grid, at_once=True)
        return grid

    try:
        if typed.search:
            search(typed, asked_for, work, deadline)
        else:
            grid = work(runs)
            finish(typed, grid, folder)
    finally:
        executor.stop()
    return 0


def read_words(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the words of the grid, and those of its runs. Raise InputError for wrong values."""
    parser = WordParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--address", metavar="ADDRESS", help="a Ray cluster: auto, ray://HOST:10001, or here to start one")
    add("--slurm", metavar="PARTITION", help="submit the jobs to Slurm; local runs them here, as a trial")
    add("--max-hours", metavar="H", type=float, help="begin no job after H hours, and save those that run")
    add("--max-parallel", metavar="N", type=int, default=1, help="jobs at a time, without a cluster (1)")
    add("--cpus", metavar="N", type=int, default=1, help="processor cores, and threads, of a job (1)")
    gpus = "share of a GPU for a job, where the cluster has some (a quarter up to 64 pixels, else 1)"
    add("--gpus", metavar="F", type=float, help=gpus)
    keep = "after --after folds go on with this share of the runs, and with those that may be as good (1)"
    add("--keep", metavar="F", type=float, default=1.0, help=keep)
    add("--after", metavar="N", type=int, default=1, help="folds after which runs are stopped (1)")
    add("--blend", action="store_true", help="blend the finished runs at the end")
    ranges = "search ranges of fields instead: FIELD=LOW..HIGH or FIELD=WORD|WORD, with one recipe"
    add("--search", metavar="RANGE", nargs="+", default=[], help=ranges)
    add("--trials", metavar="N", type=int, default=20, help="runs of a search (20)")
    typed, others = parser.parse_known_args(words)
    for name in ("max_parallel", "cpus", "after", "trials"):
        value = getattr(typed, name)
        if value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be at least 1.")
    if not 0 < typed.keep <= 1:
        raise InputError(f"--keep {typed.keep:g}: must be above 0 and at most 1.")
    if typed.address and typed.slurm:
        raise InputError("--address and --slurm exclude each other; use one of them.")
    return typed, others


def executor_of(typed: argparse.Namespace, output: Path, competition: str) -> "Executor":
    """Return what runs the jobs: this machine, a Ray cluster, or Slurm."""
    if typed.address:
        from foldsmith.grid.cluster import OnRay

        executor = OnRay(typed.address, output, competition)
        how = "on a shared folder" if executor.shares else "brought back from machines that do not see it"
        say(f"grid: Ray with {executor.slots} cores and {executor.gpus:g} GPUs; results in {output} {how}")
        return executor
    from foldsmith.grid.executors import Here, Submitted

    if typed.slurm:
        cluster = "local" if typed.slurm == "local" else "slurm"
        folder = output / competition / "grid" / "slurm"
        return Submitted(folder, cluster, typed.slurm, typed.max_hours or 24, typed.max_parallel)
    return Here(typed.max_parallel)


def needs_of(typed: argparse.Namespace, gpus: float) -> Callable[[GridRun], Needs]:
    """Return the function from a run to what its jobs ask of a machine."""

    def needs(run: GridRun) -> Needs:
        small = run.command.recipe.image_size <= SMALL
        on_cpu = not gpus or run.command.device == "cpu"
        share = typed.gpus if typed.gpus is not None else (0.25 if small else 1.0)
        return Needs(typed.cpus, 0.0 if on_cpu else share, (2 if small else 4) * GIB)

    return needs


def search(
    typed: argparse.Namespace,
    asked_for: GridWords,
    work: Callable[[list[GridRun]], "Grid"],
    deadline: float | None,
) -> None:
    """Run the trials of a search, and print the best and how much of its lead is luck."""
    from foldsmith.grid.scores import HeldOutScore, metric_of
    from foldsmith.grid.search import Trial, luck_in_words, propose, read_ranges
    from foldsmith.tasks.metrics import find_metric

    if len(asked_for.recipes) > 1 or asked_for.seeds > 1:
        raise InputError("--search takes one recipe and one seed; compare recipes by a grid without it.")
    ranges = read_ranges(typed.search)
    for entry in ranges:
        say(f"grid: {entry.in_words}")
    fixed = {field: values[0] for field, values in asked_for.alternatives.items()}
    trials: list[Trial] = []
    scores: dict[str, HeldOutScore] = {}
    metric, seed = find_metric("accuracy"), 0  # of the first trials none is known yet
    while len(trials) < typed.trials and (deadline is None or time.monotonic() < deadline):
        proposed = propose(ranges, trials, metric, seed)[: typed.trials - len(trials)]
        names = [f"trial-{len(trials) + index:03}" for index in range(len(proposed))]
        batch = [
            build_run(asked_for, name, asked_for.recipes[0], {**fixed, **settings})
            for name, settings in zip(names, proposed, strict=True)
        ]
        grid = work(batch)
        for run, settings in zip(batch, proposed, strict=True):
            progress = grid.progress[run.name]
            whole = progress.score if len(progress.trained) == len(run.folds) else None
            if whole is not None:
                scores[run.name] = whole
                _, metric = metric_of(run.command.run, run.command.metric)
            trials.append(Trial(settings, None if whole is None else whole.score))
    for name, score in sorted(scores.items(), key=lambda entry: -metric.sign * (entry[1].score or 0)):
        settings = trials[int(name.removeprefix("trial-"))].settings
        said = ", ".join(f"{field}={value:.4g}" if isinstance(value, float) else f"{field}={value}"
                         for field, value in settings.items())  # fmt: skip
        say(f"grid: {name}  {score.in_words}  {said}")
    say(f"grid: {luck_in_words(scores, metric)}")


def finish(typed: argparse.Namespace, grid: "Grid", folder: Path) -> None:
    """Print the leaderboard of the finished runs, and blend them if that is asked for."""
    source = Path(__file__).parent
    done = [progress.run for progress in grid.progress.values() if progress.state == "done"]
    if done:
        run_stages(Path(sys.executable), [str(source / "compare.py"), str(folder)])
    if typed.blend and len(done) > 1:
        members = [str(run.command.run.root) for run in done]
        run_stages(Path(sys.executable), [str(source / "blend.py"), *members, "--name", "grid-blend"])


if __name__ == "__main__":
    run_main(main)
