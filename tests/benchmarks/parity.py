"""Export one network of every family as ONNX, and measure how far its predictions are from torch's in fp32.

.venv/bin/python tests/benchmarks/parity.py
.venv/bin/python tests/benchmarks/parity.py crnn "frozen probe"

It needs requirements-export.txt. Weights are random; batch norms have the statistics of random images,
and logits are scaled to a standard deviation of 3, as uniform or certain ones would hide a fault. The table
is Markdown.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import numpy as np
import torch
from torch import nn

from foldsmith.deployment.onnx_graph import run_graphs, save_graph
from foldsmith.deployment.parity import BATCH_SIZES, largest_difference
from foldsmith.inference.compute import build_compute
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predictor import ImageForm, Network, RunPredictor
from foldsmith.models import build_model, build_probed, last_layer
from foldsmith.models.probe import HeadForm, JoinedExtractor, ProbeHead
from foldsmith.recipes import RECIPES
from foldsmith.tasks import build_task

NUM_OUTPUTS = 5
SPREAD = 3.0  # of the logits
MOST_SCALED = (
    100.0  # of untrained sigmoids the logits hardly differ: a larger factor would scale rounding too
)


@dataclass(frozen=True)
class Family:
    """A network to export: its name, image size, channels of the images and of the network, and the task."""

    title: str
    build: Callable[[], nn.Module]
    size: int = 32
    channels: int = 3
    task: str = "multiclass"


def named(name: str, size: int = 32, channels: int = 3) -> Callable[[], nn.Module]:
    return lambda: build_model(name, NUM_OUTPUTS, size, channels)


def probe(kind: str, epochs: int = 0, joined: bool = False) -> Callable[[], nn.Module]:
    """Return the builder of a probe on timm's test_resnet, `joined` with the features of its test_vit."""

    def build() -> nn.Module:
        recipe = replace(
            RECIPES["probe"], image_size=32, pretrained=False, epochs=epochs, model="timm:test_resnet"
        )
        model = build_probed(recipe, NUM_OUTPUTS)
        if joined:
            other = build_probed(replace(recipe, model="timm:test_vit"), NUM_OUTPUTS).extractor
            halves, others = ((0.5,) * 3, (0.5,) * 3), ((0.4,) * 3, (0.2,) * 3)
            model.extractor = JoinedExtractor([model.extractor, other], [halves, others])
        inputs = sum(model.extractor.widths)
        model.head = ProbeHead(HeadForm(kind, inputs, 16 if kind == "mlp" else 0), NUM_OUTPUTS)
        return model

    return build


FAMILIES = (
    Family("bottleneck-resnet (study 1)", named("bottleneck-resnet")),
    Family("autoencoder-padded-4 (study 2)", named("autoencoder-padded-4", 100), 100),
    Family("autoencoder-lenet-bn-dropout (study 3)", named("autoencoder-lenet-bn-dropout", 100), 100),
    Family("crnn (study 4, of brightness)", named("crnn", 28, 1), 28),
    Family("cnn-g (study 5)", named("cnn-g")),
    Family("cnn-gap (study 5)", named("cnn-gap")),
    Family("quick-cnn", named("quick-cnn")),
    Family("quick-cnn, four channels", named("quick-cnn", channels=4), channels=4),
    Family("quick-cnn, multilabel", named("quick-cnn"), task="multilabel"),
    Family("quick-cnn, ordinal", named("quick-cnn"), task="ordinal"),
    Family("quick-cnn, regression", named("quick-cnn"), task="regression"),
    Family("resnet9", named("resnet9")),
    Family("whitened-cnn-deep", named("whitened-cnn-deep")),
    Family("timm:resnet18d", named("timm:resnet18d", 64), 64),
    Family("timm:vit_tiny_patch16_224", named("timm:vit_tiny_patch16_224", 64), 64),
    Family("frozen probe, linear", probe("linear")),
    Family("frozen probe, cosine, of joined networks", probe("cosine", joined=True)),
    Family("frozen probe, mlp", probe("mlp")),
    Family("finetuned probe", probe("linear", epochs=5)),
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="beginnings of titles (all)")
    typed = parser.parse_args(argv)
    header = [f"batch {size}" for size in BATCH_SIZES]
    print("| network |", " | ".join(header), "| seconds |")
    print("| --- " * (len(header) + 2) + "|")
    for family in FAMILIES:
        if not typed.families or any(family.title.startswith(word) for word in typed.families):
            begun = time.perf_counter()
            cells = " | ".join(f"{value:.1e}" for value in measure(family))
            print(f"| {family.title} | {cells} | {time.perf_counter() - begun:.0f} |", flush=True)


def measure(family: Family) -> list[float]:
    """Return the largest difference at each batch size, for two networks and two views."""
    scaling = ((1.0, 2.0),) * NUM_OUTPUTS if family.task == "regression" else ()
    task = build_task(family.task, NUM_OUTPUTS, "ce", scaling)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (40, family.size, family.size, family.channels), dtype=np.uint8)
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, channels = family.build(), 1 if "brightness" in family.title else family.channels
        compute = build_compute("cpu", "fp32", (0.45,) * channels, (0.25,) * channels)
        spread_logits(model, compute.normalise(torch.from_numpy(images)))
        networks.append(Network(model, compute))
    form = ImageForm(family.size, channels=family.channels)
    predictor = RunPredictor(task, networks, ("identity", "hflip"), form, BatchLimit(64))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save_graph(path, networks, predictor.views, task, form)
        expected = predictor.mean(images)
        return [largest_difference(run_graphs([path], images, size), expected, task) for size in BATCH_SIZES]


@torch.no_grad()
def spread_logits(model: nn.Module, images: torch.Tensor) -> None:
    """Give batch norms the statistics of normalised images; scale the logits, and centre them by the bias."""
    model.train()
    for _ in range(20):
        model(images)
    _, layer = last_layer(model, NUM_OUTPUTS)
    logits = model.eval()(images)
    layer.weight.mul_(min(SPREAD / float((logits - logits.mean(dim=0)).std()), MOST_SCALED))
    if layer.bias is not None:
        layer.bias.sub_(model(images).mean(dim=0))


if __name__ == "__main__":
    main()
