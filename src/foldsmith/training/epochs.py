"""The epochs of one training, of a fold or without labels: from its checkpoint or anew, each one logged."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader

from foldsmith.data.augment import build_augmentation
from foldsmith.data.loader import AugmentedBatches, EpochBatches, build_loader
from foldsmith.errors import InputError
from foldsmith.files import digest_of, save_csv
from foldsmith.machine import default_workers
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.terminal import progress, say
from foldsmith.training.checkpoint import Log, load_checkpoint, save_checkpoint
from foldsmith.training.compute import Compute
from foldsmith.training.engine import train_one_epoch
from foldsmith.training.objective import Objective
from foldsmith.training.schedule import learning_rates
from foldsmith.training.state import TrainingState

# a checkpoint after an epoch, but not more often than this: short epochs are sooner repeated than saved
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Epochs:
    """The epochs of one training, ready to run.

    `name` tells this training from others in lines, and `purpose` in seeds. `rows` (n,) of `pixels` (the
    cache's memory map) are trained on, with their `labels` (n,). `measure` gives held-out loss and accuracy
    of a network; `goes_on` is asked with the log after every epoch. `made_from` is the digest of all that the
    result depends on, and never `workers` or interruptions.
    """

    name: str
    purpose: int | str
    recipe: Recipe
    pixels: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    objective: Objective
    measure: Callable[[nn.Module], tuple[float, float]]
    log_path: Path
    checkpoint_path: Path
    made_from: str
    workers: int | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    goes_on: Callable[[Log], bool] = lambda log: True

    def run(self, state: TrainingState, compute: Compute) -> Log:
        """Trains the epochs that are left; returns the log, a row an epoch.

        Raises InputError if a loss is not finite.
        """
        recipe = self.recipe
        batches, loader = self._build_batches(compute)
        steps = recipe.epochs * len(batches)
        rates = learning_rates(recipe.schedule, recipe.lr, round(recipe.warmup * steps), steps)
        rates = rates.reshape(recipe.epochs, len(batches))

        # devices, precisions and numbers of threads round differently: a training is not continued on others
        belongs_to = [self.made_from, compute.device.type, compute.precision, torch.get_num_threads()]
        made_from = digest_of(belongs_to)
        log = load_checkpoint(self.checkpoint_path, state, made_from)
        if log:
            say(f"{self.name}  goes on after epoch {len(log)} of {recipe.epochs}")
        elif self.checkpoint_path.is_file():
            say(f"{self.name}  starts anew: its checkpoint is of other inputs or another machine")
        saved = time.monotonic()
        for epoch in range(len(log), recipe.epochs):
            batches.epoch = epoch
            log.append(self._run_epoch(epoch, state, loader, rates[epoch], compute))
            say(log_line(self.name, recipe.epochs, log[-1]))
            save_csv(self.log_path, pd.DataFrame(log))
            if not self.goes_on(log):
                break
            last = epoch + 1 == recipe.epochs
            if not last and time.monotonic() - saved >= self.checkpoint_seconds:
                save_checkpoint(self.checkpoint_path, state, log, made_from)
                saved = time.monotonic()
        return log

    def _run_epoch(
        self, epoch: int, state: TrainingState, loader: DataLoader, rates: np.ndarray, compute: Compute
    ) -> dict[str, float]:
        """Trains one epoch, counted from 0; its row of the log."""
        recipe, count = self.recipe, len(self.rows)
        torch.manual_seed(derive_seed(recipe.seed, "dropout", self.purpose, epoch))
        begun = time.monotonic()
        with progress(f"{self.name}  epoch {epoch + 1}", count, "images") as advance:
            try:
                trained = train_one_epoch(state, loader, rates, self.objective, compute, advance)
            except InputError as error:
                raise InputError(f"{self.name}, epoch {epoch + 1}: {error}") from error
        seconds = time.monotonic() - begun
        held_out = (float("nan"), float("nan"))
        if epoch + 1 == recipe.epochs or (epoch + 1) % recipe.validate_every == 0:
            held_out = self.measure(state.ema.model)
        return {
            "epoch": epoch + 1,
            "lr": float(rates[-1]),
            "train_loss": trained[0],
            "train_accuracy": trained[1],
            "val_loss": held_out[0],
            "val_accuracy": held_out[1],
            "seconds": seconds,
            "images_per_second": count / seconds,
        }

    def _build_batches(self, compute: Compute) -> tuple[EpochBatches, DataLoader]:
        """The training batches, and the loader that prepares them."""
        recipe = self.recipe
        augmentation = build_augmentation(recipe.augment, recipe.image_size)
        batches = EpochBatches(len(self.rows), recipe.batch_size, recipe.seed, self.purpose)
        dataset = AugmentedBatches(self.pixels, self.rows, self.labels, augmentation)
        workers = default_workers(compute.on_gpu) if self.workers is None else self.workers
        return batches, build_loader(dataset, batches, workers, pin_memory=compute.on_gpu)


def log_line(name: str, epochs: int, entry: dict[str, float]) -> str:
    """One epoch in one line; a figure that was not measured is left out."""

    def told(part: str) -> str:
        loss, accuracy = entry[f"{part}_loss"], entry[f"{part}_accuracy"]
        if not np.isfinite(loss):
            return "-"
        return f"{loss:.3f} {accuracy:.1%}" if np.isfinite(accuracy) else f"{loss:.5f}"

    return (
        f"{name}  epoch {entry['epoch']:{len(str(epochs))}d}/{epochs}  lr {entry['lr']:.2g}  "
        f"training {told('train')}  held out {told('val')}  "
        f"{entry['seconds']:.1f} s  {entry['images_per_second']:,.0f} images/s"
    )
