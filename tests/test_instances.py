"""Pretraining by telling images apart: without a label, to the same bytes, and it arrives in every fold."""

import json
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeCompetition
from PIL import Image
from safetensors.torch import load_file

import examine
import infer
import prepare
import pretrain
import report
import split
import submit
import train
import validate
from foldsmith.data.cache import PixelCache
from foldsmith.errors import InputError
from foldsmith.models import build_model, last_layer
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.run.paths import RunPaths
from foldsmith.training import lessons, resume
from foldsmith.training import network as network_module
from foldsmith.training.check import check_recipe
from foldsmith.training.loop import Epochs
from foldsmith.training.pretraining import Pretraining, load_pretrained

SIZE = 24
SET = {
    "pretrain": "instances",
    "pretrain_epochs": 2,
    "pretrain_batch_size": 8,
    "pretrain_augment": "instances",
    "pretrain_holdout": 0.2,
    "image_size": SIZE,
    "epochs": 1,
    "batch_size": 8,
}
TOY = replace(RECIPES["small-images-fast"], name="toy", **SET)
WORDS = ["--recipe", "small-images-fast", "--folds", "2", "--name", "run", "--device", "cpu"]
WORDS += ["--precision", "fp32", "--workers", "0"]
WORDS += [word for field, value in SET.items() for word in ("--set", f"{field}={value}")]
UNTIL_PRETRAIN = (prepare, split, pretrain)


def run_stages(folder: Path, output: Path, stages: tuple, *words: str) -> RunPaths:
    for stage in stages:
        assert stage.main([str(folder), *WORDS, "--output", str(output), *words]) == 0
    return RunPaths(output / folder.name / "run")


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(num_classes=3, per_class=6, test_per_class=4, size=SIZE)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """A run after pretraining."""
    return run_stages(folder, tmp_path_factory.mktemp("output"), UNTIL_PRETRAIN)


def make_cache(count: int) -> PixelCache:
    """Images of two colours each, in stripes of a width of their own: there is something to tell apart."""
    draws = np.random.default_rng(0)
    colours = draws.integers(0, 256, (count, 2, 3))
    stripes = np.arange(SIZE) // draws.integers(1, 7, (count, 1)) % 2  # (count, SIZE)
    pixels = np.take_along_axis(colours, stripes[:, :, None], axis=1)[:, None].repeat(SIZE, axis=1)
    pixels = pixels.astype(np.uint8)
    return PixelCache(Path("cache"), pixels, pd.DataFrame({"path": [f"{row}.png" for row in range(count)]}))


def make_pretraining(root: Path, recipe: Recipe = TOY, count: int = 40) -> Pretraining:
    return Pretraining(
        run=RunPaths(root), recipe=recipe, num_classes=3, cache=make_cache(count), rows=np.arange(count),
        pictured=np.arange(10), made_from="this", device="cpu", precision="fp32", workers=0,
    )  # fmt: skip


def test_held_out_images_are_found_again_better_and_better(tmp_path: Path) -> None:
    recipe = replace(TOY, pretrain_epochs=10, pretrain_holdout=0.5, pretrain_lr=0.01)
    facts = make_pretraining(tmp_path, recipe, 120).train()
    log = pd.read_csv(RunPaths(tmp_path).pretrain_log)
    assert log["val_loss"].iloc[-1] < log["val_loss"].iloc[0]
    assert log["val_accuracy"].iloc[-1] > log["val_accuracy"].iloc[0] + 0.05
    assert log["train_loss"].iloc[-1] < log["train_loss"].iloc[0]
    assert facts["held_out_loss"] == pytest.approx(log["val_loss"].iloc[-1], rel=1e-6)
    assert (facts["training_images"], facts["held_out_images"]) == (60, 60)


def test_labels_and_folds_are_never_looked_at(folder: Path, run: RunPaths, tmp_path: Path) -> None:
    other = tmp_path / folder.name
    shutil.copytree(folder, other)
    answer = json.loads((other / "answer.json").read_text())
    labels = np.random.default_rng(0).permutation([each["category"] for each in answer["annotations"]])
    for each, label in zip(answer["annotations"], labels.tolist(), strict=True):
        each["category"] = label
    (other / "answer.json").write_text(json.dumps(answer))
    permuted = run_stages(other, tmp_path / "output", UNTIL_PRETRAIN, "--fold-seed", "5")
    tables = [pd.read_csv(paths.folds) for paths in (run, permuted)]
    assert (tables[0]["label"] != tables[1]["label"]).any() and (tables[0]["fold"] != tables[1]["fold"]).any()
    assert permuted.pretrained("encoder").read_bytes() == run.pretrained("encoder").read_bytes()


def test_every_image_is_a_class_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, seen = Epochs.run, []
    monkeypatch.setattr(Epochs, "run", lambda self, *words: (seen.append(self), whole(self, *words))[1])
    make_pretraining(tmp_path).train()
    data = seen[0].data
    assert data.labels.tolist() == list(range(32)) and len(set(data.rows.tolist())) == 32


@pytest.mark.parametrize("model", ["whitened-cnn", "quick-cnn", "timm:resnet18"])
def test_all_but_the_last_layer_arrives_in_a_fold(model: str, tmp_path: Path) -> None:
    make_pretraining(tmp_path, replace(TOY, model=model, pretrain_epochs=1)).train()
    network = build_model(model, 3, SIZE)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_pretrained(network, RunPaths(tmp_path), "instances", 3)
    kept, (head, _) = load_file(RunPaths(tmp_path).pretrained("encoder")), last_layer(network, 3)
    for name, tensor in network.state_dict().items():
        if name.startswith(f"{head}."):
            assert name not in kept and torch.equal(tensor, before[name])
        else:
            assert torch.equal(tensor, kept[name])
    assert any(not torch.equal(kept[name], before[name]) for name in kept)


