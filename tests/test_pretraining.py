"""Pretraining: it learns from images alone, its bytes depend on them alone, and folds start from it."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeCompetition, naming
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import examine
import infer
import prepare
import pretrain
import report
import score
import split
import submit
import train
import validate
from foldsmith.data.cache import PixelCache, open_cache
from foldsmith.errors import InputError
from foldsmith.inference.compute import build_compute
from foldsmith.models import build_model
from foldsmith.process.files import load_npz
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.run.paths import RunPaths
from foldsmith.training import loop as epochs_module
from foldsmith.training import network as network_module
from foldsmith.training import pretraining as pretraining_module
from foldsmith.training import resume
from foldsmith.training.pretraining import Pretraining
from foldsmith.training.reconstruction import PICTURED, choose_pictured
from foldsmith.training.step import Step

SIZE, COUNT, CLASSES = 52, 20, 3  # the smallest images that the network takes
TOY = replace(
    RECIPES["autoencoder-lenet-upsampled"],
    name="toy",
    image_size=SIZE,
    pretrain_epochs=3,
    pretrain_batch_size=4,
    pretrain_lr=1e-3,
    pretrain_holdout=0.2,
)


def make_cache(count: int = COUNT) -> PixelCache:
    """Return distinct dark noisy images with a bright square at a random position."""
    draws = np.random.default_rng(0)
    pixels = draws.integers(30, 70, (count, SIZE, SIZE, 3))
    for image in pixels:
        top, left = draws.integers(0, SIZE - 24, 2)
        image[top : top + 24, left : left + 24] += 150
    index = pd.DataFrame({"path": [f"train/{row}.png" for row in range(count)]})
    return PixelCache(Path("cache"), pixels.astype(np.uint8), index)


def make_pretraining(root: Path, recipe: Recipe = TOY, **fields: object) -> Pretraining:
    values = {
        "cache": make_cache(),
        "rows": np.arange(COUNT),
        "pictured": np.arange(4),
        "provenance_digest": "this recipe, these images",
        "workers": 0,
        **fields,
    }
    return Pretraining(
        run=RunPaths(root), recipe=recipe, num_classes=CLASSES, device="cpu", precision="fp32", **values
    )


def weights(root: Path) -> tuple[bytes, bytes]:
    return tuple(RunPaths(root).pretrained(module).read_bytes() for module in ("encoder", "decoder"))


Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """Record the images of every trained epoch, as bytes."""
    whole, epochs = epochs_module.train_one_epoch, []

    def watch(step: object, batches: Batches, *words: object) -> tuple[float, float]:
        epochs.append([])

        def note() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for images, labels in batches:
                epochs[-1] += [image.numpy().tobytes() for image in images]
                yield images, labels

        return whole(step, note(), *words)

    monkeypatch.setattr(epochs_module, "train_one_epoch", watch)
    return epochs


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Pretrain the toy without interruption; return its root and facts."""
    root = tmp_path_factory.mktemp("pretrained")
    return root, make_pretraining(root).train()


def load_modules(model: nn.Module, root: Path) -> nn.Module:
    for module in ("encoder", "decoder"):
        model.get_submodule(module).load_state_dict(load_file(RunPaths(root).pretrained(module)))
    return model.eval()


