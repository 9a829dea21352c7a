"""Recipes by name: frozen sets of hyperparameters, one row per recipe.

Your own recipe file is a Python file that defines `RECIPE`, usually a variant of a row:

    from dataclasses import replace
    import albumentations as A
    from foldsmith.recipes import RECIPES
    AUGMENT = A.Compose([A.HorizontalFlip(), A.Affine(rotate=(-15, 15))])
    RECIPE = replace(RECIPES["resnet64"], name="mine", epochs=60, augment=AUGMENT)
"""

import runpy
from dataclasses import replace
from pathlib import Path

from foldsmith.augment.albumentations_file import keep_offline
from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes import autoencoder, crnn, general, plain_cnn, resnet
from foldsmith.recipes.default import DATASET_RECIPES, DatasetFacts, RecipeEvidence
from foldsmith.recipes.recipe import PRETRAINED, Recipe, check_weights_file, override, read_settings

__all__ = [
    "DATASET_RECIPES",
    "PRETRAINED",
    "RECIPES",
    "DatasetFacts",
    "RecipeEvidence",
    "Recipe",
    "check_weights_file",
    "find_recipe",
    "override",
    "read_settings",
]

RECIPES = {
    recipe.name: recipe
    for family in (general, resnet, autoencoder, crnn, plain_cnn)
    for recipe in family.RECIPES
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of this name, or the `RECIPE` of a Python file. Raise InputError if there is none."""
    if not name.endswith(".py"):
        if name not in RECIPES:
            raise unknown_name("recipe", name, RECIPES)
        return RECIPES[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--recipe {name}: file not found.")
    keep_offline()
    try:
        recipe = runpy.run_path(name).get("RECIPE")
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # a user's program may raise anything
        raise InputError(f"{name} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise InputError(f"{name} defines no RECIPE; end it with `RECIPE = Recipe(…)`.")
    return replace(recipe, name=path.stem) if recipe.name in RECIPES else recipe
