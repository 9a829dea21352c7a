"""The runs of a grid: every combination of recipes, settings and seeds, with the words of its stages.

Imports no torch.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.recipes import Recipe
from foldsmith.recipes.words import as_typed
from foldsmith.run.command import Command, check_name, read_command

# fields whose values are lists, in which a comma separates entries
LISTS = {field.name for field in fields(Recipe) if isinstance(field.default, tuple)}
NAMED = ("--name", "--recipe", "--fold", "--until", "--again")  # words that a grid sets itself


@dataclass(frozen=True)
class GridRun:
    """A run of a grid: its name, the words of every stage, and its folder."""

    name: str
    words: tuple[str, ...]
    command: Command

    @property
    def folds(self) -> list[int]:
        return list(self.command.plan.folds)


@dataclass(frozen=True)
class GridWords:
    """What the runs of a grid differ in, and the words they share.

    `alternatives` are the values of each field by its name.
    """

    folder: str
    recipes: tuple[str, ...]
    alternatives: Mapping[str, tuple[str, ...]]
    seeds: int
    shared: tuple[str, ...]


def read_grid_words(argv: Sequence[str]) -> GridWords:
    """Return the runs that a command line asks for. Raise InputError for words that a grid sets itself."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipes", metavar="NAME", nargs="+", action="extend", default=[])
    parser.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[])
    parser.add_argument("--seeds", metavar="N", type=int, default=1)
    try:
        typed, others = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise InputError(f"{error} (src/grid.py --help explains the words).") from error
    for word in others:
        if word.partition("=")[0] in NAMED:
            raise InputError(f"{word}: a grid sets it for each of its runs; leave it out.")
    if typed.seeds < 1:
        raise InputError(f"--seeds {typed.seeds}: must be at least 1.")
    if not others or others[0].startswith("-"):
        raise InputError("the first word of a grid is the competition folder, such as input/tiny80.")
    recipes = tuple(typed.recipes) or ("default",)
    folder, *shared = others
    return GridWords(folder, recipes, alternatives_of(typed.set), typed.seeds, tuple(shared))


def alternatives_of(settings: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of each field in FIELD=VALUE settings: several, if repeated or with commas.

    A comma is part of the value of a field that is a list, such as views. Raise InputError for another form.
    """
    values: dict[str, list[str]] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write FIELD=VALUE, or FIELD=VALUE,VALUE for several runs.")
        values.setdefault(field, []).extend([value] if field in LISTS else value.split(","))
    return {field: tuple(dict.fromkeys(entries)) for field, entries in values.items()}


def expand(words: GridWords) -> list[GridRun]:
    """Return the runs of every combination. Raise InputError for wrong words, and if two have one name."""
    varied = [field for field, values in words.alternatives.items() if len(values) > 1]
    runs = []
    for recipe, *chosen in product(words.recipes, *words.alternatives.values()):
        settings = dict(zip(words.alternatives, chosen, strict=True))
        for seed in range(words.seeds):
            suffixes = [f"{field}-{settings[field]}" for field in varied]
            suffixes += [f"seed{seed}"] if words.seeds > 1 else []
            name = "-".join([Path(recipe).stem, *suffixes]).replace("/", "_")
            seeds = ["--seed", str(seed)] if words.seeds > 1 else []
            runs.append(build_run(words, name, recipe, settings, seeds))
    names = [run.name for run in runs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"two runs of the grid have the name {repeated[0]}; write each recipe once.")
    return runs


def build_run(
    words: GridWords, name: str, recipe: str, settings: Mapping[str, object], more: Sequence[str] = ()
) -> GridRun:
    """Return a run of a grid by its name, recipe and settings. Raise InputError for wrong words."""
    check_name(name)
    assigned = [word for field, value in settings.items() for word in ("--set", f"{field}={as_typed(value)}")]
    folder = os.path.abspath(words.folder)  # a worker elsewhere has another current folder
    typed = [folder, "--recipe", recipe, *assigned, *_absolute(words.shared), *more, "--name", name]
    return GridRun(name, tuple(typed), read_command(typed, "a run of a grid"))


def _absolute(shared: Sequence[str]) -> list[str]:
    """Return the shared words with an absolute `--output`."""
    words = list(shared)
    if "--output" not in words:
        return [*words, "--output", os.path.abspath("output")]
    index = words.index("--output") + 1
    if index < len(words):
        words[index] = os.path.abspath(words[index])
    return words
