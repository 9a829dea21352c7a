"""One fold of a toy problem: it learns, and its bytes depend on recipe, fold and training data alone."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import albumentations
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import naming
from torch import nn

from foldsmith.augment.host import augment_batch
from foldsmith.augment.rows import AUGMENTATIONS
from foldsmith.data.cache import PixelCache
from foldsmith.data.loader import EpochBatches
from foldsmith.errors import InputError
from foldsmith.inference.compute import build_compute
from foldsmith.inference.weights import load_weights, save_weights
from foldsmith.models import MODELS, build_model
from foldsmith.process.files import load_npz
from foldsmith.process.signals import Interrupted
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.run.paths import RunPaths
from foldsmith.seeding import derive_seed
from foldsmith.tasks import SingleLabel
from foldsmith.training import loop as epochs_module
from foldsmith.training import resume
from foldsmith.training.epoch import Tally
from foldsmith.training.machine import Machine
from foldsmith.training.names import NetworkNames
from foldsmith.training.network import NetworkTraining
from foldsmith.training.samples import Fold, Samples, select_samples
from foldsmith.training.schedule import learning_rates

COUNT, CLASSES, SIZE = 59, 3, 16  # unbalanced classes: class weights have an effect
TOY = replace(RECIPES["quick"], name="toy", image_size=SIZE, epochs=3, batch_size=8)
PLAIN = replace(
    TOY,
    model="dropout-cnn",
    optimizer="sgd",
    lr=0.05,
    nesterov=True,
    ema_decay=0.0,
    augment="photo",
    views=("identity",),
)


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """Register two small networks.

    One has dropout, whose random numbers must not depend on earlier runs either.
    """

    def build_dropout_cnn(num_classes: int, image_size: int, channels: int) -> nn.Module:
        convolution = nn.Conv2d(channels, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2)
        return nn.Sequential(
            *convolution, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, num_classes)
        )

    def build_hidden_cnn(num_classes: int, image_size: int, channels: int) -> nn.Module:
        """Return a network with a hidden convolution, which Muon trains; small, as Muon is slow."""
        first, second = nn.Conv2d(channels, 6, 3, stride=2), nn.Conv2d(6, 8, 3, stride=2)
        pooled = nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(first, nn.ReLU(), second, *pooled, nn.Linear(8, num_classes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "dropout-cnn", build_dropout_cnn)
        patch.setitem(MODELS, "hidden-cnn", build_hidden_cnn)
        yield


def make_cache() -> PixelCache:
    """Return noisy images whose strongest colour is their class, and test images."""
    draws = np.random.default_rng(0)
    pixels = draws.normal(110, 40, (COUNT + 6, SIZE, SIZE, 3))
    for row in range(COUNT + 6):
        pixels[row, :, :, row % CLASSES] += 60
    index = pd.DataFrame({"path": [f"train/{row}.png" for row in range(COUNT + 6)]})
    return PixelCache(Path("cache"), np.clip(pixels, 0, 255).astype(np.uint8), index)


def make_folds() -> pd.DataFrame:
    rows = np.arange(COUNT)
    return pd.DataFrame(
        {
            "path": [f"train/{row}.png" for row in rows],
            "label": rows % CLASSES,
            "fold": rows // CLASSES % 3,
        }
    )


def make_training(
    root: Path, fold: int = 0, recipe: Recipe = TOY, workers: int = 0, **samples: Samples
) -> NetworkTraining:
    """Return the training of a fold with one network; `training` and `held_out` replace its samples."""
    cache, folds = make_cache(), make_folds()
    samples = {
        "training": select_samples(folds, folds["fold"] != fold, cache, SingleLabel(CLASSES)),
        "held_out": select_samples(folds, folds["fold"] == fold, cache, SingleLabel(CLASSES)),
        **samples,
    }
    task = SingleLabel(CLASSES, recipe.loss)
    chosen = Fold(RunPaths(root), fold, task, cache, **samples)
    name = NetworkNames(fold, chosen.paths).network(1, 0)
    return NetworkTraining(chosen, recipe, name, "this recipe, these folds", Machine("cpu", "fp32", workers))


def results(root: Path, fold: int = 0) -> tuple[bytes, bytes]:
    run = RunPaths(root)
    return run.weights(fold).read_bytes(), run.heldout(fold).read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of fold 0, trained without interruption and without worker processes."""
    root = tmp_path_factory.mktemp("trained")
    make_training(root).train()
    return root


