"""Measure images a second of real training, and of its ceiling: the same steps on one prepared batch.

.venv/bin/python tests/benchmarks/training.py quick resnet64 cnn-g crnn
.venv/bin/python tests/benchmarks/training.py resnet64 --device cuda --set batch_size=512
.venv/bin/python tests/benchmarks/training.py resnet64 --compile

Real training reads, augments, normalises and copies every batch, and sums its loss; the ceiling only
computes. Prediction, from cache to probabilities, is compared with the forward pass of a training step. All
alternate, and medians over the rounds are printed. A ratio is the median of the rounds' ratios: its two sides
are measured one after the other, so fluctuations of the machine matter less. The optimizer's share is the
time of its step divided by that of a whole step on the prepared batch. `--compile` measures again with
torch.compile, where there is a C++ compiler. peers.py compares with timm's train.py.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import numpy as np
import torch
from torch import nn

from foldsmith.data.pixels import StoredPixels
from foldsmith.inference.compute import build_compute
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.models import build_model
from foldsmith.recipes import Recipe, find_recipe, override
from foldsmith.tasks import SingleLabel
from foldsmith.training.batches import TrainingData
from foldsmith.training.epoch import train_one_epoch
from foldsmith.training.gradients import Gradients
from foldsmith.training.loop import Epochs, TrainingFiles
from foldsmith.training.machine import Machine
from foldsmith.training.objective import Classification
from foldsmith.training.state import build_state
from foldsmith.training.step import Step

CLASSES = 80


class Rates(NamedTuple):
    """Images a second of training and its ceiling, and of prediction and a training step's forward pass; the
    ratio of each pair; the optimizer's share of a step's time; the seconds of the first two steps, with
    compilation."""

    real: float
    ceiling: float
    prediction: float
    forward: float
    of_ceiling: float
    of_forward: float
    optimizer: float
    start: float


def measure(recipe: Recipe, device: str, precision: str, seconds: float, rounds: int) -> Rates:
    """Return medians over rounds of that many seconds."""
    mean, std = recipe.mean or (0.5,) * recipe.channels, recipe.std or (0.5,) * recipe.channels
    compute = build_compute(device, precision, mean, std)
    torch.manual_seed(0)
    model = build_model(recipe.model, CLASSES, recipe.image_size, recipe.channels)
    state = build_state(model, recipe, compute)
    objective = Classification(nn.CrossEntropyLoss(), SingleLabel(CLASSES))
    gradients = Gradients(state, objective, compute, recipe.micro_batch)
    if recipe.compile:
        gradients.network.compile()
    step = Step(gradients)
    size, count = recipe.image_size, recipe.batch_size
    images = compute.normalise(torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8))
    labels = torch.arange(count, device=compute.device) % CLASSES

    def optimizer_share(steps: int) -> float:
        """Return the share of a step's time that `optimizer.step` takes; a GPU is synchronised around it."""
        taken, begun = 0.0, now(compute.on_gpu)
        for _ in range(steps):
            step(images, labels)
            at = now(compute.on_gpu)
            state.scaler.step(state.optimizer)
            taken += now(compute.on_gpu) - at
            state.scaler.update()
            state.optimizer.zero_grad(set_to_none=True)
            state.ema.update()
        return taken / (now(compute.on_gpu) - begun)

    def ceiling(steps: int) -> float:
        begun = now(compute.on_gpu)
        for _ in range(steps):
            step(images, labels)
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.zero_grad(set_to_none=True)
            state.ema.update()
        return steps * recipe.batch_size / (now(compute.on_gpu) - begun)

    state.model.train()
    start = 2 * recipe.batch_size / ceiling(2)
    steps = max(4, round(seconds * ceiling(4) / recipe.batch_size))
    with tempfile.TemporaryDirectory() as folder:
        total = steps * count
        shape = (total, recipe.image_size, recipe.image_size, 3)
        draws = np.random.default_rng(0)
        np.save(Path(folder) / "pixels.npy", draws.integers(0, 256, shape, dtype=np.uint8))
        rows = np.arange(total)
        epochs = Epochs(
            name="benchmark", purpose=0, recipe=recipe,
            data=TrainingData(StoredPixels(Path(folder) / "pixels.npy"), rows, rows % CLASSES),
            objective=objective, measure=lambda model: (0.0, 0.0),
            files=TrainingFiles(Path(folder) / "log.csv", Path(folder) / "checkpoint", ""), machine=Machine(),
        )  # fmt: skip
        batches, loader = epochs.build_batches(compute)
        rates = np.full(len(batches), 1e-3)

        def real(epoch: int) -> float:
            batches.epoch = epoch
            begun = now(compute.on_gpu)
            train_one_epoch(step, loader, rates)
            return total / (now(compute.on_gpu) - begun)

        def prediction(epoch: int) -> float:
            begun = now(compute.on_gpu)
            average = ViewAverage(SingleLabel(CLASSES, recipe.loss))
            limit = BatchLimit(recipe.predict_batch_size)
            predict(model, CachedImages(epochs.data.pixels, rows), average, compute, limit)
            taken = now(compute.on_gpu) - begun
            model.train()
            return total / taken

        def forward(steps: int) -> float:
            begun = now(compute.on_gpu)
            with torch.no_grad(), compute.autocast():
                for _ in range(steps):
                    model(images)
            return steps * count / (now(compute.on_gpu) - begun)

        real(0)
        rates_of = [
            (real(1 + number), ceiling(steps), prediction(number), forward(steps)) for number in range(rounds)
        ]
    ratios = [(real / ceiling, prediction / forward) for real, ceiling, prediction, forward in rates_of]
    medians = [statistics.median(side) for pairs in (rates_of, ratios) for side in zip(*pairs, strict=True)]
    share = statistics.median(optimizer_share(steps) for _ in range(rounds))
    return Rates(*medians, share, start)


def now(on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def cxx_compiler() -> str | None:
    """Return the C++ compiler that torch.compile would find."""
    return next(filter(None, map(shutil.which, [os.environ.get("CXX", "g++"), "clang++", "c++"])), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="+", help="recipe names")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a round (8)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="measure again with torch.compile")
    typed = parser.parse_args()
    for name in typed.recipes:
        recipe = override(find_recipe(name), typed.set)
        compute = build_compute(typed.device, typed.precision, (0.5,), (0.5,))
        rates = measure(recipe, typed.device, typed.precision, typed.seconds, typed.rounds)
        print(f"{name}, {recipe.image_size} px, batches of {recipe.batch_size}, {compute.precision}, "
              f"{compute.hardware}, torch {torch.__version__}\n"
              f"  training {rates.real:,.0f} images/s, ceiling {rates.ceiling:,.0f}, ratio "
              f"{rates.of_ceiling:.3f}\n"
              f"  prediction {rates.prediction:,.0f} images/s, forward pass {rates.forward:,.0f}, ratio "
              f"{rates.of_forward:.3f}\n"
              f"  optimizer, share of a step {rates.optimizer:.1%}", flush=True)  # fmt: skip
        if typed.compile and cxx_compiler() is None:
            print("  torch.compile is not measured: no C++ compiler found; install g++ or set CXX")
        elif typed.compile:
            compiled = replace(recipe, compile=True)
            faster = measure(compiled, typed.device, typed.precision, typed.seconds, typed.rounds)
            print(f"  compiled in {faster.start:.0f} s: training {faster.real:,.0f} images/s, "
                  f"ceiling {faster.ceiling:,.0f}, compiled / eager {faster.real / rates.real:.2f}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
