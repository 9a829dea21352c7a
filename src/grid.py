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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from foldsmith.errors import InputError
from foldsmith.grid.jobs import Needs, needs_of
from foldsmith.grid.plan import GridRun, GridWords, build_run, expand, read_grid_words
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of
from foldsmith.process.locks import lock_until_exit
from foldsmith.process.pipeline import run_stages
from foldsmith.process.terminal import say
from foldsmith.recipes.words import as_typed
from foldsmith.run.command import WordParser

if TYPE_CHECKING:
    from foldsmith.grid.driver import Grid
    from foldsmith.grid.executors import Executor


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    typed, others = read_words(words)
    asked_for = read_grid_words(others)
    runs = expand(asked_for) if not typed.search else []
    if typed.search:
        check_search(typed, asked_for)
    first = runs[0] if runs else build_run(asked_for, "trial", asked_for.recipes[0], {})
    if typed.after >= len(first.folds) and typed.keep < 1:
        raise InputError(f"--after {typed.after}: the runs have {len(first.folds)} folds; stop them earlier.")
    folder = first.command.run.root.parent
    if not first.command.folder.is_dir():
        raise InputError(f"{first.command.folder} is not a folder; name a competition folder.")
    # imported here: torch and scipy take seconds, and --help does not need them
    from foldsmith.grid.board import Board
    from foldsmith.grid.driver import Grid, Halving

    (folder / "grid").mkdir(parents=True, exist_ok=True)
    lock_until_exit(folder / "grid" / ".lock", f"the runs of {folder}, as a grid")
    executor = executor_of(typed, first.command.output, first.command.competition)
    executor.slots = max(1, executor.slots // typed.cpus) if typed.address else executor.slots
    board = Board(folder, first.command.competition, shlex.join(["src/grid.py", *words]))
    deadline = time.monotonic() + 3600 * typed.max_hours if typed.max_hours else None

    def needs(run: GridRun) -> Needs:
        return needs_of(run.command, typed.cpus, typed.gpus, executor.gpus)

    halving = Halving(typed.keep, typed.after) if typed.keep < 1 else None

    def work(batch: list[GridRun]) -> "Grid":
        grid = Grid(batch, executor, needs, halving)
        try:
            grid.work(board.show, deadline)
        finally:
            board.show(grid, is_last=True)
        return grid

    try:
        if typed.search:
            return search(typed, asked_for, work)
        return finish(typed, work(runs), folder)
    finally:
        executor.stop()


def read_words(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the words of the grid, and those of its runs. Raise InputError for wrong values."""
    parser = WordParser(
        usage="grid.py FOLDER [--recipes NAME …] [--set FIELD=VALUE,VALUE …] [--seeds N] [words below, or of "
        "./run.sh]",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--address",
        metavar="ADDRESS",
        help="a Ray cluster: auto, HOST:6379, ray://HOST:10001; here starts one",
    )
    add("--slurm", metavar="PARTITION", help="submit the jobs to Slurm; local runs them here, as a trial")
    add("--max-hours", metavar="H", type=float, help="begin no job after H hours, and save those that run")
    parallel = "jobs at a time, here (1) or in Slurm (1,000)"
    add("--max-parallel", metavar="N", type=int, help=parallel)
    add("--cpus", metavar="N", type=int, default=1, help="processor cores, and threads, of a job (1)")
    gpus = "GPUs of a job: a share on Ray (a quarter up to 64 pixels, else 1), whole ones in Slurm (0)"
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
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be at least 1.")
    if typed.max_hours is not None and not typed.max_hours > 0:
        raise InputError(f"--max-hours {typed.max_hours:g}: must be above 0.")
    if typed.gpus is not None and not 0 <= typed.gpus < float("inf"):
        raise InputError(f"--gpus {typed.gpus:g}: must be 0 or more.")
    if not 0 < typed.keep <= 1:
        raise InputError(f"--keep {typed.keep:g}: must be above 0 and at most 1.")
    if typed.address and typed.slurm:
        raise InputError("--address and --slurm exclude each other; use one of them.")
    return typed, others


def check_search(typed: argparse.Namespace, asked_for: GridWords) -> None:
    """Raise InputError for words that a search does not take."""
    if len(asked_for.recipes) > 1 or asked_for.seeds > 1:
        raise InputError("--search takes one recipe and one seed; compare recipes by a grid without it.")
    several = [field for field, values in asked_for.alternatives.items() if len(values) > 1]
    if several:
        field, values = several[0], asked_for.alternatives[several[0]]
        raise InputError(
            f"--set {field} has several values, and a search has one; search them: --search "
            f"'{field}={'|'.join(values)}'."
        )
    for word, is_typed in (("--keep", typed.keep < 1), ("--blend", typed.blend)):
        if is_typed:
            raise InputError(f"{word} has no meaning in a search; leave it out.")


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
        if not typed.gpus:
            say("grid: jobs ask Slurm for no GPU (--gpus N)")
        folder = output / competition / "grid" / "slurm"
        return Submitted(folder, typed.slurm, typed.max_hours or 24, typed.gpus or 0.0, typed.max_parallel)
    return Here(typed.max_parallel or 1)


def search(typed: argparse.Namespace, asked_for: GridWords, work: Callable[[list[GridRun]], "Grid"]) -> int:
    """Run the trials of a search, and print the best and how much of its lead is luck; return the status."""
    from foldsmith.grid.scores import HeldOut, load_held_out, metric_of
    from foldsmith.grid.search import Trial, luck_in_words, propose, read_ranges
    from foldsmith.tasks.metrics import find_metric

    ranges = read_ranges(typed.search)
    fixed = {field: values[0] for field, values in asked_for.alternatives.items()}
    trials: list[Trial] = []
    runs: list[GridRun] = []
    held_out: dict[str, HeldOut] = {}
    metric = find_metric("accuracy")  # until the first run says which, it only counts trials without a score
    while len(trials) < typed.trials:
        proposed = propose(ranges, trials, metric, seed=0)[: typed.trials - len(trials)]
        if not trials:
            for entry in ranges:
                say(f"grid: {entry.in_words}")
        if not proposed:
            say(f"grid: all {len(trials)} combinations of the ranges are tried")
            break
        batch = []
        for settings in proposed:
            whole = {**fixed, **settings}
            digest = digest_of([asked_for.recipes, as_typed_all(whole), asked_for.shared])[:6]
            name = f"trial-{len(trials) + len(batch):03}-{digest}"
            batch.append(build_run(asked_for, name, asked_for.recipes[0], whole))
        grid = work(batch)
        for run, settings in zip(batch, proposed, strict=True):
            progress, value = grid.progress[run.name], None
            if progress.state == "done":
                task, metric = metric_of(run.command.run, run.command.metric)
                held_out[run.name] = load_held_out(run.command.run, run.folds, task)
                value = progress.score and progress.score.value
            trials.append(Trial(settings, value))
        runs += batch
        if grid.is_cut_off:
            return 0
    ranked = sorted(
        (index for index, trial in enumerate(trials) if trial.score is not None),
        key=lambda index: -metric.sign * trials[index].score,
    )
    for index in ranked:
        settings = as_typed_all(trials[index].settings)
        said = ", ".join(f"{field}={value}" for field, value in settings.items())
        say(f"grid: {runs[index].name}  {trials[index].score:.4f}  {said}")
    say(f"grid: {luck_in_words(held_out, metric)}")
    return 0 if len(ranked) == len(trials) else 1


def as_typed_all(settings: Mapping[str, object]) -> dict[str, str]:
    """Return settings as they are typed, by field."""
    return {field: as_typed(value) for field, value in settings.items()}


def finish(typed: argparse.Namespace, grid: "Grid", folder: Path) -> int:
    """Blend the finished runs if that is asked for, print the leaderboard, and return the exit status.

    It is 1 if a run failed.
    """
    source = Path(__file__).parent
    states = [progress.state for progress in grid.progress.values()]
    done = [progress.run for progress in grid.progress.values() if progress.state == "done"]
    status = 0
    if typed.blend and len(done) > 1:
        members = [str(run.command.run.root) for run in done]
        metric = done[0].command.metric
        words = [*members, "--name", "grid-blend", "--again", *(["--metric", metric] if metric else [])]
        status = run_stages(Path(sys.executable), [str(source / "blend.py"), *words])
    if done:
        status = run_stages(Path(sys.executable), [str(source / "compare.py"), str(folder)]) or status
    return status or int("failed" in states)


if __name__ == "__main__":
    run_main(main)
