"""What a recipe names, checked before hours are spent on it."""

import torch

from foldsmith.data.augment import AUGMENTATIONS
from foldsmith.data.views import check_views
from foldsmith.errors import InputError, unknown_name
from foldsmith.models import build_model, check_model
from foldsmith.recipes import Recipe, check_weights_file
from foldsmith.training.compute import choose_device, choose_precision
from foldsmith.training.optimizer import OPTIMIZERS
from foldsmith.training.schedule import SCHEDULES


def check_recipe(recipe: Recipe, device: str, precision: str) -> None:
    """Raises InputError if nothing answers to a name in the recipe, or the machine lacks the device."""
    for kind, name, known in (
        ("augmentation", recipe.augment, AUGMENTATIONS),
        ("optimizer", recipe.optimizer, OPTIMIZERS),
        ("schedule", recipe.schedule, SCHEDULES),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    check_views(recipe.views)
    check_model(recipe.model, recipe.pretrained or bool(recipe.weights))
    check_weights_file(recipe.weights)
    choose_precision(precision, choose_device(device))
    _check_size(recipe)


def _check_size(recipe: Recipe) -> None:
    """Raises InputError if the network cannot take images of the recipe's size."""
    model = build_model(recipe.model, num_classes=2, image_size=recipe.image_size).eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, recipe.image_size, recipe.image_size))
    except (RuntimeError, AssertionError, ValueError) as error:  # every network has its own way to say so
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"model {recipe.model} cannot take images of {recipe.image_size} x {recipe.image_size}: {reason}"
        ) from error
