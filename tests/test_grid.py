"""Grids: their runs, the order of jobs, what is stopped, searches, and processes that are lost."""

import signal
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeCompetition, naming

import run as all_stages
import train
from foldsmith.errors import InputError
from foldsmith.grid import jobs
from foldsmith.grid.driver import Grid, Halving
from foldsmith.grid.executors import Here, Submitted
from foldsmith.grid.jobs import FINISH, FOLD, PREPARE, Job, JobKilled, Needs, Outcome, run_job
from foldsmith.grid.plan import GridRun, alternatives_of, expand, read_grid_words
from foldsmith.grid.scores import HeldOutScore, choose_stopped, expected_lead
from foldsmith.grid.search import Trial, propose, read_range, read_ranges
from foldsmith.tasks.metrics import find_metric

NEEDS = Needs(1, 0.0, 2**30)
STAGES = {"run": all_stages, "train": train}


class InTurn:
    """An executor that runs jobs within this process; `fails` are names of jobs that end with status 2."""

    slots = 1

    def __init__(self, fails: Sequence[str] = ()) -> None:
        self.submitted: list[Job] = []
        self.done: list[str] = []
        self._fails = fails

    def submit(self, job: Job) -> None:
        self.submitted.append(job)

    def finished(self, timeout: float) -> list[tuple[Job, Outcome]]:
        job = self.submitted.pop(0)
        self.done.append(job.name)
        if job.name in self._fails:
            return [(job, Outcome(2, "one line\nerror: the recipe is bad\n", "here", 1.0))]
        assert STAGES[job.stage].main(list(job.words)) == 0
        return [(job, Outcome(0, "", "here", 1.0))]

    def stop(self) -> None:
        self.submitted.clear()


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(name="shapes", num_classes=2, per_class=8, test_per_class=1, size=16)


def runs_of(folder: Path, output: Path, *words: str) -> list[GridRun]:
    typed = [str(folder), "--recipes", "quick", "--image-size", "16", "--epochs", "1", "--folds", "2"]
    typed += ["--device", "cpu", "--precision", "fp32", "--workers", "0", "--output", str(output), *words]
    return expand(read_grid_words(typed))


def work(runs: list[GridRun], executor: InTurn, halving: Halving | None = None) -> Grid:
    grid = Grid(runs, executor, lambda run: NEEDS, halving)
    assert grid.work(lambda grid: None)
    return grid


def test_a_grid_is_every_combination_and_its_names_say_which(folder: Path, tmp_path: Path) -> None:
    words = [
        "--set",
        "lr=.01,.02",
        "--set",
        "views=identity,hflip",
        "--set",
        "views=identity",
        "--seeds",
        "2",
    ]
    runs = runs_of(folder, tmp_path, *words)
    assert len({run.name for run in runs}) == len(runs) == 2 * 2 * 2
    by_name = {run.name: run.command.recipe for run in runs}
    recipe = by_name["quick-lr-.02-views-identity,hflip-seed1"]
    assert (recipe.lr, recipe.views, recipe.seed) == (0.02, ("identity", "hflip"), 1)
    assert all(Path(run.words[0]).is_absolute() for run in runs)
    assert alternatives_of(["lr=1,2", "lr=2", "views=a,b"]) == {"lr": ("1", "2"), "views": ("a,b",)}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--name", "x"], ["--name"]),
        (["--fold", "1"], ["--fold"]),
        (["--recipes", "quick"], ["quick"]),
        (["--set", "lr"], ["lr"]),
        (["--set", "learning_rat=1"], ["learning_rat"]),
        (["--seeds", "0"], ["--seeds"]),
    ],
)
def test_words_that_a_grid_cannot_take_are_refused(
    folder: Path, tmp_path: Path, words: list[str], named: list[str]
) -> None:
    with pytest.raises(InputError, match=naming(*named)):
        runs_of(folder, tmp_path, *words)


