"""Measure training steps by precision and memory format: the evidence for the rules on CPUs.

.venv/bin/python tests/benchmarks/precision.py quick cnn-g crnn resnet64 default
.venv/bin/python tests/benchmarks/precision.py --reconstruct autoencoder-lenet autoencoder-padded-5

The rules are those of build_state (channels-last memory) and choose_precision (bf16 where the processor
multiplies it, fp32 for training a decoder). The four combinations alternate, step by step, on one prepared
batch. The table is Markdown: medians of images a second, the fastest of each row in bold.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import torch
from torch import nn

from foldsmith.inference.compute import build_compute
from foldsmith.models import build_model
from foldsmith.recipes import Recipe, find_recipe
from foldsmith.tasks import SingleLabel
from foldsmith.training.gradients import Gradients
from foldsmith.training.objective import Classification, Reconstruction
from foldsmith.training.state import build_state

CLASSES = 80
FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
KINDS = [f"{precision} {memory}" for precision in ("fp32", "bf16") for memory in FORMATS]


def build_step(recipe: Recipe, precision: str, memory: torch.memory_format, reconstruct: bool) -> Callable:
    """Return a whole training step: gradients, update, averaged weights."""
    middle = (0.5,) * recipe.channels
    compute = build_compute("cpu", precision, middle, middle)
    torch.manual_seed(0)
    model = build_model(recipe.model, CLASSES, recipe.image_size, recipe.channels)
    state = build_state(model, recipe, compute)
    state.model.to(memory_format=memory).train()
    objective = (
        Reconstruction() if reconstruct else Classification(nn.CrossEntropyLoss(), SingleLabel(CLASSES))
    )
    gradients = Gradients(state, objective, compute)
    shape = (recipe.batch_size, recipe.image_size, recipe.image_size, 3)
    images = compute.normalise(torch.randint(0, 256, shape, dtype=torch.uint8)).contiguous(
        memory_format=memory
    )
    labels = torch.arange(recipe.batch_size) % CLASSES

    def step() -> None:
        gradients(images, labels)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.ema.update()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--reconstruct", action="store_true", help="measure the pretraining of autoencoders")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds for each recipe (10)")
    typed = parser.parse_args()
    compute = build_compute("cpu", "auto", (0.5,), (0.5,), typed.reconstruct)
    print(f"{compute.hardware}, torch {torch.__version__}; the rule: {compute.precision}, channels-last\n")
    print(f"| images a second | {' | '.join(KINDS)} |\n| --- |{' ---: |' * len(KINDS)}")
    for name in typed.recipes:
        recipe = find_recipe(name)
        steps = {}
        for kind in KINDS:
            precision, memory = kind.split()
            steps[kind] = build_step(recipe, precision, FORMATS[memory], typed.reconstruct)
        seconds: dict[str, list[float]] = {kind: [] for kind in steps}
        for step in steps.values():
            step()
        ends = time.perf_counter() + typed.seconds
        while time.perf_counter() < ends or len(seconds["fp32 contiguous"]) < 5:
            for kind, step in steps.items():
                begun = time.perf_counter()
                step()
                seconds[kind].append(time.perf_counter() - begun)
        rates = [recipe.batch_size / statistics.median(seconds[kind]) for kind in KINDS]
        cells = [f"**{rate:,.0f}**" if rate == max(rates) else f"{rate:,.0f}" for rate in rates]
        print(f"| `{name}`, {recipe.image_size} px | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
