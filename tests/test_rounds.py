"""Networks and rounds of a fold: seeds, no leak of held-out labels, and resuming."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import naming
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from foldsmith.data.cache import PixelCache
from foldsmith.inference.weights import load_weights
from foldsmith.models import MODELS
from foldsmith.process.files import load_json, load_npz
from foldsmith.process.signals import Interrupted
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.run.paths import FoldPaths, RunPaths
from foldsmith.seeding import derive_seed
from foldsmith.tasks import SingleLabel, losses
from foldsmith.training import loop as epochs_module
from foldsmith.training import resume
from foldsmith.training import rounds as rounds_module
from foldsmith.training.epoch import Tally
from foldsmith.training.machine import Machine
from foldsmith.training.pseudo_labels import choose_most_confident
from foldsmith.training.rounds import Rounds
from foldsmith.training.samples import Fold, Samples, select_samples

COUNT, TEST, CLASSES, SIZE = 36, 14, 3, 16
TOY = replace(
    RECIPES["quick"], name="toy", model="tiny-cnn", image_size=SIZE, epochs=2, batch_size=8, ema_decay=0.5
)
TWO = replace(TOY, seeds=2, rounds=2)
PATHS = [f"test/{row}.png" for row in range(TEST)]


@pytest.fixture(scope="module", autouse=True)
def a_tiny_network() -> Iterator[None]:
    """Register a tiny network: these tests are about what happens before and after training."""

    def build(num_classes: int, image_size: int, channels: int) -> nn.Module:
        first = nn.Conv2d(channels, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()
        return nn.Sequential(*first, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, num_classes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny-cnn", build)
        yield


def make_cache() -> PixelCache:
    """Return noisy images whose strongest colour is their class, then the test images."""
    pixels = np.random.default_rng(0).normal(110, 40, (COUNT + TEST, SIZE, SIZE, 3))
    for row in range(len(pixels)):
        pixels[row, :, :, row % CLASSES] += 30
    paths = [*(f"train/{row}.png" for row in range(COUNT)), *PATHS]
    return PixelCache(Path("cache"), np.clip(pixels, 0, 255).astype(np.uint8), pd.DataFrame({"path": paths}))


def make_rounds(
    root: Path, recipe: Recipe = TWO, provenance_digest: str = "this recipe, these folds", **samples: Samples
) -> Rounds:
    """Return the rounds of fold 0 of three; `training` and `held_out` replace its samples."""
    cache, rows = make_cache(), np.arange(COUNT)
    folds = pd.DataFrame({"path": [f"train/{row}.png" for row in rows], "label": rows % CLASSES})
    is_held_out = pd.Series(rows // CLASSES % 3 == 0)
    samples = {
        "training": select_samples(folds, ~is_held_out, cache, SingleLabel(CLASSES)),
        "held_out": select_samples(folds, is_held_out, cache, SingleLabel(CLASSES)),
        **samples,
    }
    task = SingleLabel(CLASSES, recipe.loss)
    fold = Fold(RunPaths(root), 0, task, cache, **samples)
    return Rounds(fold, recipe, provenance_digest, Machine("cpu", "fp32", workers=0), PATHS)


def files_of(root: Path) -> dict[str, bytes]:
    """Return the written files by name, without stamps, and without the logs' columns of times."""
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    content = {name: path.read_bytes() for name, path in files.items() if not name.endswith(".json")}
    for name in [name for name in content if name.endswith("log.csv")]:
        content[name] = b"\n".join(line.rsplit(b",", 2)[0] for line in content[name].splitlines())
    return content


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], FoldPaths]:
    """Return a function that gives the fold of a recipe, trained without interruption."""
    folds: dict[Recipe, FoldPaths] = {}
    facts_of: dict[FoldPaths, dict] = {}

    def train(recipe: Recipe) -> FoldPaths:
        if recipe not in folds:
            root = tmp_path_factory.mktemp("trained")
            folds[recipe] = RunPaths(root).of_fold(0)
            facts_of[folds[recipe]] = make_rounds(root, recipe).train()
        return folds[recipe]

    train.facts = lambda recipe: facts_of[train(recipe)]
    return train


