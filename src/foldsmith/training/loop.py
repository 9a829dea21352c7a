"""The loop over epochs of one training, of a fold or a pretraining, with its log and checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from foldsmith.data.loader import EpochBatches
from foldsmith.errors import InputError, message_of
from foldsmith.inference.compute import Compute
from foldsmith.process.files import save_csv
from foldsmith.process.terminal import progress, say
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.training.batches import Batches, TrainingData, build_batches, fitted_batch_size
from foldsmith.training.checkpoint import Log, Position
from foldsmith.training.epoch import Tally, train_one_epoch
from foldsmith.training.machine import Machine
from foldsmith.training.mixing import Mixing
from foldsmith.training.objective import Objective
from foldsmith.training.resume import Resume
from foldsmith.training.schedule import learning_rates
from foldsmith.training.sizes import training_sizes
from foldsmith.training.state import TrainingState
from foldsmith.training.step import Step, build_step


@dataclass(frozen=True)
class TrainingFiles:
    """The log and the checkpoint of a training, and the digest of its inputs.

    `provenance_digest` does not depend on the number of workers or on interruptions.
    """

    log: Path
    checkpoint: Path
    provenance_digest: str


@dataclass(frozen=True)
class Epochs:
    """The epochs of one training, ready to run.

    `name` is at the start of its messages; `purpose` tells apart the random streams of one seed. `measure`
    returns held-out loss and accuracy of a network. `should_continue` is called with the log after every
    epoch, and again on resume; it returns whether to train another epoch.
    """

    name: str
    purpose: int | str
    recipe: Recipe
    data: TrainingData
    objective: Objective
    measure: Callable[[nn.Module], tuple[float, float]]
    files: TrainingFiles
    machine: Machine
    mixing: Mixing | None = None
    should_continue: Callable[[Log], bool] = lambda log: True

    def run(self, state: TrainingState, compute: Compute) -> Position:
        """Train the remaining epochs; return the position, with the log and the micro-batch size.

        On a signal, finish the step, save a checkpoint and raise Interrupted. Raise InputError if a loss is
        not finite.
        """
        recipe = self.recipe
        batches, loader = self.build_batches(compute)
        step = build_step(state, self.objective, compute, recipe, batches, self.machine.processes)
        rates, sizes = self._learning_rates(len(batches)), training_sizes(recipe)
        resume = Resume(self.files.checkpoint, self.files.provenance_digest, step)
        position = resume.position
        self._say_start(position, len(batches))
        with resume.stoppable():
            while self._has_more(position):
                epoch = len(position.log)
                batches.epoch, batches.start, batches.side = epoch, position.step, sizes[epoch]
                prepared = self._mixed(loader, batches, compute)
                trained = self._train_epoch(step, prepared, rates[epoch], resume)
                position.end_epoch(self._measure_epoch(epoch, state, float(rates[epoch, -1]), trained))
                self._write_log(position.log)
                resume.after_epoch(is_last=epoch + 1 == recipe.epochs)
        return position

    def untrained(self, state: TrainingState, probe: dict[str, Any]) -> Position:
        """Return the position of a network that is fitted and not trained: one row of the log, epoch 0."""
        loss, accuracy = self.measure(state.ema.model)
        seconds = probe["fit_seconds"]
        row = {
            "epoch": 0,
            "lr": 0.0,
            "train_loss": probe["training_loss"],
            "train_accuracy": probe["training_accuracy"],
            "val_loss": loss,
            "val_accuracy": accuracy,
            "seconds": seconds,
            "images_per_second": len(self.data) / seconds,
        }
        if self.machine.processes.is_first:
            self._save_log([row])
            say(
                f"{self.name}  {probe['form']['kind']} classifier on {probe['form']['inputs']} features "
                f"({probe['features']}), penalty {probe['penalty']:g}  training {row['train_loss']:.3f} "
                f"{row['train_accuracy']:.1%}  held out {loss:.3f} {accuracy:.1%}  {seconds:.1f} s"
            )
        return Position(log=[row])

    def _learning_rates(self, num_batches: int) -> np.ndarray:
        """Return the learning rate of every step, float64 (epochs, num_batches)."""
        recipe, steps = self.recipe, self.recipe.epochs * num_batches
        rates = learning_rates(recipe.schedule, recipe.lr, round(recipe.warmup * steps), steps)
        return rates.reshape(recipe.epochs, num_batches)

    def _has_more(self, position: Position) -> bool:
        """Return whether to train: an interrupted epoch, or another one that `should_continue` allows."""
        is_between_epochs = bool(position.log) and position.tally is None
        if is_between_epochs and not self.should_continue(position.log):
            return False
        return len(position.log) < self.recipe.epochs

    def _train_epoch(
        self, step: Step, batches: Batches, rates: np.ndarray, resume: Resume
    ) -> tuple[float, float, float]:
        """Train an epoch, or the rest of it; return its mean loss, accuracy and seconds."""
        epoch, tally, processes = len(resume.position.log), resume.position.tally, self.machine.processes
        if tally is None:  # otherwise the checkpoint has restored the random streams
            purpose = (self.purpose, epoch, *([processes.rank] if processes.rank else []))
            torch.manual_seed(derive_seed(self.recipe.seed, "dropout", *purpose))
            tally = Tally.new(len(rates))
        total = len(self.data) // processes.count
        with progress(f"{self.name}  epoch {epoch + 1}", total, "images") as advance:
            advance(sum(tally.counts))

            def after_step(tally: Tally) -> None:
                advance(tally.counts[-1])
                resume.after_step(tally)

            try:
                loss, accuracy = train_one_epoch(step, batches, rates, tally, after_step)
            except InputError as error:
                # the traceback is in a reference cycle with the loader, which keeps worker processes alive
                error = error.with_traceback(None)
                raise InputError(f"{self.name}, epoch {epoch + 1}: {message_of(error)}") from error
        return loss, accuracy, tally.seconds

    def _measure_epoch(
        self, epoch: int, state: TrainingState, rate: float, trained: tuple[float, float, float]
    ) -> dict[str, float]:
        """Return the log's row of a trained epoch, counted from 0; measure the network if it is due."""
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
            "images_per_second": len(self.data) / trained[2],
        }

    def plain_batches(self, compute: Compute, count: int) -> Batches:
        """Return the first `count` batches of one more epoch: augmented, in full size and not mixed."""
        batches, loader = self.build_batches(compute)
        batches.epoch = self.recipe.epochs
        return islice(loader, count)

    def build_batches(self, compute: Compute) -> tuple[EpochBatches, Batches]:
        return build_batches(self.recipe, self.data, self.purpose, self.machine, compute)

    def _mixed(self, loader: Batches, batches: EpochBatches, compute: Compute) -> Batches:
        if self.mixing is None:
            return loader
        return self.mixing.mixed(loader, batches, compute.device, self.machine.processes)

    def _write_log(self, log: Log) -> None:
        """Print the last row of the log, and save all rows."""
        if self.machine.processes.is_first:
            say(log_line(self.name, self.recipe.epochs, log[-1]))
            self._save_log(log)

    def _save_log(self, log: Log) -> None:
        save_csv(self.files.log, pd.DataFrame(log))
        self.machine.after_epoch(self.files.log)

    def _say_start(self, position: Position, num_batches: int) -> None:
        """Print from which epoch and step the training resumes, or a batch size that is not the recipe's."""
        if not self.machine.processes.is_first:
            return
        batch_size = fitted_batch_size(self.recipe, len(self.data))
        if position.log or position.tally:
            within = f", step {position.step} of {num_batches}" if position.tally else ""
            say(f"{self.name}  resumes after epoch {len(position.log)} of {self.recipe.epochs}{within}")
        elif batch_size < self.recipe.batch_size:
            say(
                f"{self.name}  batches of {batch_size} images instead of {self.recipe.batch_size}, so that "
                f"an epoch has {num_batches} steps (least_steps={self.recipe.least_steps})"
            )


def log_line(name: str, epochs: int, entry: dict[str, float]) -> str:
    """Return one line for an epoch of the log; a hyphen for figures that were not measured."""

    def figures(images: str) -> str:
        loss, accuracy = entry[f"{images}_loss"], entry[f"{images}_accuracy"]
        if not np.isfinite(loss):
            return "-"
        return f"{loss:.3f} {accuracy:.1%}" if np.isfinite(accuracy) else f"{loss:.5f}"

    return (
        f"{name}  epoch {entry['epoch']:{len(str(epochs))}d}/{epochs}  lr {entry['lr']:.2g}  "
        f"training {figures('train')}  held out {figures('val')}  "
        f"{entry['seconds']:.1f} s  {entry['images_per_second']:,.0f} images/s"
    )
