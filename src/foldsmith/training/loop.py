"""The epochs of one training, of a fold or without labels: from its checkpoint or anew, each one logged."""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from foldsmith.augment.rows import Augmentation, build_augmentation
from foldsmith.data.loader import AugmentedBatches, DeviceBatches, EpochBatches, build_loader
from foldsmith.data.pixels import Pixels, StreamedPixels
from foldsmith.errors import InputError, message_of
from foldsmith.inference.compute import Compute, augments_on_device
from foldsmith.process.files import digest_of, save_csv
from foldsmith.process.machine import default_workers
from foldsmith.process.signals import Interrupted, StopRequest, deferred_stop
from foldsmith.process.terminal import progress, say
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.training.checkpoint import Log, Position, load_checkpoint, save_checkpoint
from foldsmith.training.epoch import Tally, train_one_epoch
from foldsmith.training.mixing import Mixing
from foldsmith.training.objective import Objective
from foldsmith.training.processes import ALONE, Processes
from foldsmith.training.schedule import learning_rates
from foldsmith.training.sizes import training_sizes
from foldsmith.training.state import TrainingState
from foldsmith.training.step import Step

# a checkpoint after an epoch, but not more often than this: short epochs are sooner repeated than saved
CHECKPOINT_SECONDS = 20.0
# within a long epoch one after so many times that
WITHIN_EPOCHS = 6


