"""Class heat maps, against what the networks compute."""

import numpy as np
import pytest
import torch
from torch import nn

from foldsmith.inference.compute import Compute, build_compute
from foldsmith.inference.heat_maps import heat_maps
from foldsmith.models import MODELS, HeadForm, ProbedNetwork, ProbeHead, build_extractor, build_model

SIZE, CLASSES = 32, 4


@pytest.fixture(scope="module")
def compute() -> Compute:
    return build_compute("cpu", "fp32", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


class Positive(nn.Module):
    """A convolution, a mean over positions, a linear layer; all weights are positive."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(5, CLASSES)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 0.1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


def test_of_a_linear_head_on_a_mean_the_map_sums_to_the_logit(compute: Compute, pixels: np.ndarray) -> None:
    torch.manual_seed(0)
    model, outputs = Positive(), np.array([0, 3, 1])
    maps = heat_maps(model, compute, pixels, outputs)
    assert maps.shape == (3, SIZE, SIZE) and (maps >= 0).all()
    with torch.no_grad():
        logits = model(compute.normalise(torch.from_numpy(pixels))) - model.head.bias
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), logits.numpy()[np.arange(3), outputs], rtol=1e-4)


def test_the_map_is_where_the_evidence_is(compute: Compute) -> None:
    torch.manual_seed(0)
    pixels = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    pixels[0, 20:28, 4:12] = 255
    heat = heat_maps(Positive(), compute, pixels, np.array([2]))[0]
    inside = np.zeros((SIZE, SIZE), bool)
    inside[18:30, 2:14] = True  # and the reach of the convolution and the interpolation
    assert heat[inside].sum() > 0.9 * heat.sum() > 0


@pytest.mark.parametrize(
    "name", [*MODELS, "timm:resnet18", "timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"]
)
def test_every_network_has_maps(name: str, compute: Compute) -> None:
    torch.manual_seed(0)
    size = 64 if name.startswith("timm:") else 100 if name.startswith("autoencoder") else SIZE
    model = build_model(name, CLASSES, size)
    images = np.random.default_rng(1).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    maps = [heat_maps(model, compute, images, np.array([output])) for output in range(CLASSES)]
    assert all(np.isfinite(heat).all() and heat.shape == (1, size, size) for heat in maps)
    assert max(heat.max() for heat in maps) > 0  # of some class, something speaks for it
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_probes_maps_cover_all_its_features(compute: Compute) -> None:
    torch.manual_seed(0)
    extractor = build_extractor("resnet10t", SIZE, 3)
    width = sum(extractor.widths)
    head = ProbeHead(HeadForm("linear", width), CLASSES)
    nn.init.uniform_(head.classifier.weight, 0.1, 1)  # and features after ReLU: nothing speaks against
    nn.init.zeros_(head.classifier.bias)
    model = ProbedNetwork(extractor, head, frozen=True).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    maps = heat_maps(model, compute, pixels, np.array([1, 2]))
    with torch.no_grad():
        logits = model(compute.normalise(torch.from_numpy(pixels)))
    # features are rounded to float16
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), logits.numpy()[[0, 1], [1, 2]], rtol=5e-3)
