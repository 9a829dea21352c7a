"""Recipes by name: frozen sets of hyperparameters, one row per recipe.

Your own recipe file is a Python file that defines `RECIPE`, usually a variant of a row:

    from dataclasses import replace
    import albumentations as A
    from foldsmith.recipes import RECIPES
    AUGMENT = A.Compose([A.HorizontalFlip(), A.Affine(rotate=(-15, 15))])
    RECIPE = replace(RECIPES["resnet64"], name="mine", epochs=60, augment=AUGMENT)
"""

import re
import runpy
import traceback
from dataclasses import fields, replace
from pathlib import Path

from foldsmith.augment.albumentations_file import keep_offline
from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes import autoencoder, crnn, general, plain_cnn, resnet
from foldsmith.recipes.default import DATASET_RECIPES, DatasetFacts, RecipeEvidence
from foldsmith.recipes.recipe import (
    PRETRAINED,
    SYNONYMS,
    DatasetRecipe,
    Recipe,
    override,
    read_settings,
    recipe_of,
)
from foldsmith.recipes.weight_names import check_weights_file

__all__ = [
    "DATASET_RECIPES",
    "PRETRAINED",
    "RECIPES",
    "SYNONYMS",
    "DatasetFacts",
    "RecipeEvidence",
    "Recipe",
    "check_weights_file",
    "find_recipe",
    "override",
    "read_settings",
    "recipe_of",
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
        raise _cannot_run(name, error) from error
    if not isinstance(recipe, Recipe):
        raise InputError(f"{name} defines no RECIPE; end it with `RECIPE = Recipe(…)`.")
    if isinstance(recipe, DatasetRecipe):
        raise InputError(
            f"{name}: RECIPE is a variant of '{general.DEFAULT.name}', whose fields are chosen from the "
            f"competition's images; set its fields on the command line (--recipe {general.DEFAULT.name} "
            "--set FIELD=VALUE), or start from another row of RECIPES."
        )
    return replace(recipe, name=path.stem) if recipe.name in RECIPES else recipe


def _cannot_run(name: str, error: Exception) -> InputError:
    """Return the error of a recipe file, with its line, and the nearest field for a field that is unknown."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(name)
    ]
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (lines or [None])[-1]
    where = f"{name}, line {line}" if line else name
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown:
        known = [field.name for field in fields(Recipe)]
        return InputError(f"{where}: {unknown_name('recipe field', unknown[1], known, SYNONYMS)}")
    return InputError(f"{where} cannot be run: {type(error).__name__}: {error}")