def test_every_network_of_every_round_starts_from_it(folder: Path, tmp_path: Path) -> None:
    output, words = tmp_path / "output", ("--rounds", "2", "--set", "seeds=2")
    run = run_stages(folder, output, UNTIL_PRETRAIN, *words)
    started = []
    whole = network_module.build_state

    def watch(model: torch.nn.Module, *words: object) -> object:
        started.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return whole(model, *words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "build_state", watch)
        run_stages(folder, output, (train,), *words)
    kept = load_file(run.pretrained("encoder"))
    assert len(started) == 2 * 2 * 2  # folds, rounds, seeds
    for start in started:
        assert all(torch.equal(start[name], kept[name]) for name in kept)
    run_stages(folder, output, (validate, infer, submit, examine, report), *words)
    assert run.submission.is_file() and "pretraining included" in run.report.read_text(encoding="utf-8")


class Stop(Exception):
    """What cuts a pretraining off."""


@pytest.mark.parametrize("epoch", [0, 1])
def test_cut_off_in_any_epoch_it_goes_on_to_the_same_bytes(
    epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TOY, mixup=0.2, cutmix=1.0)  # which a pretraining has no part in
    make_pretraining(tmp_path / "whole", recipe).train()
    whole = Epochs._measure_epoch

    def stop(self: Epochs, at: int, *words: object) -> object:
        if at == epoch:
            raise Stop
        return whole(self, at, *words)

    monkeypatch.setattr(resume, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Epochs, "_measure_epoch", stop)
        with pytest.raises(Stop):
            make_pretraining(tmp_path / "cut", recipe).train()
    make_pretraining(tmp_path / "cut", recipe).train()
    encoders = [RunPaths(tmp_path / name).pretrained("encoder").read_bytes() for name in ("whole", "cut")]
    assert encoders[0] == encoders[1]


def test_the_picture_shows_ten_images_above_others_that_are_like_them(folder: Path, run: RunPaths) -> None:
    with Image.open(run.neighbours) as picture:
        shown = np.asarray(picture.convert("RGB"))
    files = {path: np.asarray(Image.open(path).convert("RGB")) for path in folder.glob("t*/*.png")}
    columns = [column[:, :SIZE] for column in np.split(shown, 10, axis=1)]
    named = [
        [next(path for path, pixels in files.items() if np.array_equal(pixels, tile[:SIZE]))
         for tile in np.split(column, 5)]
        for column in columns
    ]  # fmt: skip
    assert all(path.parent.name == "test" for column in named for path in column[:1])
    assert len({column[0] for column in named}) == 10
    assert all(len(set(column)) == 5 for column in named)


def test_two_images_at_least_are_held_out_so_that_there_is_one_to_mistake_them_for(tmp_path: Path) -> None:
    facts = make_pretraining(tmp_path, replace(TOY, pretrain_holdout=0.01), count=12).train()
    assert (facts["held_out_images"], facts["training_images"]) == (2, 10)
    assert facts["held_out_loss"] > 0


def test_images_are_beside_others_also_where_all_trained_ones_are_shown(tmp_path: Path) -> None:
    pretraining = make_pretraining(tmp_path, replace(TOY, pretrain_holdout=0.1), count=10)
    pretraining.train()
    with Image.open(pretraining.run.neighbours) as picture:
        shown = np.asarray(picture.convert("RGB"))
    tiles = [np.split(column[:, :SIZE], 5) for column in np.split(shown, 10, axis=1)]
    for column in tiles:
        first, *others = [tile[:SIZE].tobytes() for tile in column]
        assert first not in others and len(set(others)) == 4


def test_logits_one_for_each_image_trained_on_are_let_go_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, made, alive = lessons.compute_logits, [], []

    def watched(*words: object) -> Iterator[list[torch.Tensor]]:
        for logits in whole(*words):
            made.extend(map(weakref.ref, logits))
            yield logits
            alive.append(sum(each() is not None for each in made))

    monkeypatch.setattr(lessons, "compute_logits", watched)
    monkeypatch.setattr(Recipe, "predict_batch_size", 4)
    make_pretraining(tmp_path, TOY).train()
    assert len(made) > 8 and max(alive) <= 2  # this batch's, and the one's before


def test_a_network_without_a_linear_last_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foldsmith.training.check.last_layer", lambda model, num_classes: None)
    with pytest.raises(InputError, match="no linear last layer"):
        check_recipe(TOY, "cpu", "fp32")


def test_a_network_with_two_last_layers_is_refused() -> None:
    """A distilled one has a second head, which would come out of a pretraining with a row for each image."""
    recipe = replace(TOY, model="timm:deit_tiny_distilled_patch16_224", image_size=32)
    with pytest.raises(InputError, match="more than one last layer"):
        check_recipe(recipe, "cpu", "fp32")
    check_recipe(replace(recipe, pretrain="none"), "cpu", "fp32")


@pytest.mark.parametrize("name", ["cnn-a", "crnn", "bottleneck-resnet", "timm:resnet18", "autoencoder-lenet"])
def test_the_last_layer_is_the_one_that_gives_the_logits(name: str) -> None:
    size = 100 if name.startswith("auto") else 32
    model = build_model(name, 7, size).eval()
    found, layer = last_layer(model, 7)
    assert model.get_submodule(found) is layer
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.arange(7.0))
        torch.testing.assert_close(model(images), torch.arange(7.0).expand(2, 7))
