"""Train a recipe with and without some of its fields, and compare the scores.

.venv/bin/python src/ablate.py resnet64 input/tiny80 --drop augment ema_decay warmup=0.1

RECIPE, then the competition folder unless it is the demo. --drop FIELD sets a field to its neutral value,
--drop FIELD=VALUE to another one; both are repeatable. Runs are named RECIPE, RECIPE-without-FIELD and
RECIPE-with-FIELD-VALUE. The same command resumes an interrupted ablation.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
import shlex
import sys
from pathlib import Path

from foldsmith.competition.folder import read_competition
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.pipeline import run_stages
from foldsmith.process.terminal import say, show_table
from foldsmith.recipes.neutral import NEUTRAL, Drop, read_drops
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import check_identity
from foldsmith.training.resolve import resolve_recipe

OTHER_OUTPUT = "write the runs elsewhere with --output DIR"  # their names are given
RUN = Path(__file__).resolve().parents[1] / "run.sh"


def main(argv: list[str] | None = None) -> int:
    typed = sys.argv[1:] if argv is None else argv
    if not typed or typed[0] in ("--help", "-h"):
        print(f"{__doc__}\nneutral values: {', '.join(f'{name}={value}' for name, value in NEUTRAL.items())}")
        print("All other words are those of the stages: ./run.sh --help")
        return 0
    full, without = read_words(typed)
    # imported here: torch takes seconds, and --help does not need it
    from foldsmith.training.check import check_recipe

    # refuse taken names and values that cannot train before the first run trains for hours
    for command in (full, *without.values()):
        check_identity(command.run, command.again, OTHER_OUTPUT, **command.identity)
        check_recipe(command.recipe, command.device, command.precision)
    for command in (full, *without.values()):
        say(f"ablate: {command.name}")
        status = run(command)
        header, *rows = write_table(full, without, typed)
        if status:
            return status
    show_table(f"{full.competition}, {full.name}", header, rows)
    say(f"ablate: {table_path(full)}")
    return 0


def run(command: Command) -> int:
    """Run all stages of a run, and return their exit status; stages that are up to date do nothing."""
    return run_stages(RUN, command.words)


def read_words(typed: list[str]) -> tuple[Command, dict[Drop, Command]]:
    """Return the command of the full recipe, and of the recipe without each field. Raise InputError."""
    recipe, words, drops = split_words(typed)
    words = [*words, "--recipe", recipe]
    full = read_command(words, __doc__)
    if full.dataset_recipe:
        full = resolve_recipe(full, read_competition(full.folder, full.run.cache_root))
        # every run is to start from the same weights, also if the network is there for some of them only
        words = [*words, "--set", f"pretrained={str(full.recipe.pretrained).lower()}"]
        full = read_command(words, __doc__).resolved(full.evidence)
    return full, {drop: without_field(full, words, drop) for drop in read_drops(drops, full.recipe)}


def split_words(typed: list[str]) -> tuple[str, list[str], list[str]]:
    """Return the recipe, the words of every stage, and the fields to drop. Raise InputError."""
    recipe, words = typed[0], typed[1:]
    if recipe.startswith("-"):
        raise InputError(f"the first word is the recipe, and '{recipe}' is none; --help explains the words.")
    folder = [words.pop(0)] if words and not words[0].startswith("-") else []
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--drop", metavar="FIELD", action="extend", nargs="+", default=[])
    try:
        # what is not known here is read, and refused, with the words of the stages
        known, words = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; the fields are {', '.join(NEUTRAL)}.") from error
    if not known.drop:
        raise InputError(f"--drop FIELD says what to leave out; the fields are {', '.join(NEUTRAL)}.")
    names = {word.partition("=")[0] for word in words}
    for word in {"--recipe", "--name"} & names:
        raise InputError(f"{word}: an ablation names its runs after the recipe, which is the first word.")
    return recipe, [*folder, *words], known.drop


def without_field(full: Command, words: list[str], drop: Drop) -> Command:
    """Return the command of the full recipe's words without a field.

    Raise InputError if the field keeps its value, or if others change with it.
    """
    if any(word.partition("=")[0] == f"--{drop.field.replace('_', '-')}" for word in words):
        raise InputError(f"--drop {drop.setting}: another word sets {drop.field}; leave that word out.")
    name = f"{full.name}-{drop.suffix}"
    command = read_command([*words, "--set", drop.setting, "--name", name], __doc__)
    if full.dataset_recipe:
        command = command.resolved(full.evidence)
    whole = vars(full.recipe)
    if {**vars(command.recipe), drop.field: whole[drop.field]} != whole:
        raise InputError(
            f"--drop {drop.setting}: recipe '{full.recipe.name}' derives other fields from {drop.field}; "
            "drop another, or write the recipe down in a file."
        )
    return command


def write_table(full: Command, without: dict[Drop, Command], typed: list[str]) -> list[list[str]]:
    """Write the table of the runs that are done so far, and return its rows, the header first."""
    # imported here: scikit-learn takes seconds
    from foldsmith.comparison.ablation import HEADER, read_rows, table_of, write_ablation

    rows = read_rows(full, without)
    write_ablation(table_path(full), full, without, rows, shlex.join(["python", "src/ablate.py", *typed]))
    return [list(HEADER), *table_of(full, without, rows)]


def table_path(full: Command) -> Path:
    return full.output / full.competition / f"ablation-{full.name}.md"


if __name__ == "__main__":
    run_main(main)
