"""Whole runs with pretraining: the same command gives the same bytes under other machine conditions.

Recipes without pretraining and hash seeds are tested in test_security.py, trainings cut off at any step in
test_fold.py, and killed runs in test_crash.py.
"""

import json
import os
import random
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeCompetition
from crash import RECIPES, STAGES, WORDS, artefacts_of

import train
from foldsmith.process.signals import Interrupted
from foldsmith.run.command import Command
from foldsmith.run.tables import load_samples
from foldsmith.training import loop as epochs
from foldsmith.training.network import Rehearsal
from foldsmith.training.plan import Plan, describe_duration

PREDICTIONS = (
    "run/oof.npz",
    "run/test.npz",
    "run/fold0/weights.safetensors",
    "run/fold1/weights.safetensors",
)


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(num_classes=3, per_class=8)


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of an uninterrupted run without worker processes."""
    return run_stages(folder, tmp_path_factory.mktemp("output"))


def run_stages(folder: Path, output: Path, *words: str) -> dict[str, bytes]:
    """Run every stage in this process; return the written files by name."""
    for main in STAGES.values():
        typed = [str(folder), *WORDS, *RECIPES["autoencoder"], "--workers", "0", *words]
        assert main([*typed, "--output", str(output)]) == 0
    return artefacts_of(output)


def differing(here: dict[str, bytes], there: dict[str, bytes]) -> list[str]:
    assert here.keys() == there.keys()
    return [name for name in here if here[name] != there[name]]


def test_a_rehearsal_changes_no_byte_and_its_estimate_is_the_sum_of_its_parts(
    folder: Path, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "LONG", 0)
    rehearsals = []

    def described(command: Command, plan: Plan, speeds: Rehearsal, num_devices: int) -> str:
        rehearsals.append((command, plan, speeds, num_devices))
        return ""

    monkeypatch.setattr(train, "describe_duration", described)
    assert differing(run_stages(folder, tmp_path), reference) == []
    command, plan, _, num_devices = rehearsals[0]
    assert num_devices == 1 and len(rehearsals) == 1
    recipe = replace(command.recipe, epochs=3, seeds=1, rounds=1, validate_every=1, views=("identity",))
    # 2 folds x 3 epochs x 1,000 steps of a minute; no time for predictions
    sentence = describe_duration(replace(command, recipe=recipe), plan, Rehearsal(60.0, 1000, 0.0), 1)
    assert "100 h 0 min" in sentence and "2 folds" in sentence
    # every one of the 24 images is held out once and predicted in 3 epochs and at the end; then the test
    images = 24 * 4 + 2 * len(load_samples(command.run.test_samples))
    sentence = describe_duration(replace(command, recipe=recipe), plan, Rehearsal(0.0, 1, 0.5), 2)
    assert f"{images * 0.5 / 2:.0f} s of predictions" in sentence
    # in a second round half of the 10 test images are trained on beside the 12 of a fold, once predicted
    recipe, plan = replace(recipe, rounds=2, pseudo_share=0.5), replace(plan, to_label=["test/0.png"] * 10)
    sentence = describe_duration(replace(command, recipe=recipe), plan, Rehearsal(60.0, 1000, 0.0), 1)
    minutes = 2 * 3 * 1000 * (12 + 12 + 5) / 12
    assert f"{minutes // 60:.0f} h {minutes % 60:.0f} min" in sentence
    images = 2 * 24 * 4 + 2 * (len(load_samples(command.run.test_samples)) + 10)
    sentence = describe_duration(replace(command, recipe=recipe), plan, Rehearsal(0.0, 1, 0.5), 2)
    assert f"{images * 0.5 / 2:.0f} s of predictions" in sentence


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # more than cores
@pytest.mark.parametrize("workers", ["1", "2", "4"])
def test_any_number_of_workers_gives_the_same_bytes(
    workers: str, folder: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    assert differing(run_stages(folder, tmp_path, "--workers", workers), reference) == []


def test_folds_trained_alone_are_those_of_the_whole_run(
    folder: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    alone = run_stages(folder, tmp_path, "--fold", "1")
    for name in ("run/fold1/weights.safetensors", "run/fold1/heldout.npz", "run/fold1/log.csv"):
        assert alone[name] == reference[name]
    run_stages(folder, tmp_path, "--fold", "0")
    assert differing(run_stages(folder, tmp_path), reference) == []


def test_a_run_interrupted_after_every_epoch_ends_with_the_same_bytes(
    folder: Path, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_line, lines = epochs.log_line, []

    def stop(*words: object) -> str:
        lines.append(log_line(*words).partition("  lr ")[0])
        os.kill(os.getpid(), signal.SIGTERM)
        return log_line(*words)

    monkeypatch.setattr(epochs, "log_line", stop)
    files = None
    while files is None:
        try:
            files = run_stages(folder, tmp_path)
        except Interrupted:
            assert len(lines) <= 6
    assert lines == [
        f"{name}  epoch {epoch}/2" for name in ("pretrain", "fold 0", "fold 1") for epoch in (1, 2)
    ]
    assert differing(files, reference) == []


def test_another_seed_changes_every_weight_and_prediction_and_no_fold(
    folder: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    changed = differing(run_stages(folder, tmp_path, "--seed", "1"), reference)
    assert {"run/pretrain/encoder.safetensors", *PREDICTIONS} <= set(changed)
    assert not {"run/samples.csv", "run/folds.csv", "run/classes.csv"} & set(changed)


@pytest.fixture
def shuffled_folders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shuffle every folder listing; return the listed folders."""
    draws, listed = random.Random(0), []

    class Shuffled:
        """An iterator like that of os.scandir, with or without a with statement."""

        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                listed.append(str(path))
                self.entries = list(entries)
            draws.shuffle(self.entries)

        __enter__ = __iter__ = lambda self: self
        __exit__ = lambda self, *error: None  # noqa: E731
        close = __exit__

        def __next__(self) -> os.DirEntry:
            if not self.entries:
                raise StopIteration
            return self.entries.pop()

    def shuffled_names(path: str = ".") -> list[str]:
        names = listdir(path)
        draws.shuffle(names)
        return names

    scandir, listdir = os.scandir, os.listdir
    monkeypatch.setattr(os, "scandir", Shuffled)
    monkeypatch.setattr(os, "listdir", shuffled_names)
    return listed


@pytest.fixture
def written_backwards(folder: Path, tmp_path: Path) -> Path:
    """Return the same competition with its files and annotations written in another order."""
    other = tmp_path / "input" / folder.name
    files = [path for path in folder.rglob("*") if path.is_file()]
    np.random.default_rng(0).shuffle(files)
    for path in sorted(files, key=lambda path: path.name, reverse=True):
        copy = other / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    answer = json.loads((folder / "answer.json").read_text())
    for entries in answer.values():
        random.Random(1).shuffle(entries)
    (other / "answer.json").write_text(json.dumps(dict(reversed(answer.items()))))
    return other


def test_no_order_of_files_in_folders_or_of_annotations_changes_a_byte(
    written_backwards: Path, reference: dict[str, bytes], shuffled_folders: list[str], tmp_path: Path
) -> None:
    files = run_stages(written_backwards, tmp_path / "output")
    assert {str(written_backwards / subset) for subset in ("train", "test")} <= set(shuffled_folders)
    # the name of the cache depends on file times, its content does not
    here, there = (
        {re.sub(r"px-\w+", "px", name): data for name, data in files_in.items()}
        for files_in in (files, reference)
    )
    assert differing(here, there) == []
