"""Run the recipes of a study, and compare their figures with those of the study.

.venv/bin/python src/study.py crnn input/fashion-mnist --only crnn --only crnn-hidden256

NAME, then the competition folder unless it is the default one; --only RECIPE (repeatable) selects recipes.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
import shlex
import sys
from pathlib import Path

from foldsmith.competition.folder import read_competition
from foldsmith.errors import InputError, unknown_name
from foldsmith.process.exit import run_main
from foldsmith.process.pipeline import run_stages
from foldsmith.process.terminal import say
from foldsmith.recipes.studies import STUDIES, Study, find_study
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import check_identity

OTHER_OUTPUT = "write the runs elsewhere with --output DIR"  # their names are given
RUN = Path(__file__).resolve().parents[1] / "run.sh"


def main(argv: list[str] | None = None) -> int:
    typed = sys.argv[1:] if argv is None else argv
    if not typed or typed[0] in ("--help", "-h"):
        print(f"{__doc__}\nstudies: {', '.join(STUDIES)}")
        print("All other words are those of the stages: ./run.sh --help")
        return 0
    study, only, words = read_words(typed)
    # check all words before the first recipe trains for hours
    commands = {recipe: read_command([*words, "--recipe", recipe], __doc__) for recipe in study.reported}
    for command in commands.values():
        if command.is_resolved:
            check_identity(command.run, command.again, OTHER_OUTPUT, **command.identity)
    check_labels(next(iter(commands.values())).folder, study)
    for recipe in only or study.reported:
        say(f"study: {recipe}")
        # a process a recipe: run.sh starts src/run.py, which knows the stages
        status = run(commands[recipe])
        write_table(study, commands, typed)
        if status:
            return status
    return 0


def check_labels(folder: Path, study: Study) -> None:
    """Raise InputError if a competition cannot be read, or its labels are numbers, which have no accuracy."""
    # imported here: pandas takes half a second
    from foldsmith.competition.labels import read_metadata

    if read_metadata(read_competition(folder)).task == "regression":
        raise InputError(
            f"a study compares accuracies, and the labels of {folder} are numbers; run a recipe of it alone: "
            f"./run.sh {folder} --recipe {next(iter(study.reported))}."
        )


def run(command: Command) -> int:
    """Run all stages, and return their exit status; on a signal this process ends after them."""
    return run_stages(RUN, command.words)


def read_words(typed: list[str]) -> tuple[Study, list[str], list[str]]:
    """Return the study, the selected recipes (empty: all), and the words of the stages. Raise InputError."""
    study, words = find_study(typed[0]), typed[1:]
    folder = words.pop(0) if words and not words[0].startswith("-") else str(study.folder)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--only", metavar="RECIPE", action="append", default=[])
    try:
        # unknown words are left for the stages, which check them
        known, words = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; the recipes are {', '.join(study.reported)}.") from error
    for recipe in known.only:
        if recipe not in study.reported:
            raise unknown_name("recipe of this study", recipe, study.reported)
    options = {word.partition("=")[0] for word in words}
    for word in {"--recipe", "--name"} & options:
        raise InputError(f"{word}: a study names its runs after its recipes; select recipes with --only.")
    split = [] if {"--folds", "--holdout"} & options else study.split
    return study, known.only, [folder, *split, *words]


def write_table(study: Study, commands: dict[str, Command], typed: list[str]) -> None:
    """Write the table of the runs that are done so far."""
    # imported here: pandas takes half a second
    from foldsmith.comparison.study_table import read_row, write_study

    rows = {recipe: read_row(command.run, recipe) for recipe, command in commands.items()}
    first = next(iter(commands.values()))
    path = first.output / first.competition / f"study-{study.name}.md"
    write_study(path, study, rows, shlex.join(["./run.sh", "study", *typed]))
    say(f"study: {path}, {path.with_suffix('.svg')}")


if __name__ == "__main__":
    run_main(main)
