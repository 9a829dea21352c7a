"""The whitened network: its first layer against numpy, and the images that it is fitted to."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeCompetition
from safetensors.numpy import load_file
from torch import nn
from torch.nn.functional import unfold

import prepare
import split
import train
from foldsmith.data.cache import PixelCache
from foldsmith.inference.compute import build_compute
from foldsmith.models.whitened_cnn import VARIANCE_FLOOR, WHITENED_PLANS, WhitenedCNN, Whitening, conv
from foldsmith.run.paths import RunPaths
from foldsmith.training.whitening import IMAGES, fit_first_layer


def make_images(count: int, side: int, channels: int = 3) -> torch.Tensor:
    """Return smooth noise, whose neighbouring pixels and channels correlate as in photographs."""
    noise = torch.randn(count, channels, side + 4, side + 4, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.avg_pool2d(noise, 5, stride=1)
    return smooth + 0.5 * smooth.mean(dim=1, keepdim=True)


@pytest.mark.parametrize(("channels", "stride"), [(3, 1), (1, 1), (1, 2), (3, 2), (3, 4)])
def test_components_are_uncorrelated_and_of_one_variance(channels: int, stride: int) -> None:
    images, layer = make_images(64, 32 * stride, channels), Whitening(channels, stride)
    layer.fit(images)
    with torch.no_grad():
        layer.bias.zero_()
        output = layer(images)
    half = layer.out_channels // 2
    torch.testing.assert_close(output[:, half:], -output[:, :half])
    components = output[:, :half].permute(1, 0, 2, 3).flatten(1).double().numpy()
    # variances of the patches' principal components, by numpy from torch's unfold
    patches = unfold(images, layer.kernel_size[0], stride=stride).permute(1, 0, 2).flatten(1).double().numpy()
    variances = np.linalg.eigvalsh(np.cov(patches))[::-1][:half]
    expected = np.diag(variances / (variances + VARIANCE_FLOOR))
    np.testing.assert_allclose(np.cov(components), expected, atol=2e-3)


def test_the_filters_are_a_function_of_the_images_and_are_not_trained() -> None:
    images, layers = make_images(8, 32), [Whitening(3, 1) for _ in range(2)]
    for layer in layers:
        layer.fit(images)
    assert torch.equal(layers[0].weight, layers[1].weight) and not layers[0].weight.requires_grad
    assert layers[0].bias.requires_grad


def test_convolutions_begin_as_the_identity() -> None:
    images = make_images(2, 9, channels=4)
    with torch.no_grad():
        assert torch.equal(conv(4, 6)(images)[:, :4], images)


@pytest.mark.parametrize(("size", "side"), [(28, 3), (32, 3), (64, 3), (128, 3), (48, 5)])
@pytest.mark.parametrize("name", WHITENED_PLANS)
def test_larger_images_reach_the_shapes_of_small_ones(name: str, size: int, side: int) -> None:
    plan = WHITENED_PLANS[name]
    scaled = size * plan.side // 32
    model = WhitenedCNN(plan, 5, scaled, 3).eval()
    with torch.no_grad():
        assert model.features(torch.zeros(1, 3, scaled, scaled)).shape[2:] == (side, side)


def make_cache(count: int) -> PixelCache:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), dtype=np.uint8)
    return PixelCache(Path("cache"), pixels, pd.DataFrame({"path": [f"{row}.png" for row in range(count)]}))


def test_the_layer_is_fitted_to_evenly_spread_normalised_images() -> None:
    cache, rows = make_cache(2 * IMAGES + 1), np.arange(2 * IMAGES + 1)
    models = [WhitenedCNN(WHITENED_PLANS["whitened-cnn"], 2, 20, 3) for _ in range(2)]
    fit_first_layer(models[0], cache.pixels, rows, build_compute("cpu", "fp32", (0.5,) * 3, (0.25,) * 3))
    chosen = cache.pixels[np.linspace(0, 2 * IMAGES, IMAGES).round().astype(int)]
    images = torch.from_numpy(chosen).permute(0, 3, 1, 2).float()
    models[1].features.stem[0].fit((images / 255 - 0.5) / 0.25)
    filters = [model.features.stem[0].weight for model in models]
    torch.testing.assert_close(filters[0], filters[1], rtol=1e-3, atol=1e-4)


def test_other_networks_are_unchanged() -> None:
    model = nn.Conv2d(3, 4, 3)
    before = model.weight.clone()
    fit_first_layer(model, make_cache(4).pixels, np.arange(4), build_compute("cpu", "fp32", (0.5,), (0.5,)))
    assert torch.equal(model.weight, before)


def test_a_fold_computes_it_from_its_training_images_and_keeps_it(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=2, per_class=10, size=32)
    words = [str(folder), "--recipe", "small-images-fast", "--epochs", "1", "--batch-size", "5"]
    words += ["--folds", "2", "--set", "optimizer=sgd", "--output", str(tmp_path)]
    words += ["--device", "cpu", "--precision", "fp32", "--workers", "0"]
    for stage in (prepare, split, train):
        assert stage.main(words) == 0
    run = RunPaths(tmp_path / folder.name / "small-images-fast")
    folds, index = pd.read_csv(run.folds), pd.read_csv(next(run.root.parent.glob("cache/*/index.csv")))
    pixels = np.load(next(run.root.parent.glob("cache/*/pixels.npy")))
    for fold in range(2):
        trained = index["path"].isin(folds.loc[folds["fold"] != fold, "path"]).to_numpy()
        layer = Whitening(3, 1)
        layer.fit(torch.from_numpy(pixels[trained]).permute(0, 3, 1, 2).float() / 127.5 - 1)
        kept = load_file(run.weights(fold))["features.stem.0.weight"]
        # (n, C, S, S) in another order has the same covariances, to rounding
        np.testing.assert_allclose(kept, layer.weight.numpy(), rtol=1e-2, atol=1e-3)