def error_of(model: nn.Module, pixels: np.ndarray) -> float:
    """Return the mean squared error of a reconstruction, on the scale of -1 to 1."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        return float(((model.reconstruct(images) - images) ** 2).mean())


# what it learns, and from what


def test_held_out_images_are_reconstructed_better_and_better(pretrained: tuple[Path, dict]) -> None:
    root, facts = pretrained
    log = pd.read_csv(RunPaths(root).pretrain_log)
    assert log["epoch"].tolist() == [1, 2, 3]
    assert log["val_loss"].is_monotonic_decreasing and log["train_loss"].is_monotonic_decreasing
    assert log[["train_accuracy", "val_accuracy"]].isna().all(axis=None)
    assert facts["held_out_loss"] == pytest.approx(log["val_loss"].iloc[-1], rel=1e-6)
    assert (facts["training_images"], facts["held_out_images"], facts["epochs"]) == (16, 4, 3)


def test_the_held_out_images_are_never_trained_on_and_only_measure(
    pretrained: tuple[Path, dict], watched: list[list[bytes]], tmp_path: Path
) -> None:
    root, facts = pretrained
    cache = make_cache()
    make_pretraining(tmp_path / "same").train()
    assert weights(tmp_path / "same") == weights(root)
    # every epoch sees the same images, each once, and never the others
    assert len(watched) == 3 and all(sorted(epoch) == sorted(watched[0]) for epoch in watched)
    assert len(set(watched[0])) == len(watched[0]) == facts["training_images"]
    held_out = [row for row in range(COUNT) if cache.pixels[row].tobytes() not in set(watched[0])]
    assert len(held_out) == facts["held_out_images"]

    torch.manual_seed(5)
    model = load_modules(build_model(TOY.model, CLASSES, SIZE), root)
    assert facts["held_out_loss"] == pytest.approx(error_of(model, cache.pixels[held_out]), rel=1e-4)

    cache.pixels[held_out] = 255 - cache.pixels[held_out]
    changed = make_pretraining(tmp_path / "changed", cache=cache).train()
    assert weights(tmp_path / "changed") == weights(root)
    assert changed["held_out_loss"] != facts["held_out_loss"]


def test_the_number_of_classes_changes_nothing(pretrained: tuple[Path, dict], tmp_path: Path) -> None:
    replace(make_pretraining(tmp_path), num_classes=50).train()
    assert weights(tmp_path) == weights(pretrained[0])


@pytest.mark.parametrize(
    "fields",
    [
        {"lr": 1.0, "epochs": 1, "batch_size": 3, "augment": "photo", "ema_decay": 0.9, "encoder_lr": 1e-9},
        {"weight_decay": 0.5, "reconstruction_weight": 3.0, "label_smoothing": 0.2, "validate_every": 7},
        {"mixup": 0.2, "cutmix": 1.0, "erase": 0.5, "train_size": 40, "alternating_flip": True, "sam": 0.1},
    ],
)
def test_fields_of_fine_tuning_do_not_change_the_pretraining(
    fields: dict, pretrained: tuple[Path, dict], tmp_path: Path
) -> None:
    make_pretraining(tmp_path, replace(TOY, **fields)).train()
    assert weights(tmp_path) == weights(pretrained[0])
    assert pd.read_csv(RunPaths(tmp_path).pretrain_log)["val_loss"].notna().all()


@pytest.mark.parametrize("fields", [{"seed": 1}, {"pretrain_lr": 2e-3}, {"pretrain_augment": "flip"}])
def test_another_pretraining_recipe_gives_other_bytes(
    fields: dict, pretrained: tuple[Path, dict], tmp_path: Path
) -> None:
    make_pretraining(tmp_path, replace(TOY, **fields)).train()
    assert weights(tmp_path)[0] != weights(pretrained[0])[0]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming(count)):
        make_pretraining(tmp_path, rows=np.arange(count)).train()


def test_weights_that_are_not_finite_stop_the_run(tmp_path: Path) -> None:
    # one step: its loss is computed before the update
    recipe = replace(TOY, pretrain_lr=1e38, pretrain_epochs=1, pretrain_batch_size=COUNT)
    with pytest.raises(InputError, match=naming("finite", "lr")):
        make_pretraining(tmp_path, recipe).train()


# when it stops, and what it keeps


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "kept"),
    [
        ([5, 4, 3, 2, 1], 2, 5, 5),  # patience never runs out
        ([5, 3, 4, 4, 1], 2, 4, 2),  # the last epoch is never reached
        ([5, 3, 4, 2, 6], 2, 5, 4),  # patience starts again, and the last epoch is not the best
        ([5, 5, 5, 5, 5], 3, 4, 1),  # an equal loss is no improvement
        ([5, 3, 4, 4, 6], 0, 5, 5),  # no patience: the last weights, whatever was measured
    ],
)
def test_patience_stops_it_and_the_epoch_with_the_lowest_held_out_loss_is_kept(
    losses: list[float], patience: int, epochs: int, kept: int, tmp_path: Path, after: Callable[[int], Path]
) -> None:
    measured = iter([*losses[:epochs], -1.0])  # the last value is for the kept weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_module, "reconstruction_error", lambda *_, **__: float(next(measured)))
        recipe = replace(TOY, pretrain_epochs=5, pretrain_patience=patience)
        facts = make_pretraining(tmp_path, recipe).train()
    assert facts["epochs"] == epochs and facts["held_out_loss"] == -1
    assert pd.read_csv(RunPaths(tmp_path).pretrain_log)["val_loss"].tolist() == losses[:epochs]
    assert weights(tmp_path) == weights(after(kept))


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function of epochs that gives a run's root; at a constant rate, shorter runs are prefixes."""
    roots: dict[int, Path] = {}

    def run(epochs: int) -> Path:
        if epochs not in roots:
            roots[epochs] = tmp_path_factory.mktemp("after")
            make_pretraining(roots[epochs], replace(TOY, pretrain_epochs=epochs)).train()
        return roots[epochs]

    return run


