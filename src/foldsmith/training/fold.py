"""One fold: a network trained on all other folds, and its predictions of the held-out images."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader

from foldsmith.data.augment import build_augmentation
from foldsmith.data.cache import PixelCache
from foldsmith.data.loader import AugmentedBatches, EpochBatches, build_loader
from foldsmith.data.views import check_views
from foldsmith.errors import InputError
from foldsmith.files import digest_of, save_csv, save_npz
from foldsmith.machine import default_workers
from foldsmith.models import build_model, normalisation
from foldsmith.paths import RunPaths
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.terminal import progress, say
from foldsmith.training.checkpoint import load_checkpoint, save_checkpoint
from foldsmith.training.compute import Compute, build_compute, set_determinism
from foldsmith.training.engine import predict, train_one_epoch
from foldsmith.training.loss import class_weights, loss_and_accuracy
from foldsmith.training.schedule import learning_rates
from foldsmith.training.state import TrainingState, build_state
from foldsmith.training.weights import save_weights

# a checkpoint after an epoch, but not more often than this: short epochs are sooner repeated than saved
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Samples:
    """Images of a fold: `paths`, their `rows` in the cache int64 (n,), and `labels` int64 (n,)."""

    paths: list[str]
    rows: np.ndarray
    labels: np.ndarray


def select_samples(folds: pd.DataFrame, chosen: pd.Series, cache: PixelCache) -> Samples:
    """The samples of folds.csv where `chosen` is true."""
    paths = list(folds.loc[chosen, "path"])
    return Samples(paths, cache.rows(paths), folds.loc[chosen, "label"].to_numpy(np.int64))


@dataclass(frozen=True)
class FoldTraining:
    """One fold of one run, ready to train.

    `made_from` is the digest of all that the result depends on: recipe, fold, data and versions, and never
    `workers`, other folds, or interruptions.
    """

    run: RunPaths
    fold: int
    recipe: Recipe
    num_classes: int
    cache: PixelCache
    training: Samples
    held_out: Samples
    made_from: str
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def train(self) -> dict[str, Any]:
        """Trains, from the fold's checkpoint if there is one; writes weights, log and held-out predictions.

        Returns facts for run.json. Raises InputError if a loss is not finite.
        """
        started, recipe = time.monotonic(), self.recipe
        check_views(recipe.views)
        set_determinism(recipe.deterministic)
        torch.manual_seed(derive_seed(recipe.seed, "initial weights", self.fold))
        model = build_model(
            recipe.model, self.num_classes, recipe.image_size, recipe.pretrained, recipe.weights
        )
        mean, std = normalisation(model, recipe.pretrained or bool(recipe.weights))
        mean, std = recipe.mean or mean, recipe.std or std
        compute = build_compute(self.device, self.precision, mean, std)
        state = build_state(model, recipe, compute)

        log = self._train_epochs(state, compute)

        probabilities = self._predict(state.ema.model, recipe.views, compute)
        if not np.isfinite(probabilities).all():
            raise InputError(f"fold {self.fold}: predictions are not finite after the last epoch; lower lr.")
        save_npz(
            self.run.heldout(self.fold),
            path=np.array(self.held_out.paths, dtype=np.str_),
            label=self.held_out.labels,
            probabilities=probabilities,
        )
        save_weights(self.run.weights(self.fold), state.ema.model)
        return {
            "num_classes": self.num_classes,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "training_images": len(self.training.labels),
            "held_out_images": len(self.held_out.labels),
            "normalisation": {"mean": list(mean), "std": list(std)},
            "device": str(compute.device),
            "precision": compute.precision,
            "hardware": compute.hardware,
            "training_seconds": sum(entry["seconds"] for entry in log),
            "seconds": time.monotonic() - started,
        }

    def _train_epochs(self, state: TrainingState, compute: Compute) -> list[dict[str, float]]:
        """Trains the epochs that are left; returns the log, a row an epoch."""
        recipe, labels = self.recipe, self.training.labels
        weights = class_weights(recipe.class_weights, labels, self.num_classes)
        loss_function = nn.CrossEntropyLoss(weights, label_smoothing=recipe.label_smoothing)
        loss_function = loss_function.to(compute.device)
        batches, loader = self._build_batches(compute)
        steps = recipe.epochs * len(batches)
        rates = learning_rates(recipe.schedule, recipe.lr, round(recipe.warmup * steps), steps)
        rates = rates.reshape(recipe.epochs, len(batches))

        # devices, precisions and numbers of threads round differently: a fold is not continued on others
        belongs_to = [self.made_from, compute.device.type, compute.precision, torch.get_num_threads()]
        checkpoint, made_from = self.run.checkpoint(self.fold), digest_of(belongs_to)
        log = load_checkpoint(checkpoint, state, made_from)
        if log:
            say(f"fold {self.fold}  goes on after epoch {len(log)} of {recipe.epochs}")
        elif checkpoint.is_file():
            say(f"fold {self.fold}  starts anew: its checkpoint is of other inputs or another machine")
        saved = time.monotonic()
        for epoch in range(len(log), recipe.epochs):
            batches.epoch = epoch
            torch.manual_seed(derive_seed(recipe.seed, "dropout", self.fold, epoch))
            begun = time.monotonic()
            with progress(f"fold {self.fold}  epoch {epoch + 1}", len(labels), "images") as advance:
                try:
                    trained = train_one_epoch(state, loader, rates[epoch], loss_function, compute, advance)
                except InputError as error:
                    raise InputError(f"fold {self.fold}, epoch {epoch + 1}: {error}") from error
            seconds = time.monotonic() - begun
            last = epoch + 1 == recipe.epochs
            held_out = (float("nan"), float("nan"))
            if last or (epoch + 1) % recipe.validate_every == 0:
                seen = self._predict(state.ema.model, ("identity",), compute)
                held_out = loss_and_accuracy(seen, self.held_out.labels)
            log.append(
                {
                    "epoch": epoch + 1,
                    "lr": float(rates[epoch, -1]),
                    "train_loss": trained[0],
                    "train_accuracy": trained[1],
                    "val_loss": held_out[0],
                    "val_accuracy": held_out[1],
                    "seconds": seconds,
                    "images_per_second": len(labels) / seconds,
                }
            )
            say(log_line(self.fold, recipe.epochs, log[-1]))
            save_csv(self.run.log(self.fold), pd.DataFrame(log))
            if not last and time.monotonic() - saved >= self.checkpoint_seconds:
                save_checkpoint(checkpoint, state, log, made_from)
                saved = time.monotonic()
        return log

    def _build_batches(self, compute: Compute) -> tuple[EpochBatches, DataLoader]:
        """The fold's batches, and the loader that prepares them."""
        recipe, training = self.recipe, self.training
        augmentation = build_augmentation(recipe.augment, recipe.image_size)
        batches = EpochBatches(len(training.labels), recipe.batch_size, recipe.seed, self.fold)
        dataset = AugmentedBatches(self.cache.pixels, training.rows, training.labels, augmentation)
        workers = default_workers(compute.on_gpu) if self.workers is None else self.workers
        return batches, build_loader(dataset, batches, workers, pin_memory=compute.on_gpu)

    def _predict(self, model: nn.Module, views: tuple[str, ...], compute: Compute) -> np.ndarray:
        batch_size = self.recipe.predict_batch_size
        return predict(model, self.cache.pixels, self.held_out.rows, views, batch_size, compute)


def log_line(fold: int, epochs: int, entry: dict[str, float]) -> str:
    """One epoch in one line."""
    validated = np.isfinite(entry["val_loss"])
    held_out = f"{entry['val_loss']:.3f} {entry['val_accuracy']:.1%}" if validated else "-"
    return (
        f"fold {fold}  epoch {entry['epoch']:{len(str(epochs))}d}/{epochs}  lr {entry['lr']:.2g}  "
        f"training {entry['train_loss']:.3f} {entry['train_accuracy']:.1%}  held out {held_out}  "
        f"{entry['seconds']:.1f} s  {entry['images_per_second']:,.0f} images/s"
    )