@dataclass(frozen=True)
class Epochs:
    """The epochs of one training, ready to run.

    `name` tells this training from others in lines, and `purpose` in seeds. `rows` (n,) of `pixels` (the
    cache's) are trained on, with their `labels` (n,). `measure` gives held-out loss and accuracy
    of a network; `goes_on` is asked with the log after every epoch. `made_from` is the digest of all that the
    result depends on, and never `workers` or interruptions.
    """

    name: str
    purpose: int | str
    recipe: Recipe
    pixels: Pixels
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
    mixing: Mixing | None = None
    processes: Processes = ALONE

    def run(self, state: TrainingState, compute: Compute) -> Position:
        """Trains what is left of the epochs; returns the log, a row an epoch, and the micro-batch they fitted
        in.

        Asked to stop by a signal, it finishes the step, saves, and raises Interrupted. Raises InputError if a
        loss is not finite.
        """
        recipe = self.recipe
        batches, loader = self.build_batches(compute)
        gradients = Step(
            state,
            self.objective,
            compute,
            recipe.micro_batch,
            recipe.compile,
            self.processes,
            recipe.clip_grad,
            recipe.sam,
        )
        steps = recipe.epochs * len(batches)
        rates = learning_rates(recipe.schedule, recipe.lr, round(recipe.warmup * steps), steps)
        rates = rates.reshape(recipe.epochs, len(batches))
        sizes = training_sizes(recipe)

        # devices, precisions and numbers of threads round differently: a training is not continued on others
        belongs_to = [self.made_from, compute.device.type, compute.hardware, compute.precision]
        made_from = digest_of([*belongs_to, self.processes.count])
        if not self.processes.is_first:
            self.processes.share(None)  # the first one may have to set a checkpoint aside
        position = load_checkpoint(self.checkpoint_path, state, made_from)
        if self.processes.is_first:
            self.processes.share(None)
        gradients.micro_batch = position.micro_batch = position.micro_batch or recipe.micro_batch
        log = position.log
        if log or position.tally:
            within = f", step {position.tally.step} of {len(batches)}" if position.tally else ""
            self._say(f"{self.name}  goes on after epoch {len(log)} of {recipe.epochs}{within}")
        if log and not position.tally and not self.goes_on(log):
            return position
        saved = time.monotonic()

        def save_if_due(seconds: float) -> None:
            nonlocal saved
            if not self.processes.is_first:
                return
            if asked.signal or time.monotonic() - saved >= seconds:
                position.micro_batch = gradients.micro_batch
                save_checkpoint(self.checkpoint_path, state, position, made_from)
                saved = time.monotonic()
            if asked.signal:
                raise Interrupted(asked.signal)

        def after_step(tally: Tally) -> None:
            # the last step of an epoch is not saved: what follows it at once, the epoch's row of the log, is
            # (several processes have random numbers of their own, which only an epoch's start gives again)
            if tally.step < len(batches) and self.processes.count == 1:
                position.tally = tally
                save_if_due(self.checkpoint_seconds * WITHIN_EPOCHS)

        # several processes cannot agree on the step they end after: they end at once, and go on after the
        # last epoch that was saved
        with deferred_stop() if self.processes.count == 1 else nullcontext(StopRequest()) as asked:
            for epoch in range(len(log), recipe.epochs):
                batches.side = sizes[epoch]
                batches.epoch, batches.start = epoch, position.tally.step if position.tally else 0
                mixed = loader
                if self.mixing:
                    mixed = self.mixing.mixed(loader, batches, compute.device, self.processes)
                trained = self._train_epoch(
                    epoch, state, mixed, rates[epoch], gradients, position, after_step
                )
                log.append(self._measure_epoch(epoch, state, float(rates[epoch, -1]), trained))
                position.tally = None
                self._say(log_line(self.name, recipe.epochs, log[-1]))
                if self.processes.is_first:
                    save_csv(self.log_path, pd.DataFrame(log))
                last = epoch + 1 == recipe.epochs
                # what ends now need not be saved: its weights are, next; unless it is asked to stop
                save_if_due(float("inf") if last else self.checkpoint_seconds)
                if not self.goes_on(log):
                    break
        position.micro_batch = gradients.micro_batch
        return position

    def _train_epoch(
        self,
        epoch: int,
        state: TrainingState,
        loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
        rates: np.ndarray,
        gradients: Step,
        position: Position,
        after_step: Callable[[Tally], None],
    ) -> tuple[float, float, float]:
        """Trains an epoch, counted from 0, or what is left of it; its mean loss, accuracy, and seconds."""
        tally = position.tally
        if tally is None:  # else the streams of random numbers are where the checkpoint left them
            rank = self.processes.rank
            purpose = (self.purpose, epoch, *([rank] if rank else []))
            torch.manual_seed(derive_seed(self.recipe.seed, "dropout", *purpose))
            tally = Tally.new(len(rates))
        begun = time.monotonic() - tally.seconds
        total = len(self.rows) // self.processes.count
        with progress(f"{self.name}  epoch {epoch + 1}", total, "images") as advance:
            advance(sum(tally.counts))

            def after(tally: Tally) -> None:
                tally.seconds = time.monotonic() - begun
                after_step(tally)

            try:
                trained = train_one_epoch(state, loader, rates, gradients, advance, tally, after)
            except InputError as error:
                # its traceback holds the loader in a circle, so that worker processes would end late
                error = error.with_traceback(None)
                raise InputError(f"{self.name}, epoch {epoch + 1}: {message_of(error)}") from error
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

    def plain_batches(self, compute: Compute, count: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """The first batches of one more epoch: augmented, but in full size and not mixed."""
        batches, loader = self.build_batches(compute)
        batches.epoch = self.recipe.epochs
        return islice(loader, count)

    def _say(self, line: str) -> None:
        if self.processes.is_first:
            say(line)

    def build_batches(
        self, compute: Compute
    ) -> tuple[EpochBatches, Iterable[tuple[torch.Tensor, torch.Tensor]]]:
        """The training batches, and what prepares them."""
        recipe, part = self.recipe, self.processes.part
        augmentation = build_augmentation(
            recipe.augment, recipe.image_size, recipe.erase, recipe.augment_strength
        )
        batches = EpochBatches(
            len(self.rows),
            recipe.batch_size,
            recipe.seed,
            self.purpose,
            part,
            balanced=np.asarray(self.labels) if recipe.sampling == "balanced" else None,
            alternating=recipe.alternating_flip,
        )
        on_device = augments_on_device(recipe, augmentation, self.pixels, len(self.rows), compute)
        if on_device and isinstance(augmentation, Augmentation):
            loader = DeviceBatches(self.pixels, self.rows, self.labels, augmentation, batches, compute.device)
            return batches, loader
        dataset = AugmentedBatches(self.pixels, self.rows, self.labels, augmentation)
        streamed = isinstance(self.pixels, StreamedPixels)
        workers = default_workers(compute.on_gpu, streamed) if self.workers is None else self.workers
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
