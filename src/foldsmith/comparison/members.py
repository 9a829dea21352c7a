"""Runs named on the command line to be averaged or blended: which they are, and whether they go together."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pandas as pd

from foldsmith.competition.folder import Competition, read_competition
from foldsmith.errors import InputError, first_of
from foldsmith.process.files import atomic_copy, digest_of_file, load_json
from foldsmith.run.command import WordParser, check_name
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import (
    digests_of_trained,
    require_from,
    require_held_out,
    require_whole,
    trained_folds,
)
from foldsmith.run.tables import load_classes, load_folds, load_samples


@dataclass(frozen=True)
class RunsCommand:
    """What a person typed, checked: two runs or more of one competition, and what is made of them."""

    members: tuple[RunPaths, ...]
    folder: Path
    name: str
    seed: int
    again: bool
    words: tuple[str, ...]

    @property
    def competition(self) -> str:
        return self.members[0].root.parent.name

    @property
    def run(self) -> RunPaths:
        """Where the result goes: beside the first run."""
        return RunPaths(self.members[0].root.parent / self.name)

    @property
    def member_names(self) -> list[str]:
        """The runs' names; whole paths where two runs of different output folders share one."""
        names = [member.root.name for member in self.members]
        return names if len(set(names)) == len(names) else [str(member.root) for member in self.members]

    def line(self, stage: str) -> str:
        """The command that runs the stage with these words."""
        return shlex.join(["python", f"src/{stage}.py", *self.words])


def names_runs(words: Sequence[str]) -> bool:
    """Whether a stage's words begin with runs' folders, and not with a competition folder."""
    places = list(takewhile(lambda word: not word.startswith("-"), words[:2]))
    return len(places) == 2 or (bool(places) and RunPaths(Path(places[0])).identity.is_file())


def read_runs_command(argv: Sequence[str] | None, description: str, name: str) -> RunsCommand:
    """Reads the words of a stage that takes runs; `name` is the usual one of its result. Raises InputError.

    Nothing of the runs is read but their folders' names.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = WordParser(
        description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", metavar="RUN", type=Path, nargs="+", help="runs' folders, output/<competition>/<run>")
    add("--name", metavar="NAME", default=name, help=f"name of the new run, beside the first ({name})")
    add("--folder", metavar="FOLDER", type=Path, help="the competition folder (input/<competition>)")
    add("--seed", metavar="N", type=int, default=0, help="seed of bags and bootstraps (0)")
    add("--again", action="store_true", help="do it again, even if it is done; replace another blend")
    typed = parser.parse_args(words)
    check_name(typed.name)
    # `.` and `..` have a name too, and so has the folder above a bare name
    roots = [Path(os.path.abspath(path)) if path.parent.name in ("", "..") else path for path in typed.runs]
    places = [os.path.realpath(root) for root in roots]
    if len(set(places)) < len(places) or len(places) < 2:
        raise InputError(
            f"two different runs or more are needed, and this names {first_of(typed.runs)}; one run's own "
            "submission is that of src/submit.py FOLDER."
        )
    competitions = sorted({root.parent.name for root in roots})
    if len(competitions) > 1:
        raise InputError(f"the runs are of different competitions ({first_of(competitions)}); name one's.")
    folder = Path("input") / competitions[0] if typed.folder is None else typed.folder
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; say where the competition's is: --folder FOLDER.")
    members = tuple(map(RunPaths, roots))
    return RunsCommand(members, folder, typed.name, typed.seed, typed.again, tuple(words))


def require_predicted(member: RunPaths, *stages: str) -> None:
    """Raises InputError unless these stages' outputs are there, whole, and of the weights that are there."""
    folds = trained_folds(member)
    if not folds:
        raise InputError(
            f"{member.root} holds no trained fold; name runs' folders, output/<competition>/<run>."
        )
    require_held_out(member, folds)
    for stage in stages:
        require_from(member.stamp(stage), stage, digests_of_trained(member, folds))


