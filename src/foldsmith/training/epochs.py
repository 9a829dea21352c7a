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
from foldsmith.interruption import Interrupted, asked_to_stop
from foldsmith.machine import default_workers
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.terminal import progress, say
from foldsmith.training.checkpoint import Log, Position, load_checkpoint, save_checkpoint
from foldsmith.training.compute import Compute
from foldsmith.training.engine import Tally, train_one_epoch
from foldsmith.training.objective import Objective
from foldsmith.training.schedule import learning_rates
from foldsmith.training.state import TrainingState

# a checkpoint after an epoch, but not more often than this: short epochs are sooner repeated than saved
CHECKPOINT_SECONDS = 20.0
# within a long epoch one after so many times that
WITHIN_EPOCHS = 6


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
        """Trains what is left of the epochs; returns the log, a row an epoch.

        Asked to stop by a signal, it finishes the step, saves, and raises Interrupted. Raises InputError if a
        loss is not finite.
        """
        recipe = self.recipe
        batches, loader = self._build_batches(compute)
        steps = recipe.epochs * len(batches)
        rates = learning_rates(recipe.schedule, recipe.lr, round(recipe.warmup * steps), steps)
        rates = rates.reshape(recipe.epochs, len(batches))

        # devices, precisions and numbers of threads round differently: a training is not continued on others
        belongs_to = [self.made_from, compute.device.type, compute.precision, torch.get_num_threads()]
        made_from = digest_of(belongs_to)
        position = load_checkpoint(self.checkpoint_path, state, made_from)
        log = position.log
        if log or position.tally:
            within = f", step {position.tally.step} of {len(batches)}" if position.tally else ""
            say(f"{self.name}  goes on after epoch {len(log)} of {recipe.epochs}{within}")
        if log and not position.tally and not self.goes_on(log):
            return log
        saved = time.monotonic()

        def save_if_due(seconds: float) -> None:
            nonlocal saved
            if asked.signal or time.monotonic() - saved >= seconds:
                save_checkpoint(self.checkpoint_path, state, position, made_from)
                saved = time.monotonic()
            if asked.signal:
                raise Interrupted(asked.signal)

        def after_step(tally: Tally) -> None:
            # the last step of an epoch is not saved: what follows it at once, the epoch's row of the log, is
            if tally.step < len(batches):
                position.tally = tally
                save_if_due(self.checkpoint_seconds * WITHIN_EPOCHS)

        with asked_to_stop() as asked:
            for epoch in range(len(log), recipe.epochs):
                batches.epoch, batches.start = epoch, position.tally.step if position.tally else 0
                trained = self._train_epoch(epoch, state, loader, rates[epoch], compute, position, after_step)
                log.append(self._measure_epoch(epoch, state, float(rates[epoch, -1]), trained))
                position.tally = None
                say(log_line(self.name, recipe.epochs, log[-1]))
                save_csv(self.log_path, pd.DataFrame(log))
                last = epoch + 1 == recipe.epochs
                # what ends now need not be saved: its weights are, next; unless it is asked to stop
                save_if_due(float("inf") if last else self.checkpoint_seconds)
                if not self.goes_on(log):
                    break
        return log

    def _train_epoch(
        self,
        epoch: int,
        state: TrainingState,
        loader: DataLoader,
        rates: np.ndarray,
        compute: Compute,
        position: Position,
        after_step: Callable[[Tally], None],
    ) -> tuple[float, float, float]:
        """Trains an epoch, counted from 0, or what is left of it; its mean loss, accuracy, and seconds."""
        tally = position.tally
        if tally is None:  # else the streams of random numbers are where the checkpoint left them
            torch.manual_seed(derive_seed(self.recipe.seed, "dropout", self.purpose, epoch))
            tally = Tally.new(len(rates))
        begun = time.monotonic() - tally.seconds
        with progress(f"{self.name}  epoch {epoch + 1}", len(self.rows), "images") as advance:
            advance(sum(tally.counts))

            def after(tally: Tally) -> None:
                tally.seconds = time.monotonic() - begun
                after_step(tally)

            try:
                trained = train_one_epoch(
                    state, loader, rates, self.objective, compute, advance, tally, after
                )
            except InputError as error:
                raise InputError(f"{self.name}, epoch {epoch + 1}: {error}") from error
        return *trained, time.monotonic() - begun

    def _measure_epoch(
        self, epoch: int, state: TrainingState, rate: float, trained: tuple[float, float, float]
    ) -> dict[str, float]:
        """The row of the log of an epoch that was trained."""
        held_out = (float("nan"), float("nan"))
        if epoch + 1 == self.recipe.epochs or (epoch + 1) % self.recipe.validate_every == 0:
            held_out = self.measure(state.ema.model)
        return {
            "epoch": epoch + 1,
            "lr": rate,
            "train_loss": trained[0],
            "train_accuracy": trained[1],
            "val_loss": held_out[0],
            "val_accuracy": held_out[1],
            "seconds": trained[2],
            "images_per_second": len(self.rows) / trained[2],
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
