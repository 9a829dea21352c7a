"""The result of an autoencoder's pretraining: its error, and a picture of images and reconstructions."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from foldsmith.inference.compute import Compute
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import reconstruct

PICTURED = 10  # images in the picture


def reconstruction_error(
    model: nn.Module, images: CachedImages, compute: Compute, batch_limit: BatchLimit
) -> float:
    """Return the mean squared error over the images, in units of the normalised images."""
    total = 0.0
    for normalised, output in reconstruct(model, images, compute, batch_limit):
        total += float((output - normalised).square().mean(dim=(1, 2, 3)).double().sum())
    return total / len(images.rows)


def draw_reconstructions(
    model: nn.Module, images: CachedImages, compute: Compute, batch_limit: BatchLimit
) -> np.ndarray:
    """Return a picture of the images in a row above their reconstructions, uint8 (height, width, 3)."""
    pairs = list(reconstruct(model, images, compute, batch_limit))
    lines = [torch.cat([pair[side] for pair in pairs]) for side in (0, 1)]
    return np.concatenate([join_images(compute.to_pixels(line)) for line in lines])


def join_images(images: np.ndarray, gap: int = 4) -> np.ndarray:
    """Join images uint8 (n, H, W, 3) side by side on white, uint8 (H + gap, n * (W + gap), 3)."""
    framed = np.pad(images, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)


def choose_pictured(paths: Sequence[str]) -> list[str]:
    """Return at most PICTURED of these paths, evenly spaced."""
    indices = np.linspace(0, len(paths) - 1, min(PICTURED, len(paths))).round().astype(int)
    return [paths[index] for index in indices]
