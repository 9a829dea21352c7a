"""The runs of a grid: every combination of recipes, settings and seeds, with the words of its stages.

Imports no torch.
"""

import argparse
import os
from collections import Counter
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
    """A run of a grid: its name, the words of every stage, and what they mean."""

    name: str
    words: tuple[str, ...]
    command: Command
    combination: str  # the name without the seed: runs that differ in their seed alone share it

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
    parser.add_argument("--output", metavar="DIR", default="output")
    parser.add_argument("--corrections", metavar="FILE")
    parser.add_argument("--metric", metavar="NAME|FILE.py:NAME")
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
    recipes = tuple(_absolute(recipe) for recipe in typed.recipes) or ("default",)
    folder, *shared = others
    shared += ["--output", os.path.abspath(typed.output)]
    for option in ("corrections", "metric"):
        value = getattr(typed, option)
        shared += [f"--{option}", _absolute(value)] if value else []
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
        entries = [value] if field in LISTS else value.split(",")
        values.setdefault(field, []).extend(map(_absolute, entries) if field == "weights" else entries)
    return {field: tuple(dict.fromkeys(entries)) for field, entries in values.items()}


def expand(words: GridWords) -> list[GridRun]:
    """Return the runs of every combination. Raise InputError for wrong words, and if two have one name."""
    varied = [field for field, values in words.alternatives.items() if len(values) > 1]
    runs = []
    for recipe, *chosen in product(words.recipes, *words.alternatives.values()):
        settings = dict(zip(words.alternatives, chosen, strict=True))
        for seed in range(words.seeds):
            suffixes = [f"{field}-{settings[field]}" for field in varied]
            combination = "-".join([Path(recipe).stem, *suffixes]).replace("/", "_")
            one = build_run(words, combination, recipe, settings, seed if words.seeds > 1 else None)
            runs.append(one)
    repeated = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if repeated:
        raise InputError(f"two runs of the grid have the name {repeated[0]}; write each recipe once.")
    return runs


def build_run(
    words: GridWords,
    combination: str,
    recipe: str,
    settings: Mapping[str, object],
    seed: int | None = None,
) -> GridRun:
    """Return a run of a grid, named by its combination and its seed. Raise InputError for wrong words."""
    name = combination if seed is None else f"{combination}-seed{seed}"
    check_name(name)
    assigned = [word for field, value in settings.items() for word in ("--set", f"{field}={as_typed(value)}")]
    folder = os.path.abspath(words.folder)  # a worker elsewhere has another current folder
    seeds = [] if seed is None else ["--seed", str(seed)]
    typed = [folder, "--recipe", recipe, *assigned, *words.shared, *seeds, "--name", name]
    return GridRun(name, tuple(typed), read_command(typed, "a run of a grid"), combination)


def _absolute(word: str) -> str:
    """Return a word with an absolute path, if it begins with that of a file: FILE, or FILE.py:NAME."""
    path, colon, name = word.partition(":")
    return f"{os.path.abspath(path)}{colon}{name}" if Path(path).is_file() else word
