"""The provenance of a run in words, and notes on what its figures rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from foldsmith.data.corrections import describe_corrections
from foldsmith.data.folds import rare_classes
from foldsmith.errors import first_of
from foldsmith.recipes import Recipe
from foldsmith.recipes.weight_names import in_words as weights_in_words
from foldsmith.recipes.words import in_words
from foldsmith.run.command import FoldPlan
from foldsmith.tasks import Task


def notes_of(
    plan: FoldPlan,
    scored: Sequence[int],
    folds: pd.DataFrame,
    classes: pd.DataFrame,
    task: Task,
    channels: int = 3,
) -> list[str]:
    """Return sentences for the top of the page; `scored` are the folds with scores, `folds` is folds.csv."""
    notes = []
    if channels > 3:
        notes.append("Pictures show the first three of the four channels, as red, green and blue.")
    if len(scored) < len(plan.folds):
        notes.append(f"Only {len(scored)} of {len(plan.folds)} folds are trained and scored.")
    if plan.limit is not None:
        notes.append(f"Only {len(folds):,} training images were used (--limit).")
    rare = rare_classes(task.class_counts(task.targets(folds)), plan.num_parts)
    if rare:
        names = first_of(classes["class_name"].iloc[rare], 10)
        end = "" if names.endswith("…") else "."
        notes.append(
            f"{len(rare)} classes have too few images for the split (under {plan.num_parts}): {names}{end}"
        )
    return notes


def notes_on_corrections(applied: pd.DataFrame) -> list[str]:
    """Return a sentence on the corrections of labels, corrections.csv of the run; none without any."""
    if applied.empty:
        return []
    return [f"Labels were corrected before the split: {describe_corrections(applied)} (corrections.csv)."]


def facts_of(
    plan: FoldPlan, runs: Sequence[dict[str, Any]], seconds: float, views: Sequence[str]
) -> dict[str, str]:
    """Return the provenance of the figures, in words.

    `runs` are run.json of the folds, `seconds` what training took, `views` the run's, which may differ from
    those in run.json.
    """
    first = {**runs[0], "recipe": {**runs[0]["recipe"], "views": list(views)}}
    changed = changed_fields(first["recipe"])
    return {
        "command": first["command"],
        "recipe": f"{first['recipe']['name']}: "
        + (", ".join(f"{name} = {in_words(value)}" for name, value in changed.items()) or "the defaults"),
        **({"classifier": _probes_in_words(runs)} if "probe" in first else {}),
        **({"weights": weights_in_words(first["weights"])} if first.get("weights") else {}),
        "seed": str(first["seed"]),
        "folds": folds_in_words(plan),
        "parameters": f"{first['parameters']:,}",
        "hardware": "; ".join(sorted({f"{fold['hardware']}, {fold['precision']}" for fold in runs})),
        "training": f"{seconds:,.0f} s over {len(runs)} folds{_networks_in_words(first)}",
        "finished": max(fold["finished"] for fold in runs),
        "versions": ", ".join(f"{name} {version}" for name, version in first["versions"].items()),
    }


def changed_fields(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe, as JSON holds it, that are not at their defaults."""
    defaults = {field.name: field.default for field in fields(Recipe)}
    return {
        name: value
        for name, value in recipe.items()
        if name != "name" and (tuple(value) if isinstance(value, list) else value) != defaults.get(name)
    }


def _probes_in_words(runs: Sequence[dict[str, Any]]) -> str:
    """Return the heads that the folds were fitted with, each with its folds."""
    heads: dict[str, list[str]] = {}
    for run in runs:
        probe = run["probe"]
        penalty = f", penalty {probe['penalty']:g} / images" if probe["penalty"] else ""
        words = f"{probe['kind']} on {probe['form']['inputs']:,} features ({probe['features']}){penalty}"
        heads.setdefault(words, []).append(str(run["fold"]))
    return "; ".join(f"fold {', '.join(folds)}: {words}" for words, folds in heads.items())


def _networks_in_words(first: Mapping[str, Any]) -> str:
    """Return what a fold's training has more than one network in one round; `first` is a fold's run.json."""
    words = ""
    if first["seeds"] > 1:
        words += f" of {first['seeds']} networks, whose predictions are averaged"
    if len(first["rounds"]) > 1:
        words += f", in {len(first['rounds'])} rounds"
    if first["recipe"].get("pretrain", "none") != "none":
        words += ", pretraining included"
    return words


def folds_in_words(plan: FoldPlan) -> str:
    kind = f"{plan.num_folds} stratified folds" if plan.holdout is None else f"hold-out of {plan.holdout:.0%}"
    limit = "" if plan.limit is None else f", of {plan.limit:,} images"
    return f"{kind}{limit}, fold seed {plan.seed}"
