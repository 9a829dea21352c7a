"""What a recipe names, checked before hours are spent on it."""

from pathlib import Path

from foldsmith.data.augment import AUGMENTATIONS
from foldsmith.data.views import check_views
from foldsmith.errors import InputError, unknown_name
from foldsmith.models import check_model
from foldsmith.recipes import Recipe
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
    if recipe.weights and not Path(recipe.weights).is_file():
        raise InputError(f"weights={recipe.weights}: there is no such file.")
    choose_precision(precision, choose_device(device))
