"""identity.json: the recipe, folds, evidence and data that a run's name stands for.

Each entry is a dictionary of JSON values. Weights depend on all of them except the recipe's use fields.
"""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foldsmith.augment.albumentations_file import is_pipeline_text
from foldsmith.errors import first_of
from foldsmith.process.files import load_json
from foldsmith.recipes.recipe import training_fields, use_fields
from foldsmith.recipes.words import as_typed, in_distinct_words
from foldsmith.run.paths import RunPaths

FORMER_NAMES = {"grounds": "evidence"}  # names of entries up to version 0.2.0


def load_identity(run: RunPaths) -> dict[str, Any]:
    """Return the entries of identity.json; none if the run does not exist."""
    held = load_json(run.identity) if run.identity.is_file() else {}
    return {FORMER_NAMES.get(name, name): entry for name, entry in held.items()}


def competition_folder_of(run: RunPaths) -> Path:
    """Return the competition folder that the run was prepared from; the usual one if it is not recorded."""
    stamp = run.stamp("prepare")
    recorded = load_json(stamp).get("folder") if stamp.is_file() else None
    return Path(recorded) if recorded else Path("input") / run.root.parent.name


def fold_of(run: RunPaths) -> int | None:
    """Return the first trained fold of a run whose folds were each trained by a command with --fold.

    None if a command trained all folds, and before the first fold is trained.
    """
    trained = [load_json(path) for path in run.root.glob("fold*/run.json")]
    typed = [shlex.split(entry["command"]) for entry in trained]
    if not all(any(word.split("=")[0] == "--fold" for word in words) for words in typed):
        return None
    return min((entry["fold"] for entry in trained), default=None)


def training_identity(run: RunPaths) -> dict[str, Any]:
    """Return a run's identity without the fields that no weight depends on."""
    return {name: _without_use(name, entry) for name, entry in load_identity(run).items()}


def as_saved(value: Any) -> Any:
    """Return a value as it is read back from JSON: tuples become lists."""
    if isinstance(value, dict):
        return {key: as_saved(entry) for key, entry in value.items()}
    return [as_saved(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def describe_differences(held: Mapping[str, Any], typed: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each entry that differs between the run and the command, apart from use fields."""
    return [
        _describe_difference(name, held[name], entry)
        for name, entry in typed.items()
        if name in held and _without_use(name, held[name]) != _without_use(name, entry)
    ]


def differing_uses(held: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the recipe's use fields that differ, each with its value in the run and in the command."""
    if "recipe" not in held or "recipe" not in typed:
        return {}
    old, new = held["recipe"], typed["recipe"]
    return {
        field: (as_typed(old.get(field)), as_typed(new.get(field)))
        for field in use_fields(_most_rounds(old, new))
        if old.get(field) != new.get(field)
    }


def stages_of_uses(fields: Iterable[str]) -> list[str]:
    """Return the stages that must run again when these use fields change, in order."""
    declared = use_fields()
    return list(dict.fromkeys(stage for field in fields for stage in declared[field]))


def _without_use(name: str, entry: Any) -> Any:
    """Return an entry of the identity, a recipe without its use fields."""
    return training_fields(entry) if name == "recipe" else entry


def _most_rounds(*recipes: Mapping[str, Any]) -> int:
    return max(recipe.get("rounds", 1) for recipe in recipes)


def _describe_difference(name: str, held: Any, typed: Any) -> str:
    """Return how an entry differs: `another recipe (lr 0.1 there, 0.2 here)`."""
    if not isinstance(held, dict):
        return f"other {name}"
    used = use_fields(_most_rounds(held, typed)) if name == "recipe" else {}
    fields = [key for key in {**held, **typed} if held.get(key) != typed.get(key) and key not in used]
    values = first_of([_describe_field(key, held.get(key), typed.get(key)) for key in fields])
    because = "; with rounds > 1 weights depend on views, through pseudo-labels" if "views" in fields else ""
    return f"{'another' if name == 'recipe' else 'other'} {name} ({values}{because})"


def _describe_field(name: str, held: Any, typed: Any) -> str:
    words = map(repr, (held, typed))
    if is_pipeline_text(held) or is_pipeline_text(typed):
        words = in_distinct_words((held, typed))
    return "{} {} there, {} here".format(name, *words)
