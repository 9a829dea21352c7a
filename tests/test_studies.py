"""The studies: recipes, command line, tables and curves."""

import os
import signal
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming

import study
from foldsmith.comparison.study_table import HEADER, StudyRow, read_row, table_of, write_study
from foldsmith.errors import InputError
from foldsmith.models import MODELS
from foldsmith.models.whitened_cnn import WHITENED_PLANS
from foldsmith.process import pipeline as stages
from foldsmith.process.files import save_csv, save_json, save_npz
from foldsmith.process.signals import Interrupted, interruptible
from foldsmith.recipes import RECIPES
from foldsmith.recipes.studies import STUDIES, find_study
from foldsmith.run.command import Command, read_command
from foldsmith.run.paths import RunPaths
from foldsmith.training.check import check_recipe

CNN = STUDIES["cnn"]


@pytest.mark.parametrize("recipe", [name for known in STUDIES.values() for name in known.reported])
def test_every_row_of_every_study_is_a_recipe_that_can_train(recipe: str) -> None:
    assert RECIPES[recipe].model in MODELS
    if "padded" not in recipe:  # the padded ones have linear layers too large for a test
        check_recipe(RECIPES[recipe], "cpu", "fp32")


def test_every_network_of_the_studies_is_in_a_study() -> None:
    used = {RECIPES[recipe].model for known in STUDIES.values() for recipe in known.reported}
    assert set(MODELS) - used == {"quick-cnn", "resnet9", *WHITENED_PLANS}


def test_the_hold_outs_are_the_studies_own() -> None:
    plan = read_command([str(CNN.folder), *CNN.split], "").plan
    assert 50_000 * plan.holdout == 8_000
    crnn = STUDIES["crnn"]
    assert 60_000 * read_command([str(crnn.folder), *crnn.split], "").plan.holdout == 18_000


def test_the_arguments_are_a_study_a_folder_and_the_arguments_of_the_stages() -> None:
    assert study.read_words(["crnn"]) == (STUDIES["crnn"], [], ["input/fashion-mnist", "--holdout", "0.3"])
    typed = ["cnn", "my/cifar", "--epochs", "3", "--only", "cnn-a", "--folds", "2", "--only", "cnn-gap"]
    words = ["my/cifar", "--epochs", "3", "--folds", "2"]
    assert study.read_words(typed) == (CNN, ["cnn-a", "cnn-gap"], words)


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (["cnnn"], ["'cnnn'", "'cnn'"]),
        (["cnn", "--only", "resnet"], ["'resnet'"]),
        (["cnn", "--only"], ["cnn-gap"]),
        (["cnn", "--name", "mine"], ["--name"]),
        (["cnn", "--recipe=quick"], ["--recipe"]),
        (["cnn", "--epoch", "3"], ["'--epoch'", "'--epochs'"]),
        (["cnn", "--epochs", "none"], ["epochs", "none"]),
    ],
)
def test_unknown_arguments_are_refused_before_anything_runs(
    typed: list[str], keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "run", lambda command: pytest.fail("something ran"))
    with pytest.raises(InputError, match=naming(*keys)):
        study.main(typed)


@pytest.mark.parametrize("typed", [[], ["--help"]])
def test_without_a_name_the_studies_are_listed(typed: list[str], capsys: pytest.CaptureFixture) -> None:
    assert study.main(typed) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in STUDIES) and "\\n" not in printed


def test_a_study_runs_its_recipes_in_order_and_ends_with_the_status_of_one_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []

    def run(command: Command) -> int:
        ran.append(list(command.words))
        return 7 if command.recipe.name == "cnn-b" else 0

    monkeypatch.setattr(study, "run", run)
    monkeypatch.setattr(study, "check_labels", lambda folder, study: None)
    assert study.main(["cnn", "--output", str(tmp_path)]) == 7
    words = ["input/cifar10", "--holdout", "0.16", "--output", str(tmp_path), "--recipe"]
    assert ran == [[*words, "cnn-a"], [*words, "cnn-b"]]
    table = (tmp_path / "cifar10" / "study-cnn.md").read_text(encoding="utf-8")
    assert "| cnn-a | - | - |" in table and "Training and held-out curves" not in table


def test_a_study_of_numbers_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_competition: MakeCompetition
) -> None:
    monkeypatch.setattr(study, "run", lambda command: pytest.fail("something ran"))
    folder = make_competition(labels="csv")
    table = pd.read_csv(folder / "labels.csv")
    table.assign(label=np.arange(len(table)) / 7).to_csv(folder / "labels.csv", index=False)
    (folder / "sample_submission.csv").unlink()
    with pytest.raises(InputError, match=naming(folder, "./run.sh", "--recipe cnn-a")):
        study.main(["cnn", str(folder), "--output", str(tmp_path)])


def test_a_study_of_a_folder_that_is_missing_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(study, "run", lambda command: pytest.fail("something ran"))
    with pytest.raises(InputError, match="nowhere"):
        study.main(["cnn", str(tmp_path / "nowhere"), "--output", str(tmp_path / "output")])
    assert not (tmp_path / "output").exists()


def test_an_interrupted_study_stops_its_stages_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = tmp_path / "run.sh"
    stages.write_text(
        "#!/usr/bin/env bash\n"
        f"trap 'touch {tmp_path}/stopped; kill $!; exit 143' TERM\n"
        "tail -f /dev/null &\n"
        "kill -TERM $PPID\n"
        "wait $!\n",
        encoding="utf-8",
    )
    stages.chmod(0o755)
    monkeypatch.setattr(study, "RUN", stages)
    with pytest.raises(Interrupted) as caught, interruptible():
        study.run(read_command(["input/cifar10"], ""))
    assert caught.value.number == signal.SIGTERM
    assert (tmp_path / "stopped").exists()