def require_test(member: RunPaths) -> None:
    """As `require_predicted` for test.npz, which a blend has too."""
    if member.stamp("blend").is_file():
        require_whole(member.stamp("blend"), "blend")
    else:
        require_predicted(member, "infer")


def require_alike(members: Sequence[RunPaths]) -> None:
    """Raises InputError where the runs' classes differ; only then do their columns mean the same."""
    first = load_classes(members[0].classes)
    for member in members[1:]:
        if not load_classes(member.classes).equals(first):
            raise InputError(
                f"{members[0].root} and {member.root} have different classes; runs go together only if they "
                "were made from the same labels."
            )


def read_shared_folds(members: Sequence[RunPaths]) -> pd.DataFrame:
    """The held-out rows of the runs' folds.csv: path, label, fold.

    Raises InputError unless all runs have the same, and have trained the same of them: only then has every
    run been kept from the same images.
    """
    first, rest = members[0], members[1:]
    folds = load_folds(first.folds)
    for member in rest:
        other = load_folds(member.folds).set_index("path")
        if not other.sort_index().equals(folds.set_index("path").sort_index()):
            raise InputError(
                f"{first.root} and {member.root} have different folds; train one of them anew with the "
                "other's --folds or --holdout, --limit and --fold-seed, and near_duplicates."
            )
        if trained_folds(member) != trained_folds(first):
            raise InputError(
                f"{first.root} has trained folds {first_of(trained_folds(first), 10)}, {member.root} folds "
                f"{first_of(trained_folds(member), 10)}; train those that are missing."
            )
    return folds[folds["fold"].isin(trained_folds(first))].reset_index(drop=True)


def read_metric(members: Sequence[RunPaths], competition: Competition) -> str:
    """The metric of the competition. Raises InputError if a run was validated by another one."""
    metric = competition.settings.metric
    for member in members:
        used = load_json(member.cv)["metric"]
        if used != metric:
            raise InputError(
                f"{member.root} was validated by {used}, and {competition.folder} asks for {metric}; run "
                "src/validate.py anew."
            )
    return metric


def read_folder(command: RunsCommand) -> Competition:
    """The competition folder. Raises InputError if its test images are not those the runs predict."""
    competition, first = read_competition(command.folder), command.members[0]
    if set(load_samples(first.test_samples)["path"]) != set(competition.test_images):
        raise InputError(
            f"{command.folder} holds other test images than {first.root} predicts; give the "
            "competition's own folder with --folder FOLDER, or run all stages anew."
        )
    return competition


def refuse_trained(run: RunPaths) -> None:
    """Raises InputError if the name is that of a run with weights of its own, which none may replace."""
    if run.identity.is_file() and "made_of" not in load_json(run.identity).get("recipe", {}):
        raise InputError(f"{run.root} is a run of its own; give this one another --name.")


def identity_of(command: RunsCommand, stage: str, **settings: object) -> dict[str, object]:
    """What the new run's name stands for, in the place of a recipe and its folds."""
    identity = load_json(command.members[0].identity)
    recipe = {"name": command.name, "made_by": stage, "made_of": command.member_names, **settings}
    return {"recipe": recipe, "folds": identity["folds"], "task": identity.get("task", "multiclass")}


def copy_tables(source: RunPaths, run: RunPaths) -> list[Path]:
    """Copies the tables that score.py reads; returns where they lie now."""
    copies = {source.classes: run.classes, source.test_samples: run.test_samples}
    for old, new in copies.items():
        atomic_copy(old, new)
    return list(copies.values())


def digests_of(members: Sequence[RunPaths]) -> list[dict[str, str]]:
    """The digests of what each run predicts, and of its folds, by file name."""
    files = [[member.test, member.oof, member.folds] for member in members]
    return [{path.name: digest_of_file(path) for path in each if path.is_file()} for each in files]
