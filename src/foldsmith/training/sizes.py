"""The side of the training images in every epoch."""

import numpy as np

from foldsmith.recipes import Recipe

STEPS = 8  # a step of growth is this fraction of image_size: 1/8


def training_sizes(recipe: Recipe) -> list[int]:
    """Return the side in pixels of every epoch: it grows from train_size_from to train_size.

    A step is 1/8 of image_size, and every size has about the same number of epochs. Small images in the first
    epochs save time (Tan and Le, EfficientNetV2, 2021). A larger side in prediction than in training makes up
    for random crops, which enlarge objects (Touvron et al., Fixing the train-test resolution discrepancy,
    2019).
    """
    last = recipe.train_size or recipe.image_size
    first = recipe.train_size_from or last
    step = max(1, round(recipe.image_size / STEPS))
    steps = int(np.ceil((last - first) / step))
    share = np.arange(recipe.epochs) / max(recipe.epochs - 1, 1)
    grown = np.floor((steps + 1) * share) * step if recipe.epochs > 1 else np.array([last - first])
    return np.minimum(last, first + grown).astype(int).tolist()
