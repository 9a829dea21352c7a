"""The first layer of whitened networks, which is computed from images instead of trained."""

import numpy as np
import torch
from torch import nn

from foldsmith.data.pixels import Pixels
from foldsmith.inference.compute import Compute
from foldsmith.models.whitened_cnn import WhitenedCNN

IMAGES = 2048  # images that the layer is computed from; its covariances have only a few hundred entries


def fit_first_layer(model: nn.Module, pixels: Pixels, rows: np.ndarray, compute: Compute) -> None:
    """Compute the first layer of a whitened network; other networks stay unchanged.

    It is computed from at most IMAGES of the images of `rows` (n,), evenly spaced and not augmented.
    """
    if isinstance(model, WhitenedCNN):
        positions = np.linspace(0, len(rows) - 1, min(IMAGES, len(rows))).round().astype(int)
        images = compute.normalise(torch.from_numpy(pixels[rows[positions]]))
        model.fit_first_layer(images.cpu())