def test_a_grid_gives_the_bytes_of_single_runs_and_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    runs = runs_of(folder, tmp_path / "grid", "--set", "lr=.01,.02")
    executor = InTurn()
    grid = work(runs, executor)
    assert [progress.state for progress in grid.progress.values()] == ["done", "done"]
    kinds = [name.split()[1] for name in executor.done]
    assert kinds.count(PREPARE) == kinds.count(FINISH) == 2 and kinds.count(FOLD) == 4
    alone = runs_of(folder, tmp_path / "alone", "--set", "lr=.02")[0]
    assert all_stages.main(list(alone.words)) == 0
    inside = runs[1].command.run
    for file in (
        "fold0/weights.safetensors",
        "fold1/weights.safetensors",
        "oof.npz",
        "test.npz",
        "submission.csv",
    ):
        assert (inside.root / file).read_bytes() == (alone.command.run.root / file).read_bytes()
    oof = np.load(inside.oof)
    right = (oof["probabilities"].argmax(axis=1) == oof["label"]).mean()
    assert grid.progress[runs[1].name].score.score == pytest.approx(right)

    again = InTurn()
    work(runs, again)
    assert again.done == []
    inside.fold_run(1).unlink()  # as if it had been killed before
    third = InTurn()
    work(runs, third)
    assert [name.split()[1:] for name in third.done] == [[PREPARE], [FOLD, "1"], [FINISH]]


def test_a_run_that_fails_is_told_and_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    runs = runs_of(folder, tmp_path, "--set", "lr=.01,.02")
    grid = work(runs, InTurn(fails=[f"{runs[0].name} fold 0"]), Halving(0.5, 1))
    first, second = (grid.progress[run.name] for run in runs)
    assert (first.state, second.state) == ("failed", "done")
    assert "the recipe is bad" in first.reason
    assert "recipe is bad" in (tmp_path / "shapes/grid" / f"{runs[0].name}-fold-0.log").read_text()


def held_out(right: np.ndarray) -> HeldOutScore:
    """Return the score of a run that is right, or wrong, for sure."""
    targets = np.zeros(len(right), np.int64)
    predictions = np.stack([right, 1 - right], axis=1).astype(np.float32)
    paths = [f"train/{index}.png" for index in range(len(right))]
    return HeldOutScore(paths, targets, predictions, float(right.mean()), 0.01)


def test_only_runs_that_are_surely_worse_are_stopped() -> None:
    draws, metric = np.random.default_rng(0), find_metric("accuracy")
    base = (draws.random(400) < 0.8).astype(float)
    scores = {"best": held_out(base)}
    for name, flipped in (("close", 4), ("far", 120), ("farther", 200)):
        worse = base.copy()
        worse[np.flatnonzero(base)[:flipped]] = 0
        scores[name] = held_out(worse)
    stopped = choose_stopped(scores, metric, 0.5)
    assert set(stopped) == {"far", "farther"}
    assert all("best" in reason for reason in stopped.values())
    assert choose_stopped({"best": scores["best"], "close": scores["close"]}, metric, 0.5) == {}
    assert choose_stopped(scores, metric, 1.0) == {}


def test_equal_runs_are_seldom_stopped_by_luck() -> None:
    draws, metric, stopped = np.random.default_rng(1), find_metric("accuracy"), 0
    for _ in range(60):
        pair = {name: held_out((draws.random(150) < 0.7).astype(float)) for name in ("a", "b")}
        stopped += len(choose_stopped(pair, metric, 0.5))
    assert stopped <= 9  # two errors on two sides: 5 % of 60 are 3


@pytest.mark.parametrize("count", [2, 5, 30, 200])
def test_the_expected_lead_is_the_mean_maximum_of_normal_values(count: int) -> None:
    maxima = np.random.default_rng(0).standard_normal((20_000, count)).max(axis=1)
    assert expected_lead(count) == pytest.approx(maxima.mean(), rel=0.03)


