"""Grids: their runs, the order of jobs, what is stopped, searches, and processes that are lost."""

import re
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
from foldsmith.evaluation.chance import compare_paired
from foldsmith.grid import jobs
from foldsmith.grid.driver import Grid, Halving
from foldsmith.grid.executors import Here, Submitted
from foldsmith.grid.jobs import FINISH, FOLD, PREPARE, Job, JobKilled, Needs, Outcome, run_job
from foldsmith.grid.plan import GridRun, alternatives_of, expand, read_grid_words
from foldsmith.grid.scores import HeldOut, choose_stopped, expected_lead, mean_of
from foldsmith.grid.search import Trial, propose, read_range, read_ranges
from foldsmith.process.files import load_npz
from foldsmith.tasks import build_task
from foldsmith.tasks.metrics import find_metric

NEEDS = Needs(1, 0.0, 2**30)
STAGES = {"run": all_stages, "train": train}


class InTurn:
    """An executor that runs jobs within this process; `fails` are names of jobs that end with status 2."""

    slots, gpus = 1, 0.0

    def __init__(self, fails: Sequence[str] = ()) -> None:
        self.submitted: list[Job] = []
        self.done: list[str] = []
        self._fails = fails

    def submit(self, job: Job) -> None:
        self.submitted.append(job)

    def withdraw(self, run: str) -> int:
        kept = [job for job in self.submitted if job.run != run]
        withdrawn, self.submitted = len(self.submitted) - len(kept), kept
        return withdrawn

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
    grid.work(lambda grid: None)
    assert all(progress.is_over for progress in grid.progress.values())
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
    oof = load_npz(inside.oof)
    right = (oof["probabilities"].argmax(axis=1) == oof["label"]).mean()
    assert grid.progress[runs[1].name].score.value == pytest.approx(right)

    again = InTurn()
    work(runs, again)
    assert again.done == []
    inside.fold_run(1).unlink()  # as if it had been killed before
    third = InTurn()
    work(runs, third)
    assert [name.split()[1:] for name in third.done] == [[PREPARE], [FOLD, "1"], [FINISH]]


def test_a_run_that_fails_is_told_and_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    runs = runs_of(folder, tmp_path, "--set", "lr=.01,.02")
    executor = InTurn(fails=[f"{runs[0].name} fold 0"])
    grid = work(runs, executor)
    assert f"{runs[0].name} fold 1" not in executor.done  # it would fail too
    first, second = (grid.progress[run.name] for run in runs)
    assert (first.state, second.state) == ("failed", "done")
    assert "the recipe is bad" in first.reason
    assert "recipe is bad" in (tmp_path / "shapes/grid" / f"{runs[0].name}-fold-0.log").read_text()


def test_a_run_of_another_recipe_is_never_taken_for_the_grids(folder: Path, tmp_path: Path) -> None:
    executor = InTurn()
    work(runs_of(folder, tmp_path, "--set", "lr=.01"), executor)
    others = runs_of(folder, tmp_path, "--set", "lr=.02")
    assert others[0].name == "quick"  # a field with one value is not in the name
    later = InTurn()
    grid = work(others, later)
    assert later.done == [] and grid.progress["quick"].state == "failed"
    assert re.search(naming("lr", "0.01", "0.02", "--output"), grid.progress["quick"].reason)


def test_a_damaged_run_does_not_stop_the_grid(folder: Path, tmp_path: Path) -> None:
    runs = runs_of(folder, tmp_path, "--set", "lr=.01,.02")
    work(runs, InTurn())
    runs[0].command.run.heldout(1).unlink()
    grid = work(runs, InTurn())
    assert [progress.state for progress in grid.progress.values()] == ["done", "done"]
    assert runs[0].command.run.heldout(1).is_file()


def right_or_wrong(right: np.ndarray) -> HeldOut:
    """Return the held-out predictions of a run that is right, or wrong, for sure."""
    targets = np.zeros(len(right), np.int64)
    predictions = np.stack([right, 1 - right], axis=1).astype(np.float32)
    paths = [f"train/{index}.png" for index in range(len(right))]
    return HeldOut(paths, targets, predictions, np.zeros(len(right), np.int64))


TASK, ACCURACY = build_task("multiclass", 2, "ce", ()), find_metric("accuracy")


def test_only_runs_that_are_surely_worse_are_stopped() -> None:
    base = (np.random.default_rng(0).random(400) < 0.8).astype(float)
    runs = {"best": right_or_wrong(base)}
    for name, flipped in (("close", 2), ("far", 120), ("farther", 200)):
        worse = base.copy()
        worse[np.flatnonzero(base)[:flipped]] = 0
        runs[name] = right_or_wrong(worse)
    stopped = choose_stopped(runs, TASK, ACCURACY, 0.5)
    assert set(stopped) == {"far", "farther"}
    assert all("best" in reason for reason in stopped.values())
    assert choose_stopped({name: runs[name] for name in ("best", "close")}, TASK, ACCURACY, 0.5) == {}
    assert choose_stopped(runs, TASK, ACCURACY, 1.0) == {}


@pytest.mark.parametrize("count", [2, 12])
def test_of_equal_runs_luck_stops_one_in_few_grids(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def gain(labels: np.ndarray, baseline: np.ndarray, candidate: np.ndarray, metric: object) -> object:
        return compare_paired(baseline[:, 0], candidate[:, 0])  # as the bootstrap's, and quicker

    monkeypatch.setattr("foldsmith.grid.scores.gain_with_error", gain)
    draws, grids = np.random.default_rng(1), 200
    stopped = sum(
        bool(
            choose_stopped(
                {str(run): right_or_wrong((draws.random(300) < 0.7).astype(float)) for run in range(count)},
                TASK, ACCURACY, 0.5,
            )
        )
        for _ in range(grids)
    )  # fmt: skip
    assert stopped <= 0.05 * grids + 3 * np.sqrt(0.05 * 0.95 * grids)


def test_the_seeds_of_a_combination_are_judged_together() -> None:
    first = right_or_wrong(np.array([1.0, 1.0, 0.0]))
    second = right_or_wrong(np.array([0.0, 1.0, 0.0]))
    shuffled = HeldOut(
        second.paths[::-1], *(array[::-1] for array in (second.targets, second.predictions, second.folds))
    )
    mean = mean_of([first, shuffled], TASK)
    assert mean.paths == first.paths
    np.testing.assert_allclose(mean.predictions[:, 0], [0.5, 1.0, 0.0], atol=1e-5)


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
    small = read_ranges(["epochs=1..3"])
    few = [Trial(settings, 0.5) for settings in propose(small, [], metric, seed=3)]
    assert sorted(trial.settings["epochs"] for trial in few) == [1, 2, 3]  # none twice
    assert propose(small, few, metric, seed=3) == []
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
    slurm = Submitted(scripts / "slurm", "local", 1.0, 0.0, None)
    slurm.submit(Job("run", FOLD, None, "run", ("--help",), NEEDS))
    outcomes: list[tuple[Job, Outcome]] = []
    while not outcomes:
        outcomes = slurm.finished(10)
    slurm.stop()
    # the job's process imports the real source
    assert outcomes[0][1].status == 0 and "--recipe" in outcomes[0][1].output