def probabilities_by_hand(weights: Path, rows: np.ndarray) -> np.ndarray:
    """Return the mean over both views of the recipe, in plain torch."""
    facts = {"recipe": {"model": TOY.model, "image_size": SIZE, "channels": 3}, "num_classes": CLASSES}
    model = load_weights(weights, facts)
    images = torch.from_numpy(make_cache().pixels[rows]).permute(0, 3, 1, 2)
    images = (images.float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        return torch.stack([model(images).softmax(1), model(images.flip(3)).softmax(1)]).mean(0).numpy()


# --- several networks


def test_the_first_of_several_networks_is_that_of_a_single_network_fold(
    trained: Callable[[Recipe], FoldPaths],
) -> None:
    one, several = trained(TOY), trained(replace(TOY, seeds=3))
    alone, among = files_of(one.root), files_of(several.root)
    assert set(alone) == {"weights.safetensors", "log.csv", "heldout.npz"}
    assert among["weights.safetensors"] == alone["weights.safetensors"]
    assert among["log.csv"] == alone["log.csv"]
    assert among["seed0/heldout.npz"] == alone["heldout.npz"] != among["heldout.npz"]


def test_a_further_network_is_that_of_a_run_with_its_seed(trained: Callable[[Recipe], FoldPaths]) -> None:
    several = trained(replace(TOY, seeds=3))
    for number in (1, 2):
        alone = files_of(trained(replace(TOY, seed=derive_seed(TOY.seed, "network", number))).root)
        assert files_of(several.seed(number).root) == alone
    assert len({path.read_bytes() for path in several.all_weights(3)}) == 3


def test_the_held_out_predictions_are_the_mean_of_all_networks(
    trained: Callable[[Recipe], FoldPaths],
) -> None:
    several = trained(replace(TOY, seeds=3))
    mean, own = load_npz(several.heldout), [load_npz(several.seed(number).heldout) for number in range(3)]
    for member, weights in zip(own, several.all_weights(3), strict=True):
        assert member["path"].tolist() == mean["path"].tolist()
        assert member["label"].tolist() == mean["label"].tolist()
        rows = [int(path.removeprefix("train/").removesuffix(".png")) for path in mean["path"].tolist()]
        by_hand = probabilities_by_hand(weights, np.array(rows))
        np.testing.assert_allclose(member["probabilities"], by_hand, rtol=1e-3, atol=1e-5)
    expected = sum(member["probabilities"].astype(float) for member in own) / 3
    np.testing.assert_allclose(mean["probabilities"], expected, rtol=1e-6)
    assert mean["probabilities"].dtype == np.float32


def test_the_facts_hold_accuracy_and_seconds_of_every_network_and_round(
    trained: Callable[[Recipe], FoldPaths],
) -> None:
    paths, facts = trained(TWO), trained.facts(TWO)
    assert facts["seeds"] == 2 and facts["training_images"] == 24
    assert [(entry["round"], entry["pseudo_labelled"]) for entry in facts["rounds"]] == [(1, 0), (2, 7)]
    for scores, folder in zip(facts["rounds"], (paths.round(1), paths), strict=True):
        for scored, path in (
            (scores, folder.heldout),
            (scores["networks"][0], folder.seed(0).heldout),
            (scores["networks"][1], folder.seed(1).heldout),
        ):
            held_out = load_npz(path)
            right = held_out["probabilities"].argmax(axis=1) == held_out["label"]
            assert scored["accuracy"] == right.mean()
        assert [entry["seed"] for entry in scores["networks"]] == [0, derive_seed(0, "network", 1)]
    logs = [pd.read_csv(path) for path in paths.root.rglob("log.csv")]
    assert len(logs) == 4
    assert facts["training_seconds"] == pytest.approx(sum(log["seconds"].sum() for log in logs))


# --- rounds


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_round_equals_the_last_round_of_a_run_with_that_many_rounds(
    seeds: int, trained: Callable[[Recipe], FoldPaths]
) -> None:
    whole = trained(replace(TOY, seeds=seeds, rounds=3))
    for number in (1, 2):
        shorter = files_of(trained(replace(TOY, seeds=seeds, rounds=number)).root)
        last = {name: content for name, content in shorter.items() if not name.startswith("round")}
        assert files_of(whole.round(number).root) == last
    # a third round with the labels of the second equals it, because its seeds are the same
    assert whole.round(1).weights.read_bytes() != whole.round(2).weights.read_bytes()


@pytest.mark.parametrize("share", [0.5, 0.2, 1.0])
def test_the_most_confident_test_images_get_the_label_predicted_in_the_previous_round(
    share: float, trained: Callable[[Recipe], FoldPaths]
) -> None:
    paths = trained(replace(TWO, pseudo_share=share))
    table = pd.read_csv(paths.pseudo_labels)
    rows = np.arange(COUNT, COUNT + TEST)
    members = [probabilities_by_hand(weights, rows) for weights in paths.round(1).all_weights(2)]
    expected = (members[0].astype(float) + members[1]) / 2
    order = sorted(range(TEST), key=lambda row: (-expected[row].max(), PATHS[row]))[: round(share * TEST)]
    assert table["path"].tolist() == [PATHS[row] for row in order]
    assert table["label"].tolist() == [int(np.argmax(expected[row])) for row in order]
    np.testing.assert_allclose(table["confidence"], expected[order].max(axis=1), rtol=1e-4)


def test_held_out_labels_never_influence_the_training_of_any_round(
    trained: Callable[[Recipe], FoldPaths], tmp_path: Path
) -> None:
    def trained_with(subset: str) -> dict[str, bytes]:
        samples = getattr(make_rounds(tmp_path).fold, subset)
        wrong = Samples(samples.paths, samples.rows, (samples.labels + 1) % CLASSES)
        make_rounds(tmp_path / subset, **{subset: wrong}).train()
        files = files_of(RunPaths(tmp_path / subset).fold(0))
        return {name: files[name] for name in files if not name.endswith(("heldout.npz", "log.csv"))}

    expected = files_of(trained(TWO).root)
    clean = trained_with("held_out")
    assert {"weights.safetensors", "seed1/weights.safetensors", "pseudo_labels.csv"} <= set(clean)
    assert clean == {name: expected[name] for name in clean}
    # training labels do influence the weights
    learned = trained_with("training")
    assert [name for name in learned if learned[name] == expected[name]] == []


def test_loss_weights_are_counted_from_the_labels_trained_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted = []
    for name in ("class_weights", "log_priors"):
        whole = getattr(losses, name)

        def spy(*words: object, whole: Callable = whole, position: int = name == "class_weights") -> object:
            counted.append(words[position].tolist())
            return whole(*words)

        monkeypatch.setattr(losses, name, spy)
    rounds = make_rounds(tmp_path, replace(TOY, rounds=2, class_weights="auto"))
    rounds.train()
    own = rounds.fold.training.labels.tolist()
    labelled = pd.read_csv(rounds.fold.paths.pseudo_labels).sort_values("path")["label"].tolist()
    assert counted == [own, own, [*own, *labelled], [*own, *labelled]]


def test_the_number_of_pseudo_labelled_images_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_rounds(tmp_path, replace(TOY, epochs=1, rounds=2)).train()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fold 0 round 1  epoch 1/1 ")
    assert re.search(naming("fold 0 round 2", 7, 14), lines[1])
    assert lines[2].startswith("fold 0 round 2  epoch 1/1 ")


TABLES = st.lists(st.sampled_from([0.2, 0.4, 0.5, 0.7, 1.0]), min_size=1, max_size=12)


@given(TABLES, st.floats(0.01, 1), st.randoms(use_true_random=False))
def test_the_most_confident_are_chosen_in_any_order_and_ties_by_path(
    confidences: list[float], share: float, random: object
) -> None:
    paths = [f"test/{index}.png" for index in range(len(confidences))]
    expected = sorted(zip(paths, confidences, strict=True), key=lambda pair: (-pair[1], pair[0]))
    expected = expected[: max(1, round(share * len(paths)))]
    order = list(range(len(paths)))
    random.shuffle(order)
    # class 1 is the more probable one of every image
    probabilities = np.array([[0.1, confidences[row]] for row in order])
    table = choose_most_confident(
        [paths[row] for row in order], probabilities, share, SingleLabel(probabilities.shape[1])
    )
    assert list(zip(table["path"], table["confidence"], strict=True)) == expected
    assert (table["label"] == 1).all()


@pytest.mark.parametrize(("count", "share", "expected"), [(6149, 0.5, 3074), (10, 1.0, 10), (3, 0.01, 1)])
def test_a_share_is_rounded_and_at_least_one(count: int, share: float, expected: int) -> None:
    paths = [f"test/{index}.png" for index in range(count)]
    assert len(choose_most_confident(paths, np.full((count, 2), 0.5), share, SingleLabel(2))) == expected


# --- interruptions and resuming


class PowerCut(Exception):
    """Raised to interrupt a run."""


@contextmanager
def stopped_at(epoch: int, step: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Call `act` after that many steps of an epoch, counted over all networks; yield the started epochs."""
    whole, begun = epochs_module.train_one_epoch, []

    def watched(
        step_of: object, batches: object, rates: object, tally: Tally, after_step: Callable[[Tally], None]
    ) -> tuple[float, float]:
        begun.append(len(begun))
        last = len(begun) == epoch + 1
        if last and step == 0:
            act()

        def act_and_save(tally: Tally) -> None:
            if last and tally.step == step:
                act()
            after_step(tally)

        return whole(step_of, batches, rates, tally, act_and_save)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs_module, "train_one_epoch", watched)
        yield begun


def cut_power() -> None:
    raise PowerCut


@pytest.fixture
def saved_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "CHECKPOINT_SECONDS", 0.0)


EPOCHS = 2 * 2 * 2  # epochs of two networks in two rounds


@pytest.mark.usefixtures("saved_every_step")
@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_fold_cut_off_in_any_network_and_round_resumes_to_the_same_bytes(
    epoch: int, step: int, tmp_path: Path, trained: Callable[[Recipe], FoldPaths]
) -> None:
    with pytest.raises(PowerCut), stopped_at(epoch, step, cut_power):
        make_rounds(tmp_path).train()
    with stopped_at(-1, 0, cut_power) as begun:
        facts = make_rounds(tmp_path).train()
    # finished networks are not trained again
    assert len(begun) == EPOCHS - epoch
    assert files_of(RunPaths(tmp_path).fold(0)) == files_of(trained(TWO).root)
    expected = trained.facts(TWO)
    assert [entry["accuracy"] for entry in facts["rounds"]] == [
        entry["accuracy"] for entry in expected["rounds"]
    ]
    assert not list(tmp_path.rglob("seed*/checkpoint*")) and not list(tmp_path.rglob("round*/checkpoint*"))


@pytest.mark.parametrize("name", ["choose_most_confident", "write_stamp", "save_npz", "load_trained"])
def test_a_fold_cut_off_between_networks_and_rounds_resumes_to_the_same_bytes(
    name: str, tmp_path: Path, trained: Callable[[Recipe], FoldPaths]
) -> None:
    whole, attempts = getattr(rounds_module, name), 0
    calls = {"choose_most_confident": 1, "write_stamp": 5, "save_npz": 2, "load_trained": 2}[name]

    def cut_at(call: int) -> Callable:
        def cut(*words: object, **named: object) -> object:
            nonlocal attempts
            attempts += 1
            if attempts == call:
                raise PowerCut
            return whole(*words, **named)

        return cut

    for call in range(1, calls + 1):
        attempts, root = 0, tmp_path / str(call)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
            patch.setattr(rounds_module, name, cut_at(call))
            make_rounds(root).train()
        make_rounds(root).train()
        assert files_of(RunPaths(root).fold(0)) == files_of(trained(TWO).root)


def test_interrupted_in_a_further_network_it_saves_the_step_and_resumes(
    tmp_path: Path, trained: Callable[[Recipe], FoldPaths], capsys: pytest.CaptureFixture[str]
) -> None:
    def ask() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), stopped_at(6, 1, ask):  # saves after 20 seconds, or when interrupted
        make_rounds(tmp_path).train()
    capsys.readouterr()
    make_rounds(tmp_path).train()
    lines = capsys.readouterr().out.splitlines()
    assert re.search(naming("fold 0 round 2", 7, 14), lines[0])
    assert lines[1].startswith("fold 0 round 2 seed 1 ") and "epoch 0 of 2, step 1 of " in lines[1]
    assert files_of(RunPaths(tmp_path).fold(0)) == files_of(trained(TWO).root)


@pytest.mark.parametrize("name", ["weights.safetensors", "seed0/heldout.npz", "pseudo_labels.csv"])
def test_a_tampered_file_is_written_again(
    name: str, tmp_path: Path, trained: Callable[[Recipe], FoldPaths]
) -> None:
    make_rounds(tmp_path).train()
    path = RunPaths(tmp_path).fold(0) / name
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    make_rounds(tmp_path).train()
    assert files_of(RunPaths(tmp_path).fold(0)) == files_of(trained(TWO).root)


@pytest.mark.usefixtures("saved_every_step")
def test_networks_of_other_inputs_are_not_resumed_and_forget_removes_everything(
    tmp_path: Path, trained: Callable[[Recipe], FoldPaths]
) -> None:
    with pytest.raises(PowerCut), stopped_at(6, 0, cut_power):
        make_rounds(tmp_path, provenance_digest="other folds").train()
    with stopped_at(-1, 0, cut_power) as begun:
        make_rounds(tmp_path).train()
    assert len(begun) == EPOCHS
    with stopped_at(-1, 0, cut_power) as begun:
        make_rounds(tmp_path).train()
    assert begun == []
    make_rounds(tmp_path).forget()
    assert not list(tmp_path.rglob("run.json")) and not list(tmp_path.rglob("checkpoint*"))
    with stopped_at(-1, 0, cut_power) as begun:
        make_rounds(tmp_path).train()
    assert len(begun) == EPOCHS
    assert load_json(RunPaths(tmp_path).of_fold(0).seed(1).run)["facts"]["training_images"] == 31
