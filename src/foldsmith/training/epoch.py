"""One epoch of training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from foldsmith.errors import InputError
from foldsmith.training.state import TrainingState
from foldsmith.training.step import Step


@dataclass
class Tally:
    """What an epoch has so far: `step` steps done, their `losses` (steps,) and `counts` of images, how many
    of these were classified `correct`ly, and the seconds it took."""

    step: int
    losses: torch.Tensor
    counts: list[int]
    correct: torch.Tensor
    seconds: float = 0.0

    @classmethod
    def new(cls, num_steps: int) -> "Tally":
        return cls(0, torch.zeros(num_steps), [], torch.zeros((), dtype=torch.float64))


def train_one_epoch(
    state: TrainingState,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    rates: np.ndarray,
    gradients: Step,
    advance: Callable[[int], None] = lambda count: None,
    tally: Tally | None = None,
    after_step: Callable[[Tally], None] = lambda tally: None,
) -> tuple[float, float]:
    """Mean loss and accuracy over the epoch's images, as trained on (augmented, each before its step).

    The loss is that of `gradients`: with class weights, their weighted mean batch by batch. Each parameter
    group has the rate of the step times its own `lr_scale`.

    `batches` gives images (B, H, W, 3), 0 to 255, and labels int64 (B,), one for each of `rates` (steps,), or
    those that are left where an epoch goes on from its `tally`. Raises InputError, with the step, if a loss
    is not finite; totals stay on the device until the end, so that no step waits for the host.
    """
    compute, tally = gradients.compute, tally or Tally.new(len(rates))
    tally.losses, tally.correct = tally.losses.to(compute.device), tally.correct.to(compute.device)
    state.model.train()
    optimizer, scaler = state.optimizer, state.scaler
    for rate, (images, labels) in zip(rates[tally.step :].tolist(), batches, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        labels = labels.to(compute.device, non_blocking=True)
        loss, rightly = gradients(compute.normalise(images), labels)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        state.ema.update()

        tally.losses[tally.step] = loss
        tally.correct += rightly
        tally.counts.append(len(labels))
        tally.step += 1
        advance(len(labels))
        after_step(tally)
    seen = gradients.processes.sum(tally.losses.clone())  # where one process's is broken, all end
    losses = tally.losses.cpu().double()
    broken = torch.nonzero(~torch.isfinite(seen.cpu())).flatten().tolist()
    if broken:
        raise InputError(
            f"the loss is not finite at step {broken[0] + 1} of {len(rates)} "
            f"(learning rate {rates[broken[0]]:.3g}); lower lr, or train with --precision fp32."
        )
    counts = torch.tensor(tally.counts, dtype=torch.float64)
    sums = torch.stack([losses @ counts, tally.correct.cpu(), counts.sum()]).to(compute.device)
    loss, correct, count = gradients.processes.sum(sums).tolist()
    return loss / count, correct / count
