"""First layers that are computed from the images instead of trained."""

import numpy as np
import torch
from torch import nn

from foldsmith.data.pixels import Pixels
from foldsmith.inference.compute import Compute
from foldsmith.models.whitened_cnn import WhitenedCNN

IMAGES = 2048  # that the layer is computed from: its covariances have a few hundred entries


def fit_first_layer(model: nn.Module, pixels: Pixels, rows: np.ndarray, compute: Compute) -> None:
    """Computes the first layer of a network that has such a one, from at most IMAGES of these rows (n,),
    evenly spread and as they are."""
    if isinstance(model, WhitenedCNN):
        places = np.linspace(0, len(rows) - 1, min(IMAGES, len(rows))).round().astype(int)
        images = compute.normalise(torch.from_numpy(pixels[rows[places]]))
        model.fit_first_layer(images.cpu())
