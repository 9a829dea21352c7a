"""Whole runs of several networks and rounds: every stage uses all of them, or says what it leaves out."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeCompetition, naming

import compare
import examine
import infer
import look
import prepare
import report
import split
import submit
import train
import validate
from foldsmith.data.cache import open_run_cache
from foldsmith.errors import InputError
from foldsmith.inference.weights import load_weights
from foldsmith.process.files import load_npz
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained
from foldsmith.tasks.probabilities import FLOOR
from foldsmith.training import loop as epochs_module

STAGES = (prepare, split, train, validate, infer, submit, examine, report)
WORDS = ["--recipe", "quick", "--image-size", "16", "--epochs", "2", "--batch-size", "8", "--folds", "2"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu", "--name", "run"]
TWO = ["--set", "seeds=2", "--rounds", "2", "--set", "pseudo_share=1"]
BROKEN = "test/5.png"


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    """Write a competition with an unreadable test image."""
    folder = make_competition(num_classes=3, per_class=8, test_per_class=4)
    (folder / BROKEN).write_text("no image")
    return folder


def words_of(folder: Path, output: Path, *words: str) -> list[str]:
    return [str(folder), *WORDS, "--output", str(output), *words]


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Return a run of two networks a fold in two rounds."""
    output = tmp_path_factory.mktemp("output")
    for stage in STAGES:
        assert stage.main(words_of(folder, output, *TWO)) == 0
    return RunPaths(output / folder.name / "run")


def predict_by_hand(run: RunPaths, folder: Path, weights: Path, paths: list[str]) -> np.ndarray:
    """Return probabilities (V, n, K) of images for each of the two views, in plain torch."""
    facts = json.loads(run.fold_run(0).read_text())
    cache = open_run_cache(
        run, folder, read_command(words_of(folder, run.root.parents[1], *TWO), "").recipe.image_size
    )
    images = torch.from_numpy(cache.pixels[cache.rows(paths)]).permute(0, 3, 1, 2).float()
    images = (images / 255 - 0.5) / 0.5
    model = load_weights(weights, facts)
    with torch.no_grad():
        return torch.stack([model(images).softmax(1), model(images.flip(3)).softmax(1)]).numpy()


def test_test_predictions_are_the_mean_of_folds_networks_and_views(run: RunPaths, folder: Path) -> None:
    test = load_npz(run.test)
    readable = test["path"] != BROKEN
    paths = test["path"][readable].tolist()
    networks = [run.of_fold(fold).all_weights(2) for fold in (0, 1)]
    assert len({path.read_bytes() for pair in networks for path in pair}) == 4
    expected = np.mean(
        [predict_by_hand(run, folder, path, paths) for pair in networks for path in pair], axis=(0, 1)
    )
    np.testing.assert_allclose(test["probabilities"][readable], expected, rtol=1e-3, atol=1e-5)


def test_the_out_of_fold_predictions_are_those_of_the_folds(run: RunPaths) -> None:
    oof = load_npz(run.oof)
    for fold in (0, 1):
        held_out = load_npz(run.heldout(fold))
        row_of = {path: row for row, path in enumerate(oof["path"].tolist())}
        rows = [row_of[path] for path in held_out["path"].tolist()]
        np.testing.assert_allclose(
            oof["probabilities"][rows], held_out["probabilities"], rtol=1e-4, atol=2 * FLOOR
        )


@pytest.mark.parametrize("fold", [0, 1])
def test_an_unreadable_image_is_never_pseudo_labelled(fold: int, run: RunPaths, folder: Path) -> None:
    labelled = pd.read_csv(run.of_fold(fold).pseudo_labels)["path"]
    readable = {path.relative_to(folder).as_posix() for path in (folder / "test").iterdir()} - {BROKEN}
    assert len(labelled) == 11 and set(labelled) == readable


def test_every_fold_is_pseudo_labelled_by_its_own_networks(run: RunPaths, folder: Path) -> None:
    for fold in (0, 1):
        paths = run.of_fold(fold)
        table = pd.read_csv(paths.pseudo_labels)
        teachers = [
            predict_by_hand(run, folder, weights, list(table["path"])).mean(axis=0)
            for weights in paths.round(1).all_weights(2)
        ]
        expected = np.mean(teachers, axis=0)
        np.testing.assert_allclose(table["confidence"], expected.max(axis=1), rtol=1e-3)
        assert table["label"].tolist() == expected.argmax(axis=1).tolist()


