"""One epoch of training."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from foldsmith.errors import InputError
from foldsmith.training.batches import Batches
from foldsmith.training.step import Step


@dataclass
class Tally:
    """The totals of an epoch after `step` steps.

    `losses` (steps,) has the loss of every step, 0 for steps to come. `counts` has the number of images of
    every finished step. `correct` is the number of images classified correctly, `seconds` the time so far.
    """

    step: int
    losses: torch.Tensor
    counts: list[int]
    correct: torch.Tensor
    seconds: float = 0.0

    @classmethod
    def new(cls, num_steps: int) -> "Tally":
        return cls(0, torch.zeros(num_steps), [], torch.zeros((), dtype=torch.float64))

    def move_to(self, device: torch.device) -> None:
        self.losses, self.correct = self.losses.to(device), self.correct.to(device)

    def add(self, loss: torch.Tensor, correct: torch.Tensor, count: int) -> None:
        """Count a step of `count` images; loss and correct stay on the device."""
        self.losses[self.step] = loss
        self.correct += correct
        self.counts.append(count)
        self.step += 1


def train_one_epoch(
    step: Step,
    batches: Batches,
    rates: np.ndarray,
    tally: Tally | None = None,
    after_step: Callable[[Tally], None] = lambda tally: None,
) -> tuple[float, float]:
    """Train one epoch; return mean loss and accuracy over its images, augmented and before their update.

    The loss is that of `step`: with class weights, a weighted mean within each batch. The learning rate of a
    parameter group is that of the step times the group's `lr_scale`.

    `batches` yields images (B, H, W, 3), 0 to 255, and labels int64 (B,), one batch for each of `rates`
    (steps,). To resume within an epoch, pass its `tally` and the remaining batches. Raise InputError, with
    the step, if a loss is not finite. Totals stay on the device until the end: no step waits for the host.
    """
    state, compute, tally = step.state, step.compute, tally or Tally.new(len(rates))
    tally.move_to(compute.device)
    state.start_training()
    begun = time.monotonic() - tally.seconds
    for rate, (images, labels) in zip(rates[tally.step :].tolist(), batches, strict=True):
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        labels = labels.to(compute.device, non_blocking=True)
        loss, correct = step(compute.normalise(images), labels)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        state.ema.update()

        tally.add(loss, correct, len(labels))
        tally.seconds = time.monotonic() - begun
        after_step(tally)
    means = mean_over_images(tally, rates, step)
    tally.seconds = time.monotonic() - begun
    return means


def mean_over_images(tally: Tally, rates: np.ndarray, step: Step) -> tuple[float, float]:
    """Return mean loss and accuracy over all images. Raise InputError if a loss is not finite."""
    # summed over processes, so that a loss that is not finite in one of them ends all
    summed = step.processes.sum(tally.losses.clone())
    broken = torch.nonzero(~torch.isfinite(summed.cpu())).flatten().tolist()
    if broken:
        raise InputError(
            f"the loss is not finite at step {broken[0] + 1} of {len(rates)} "
            f"(learning rate {rates[broken[0]]:.3g}); lower lr, or train with --precision fp32."
        )
    counts = torch.tensor(tally.counts, dtype=torch.float64)
    sums = torch.stack([tally.losses.cpu().double() @ counts, tally.correct.cpu(), counts.sum()])
    loss, correct, count = step.processes.sum(sums.to(step.compute.device)).tolist()
    return loss / count, correct / count
