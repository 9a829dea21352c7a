"""identity.json: what a run's name stands for (recipe, folds, evidence, data), and what of it is replaceable.

Parts are dictionaries as JSON holds them. Weights depend on all of them but the recipe's use fields.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from foldsmith.augment.albumentations_file import is_pipeline_text
from foldsmith.errors import first_of
from foldsmith.process.files import load_json
from foldsmith.recipes.recipe import training_part, use_fields
from foldsmith.recipes.words import as_typed, in_distinct_words
from foldsmith.run.paths import RunPaths

FORMER_NAMES = {"grounds": "evidence"}  # parts that identity.json called otherwise up to version 0.2.0


def load_identity(run: RunPaths) -> dict[str, Any]:
    """Return the parts of identity.json; none where nothing has claimed the run's name."""
    held = load_json(run.identity) if run.identity.is_file() else {}
    return {FORMER_NAMES.get(name, name): part for name, part in held.items()}


def training_identity(run: RunPaths) -> dict[str, Any]:
    """Return what weights depend on of a run's identity."""
    return {name: _training_part(name, part) for name, part in load_identity(run).items()}


def as_saved(value: Any) -> Any:
    """Return a value as JSON gives it back: tuples become lists."""
    if isinstance(value, dict):
        return {key: as_saved(entry) for key, entry in value.items()}
    return [as_saved(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def differing_parts(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Describe every part of `wanted` that another one is held of, as far as weights depend on it."""
    return [
        _difference(name, held[name], part)
        for name, part in wanted.items()
        if name in held and _training_part(name, held[name]) != _training_part(name, part)
    ]


def differing_uses(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the use fields of the recipe that differ, with the value held and the value wanted, in words."""
    if "recipe" not in held or "recipe" not in wanted:
        return {}
    old, new = held["recipe"], wanted["recipe"]
    return {
        field: (as_typed(old.get(field)), as_typed(new.get(field)))
        for field in use_fields(_most_rounds(old, new))
        if old.get(field) != new.get(field)
    }


def stages_of_uses(fields: Iterable[str]) -> list[str]:
    """Return the stages that run again when these use fields change, in their order."""
    declared = use_fields()
    return list(dict.fromkeys(stage for field in fields for stage in declared[field]))


def _training_part(name: str, part: Any) -> Any:
    return training_part(part) if name == "recipe" else part


def _most_rounds(*recipes: Mapping[str, Any]) -> int:
    return max(recipe.get("rounds", 1) for recipe in recipes)


def _difference(name: str, held: Any, wanted: Any) -> str:
    if not isinstance(held, dict):
        return f"other {name}"
    used = use_fields(_most_rounds(held, wanted)) if name == "recipe" else {}
    fields = [key for key in {**held, **wanted} if held.get(key) != wanted.get(key) and key not in used]
    values = first_of([_difference_of_field(key, held.get(key), wanted.get(key)) for key in fields])
    because = "; with rounds > 1 views decide pseudo-labels, and so weights" if "views" in fields else ""
    return f"{'another' if name == 'recipe' else 'other'} {name} ({values}{because})"


def _difference_of_field(name: str, held: Any, wanted: Any) -> str:
    words = map(repr, (held, wanted))
    if is_pipeline_text(held) or is_pipeline_text(wanted):
        words = in_distinct_words((held, wanted))
    return "{} {} there, {} here".format(name, *words)
