"""The side of the training images, epoch by epoch."""

import numpy as np

from foldsmith.recipes import Recipe

STEPS = 8  # of growth, from nothing to the whole image


def training_sizes(recipe: Recipe) -> list[int]:
    """Pixels, one for each epoch: from train_size_from in steps of 1/8 of the image, then train_size.

    Small images first are cheaper, and blur what is learned later (Tan and Le, EfficientNetV2, 2021); images
    larger in prediction than in training make up for the objects that crops enlarge (Touvron et al., Fixing
    the train-test resolution discrepancy, 2019). Every size has about the same number of epochs.
    """
    last = recipe.train_size or recipe.image_size
    first = recipe.train_size_from or last
    step = max(1, round(recipe.image_size / STEPS))
    steps = int(np.ceil((last - first) / step))
    share = np.arange(recipe.epochs) / max(recipe.epochs - 1, 1)
    grown = np.floor((steps + 1) * share) * step if recipe.epochs > 1 else np.array([last - first])
    return np.minimum(last, first + grown).astype(int).tolist()