def test_ranges_say_how_they_are_searched() -> None:
    rate, epochs, kind = read_ranges(["lr=1e-3..1e-1", "epochs=2..8", "optimizer=sgd|adamw"])
    assert rate.is_logarithmic and not rate.is_integer and (rate.low, rate.high) == (1e-3, 1e-1)
    assert epochs.is_integer and not epochs.is_logarithmic
    assert kind.words == ("sgd", "adamw")


@pytest.mark.parametrize("word", ["lr", "lr=1..x", "lr=2..1", "rate=1..2", "model=1..2", "epochs=a|b"])
def test_ranges_that_say_nothing_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=naming(word.partition("=")[0])):
        read_range(word)


def test_a_search_proposes_the_same_for_the_same_trials_and_comes_near_the_optimum() -> None:
    pytest.importorskip("optuna", reason="requirements-grid.txt is not installed")
    ranges, metric = read_ranges(["lr=1e-4..1e0", "optimizer=sgd|adamw"]), find_metric("accuracy")

    def score(settings: dict) -> float:
        return -abs(np.log10(settings["lr"]) + 2) - (settings["optimizer"] == "sgd")

    trials: list[Trial] = []
    while len(trials) < 32:
        proposed = propose(ranges, trials, metric, seed=3)
        assert proposed == propose(ranges, list(trials), metric, seed=3)
        trials += [Trial(settings, score(settings)) for settings in proposed]
    assert max(trial.score for trial in trials) > -0.3
    first = [trial.score for trial in trials[:8]]
    assert np.mean([trial.score for trial in trials[-8:]]) > np.mean(first)


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the stages by programs: one that ends well, is killed the first time, fails, waits."""
    programs = {
        "well": "print('done')",
        "killed": """
            import os, signal, sys
            from pathlib import Path
            mark = Path(sys.argv[1])
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            print(os.environ["OMP_NUM_THREADS"])
        """,
        "always": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "bad": "import sys; print('error: no such recipe', file=sys.stderr); print('more'); sys.exit(2)",
        "waits": """
            import signal, sys
            from pathlib import Path
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
            Path(sys.argv[1]).touch()
            signal.pause()
        """,
    }
    for name, text in programs.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.setattr(jobs, "SOURCE", tmp_path)
    return tmp_path


def job(stage: str, *words: str) -> Job:
    return Job("run", FOLD, None, stage, words, replace(NEEDS, cpus=3))


def test_a_job_is_a_process_with_its_threads_and_its_reason(scripts: Path) -> None:
    assert run_job(job("well")).output == "done\n"
    failed = run_job(job("bad"))
    assert (failed.status, failed.reason) == (2, "no such recipe")
    with pytest.raises(JobKilled):
        run_job(job("always"))


def test_a_killed_job_is_tried_again_but_not_for_ever(scripts: Path) -> None:
    here = Here(2)
    here.submit(job("killed", str(scripts / "mark")))
    here.submit(job("always"))
    outcomes = {}
    while len(outcomes) < 2:
        outcomes |= {done.stage: outcome for done, outcome in here.finished(30)}
    here.stop()
    assert (outcomes["killed"].status, outcomes["killed"].tries, outcomes["killed"].output) == (0, 2, "3\n")
    assert outcomes["always"].status == 1


def test_stopping_asks_the_jobs_to_save(scripts: Path) -> None:
    here, mark = Here(1), scripts / "begun"
    here.submit(job("waits", str(mark)))
    while not mark.exists():
        assert here.finished(0.05) == []
    here.stop()
    ((_, outcome),) = here.finished(1)
    assert outcome.status == 128 + signal.SIGTERM


def test_submitit_runs_jobs_and_brings_their_outcomes(scripts: Path) -> None:
    pytest.importorskip("submitit", reason="requirements-grid.txt is not installed")
    slurm = Submitted(scripts / "slurm", "local", "", 1.0, 2)
    slurm.submit(Job("run", FOLD, None, "run", ("--help",), NEEDS))
    outcomes: list[tuple[Job, Outcome]] = []
    while not outcomes:
        outcomes = slurm.finished(10)
    # the job's process imports the real source
    assert outcomes[0][1].status == 0 and "--recipe" in outcomes[0][1].output
