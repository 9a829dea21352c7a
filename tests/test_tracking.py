"""Mirroring to a tracker: what it gets is what the files have, and no failure of it reaches the run."""

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeCompetition, naming

import prepare
import report
import split
import train
import validate
from foldsmith.errors import InputError
from foldsmith.run import tracking
from foldsmith.run.command import TRACKERS, Command, read_command
from foldsmith.run.paths import RunPaths
from foldsmith.run.tracking import Tracker

SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "3", "--batch-size", "8", "--folds", "2"]
SMALL += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]


class Library:
    """A stand-in for wandb and trackio, which records what it is called with.

    `failing` names the call that raises `error`. Every call draws from the global random streams.
    """

    def __init__(self, failing: str = "", error: BaseException | None = None) -> None:
        self.failing, self.error = failing, error
        self.runs: list[SimpleNamespace] = []

    def _call(self, name: str) -> None:
        random.random(), np.random.random(), torch.rand(3)
        assert not sys.stdin.isatty(), "it would ask for a key"
        if name == self.failing:
            raise self.error

    def init(self, **words: object) -> None:
        self._call("init")
        self.runs.append(SimpleNamespace(words=words, rows=[], files=[], open=True))

    def log(self, figures: dict[str, float], step: int | None = None) -> None:
        self._call("log")
        self.runs[-1].rows.append((step, figures))

    def log_artifact(self, path: str, name: str, type: str) -> None:
        self._call("log_artifact")
        self.runs[-1].files.append(Path(path))

    def finish(self) -> None:
        self._call("finish")
        self.runs[-1].open = False


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_failed", set())


def install(monkeypatch: pytest.MonkeyPatch, name: str, library: Library) -> Library:
    monkeypatch.setitem(sys.modules, name, library)
    return library


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """Return a run of one trained fold with a log of two epochs, and no other file."""
    run = RunPaths(tmp_path / "birds" / "mine")
    write_log(run, 2)
    run.identity.write_text(json.dumps({"recipe": {"name": "mine", "lr": 0.1}, "data": "1234"}))
    return run


def write_log(run: RunPaths, epochs: int) -> None:
    rows = [{"epoch": epoch, "train_loss": 1 / epoch, "val_loss": np.nan} for epoch in range(1, epochs + 1)]
    run.log(0).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(run.log(0), index=False)


def test_a_tracked_run_gives_the_same_bytes_and_the_tracker_gets_its_files(
    make_competition: MakeCompetition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, library = make_competition(per_class=8), install(monkeypatch, "wandb", Library())
    results = {}
    for name, words in (("plain", []), ("tracked", ["--track", "wandb"])):
        typed = [str(folder), *SMALL, "--output", str(tmp_path), "--name", name, *words]
        for stage in (prepare, split, train, validate):
            assert stage.main(typed) == 0
        root = tmp_path / folder.name / name
        names = ("fold0/weights.safetensors", "fold1/weights.safetensors", "fold1/heldout.npz", "oof.npz")
        results[name] = [(root / file).read_bytes() for file in names]
    assert results["plain"] == results["tracked"]

    assert [run.open for run in library.runs] == [False] * 3
    assert len({run.words["id"] for run in library.runs}) == 3
    assert {(run.words["project"], run.words["group"]) for run in library.runs} == {(folder.name, "tracked")}
    for fold, tracked in enumerate(library.runs[:2]):
        log = pd.read_csv(root / f"fold{fold}" / "log.csv").set_index("epoch")
        assert [step for step, _ in tracked.rows] == list(log.index) == [1, 2, 3]
        for epoch, figures in tracked.rows:
            assert figures == pytest.approx(log.loc[epoch].dropna().to_dict())
    ((_, scores),) = library.runs[2].rows
    cv = json.loads((root / "cv.json").read_text())
    assert [scores["cv/fold0"], scores["cv/fold1"]] == cv["folds"] and scores["cv/mean"] == cv["mean"]

    # the report is sent to the run that has the scores, and a finished run sends nothing again
    def write_report(command: Command, *_: object) -> str:
        command.run.report.write_text("a page")
        command.run.label_issues.write_text("path\n")
        return "none suspected"

    monkeypatch.setattr(report, "report", write_report)
    for _ in range(2):
        assert report.main([str(root), "--track", "wandb"]) == 0
    assert library.runs[3].words["id"] == library.runs[2].words["id"]
    assert [path.resolve() for path in library.runs[3].files] == [root / "report.html"]
    assert len(library.runs) == 4


@pytest.mark.parametrize("name", TRACKERS)
def test_a_resumed_run_continues_the_same_tracked_run(
    run: RunPaths, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = install(monkeypatch, name, Library())
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    for epochs in (2, 1, 4):  # a process that was killed resumes before the last epoch that it sent
        write_log(run, epochs)
        with Tracker(name, run) as tracker:
            tracker.mirror_log(run.log(0))
    assert sys.stdin is terminal
    first, second = library.runs
    word = {"wandb": "id", "trackio": "name"}[name]
    assert first.words[word] == second.words[word] and second.words["resume"] == "allow"
    sent = [*first.rows, *second.rows]
    assert sent == [(epoch, {"train_loss": pytest.approx(1 / epoch)}) for epoch in (1, 2, 3, 4)]


def test_another_training_of_this_name_is_another_tracked_run(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = install(monkeypatch, "wandb", Library())
    for rate in (0.1, 0.2):
        run.identity.write_text(json.dumps({"recipe": {"name": "mine", "lr": rate}, "data": "1234"}))
        with Tracker("wandb", run) as tracker:
            tracker.mirror_run()
    assert len({tracked.words["id"] for tracked in library.runs}) == 2
    assert [len(tracked.rows) for tracked in library.runs] == [2, 2]


@pytest.mark.parametrize("failing", ["init", "log", "finish"])
@pytest.mark.parametrize("error", [OSError("no network"), SystemExit(1), ValueError("strange")], ids=repr)
def test_a_tracker_that_fails_is_told_once_and_not_tried_again(
    run: RunPaths,
    failing: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    library = install(monkeypatch, "trackio", Library(failing, error))
    run.cv.write_text("{}")  # would be sent next
    with Tracker("trackio", run) as tracker:
        tracker.mirror_log(run.log(0))
        tracker.mirror_log(run.log(0))
    calls = len(library.runs)
    with Tracker("trackio", run) as tracker:
        tracker.mirror_run()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 and "trackio" in printed[0] and type(error).__name__ in printed[0]
    assert len(library.runs) == calls


def test_a_tracker_that_is_not_installed_is_told_with_the_line_that_installs_it(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(tracking.importlib, "import_module", refuse)
    Tracker("wandb", run).mirror_run()
    (printed,) = capsys.readouterr().out.splitlines()
    assert "pip install wandb" in printed


def refuse(name: str) -> None:
    raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_a_signal_within_a_tracker_still_stops_the_run(
    run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "wandb", Library("log", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        Tracker("wandb", run).mirror_run()


def test_a_tracker_is_no_part_of_a_run_and_unknown_ones_are_refused() -> None:
    plain, tracked = (read_command(["input/any", *words], "") for words in ([], ["--track", "trackio"]))
    assert plain.identity == tracked.identity and plain.run == tracked.run
    assert (plain.tracker, tracked.tracker) == ("", "trackio")
    with pytest.raises(InputError, match=naming("mlflow", "wandb", "trackio")):
        read_command(["input/any", "--track", "mlflow"], "")