def test_it_learns(trained: Path) -> None:
    log = pd.read_csv(RunPaths(trained).log(0))
    assert log["train_accuracy"].iloc[-1] > 0.9
    assert log["train_loss"].iloc[-1] < log["train_loss"].iloc[0]
    assert log["val_accuracy"].iloc[-1] > 0.8
    assert log["epoch"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_the_held_out_predictions_are_keyed_by_path_and_come_from_the_saved_weights(
    loss: str, trained: Path, whole: Callable[[Recipe], Path]
) -> None:
    trained = trained if loss == "ce" else whole(replace(TOY, loss="bce"))
    held_out, folds = load_npz(RunPaths(trained).heldout(0)), make_folds()
    expected = folds[folds["fold"] == 0]
    assert held_out["path"].tolist() == expected["path"].tolist()
    assert held_out["label"].tolist() == expected["label"].tolist()
    facts = {"recipe": {"model": TOY.model, "image_size": SIZE, "channels": 3}, "num_classes": CLASSES}
    model = load_weights(RunPaths(trained).weights(0), facts)
    assert not model.training
    images = torch.from_numpy(make_cache().pixels[expected.index.to_numpy()]).permute(0, 3, 1, 2)
    images = (images.float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        views = [model(images), model(images.flip(3))]
    positive = [torch.sigmoid(logits) if loss == "bce" else torch.exp(logits) for logits in views]
    expected = torch.stack([logits / logits.sum(dim=1, keepdim=True) for logits in positive]).mean(dim=0)
    np.testing.assert_allclose(held_out["probabilities"], expected, rtol=1e-3, atol=1e-5)


def test_the_facts_describe_the_training(tmp_path: Path) -> None:
    facts = make_training(tmp_path, recipe=replace(TOY, epochs=1)).train()
    assert (facts["training_images"], facts["held_out_images"], facts["num_classes"]) == (38, 21, 3)
    assert (facts["device"], facts["precision"]) == ("cpu", "fp32")
    assert facts["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    with torch.device("meta"):
        model = build_model(TOY.model, CLASSES, SIZE)
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(workers: int, trained: Path, tmp_path: Path) -> None:
    make_training(tmp_path, workers=workers).train()
    assert results(tmp_path) == results(trained)


def test_a_fold_alone_equals_the_fold_after_others(tmp_path: Path) -> None:
    make_training(tmp_path / "alone", fold=1).train()
    for fold in (0, 1):
        make_training(tmp_path / "all", fold=fold).train()
    assert results(tmp_path / "alone", 1) == results(tmp_path / "all", 1)
    assert results(tmp_path / "all", 0) != results(tmp_path / "all", 1)


def test_random_numbers_drawn_elsewhere_change_nothing(trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(4321)
    np.random.seed(4321)
    make_training(tmp_path).train()
    assert results(tmp_path) == results(trained)


class PowerCut(Exception):
    """Raised to interrupt a run."""


def test_the_weights_have_the_file_mode_of_the_log(trained: Path) -> None:
    run = RunPaths(trained)
    assert run.weights(0).stat().st_mode == run.log(0).stat().st_mode


def at_step(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int, act: Callable[[], None]) -> None:
    """Call `act` once, after that many steps of that epoch (from 0), before they are saved."""
    whole, left = epochs_module.train_one_epoch, [epoch]

    def watched(
        step_of: object, batches: object, rates: object, tally: Tally, after_step: Callable[[Tally], None]
    ) -> tuple[float, float]:
        left[0] -= 1

        def act_and_save(tally: Tally) -> None:
            if left[0] == -1 and tally.step == step + 1:
                act()
            after_step(tally)

        return whole(step_of, batches, rates, tally, act_and_save)

    monkeypatch.setattr(epochs_module, "train_one_epoch", watched)


def cut_power() -> None:
    raise PowerCut


def interrupt(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int = 2) -> None:
    """Save every step, and raise PowerCut after a step before it is saved."""
    monkeypatch.setattr(resume, "CHECKPOINT_SECONDS", 0.0)
    at_step(monkeypatch, epoch, step, cut_power)


def assert_same_log(root: Path, uninterrupted: Path) -> None:
    logs = [pd.read_csv(RunPaths(folder).log(0)) for folder in (root, uninterrupted)]
    figures = ["epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    pd.testing.assert_frame_equal(logs[0][figures], logs[1][figures], check_exact=True)


@pytest.mark.parametrize("recipe", [TOY, PLAIN], ids=["adamw and an average", "sgd and dropout"])
@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 3), (1, 0), (1, 2), (2, 4)])
def test_a_run_cut_off_at_any_step_resumes_to_the_same_bytes(
    recipe: Recipe,
    epoch: int,
    step: int,
    tmp_path: Path,
    whole: Callable[[Recipe], Path],
    capsys: pytest.CaptureFixture,
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupt(patch, epoch, step)
        make_training(tmp_path, recipe=recipe).train()
    assert not RunPaths(tmp_path).weights(0).exists()
    capsys.readouterr()
    make_training(tmp_path, recipe=recipe, workers=1).train()
    printed = capsys.readouterr().out
    assert (f"epoch {epoch} of 3" in printed) == (epoch + step > 0)
    assert (f"epoch {epoch} of 3, step {step} of" in printed) == (step > 0)
    assert results(tmp_path) == results(whole(recipe))
    assert_same_log(tmp_path, whole(recipe))


def test_a_run_with_an_albumentations_pipeline_resumes_to_the_same_bytes(
    tmp_path: Path, whole: Callable[[Recipe], Path]
) -> None:
    pipeline = albumentations.Compose([albumentations.HorizontalFlip(), albumentations.Affine(rotate=15)])
    recipe = replace(TOY, augment=pipeline)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupt(patch, 1)
        make_training(tmp_path, recipe=recipe).train()
    make_training(tmp_path, recipe=recipe).train()
    assert results(tmp_path) == results(whole(recipe))
    assert results(tmp_path) != results(whole(TOY))


# training options, each added to PLAIN
MEANS: dict[str, dict[str, object]] = {
    "one-cycle": {"schedule": "one-cycle"},
    "mixup": {"mixup": 0.4},
    "both, half of the batches, first two epochs": {
        "mixup": 0.4,
        "cutmix": 1.0,
        "mix_share": 0.5,
        "mix_until": 0.6,
        "class_weights": "auto",
        "label_smoothing": 0.1,
    },
    "erase": {"erase": 0.5},
    "alternating_flip": {"alternating_flip": True},
    "train_size": {"image_size": 16, "train_size": 14, "train_size_from": 8, "mixup": 1.0},
    "sampling": {"sampling": "balanced"},
    "class_weights": {"class_weights": "auto"},
    "logit_adjustment": {"logit_adjustment": 1.0, "label_smoothing": 0.1},
    "recalibrate": {"recalibrate": 2, "ema_decay": 0.9},
    "clip_grad": {"clip_grad": 0.5},
    "sam": {"sam": 0.1},
    "muon": {"optimizer": "muon", "model": "hidden-cnn", "lr": 0.01, "weight_decay": 0.05},
    "drop_path": {"model": "timm:test_resnet", "drop_path": 0.5, "epochs": 2},
    "trivial": {"augment": "trivial", "augment_strength": 0.7, "erase": 0.2},
    "bce": {"loss": "bce", "cutmix": 1.0, "mix_share": 0.5},
}


def test_without_options_the_bytes_are_those_of_a_plain_loop(
    tmp_path: Path, whole: Callable[[Recipe], Path]
) -> None:
    fold, purpose = make_training(tmp_path, recipe=PLAIN).fold, 0
    rows, labels = fold.training.rows, torch.tensor(fold.training.labels)
    torch.manual_seed(derive_seed(PLAIN.seed, "initial weights", purpose))
    model = build_model(PLAIN.model, CLASSES, SIZE).to(memory_format=torch.channels_last).train()
    split = [[p for p in model.parameters() if (p.ndim >= 2) == decays] for decays in (True, False)]
    groups = [{"params": split[0], "weight_decay": PLAIN.weight_decay}, {"params": split[1]}]
    optimizer = torch.optim.SGD(groups, PLAIN.lr, PLAIN.momentum, nesterov=True, fused=True)
    loss_function = nn.CrossEntropyLoss(label_smoothing=PLAIN.label_smoothing)
    compute = build_compute("cpu", "fp32", (0.5,) * 3, (0.5,) * 3)
    num_batches = -(-len(rows) // PLAIN.batch_size)
    steps = PLAIN.epochs * num_batches
    rates = iter(learning_rates("cosine", PLAIN.lr, round(PLAIN.warmup * steps), steps).tolist())
    for epoch in range(PLAIN.epochs):
        torch.manual_seed(derive_seed(PLAIN.seed, "dropout", purpose, epoch))
        stream = np.random.default_rng(derive_seed(PLAIN.seed, "order", purpose, epoch))
        for batch, positions in enumerate(np.array_split(stream.permutation(len(rows)), num_batches)):
            seed = derive_seed(PLAIN.seed, "augment", purpose, epoch, batch)
            images = augment_batch(AUGMENTATIONS["photo"], fold.cache.pixels[rows[positions]], seed)
            rate = next(rates)
            for group in optimizer.param_groups:
                group["lr"] = rate
            logits = model(compute.normalise(torch.from_numpy(images)))
            loss_function(logits, labels[positions]).backward()
            optimizer.step()
            optimizer.zero_grad()
    save_weights(tmp_path / "plain.safetensors", model)
    assert (tmp_path / "plain.safetensors").read_bytes() == results(whole(PLAIN))[0]


@pytest.mark.parametrize("fields", MEANS.values(), ids=MEANS)
def test_every_training_option_resumes_and_works_with_workers_to_the_same_bytes(
    fields: dict[str, object], tmp_path: Path, whole: Callable[[Recipe], Path]
) -> None:
    recipe = replace(PLAIN, **fields)
    assert results(whole(recipe))[0] != results(whole(PLAIN))[0], "it does nothing"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupt(patch, 1, 2)
        make_training(tmp_path, recipe=recipe).train()
    make_training(tmp_path, recipe=recipe, workers=2).train()
    assert results(tmp_path) == results(whole(recipe))
    assert_same_log(tmp_path, whole(recipe))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, "last"), (2, "last")])
def test_interrupted_it_finishes_the_step_saves_and_resumes(
    number: signal.Signals, epoch: int, step: int | str, tmp_path: Path, trained: Path,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    training = make_training(tmp_path)  # saves after 20 seconds, or when interrupted
    last = len(EpochBatches(len(training.fold.training.labels), TOY.batch_size, 0, 0)) - 1
    step = last if step == "last" else step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted) as caught:
        at_step(patch, epoch, step, lambda: os.kill(os.getpid(), number))
        training.train()
    assert caught.value.number == number
    capsys.readouterr()
    make_training(tmp_path).train()
    position = f"epoch {epoch} of 3, step {step + 1} of" if step < last else f"epoch {epoch + 1} of 3\n"
    assert position in capsys.readouterr().out
    assert results(tmp_path) == results(trained)
    assert_same_log(tmp_path, trained)


def test_a_signal_after_the_last_epoch_was_logged_is_not_lost(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = resume.Resume.after_epoch

    def signal_at_the_end(checkpoints: resume.Resume, is_last: bool) -> None:
        whole(checkpoints, is_last)
        if is_last:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(resume.Resume, "after_epoch", signal_at_the_end)
        make_training(tmp_path).train()
    assert not RunPaths(tmp_path).weights(0).exists()
    monkeypatch.setattr(epochs_module, "train_one_epoch", None)  # nothing is trained
    make_training(tmp_path).train()
    assert results(tmp_path) == results(trained)


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """Return the root of an uninterrupted run of a recipe."""
    roots = {TOY: trained}

    def run(recipe: Recipe) -> Path:
        if recipe not in roots:
            roots[recipe] = tmp_path_factory.mktemp("whole")
            make_training(roots[recipe], recipe=recipe).train()
        return roots[recipe]

    return run


def test_a_checkpoint_of_another_recipe_is_not_used(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        interrupt(patch, 2)
        other = replace(TOY, lr=1e-3)
        replace(make_training(tmp_path, recipe=other), provenance_digest="another recipe").train()
    assert RunPaths(tmp_path).checkpoint(0).exists()
    make_training(tmp_path).train()
    assert not re.search(r"epoch \d+ of 3", capsys.readouterr().out)
    assert results(tmp_path) == results(trained)


@pytest.mark.parametrize("fields", [{"seed": 1}, {"augment": "flip"}])
def test_another_recipe_gives_other_bytes(fields: dict, trained: Path, tmp_path: Path) -> None:
    make_training(tmp_path, recipe=replace(TOY, **fields)).train()
    assert results(tmp_path)[0] != results(trained)[0]


def test_the_held_out_images_and_labels_never_influence_the_weights(trained: Path, tmp_path: Path) -> None:
    held_out = make_training(tmp_path).fold.held_out
    wrong = Samples(held_out.paths[::-1], held_out.rows[::-1].copy(), (held_out.labels + 1) % CLASSES)
    make_training(tmp_path, held_out=wrong).train()
    assert results(tmp_path)[0] == results(trained)[0]
    ours, theirs = (load_npz(RunPaths(root).heldout(0)) for root in (tmp_path, trained))
    np.testing.assert_allclose(ours["probabilities"][::-1], theirs["probabilities"], rtol=1e-4, atol=1e-6)


def test_how_often_held_out_images_are_evaluated_changes_nothing(trained: Path, tmp_path: Path) -> None:
    make_training(tmp_path, recipe=replace(TOY, validate_every=2)).train()
    assert results(tmp_path) == results(trained)
    log = pd.read_csv(RunPaths(tmp_path).log(0))
    assert log["val_loss"].notna().tolist() == [False, True, True]


@pytest.mark.parametrize("remedy", [{"class_weights": "auto"}, {"logit_adjustment": 1.0}], ids=str)
def test_a_rare_class_is_predicted_more_often_with_a_remedy(
    remedy: dict[str, object], tmp_path: Path
) -> None:
    training = make_training(tmp_path).fold.training
    chosen = np.concatenate([np.flatnonzero(training.labels != 2), np.flatnonzero(training.labels == 2)[:3]])
    skewed = Samples([training.paths[at] for at in chosen], training.rows[chosen], training.labels[chosen])
    recipe, shares = replace(TOY, ema_decay=0.0), []
    for number, fields in enumerate(({}, remedy)):
        root = tmp_path / str(number)
        make_training(root, recipe=replace(recipe, **fields), training=skewed).train()
        shares.append(load_npz(RunPaths(root).heldout(0))["probabilities"][:, 2].mean())
    assert shares[1] > shares[0] + 0.02


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_that_diverges_in_its_last_step_is_an_error(epochs: int, tmp_path: Path) -> None:
    # one step an epoch: its loss is computed before the update that ruins the weights
    recipe = replace(TOY, optimizer="sgd", schedule="constant", warmup=0.0, batch_size=64, lr=1e30)
    with pytest.raises(InputError, match=naming("finite", "lr")):
        make_training(tmp_path, recipe=replace(recipe, epochs=epochs)).train()
    assert not RunPaths(tmp_path).weights(0).exists()


@pytest.mark.parametrize("field", ["augment", "optimizer", "schedule", "model"])
def test_an_unknown_option_is_refused_before_anything_is_written(field: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming(field, "'nothing'")):
        make_training(tmp_path, recipe=replace(TOY, **{field: "nothing"})).train()
    assert not any(tmp_path.iterdir())


def test_the_samples_of_a_fold_are_matched_by_path() -> None:
    cache, folds = make_cache(), make_folds().sample(frac=1, random_state=0)
    samples = select_samples(folds, folds["fold"] == 2, cache, SingleLabel(CLASSES))
    assert [f"train/{row}.png" for row in samples.rows] == samples.paths
    assert samples.labels.tolist() == [row % CLASSES for row in samples.rows]
    with pytest.raises(InputError, match="train/elsewhere.png"):
        select_samples(
            folds.assign(path="train/elsewhere.png"), folds["fold"] == 2, cache, SingleLabel(CLASSES)
        )


# --- out of memory


@pytest.mark.parametrize(("micro_batch", "most", "noted"), [(0, 99, 0), (4, 99, 4), (0, 3, 2)])
def test_the_micro_batch_that_fitted_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_batch: int, most: int, noted: int
) -> None:
    trained_on: list[int] = []

    class Short(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training and len(images) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if self.training:
                trained_on.append(len(images))
            return super().forward(images)

    def build_short(num_classes: int, image_size: int, channels: int) -> nn.Module:
        return Short(
            nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(4 * (image_size - 2) ** 2, num_classes)
        )

    monkeypatch.setitem(MODELS, "short", build_short)
    recipe = replace(PLAIN, model="short", epochs=1, micro_batch=micro_batch)
    training = make_training(tmp_path, recipe=recipe)
    assert training.train()["micro_batch"] == noted
    assert max(trained_on) == (noted or TOY.batch_size)
    assert sum(trained_on) == len(training.fold.training.labels)