def test_a_view_is_scored_by_the_mean_of_all_networks(run: RunPaths, folder: Path) -> None:
    views, folds = load_npz(run.views), pd.read_csv(run.folds).set_index("path")
    for fold in (0, 1):
        columns = folds.loc[views["path"], "fold"].to_numpy() == fold
        paths = views["path"][columns].tolist()
        networks = run.of_fold(fold).all_weights(2)
        expected = np.mean([predict_by_hand(run, folder, path, paths) for path in networks], axis=0)
        labels = folds.loc[paths, "label"].to_numpy()
        true_class = expected[:, np.arange(len(paths)), labels]
        np.testing.assert_allclose(views["given"][:, columns], true_class, rtol=1e-3, atol=1e-5)
        assert (views["prediction"][:, columns] == expected.argmax(axis=2)).all()


def test_the_report_describes_networks_and_rounds_and_no_shift_of_images_trained_on(
    run: RunPaths, folder: Path
) -> None:
    page = run.report.read_text()
    assert "over 2 folds of 2 networks, whose predictions are averaged, in 2 rounds" in page
    command = read_command(words_of(folder, run.root.parents[1], *TWO), "")
    trained = digests_of_trained(run, command.folds_to_use)
    assert report.optional_files(command, trained) == [run.test, run.views]


def test_runs_of_one_and_of_several_networks_are_compared(
    run: RunPaths, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run.root.parent, tmp_path / folder.name)
    for stage in (prepare, split, train, validate):
        stage.main(words_of(folder, tmp_path, "--name", "plain"))
    plain = RunPaths(tmp_path / folder.name / "plain")
    assert plain.weights(0).read_bytes() == run.of_fold(0).round(1).weights.read_bytes()
    capsys.readouterr()
    compare.main([str(tmp_path / folder.name)])
    assert "seeds=2, rounds=2, pseudo_share=1.0" in capsys.readouterr().out


def test_look_uses_every_network_of_every_fold(
    run: RunPaths, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert look.main([str(run.root), str(folder / "test" / "0.png"), "--precision", "fp32"]) == 0
    printed = capsys.readouterr().out
    assert "4 networks of 2 folds" in printed
    weights = [path for fold in (0, 1) for path in run.of_fold(fold).all_weights(2)]
    views = [predict_by_hand(run, folder, path, ["test/0.png"]) for path in weights]
    assert f"{np.mean(views, axis=0)[:, 0].mean(axis=0).max():7.2%}" in printed


def test_the_same_command_again_does_nothing_even_without_the_earlier_rounds(
    run: RunPaths, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.root.parent, tmp_path / folder.name)
    copy = RunPaths(tmp_path / folder.name / "run")
    for fold in (0, 1):
        shutil.rmtree(copy.of_fold(fold).round(1).root)
    words = words_of(folder, tmp_path, *TWO)
    monkeypatch.setattr(epochs_module, "train_one_epoch", None)
    for stage in STAGES:
        assert stage.main(words) == 0


def test_again_trains_every_network_of_every_round_again(
    run: RunPaths, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.root.parent, tmp_path / folder.name)
    whole, epochs = epochs_module.train_one_epoch, []

    def count(*words: object) -> tuple[float, float]:
        epochs.append(words)
        return whole(*words)

    monkeypatch.setattr(epochs_module, "train_one_epoch", count)
    words = words_of(folder, tmp_path, *TWO, "--again")
    train.main([*words, "--fold", "1"])
    assert len(epochs) == 8
    copy = RunPaths(tmp_path / folder.name / "run")
    for name in ("fold1/weights.safetensors", "fold1/seed1/weights.safetensors", "fold1/heldout.npz"):
        assert (copy.root / name).read_bytes() == (run.root / name).read_bytes()


def test_a_further_round_without_a_readable_test_image_is_refused(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_competition(test_per_class=1)
    for path in (folder / "test").iterdir():
        path.write_text("no image")
    words = words_of(folder, tmp_path, "--rounds", "2")
    for stage in (prepare, split):
        assert stage.main(words) == 0
    with pytest.raises(InputError, match=naming("rounds", 1)):
        train.main(words)
    assert not list(tmp_path.rglob("log.csv"))


def test_a_test_image_that_duplicates_a_training_image_gets_no_label(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_competition(num_classes=2, per_class=6, test_per_class=3)
    picture = np.kron(
        np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8)
    )
    trained, *others = sorted((folder / "train").rglob("*.png"))
    cv2.imwrite(str(trained), picture)
    cv2.imwrite(str(folder / "test" / "1.png"), picture[:, ::-1])  # mirrored: another file, the same picture
    shutil.copy(others[0], folder / "test" / "2.png")
    words = words_of(folder, tmp_path, "--rounds", "2", "--set", "pseudo_share=1")
    for stage in (prepare, split, train):
        assert stage.main(words) == 0
    assert "2 of 6 test images" in capsys.readouterr().out
    run = RunPaths(tmp_path / folder.name / "run")
    for fold in (0, 1):
        labelled = pd.read_csv(run.of_fold(fold).pseudo_labels)["path"].tolist()
        assert sorted(labelled) == ["test/0.png", "test/3.png", "test/4.png", "test/5.png"]