class PowerCut(Exception):
    """Raised to interrupt a run."""


def interrupt(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Interrupt the training in an epoch (from 0), after some of its steps."""
    whole, count = epochs_module.train_one_epoch, [0]

    def cut_off(step_of: object, batches: Batches, *words: object) -> tuple[float, float]:
        def broken() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for step, batch in enumerate(batches):
                if count[0] > epoch and step == 1:
                    raise PowerCut
                yield batch

        count[0] += 1
        return whole(step_of, broken(), *words)

    monkeypatch.setattr(epochs_module, "train_one_epoch", cut_off)


@pytest.fixture
def saved_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "CHECKPOINT_SECONDS", 0.0)


@pytest.mark.usefixtures("saved_every_epoch")
@pytest.mark.parametrize("epoch", range(3))
def test_a_pretraining_cut_off_in_any_epoch_resumes_to_the_same_bytes(
    epoch: int, pretrained: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupt(patch, epoch)
        make_pretraining(tmp_path).train()
    capsys.readouterr()
    facts = make_pretraining(tmp_path).train()
    # interrupted at the second step of the epoch, after the first was saved
    assert f"epoch {epoch} of 3, step 1 of" in capsys.readouterr().out
    assert weights(tmp_path) == weights(pretrained[0])
    assert facts["held_out_loss"] == pretrained[1]["held_out_loss"]
    logs = [pd.read_csv(RunPaths(root).pretrain_log) for root in (tmp_path, pretrained[0])]
    figures = ["epoch", "lr", "train_loss", "val_loss"]
    pd.testing.assert_frame_equal(logs[0][figures], logs[1][figures], check_exact=True)


@pytest.mark.usefixtures("saved_every_epoch")
@pytest.mark.parametrize("epoch", range(1, 4))
def test_patience_is_resumed(epoch: int, tmp_path: Path, after: Callable[[int], Path]) -> None:
    measured = iter([5, 3, 4, 4, -1])
    recipe = replace(TOY, pretrain_epochs=9, pretrain_patience=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_module, "reconstruction_error", lambda *_, **__: float(next(measured)))
        with pytest.MonkeyPatch.context() as cut, pytest.raises(PowerCut):
            interrupt(cut, epoch)
            make_pretraining(tmp_path, recipe).train()
        assert make_pretraining(tmp_path, recipe).train()["epochs"] == 4
    assert weights(tmp_path) == weights(after(2))


def test_workers_change_nothing(pretrained: tuple[Path, dict], tmp_path: Path) -> None:
    make_pretraining(tmp_path, workers=1).train()
    assert weights(tmp_path) == weights(pretrained[0])


# the picture


@pytest.mark.parametrize("count", [1, 2, PICTURED, PICTURED + 1, 1234])
def test_at_most_ten_images_are_shown_evenly_spread(count: int) -> None:
    chosen = [int(path) for path in choose_pictured([str(number) for number in range(count)])]
    assert len(chosen) == len(set(chosen)) == min(count, 10)
    assert chosen[0] == 0 and chosen[-1] in (0, count - 1)
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


# the stage

WORDS = [
    "--recipe",
    "autoencoder-lenet-upsampled",
    "--image-size",
    str(SIZE),
    "--epochs",
    "1",
    "--name",
    "run",
]
WORDS += ["--batch-size", "8", "--set", "pretrain_batch_size=8", "--set", "pretrain_epochs=1"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]
GREY = ["--set", "channels=1", "--set", "mean=0.5", "--set", "std=0.5"]


def run_stages(folder: Path, output: Path, stages: tuple, *words: str) -> RunPaths:
    split_words = [] if "--holdout" in words else ["--folds", "2"]
    for stage in stages:
        assert stage.main([str(folder), *WORDS, *split_words, "--output", str(output), *words]) == 0
    return RunPaths(output / folder.name / "run")


UNTIL_PRETRAIN = (prepare, split, pretrain)


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(num_classes=3, per_class=4, test_per_class=4, size=SIZE)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Return a run after pretraining."""
    return run_stages(folder, tmp_path_factory.mktemp("output"), UNTIL_PRETRAIN)


@pytest.fixture
def copy(run: RunPaths, tmp_path: Path) -> Path:
    """Return a copy of the output folder after pretraining, which the test may change."""
    shutil.copytree(run.root.parent.parent, tmp_path / "output")
    return tmp_path / "output"


def files_of(run: RunPaths) -> tuple[bytes, bytes]:
    return weights(run.root)


def test_pretraining_never_reads_labels_and_folds(folder: Path, run: RunPaths, tmp_path: Path) -> None:
    other = tmp_path / folder.name
    shutil.copytree(folder, other)
    answer = json.loads((other / "answer.json").read_text())
    labels = np.random.default_rng(0).permutation([entry["category"] for entry in answer["annotations"]])
    for entry, label in zip(answer["annotations"], labels.tolist(), strict=True):
        entry["category"] = label
    (other / "answer.json").write_text(json.dumps(answer))
    words = ("--folds", "3", "--fold-seed", "5")
    permuted = run_stages(other, tmp_path / "output", UNTIL_PRETRAIN, *words)
    tables = [pd.read_csv(paths.folds) for paths in (run, permuted)]
    assert (tables[0]["label"] != tables[1]["label"]).any() and (tables[0]["fold"] != tables[1]["fold"]).any()
    assert files_of(permuted) == files_of(run)


def test_test_images_are_trained_on_only_if_the_recipe_says_so(
    folder: Path, copy: Path, watched: list[list[bytes]]
) -> None:
    train_images, test_images = (
        {np.asarray(Image.open(path)).tobytes() for path in (folder / subset).iterdir()}
        for subset in ("train", "test")
    )
    run_stages(folder, copy, (pretrain,), "--again")
    assert set(watched[0]) < train_images and len(watched[0]) == 11

    run = run_stages(folder, copy, UNTIL_PRETRAIN, "--again", "--set", "pretrain_test=true")
    trained_on = set(watched[1])
    assert len(watched[1]) == 22 and trained_on < train_images | test_images
    assert trained_on & test_images and trained_on & train_images
    facts = json.loads(run.pretrain_run.read_text())
    assert (facts["training_images"], facts["held_out_images"]) == (22, 2)


def test_the_picture_shows_ten_test_images_above_their_reconstructions(folder: Path, run: RunPaths) -> None:
    with Image.open(run.reconstructions) as picture:
        tiles = np.asarray(picture.convert("RGB"))
    assert tiles.shape[1] // 10 >= SIZE and tiles.shape[0] // 2 >= SIZE
    columns, rows = np.split(tiles, 10, axis=1), 2
    tests = {path: np.asarray(Image.open(path)) for path in (folder / "test").iterdir()}
    assert len(tests) == 12
    model = load_modules(build_model(TOY.model, CLASSES, SIZE), run.root)
    pictured = []
    for column in columns:
        upper, lower = (half[:SIZE, :SIZE] for half in np.split(column, rows))
        pictured += [path for path, pixels in tests.items() if np.array_equal(pixels, upper)]
        image = torch.from_numpy(upper.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            expected = ((model.reconstruct(image) + 1) * 127.5).clamp(0, 255)[0].permute(1, 2, 0).numpy()
        assert np.abs(lower - expected).max() <= 1
    assert len(set(pictured)) == 10


def test_a_second_pretraining_is_up_to_date(
    folder: Path, run: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.pretrained("encoder").stat().st_mtime_ns
    capsys.readouterr()
    run_stages(folder, run.root.parent.parent, (pretrain,))
    assert "pretrain/encoder.safetensors is up to date" in capsys.readouterr().out
    assert run.pretrained("encoder").stat().st_mtime_ns == before
    assert not run.pretrain_checkpoint.exists()


def test_pretraining_prints_progress_and_records_its_facts(
    folder: Path, copy: Path, run: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    again = run_stages(folder, copy, (pretrain,), "--again")
    assert "held-out loss" in capsys.readouterr().out
    assert files_of(again) == files_of(run)
    facts = json.loads(again.pretrain_run.read_text())
    assert facts["recipe"]["pretrain_epochs"] == facts["epochs"] == 1
    assert set(facts["outputs"]) == {
        "encoder.safetensors",
        "decoder.safetensors",
        "log.csv",
        "reconstructions.png",
    }
    tensors = [load_file(again.pretrained(module)) for module in ("encoder", "decoder")]
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    counts = [
        tensor.numel() for module in tensors for name, tensor in module.items() if not name.endswith(buffers)
    ]
    assert facts["parameters"] == sum(counts)


def test_a_recipe_without_pretraining_does_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder), "--recipe", "quick", "--output", str(tmp_path)]
    assert pretrain.main(words) == 0
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""


def test_pretraining_before_the_split_names_the_stage_to_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split.py"):
        run_stages(folder, tmp_path, (prepare, pretrain))


def test_an_unreadable_test_image_is_left_out(make_competition: MakeCompetition, tmp_path: Path) -> None:
    folder = make_competition(num_classes=2, per_class=4, test_per_class=3, size=SIZE)
    (folder / "test" / "2.png").write_text("no image")
    run = run_stages(folder, tmp_path, UNTIL_PRETRAIN, "--set", "pretrain_test=true")
    facts = json.loads(run.pretrain_run.read_text())
    assert facts["training_images"] + facts["held_out_images"] == 8 + 5
    with Image.open(run.reconstructions) as picture:
        assert picture.width // 5 >= SIZE > picture.width // 6 - 8


# a fold starts from it


def test_training_before_pretraining_names_the_stage_to_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming("pretrain/run.json", "pretrain.py")):
        run_stages(folder, tmp_path, (prepare, split, train))


@pytest.mark.parametrize("module", ["encoder", "decoder"])
def test_training_refuses_a_pretraining_that_was_changed(folder: Path, copy: Path, module: str) -> None:
    path = RunPaths(copy / folder.name / "run").pretrained(module)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(InputError, match=naming(f"{module}.safetensors", "pretrain.py")):
        run_stages(folder, copy, (train,))
    path.unlink()
    with pytest.raises(InputError, match=naming(f"{module}.safetensors", "pretrain.py")):
        run_stages(folder, copy, (train,))


def test_encoder_and_decoder_are_the_pretrained_ones_before_the_first_step(
    folder: Path, copy: Path, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []

    def stop(step: Step, *words: object) -> None:
        states.append(step.state.state_dict())
        raise PowerCut

    monkeypatch.setattr(epochs_module, "train_one_epoch", stop)
    for fold in ("0", "1"):
        with pytest.raises(PowerCut):
            run_stages(folder, copy, (train,), "--fold", fold)
    for module in ("encoder", "decoder"):
        expected = load_file(run.pretrained(module))
        for state in states:
            got = {name: state["model"][f"{module}.{name}"] for name in expected}
            assert all(torch.equal(got[name], expected[name]) for name in expected)
            assert sum(name.startswith(f"{module}.") for name in state["model"]) == len(expected)
    heads = [state["model"]["head.0.weight"] for state in states]
    assert not torch.equal(*heads), "each fold initialises its own head"


def test_the_average_of_the_weights_starts_from_the_pretrained_ones_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--set", "ema_decay=0.9")
    run = run_stages(folder, tmp_path, UNTIL_PRETRAIN, *words)
    states = []

    def stop(step: Step, *words: object) -> None:
        states.append(step.state.state_dict()["ema"])
        raise PowerCut

    monkeypatch.setattr(epochs_module, "train_one_epoch", stop)
    with pytest.raises(PowerCut):
        run_stages(folder, tmp_path, (train,), *words)
    for name, tensor in load_file(run.pretrained("encoder")).items():
        assert torch.equal(states[0][f"encoder.{name}"], tensor)


def test_every_network_of_every_round_starts_from_the_pretrained_ones(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--rounds", "2", "--set", "seeds=2")
    run, started, whole = run_stages(folder, tmp_path, UNTIL_PRETRAIN, *words), [], network_module.build_state

    def watch(model: nn.Module, *words: object) -> object:
        started.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return whole(model, *words)

    monkeypatch.setattr(network_module, "build_state", watch)
    run_stages(folder, tmp_path, (train,), *words)
    assert len(started) == 2 * 2 * 2  # folds, rounds, seeds
    for module in ("encoder", "decoder"):
        for name, tensor in load_file(run.pretrained(module)).items():
            assert all(torch.equal(start[f"{module}.{name}"], tensor) for start in started)


def test_a_tiny_encoder_rate_keeps_the_pretrained_encoder(folder: Path, tmp_path: Path) -> None:
    words = ("--set", "encoder_lr=1e-20", "--set", "reconstruction_weight=0.5")
    run = run_stages(folder, tmp_path, (*UNTIL_PRETRAIN, train, validate, infer), *words)
    trained = load_file(run.weights(0))
    moved = {
        module: [
            not torch.equal(trained[f"{module}.{name}"], tensor)
            for name, tensor in load_file(run.pretrained(module)).items()
            if name.endswith("weight")
        ]
        for module in ("encoder", "decoder")
    }
    assert not any(moved["encoder"]) and all(moved["decoder"])
    np.testing.assert_allclose(load_npz(run.test)["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_folds_are_not_trained_again_after_a_pretraining_with_the_same_weights(
    folder: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_stages(folder, copy, (train,), "--fold", "0")
    before = files_of(run)
    run.reconstructions.unlink()
    run_stages(folder, copy, (pretrain,))
    assert files_of(run) == before
    capsys.readouterr()
    run_stages(folder, copy, (train,), "--fold", "0")
    assert "is up to date" in capsys.readouterr().out


def test_folds_that_started_from_different_pretrainings_are_not_mixed(folder: Path, copy: Path) -> None:
    run = run_stages(folder, copy, (train,), "--fold", "0")
    before = files_of(run)
    run_stages(folder, copy, (pretrain,), "--again", "--precision", "bf16")
    assert files_of(run) != before
    run_stages(folder, copy, (train,), "--fold", "1")
    with pytest.raises(InputError, match=naming("fold1", "pretraining", "train.py")):
        run_stages(folder, copy, (validate,))


# one channel


def test_one_channel_is_pils_grey() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 33, 21, 3), dtype=np.uint8)
    mean, std = 0.3, 0.4
    compute = build_compute("cpu", "fp32", (mean,), (std,))
    grey = compute.normalise(torch.from_numpy(pixels))
    assert grey.shape == (4, 1, 33, 21) and grey.dtype == torch.float32
    ours = (grey[:, 0].numpy() * std + mean) * 255
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L"), np.float32) for image in pixels])
    assert np.abs(ours - expected).max() <= 1
    restored = compute.to_pixels(grey)
    assert restored.shape == pixels.shape and np.abs(restored - expected[..., None]).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_round_trips(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 9, 8, 1), dtype=np.uint8).repeat(3, axis=3)
    if channels == 3:
        pixels = np.random.default_rng(1).integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    mean, std = (0.45, 0.5, 0.4)[:channels], (0.2, 0.25, 0.3)[:channels]
    compute = build_compute("cpu", "fp32", mean, std)
    normalised = compute.normalise(torch.from_numpy(pixels))
    expected = (pixels[..., :channels] / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(normalised.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(compute.to_pixels(normalised), pixels)


def test_a_grey_autoencoder_runs_through_all_stages(folder: Path, tmp_path: Path) -> None:
    stages = (prepare, split, pretrain, train, validate, infer, submit, examine, report, score)
    run = run_stages(folder, tmp_path, stages, *GREY, "--holdout", "0.3")
    assert load_file(run.pretrained("encoder"))["down1.0.weight"].shape == (6, 1, 5, 5)
    with Image.open(run.reconstructions) as picture:
        tiles = np.asarray(picture.convert("RGB"))
    assert (tiles == tiles[..., :1]).all()
    caches = (tmp_path / folder.name / "cache").iterdir()
    cache = open_cache(next(path for path in caches if path.is_dir()), folder, SIZE)
    tests = [np.asarray(Image.fromarray(pixels).convert("L"), int) for pixels in cache.pixels]
    assert min(np.abs(test - tiles[:SIZE, :SIZE, 0]).max() for test in tests) <= 1
    assert json.loads(run.fold_run(0).read_text())["normalisation"] == {"mean": [0.5], "std": [0.5]}
    assert len(pd.read_csv(run.submission)) == 12


def test_the_crnn_learns_brightness_from_grey_images_without_pretraining(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(grey=True, per_class=30, size=28)
    stages = (prepare, split, pretrain, train, validate)
    words = ("--recipe", "crnn", "--image-size", "28", "--epochs", "4", "--set", "lr=0.003")
    run = run_stages(folder, tmp_path, stages, *words)
    assert not (run.root / "pretrain").exists()
    assert json.loads(run.cv.read_text())["oof"] >= 0.6