def test_a_study_interrupted_while_its_stages_start_stops_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program, begun = tmp_path / "run.sh", tmp_path / "begun"
    os.mkfifo(begun)
    program.write_text(
        "#!/usr/bin/env bash\n"
        f"trap 'touch {tmp_path}/stopped; kill $!; exit 143' TERM\n"
        "tail -f /dev/null &\n"
        f"echo > {begun}\n"
        "wait $!\n",
        encoding="utf-8",
    )
    program.chmod(0o755)

    class Signalled(subprocess.Popen):
        def __init__(self, *words: object) -> None:
            super().__init__(*words)
            begun.read_text()  # waits for it
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(study, "RUN", program)
    monkeypatch.setattr(stages.subprocess, "Popen", Signalled)
    with pytest.raises(Interrupted) as caught, interruptible():
        study.run(read_command(["input/cifar10"], ""))
    assert caught.value.number == signal.SIGTERM
    assert (tmp_path / "stopped").exists()


def write_run(root: Path, accuracies: list[float], pretrained: bool = False) -> RunPaths:
    """Write a validated run of two epochs, with one fold per accuracy."""
    run = RunPaths(root)
    for fold, accuracy in enumerate(accuracies):
        log = {
            "epoch": [1, 2], "lr": [0.1, 0.1],
            "train_loss": [2.0, 1.0 + fold], "train_accuracy": [0.1, accuracy],
            "val_loss": [2.0, np.nan], "val_accuracy": [0.2, np.nan], "seconds": [1.0, 2.0 + fold],
            "images_per_second": [1, 1],
        }  # fmt: skip
        save_csv(run.log(fold), pd.DataFrame(log))
        facts = {
            "fold": fold, "recipe": {"epochs": 2}, "parameters": 1180, "training_images": 100 + fold,
            "seed": 3, "hardware": "a machine", "precision": "fp32", "command": "python src/train.py",
        }  # fmt: skip
        save_json(run.fold_run(fold), facts)
    save_json(run.cv, {"folds": accuracies, "metrics": {"accuracy": 0.625, "log_loss": 1.25}})
    save_npz(run.oof, fold=np.arange(len(accuracies)))
    if pretrained:
        save_json(run.pretrain_run, {"epochs": 30})
    return run


def test_a_row_is_the_mean_over_folds_of_the_last_epoch_and_the_out_of_fold_score(tmp_path: Path) -> None:
    row = read_row(write_run(tmp_path, [0.5, 0.7], pretrained=True), "cnn-a")
    assert row.train_accuracy == pytest.approx(0.6) and row.train_loss == pytest.approx(1.5)
    assert (row.accuracy, row.loss, row.parameters) == (0.625, 1.25, 1180)
    assert row.seconds_per_epoch == pytest.approx((1.5 + 2.0) / 2)
    assert row.epochs == "30 without labels, then 2"
    assert read_row(RunPaths(tmp_path / "nothing"), "cnn-a") is None


def test_a_run_with_only_its_last_fold_trained_has_a_row(tmp_path: Path) -> None:
    run = write_run(tmp_path, [0.5, 0.7])
    save_npz(run.oof, fold=np.ones(5, dtype=np.int64))
    run.fold_run(0).unlink()
    assert read_row(run, "cnn-a").train_accuracy == 0.7


def test_a_run_in_training_has_no_row(tmp_path: Path) -> None:
    run = write_run(tmp_path, [0.5, 0.7])
    run.fold_run(0).unlink()
    assert read_row(run, "cnn-a") is None


def rows_of(tmp_path: Path) -> dict[str, StudyRow | None]:
    rows: dict[str, StudyRow | None] = dict.fromkeys(CNN.reported)
    rows["cnn-a"] = read_row(write_run(tmp_path / "a", [0.5]), "cnn-a")
    rows["cnn-gap"] = read_row(write_run(tmp_path / "gap", [0.5, 0.7]), "cnn-gap")
    return rows


def test_the_table_has_a_row_for_every_recipe_and_the_studys_figure_beside_ours(tmp_path: Path) -> None:
    table = {cells[0]: dict(zip(HEADER, cells, strict=True)) for cells in table_of(CNN, rows_of(tmp_path))}
    assert list(table) == list(CNN.reported)
    assert table["cnn-a"]["held-out accuracy"] == "62.50%" and table["cnn-a"]["parameters"] == "1,180"
    assert table["cnn-b"]["held-out accuracy"] == "-" and table["cnn-b"]["the study"] == "28 % (validation)"
    assert table["cnn-gap"]["training accuracy"] == "60.00%"


def test_the_page_names_command_seed_and_machine_and_shows_the_curves_of_what_ran(tmp_path: Path) -> None:
    path = tmp_path / "study-cnn.md"
    write_study(path, CNN, rows_of(tmp_path), "./run.sh study cnn --epochs 2")
    text = path.read_text(encoding="utf-8")
    assert "`./run.sh study cnn --epochs 2`" in text and "seed 3, fp32, a machine" in text
    assert "](study-cnn.svg)" in text
    picture = ElementTree.parse(tmp_path / "study-cnn.svg")
    words = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    titles = [text for text in words if "in training" in text]
    assert [title.partition(":")[0] for title in titles] == ["cnn-a", "cnn-gap"]
    lines = list(picture.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 2 * 2 + 2 * 2 * 2  # training and held-out, loss and accuracy, one line a fold


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(InputError, match=naming("'crn'", "'crnn'")):
        find_study("crn")
