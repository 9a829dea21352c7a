"""The measured speeds of the networks that a campaign may train, on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foldsmith.inference.compute import Compute, build_compute
from foldsmith.models import build_model, build_probed
from foldsmith.recipes import Recipe
from foldsmith.training.network import trains_in_fp32
from foldsmith.training.state import build_state

# a measurement takes so many calls and seconds at least; the first call allocates memory and does not count
TIMES, SECONDS = 3, 0.3
MOST_BATCH = 256  # images; those of a larger batch take as long


@dataclass(frozen=True)
class Speed:
    """Images a second: of prediction in one view, and of training."""

    forward: float
    training: float


def measure(recipe: Recipe, num_outputs: int, device: str, precision: str) -> Speed:
    """Return the speed of a recipe's network with random weights, on random images of its side.

    It takes seconds. Raise InputError for a network, device or precision that this machine lacks.
    """
    torch.manual_seed(0)
    model: nn.Module
    if recipe.head == "probe":
        model = build_probed(recipe, num_outputs)
    else:
        model = build_model(recipe.model, num_outputs, recipe.image_size, recipe.channels)
    half = (0.5,) * recipe.channels
    compute = build_compute(device, precision, half, half, reconstructs=trains_in_fp32(recipe, model))
    state = build_state(model, recipe, compute)
    batch = min(recipe.batch_size, MOST_BATCH)
    shape = (batch, recipe.image_size, recipe.image_size, max(3, recipe.channels))
    images = compute.normalise(
        torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    )

    def predict() -> None:
        model.eval()
        with torch.inference_mode(), compute.autocast():
            model(images)

    def train() -> None:
        state.start_training()
        with compute.autocast():
            logits = model(images)
        logits.float().square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.ema.update()

    forward = batch / usual(predict, compute)
    # the features of a frozen network are computed once, and nothing is trained by steps
    return Speed(forward, batch / usual(train, compute) if recipe.epochs else forward)


def usual(function: Callable[[], None], compute: Compute) -> float:
    """Return the median seconds of a call."""
    seconds: list[float] = []
    function()
    while len(seconds) < TIMES or sum(seconds) < SECONDS:
        begun = time.perf_counter()
        function()
        compute.synchronize()
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))
