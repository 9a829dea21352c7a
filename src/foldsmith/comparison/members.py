"""The runs on the command line of an average or a blend, and the checks that they can be combined."""

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
from foldsmith.competition.found import load_found
from foldsmith.errors import InputError, first_of
from foldsmith.process.files import atomic_copy, digest_of_file, load_json, load_npz
from foldsmith.run.command import WordParser, check_name
from foldsmith.run.identity import competition_folder_of
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import (
    digests_of_trained,
    require_from,
    require_held_out,
    require_whole,
    trained_folds,
)
from foldsmith.run.tables import load_classes, load_folds, load_samples
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric
from foldsmith.tasks.own_metric import choose_metric, digest_of_metric


@dataclass(frozen=True)
class CombineCommand:
    """The checked command line of an average or a blend: two or more runs of one competition."""

    members: tuple[RunPaths, ...]
    folder: Path
    name: str
    seed: int
    metric: str
    again: bool
    words: tuple[str, ...]

    @property
    def competition(self) -> str:
        return self.members[0].root.parent.name

    @property
    def run(self) -> RunPaths:
        """The folder of the result, beside the first run."""
        return RunPaths(self.members[0].root.parent / self.name)

    @property
    def member_names(self) -> list[str]:
        """The names of the runs; of those in another output folder the path from that of the result."""
        return [os.path.relpath(member.root, self.run.root.parent) for member in self.members]

    def line(self, stage: str) -> str:
        """Return the command that runs the stage with the same words."""
        return shlex.join(["python", f"src/{stage}.py", *self.words])


def starts_with_runs(words: Sequence[str]) -> bool:
    """Return whether the words begin with two folders, which are those of runs to combine."""
    folders = list(takewhile(lambda word: not word.startswith("-"), words[:2]))
    return len(folders) == 2


def read_combine_command(argv: Sequence[str] | None, description: str, name: str) -> CombineCommand:
    """Parse the command line of a stage that combines runs; `name` is the default name of its result.

    It reads the names of the runs' folders, not their files. Raise InputError.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = WordParser(
        description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", metavar="RUN", type=Path, nargs="+", help="folders of runs, output/<competition>/<run>")
    add("--name", metavar="NAME", default=name, help=f"name of the new run, beside the first ({name})")
    add("--folder", metavar="FOLDER", type=Path, help="the competition folder (that of the first run)")
    add("--seed", metavar="N", type=int, default=0, help="seed of the bootstrap samples (0)")
    add("--metric", metavar="NAME|FILE.py:NAME", default="", help="the metric of the runs (competition.toml)")
    add("--again", action="store_true", help="run again although nothing changed; replace another blend")
    typed = parser.parse_args(words)
    check_name(typed.name)
    if missing := [path for path in typed.runs if not Path(os.path.abspath(path)).is_dir()]:
        raise InputError(f"{first_of(missing)} is not a folder; name runs as output/COMPETITION/RUN.")
    # resolve `.` and `..`, and the folder above a bare name, so that all have a name
    roots = [Path(os.path.abspath(path)) if path.parent.name in ("", "..") else path for path in typed.runs]
    folders = [os.path.realpath(root) for root in roots]
    if len(set(folders)) < len(folders) or len(folders) < 2:
        raise InputError(
            f"the command needs two or more different runs, and names {first_of(typed.runs)}; for the "
            "submission of a single run use src/submit.py FOLDER."
        )
    competitions = sorted({root.parent.name for root in roots})
    if len(competitions) > 1:
        raise InputError(
            f"the runs are of different competitions ({first_of(competitions)}); name runs of the same "
            "competition."
        )
    folder = competition_folder_of(RunPaths(roots[0])) if typed.folder is None else typed.folder
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; name the competition folder: --folder FOLDER.")
    members = tuple(map(RunPaths, roots))
    return CombineCommand(members, folder, typed.name, typed.seed, typed.metric, typed.again, tuple(words))


def require_predicted(member: RunPaths, *stages: str) -> None:
    """Raise InputError if the output of a stage is missing, changed, or stale."""
    folds = trained_folds(member)
    if not folds:
        raise InputError(
            f"{member.root} holds no trained fold; name folders of runs, output/<competition>/<run>."
        )
    require_held_out(member, folds)
    for stage in stages:
        require_from(member.stamp(stage), stage, digests_of_trained(member, folds))


def require_test(member: RunPaths) -> None:
    """Raise InputError if test.npz is missing, changed, or stale; a blend has one too."""
    if member.stamp("blend").is_file():
        require_whole(member.stamp("blend"), "blend")
    else:
        require_predicted(member, "infer")
        predicted, test = len(load_npz(member.test)["path"]), len(load_samples(member.test_samples))
        if predicted < test:
            raise InputError(
                f"{member.root} predicts only {predicted} of {test} test images (--limit-test); run "
                f"./run.sh {member.root}."
            )


def require_same_classes(members: Sequence[RunPaths]) -> None:
    """Raise InputError where the runs' classes differ: column k must be the same class in all runs."""
    first = load_classes(members[0].classes)
    for member in members[1:]:
        if not load_classes(member.classes).equals(first):
            raise InputError(
                f"{members[0].root} and {member.root} have different classes; combine runs that were "
                "prepared from the same labels."
            )


def read_shared_folds(members: Sequence[RunPaths]) -> pd.DataFrame:
    """Return the held-out rows of folds.csv, the same in all runs: path, label, fold.

    Raise InputError where folds or trained folds differ: an image must be held out in all runs.
    """
    first, rest = members[0], members[1:]
    folds = load_folds(first.folds)
    for member in rest:
        other = load_folds(member.folds).set_index("path")
        if not other.sort_index().equals(folds.set_index("path").sort_index()):
            raise InputError(
                f"{first.root} and {member.root} have different folds; train one of them again with the "
                "--folds or --holdout, --limit, --fold-seed and near_duplicates of the other."
            )
        if trained_folds(member) != trained_folds(first):
            raise InputError(
                f"{first.root} has trained folds {first_of(trained_folds(first), 10)}, {member.root} folds "
                f"{first_of(trained_folds(member), 10)}; train the missing ones."
            )
    return folds[folds["fold"].isin(trained_folds(first))].reset_index(drop=True)


def read_metric(command: CombineCommand, competition: Competition, task: Task) -> Metric:
    """Return the metric of `--metric` or the competition.

    Raise InputError if a run was validated with another one, or with another version of its file.
    """
    named = competition.settings.metric or load_found(command.members[0].found).metric
    metric = choose_metric(task, command.metric, named)
    digest = digest_of_metric(metric.name).get("metric_digest")
    for member in command.members:
        cv = load_json(member.cv)
        if cv["metric"] != metric.name:
            raise InputError(
                f"{member.root} was validated with {cv['metric']}, but the metric of {competition.folder} is "
                f"{metric.name}; run src/validate.py again, or write the same --metric here."
            )
        if cv.get("metric_digest") != digest:
            raise InputError(
                f"{member.root} was validated with another version of {metric.name}; run src/validate.py "
                "again."
            )
    return metric


def read_folder(command: CombineCommand) -> Competition:
    """Return the competition. Raise InputError if its test images are not those that the runs predict."""
    competition, first = read_competition(command.folder, command.members[0].cache_root), command.members[0]
    if set(load_samples(first.test_samples)["path"]) != set(competition.test_images):
        raise InputError(
            f"{command.folder} has other test images than {first.root} predicts; name the right competition "
            "folder with --folder FOLDER, or run all stages again."
        )
    return competition


def refuse_trained(run: RunPaths) -> None:
    """Raise InputError if the name is that of a trained run, which must not be replaced."""
    if run.identity.is_file() and "made_of" not in load_json(run.identity).get("recipe", {}):
        raise InputError(f"{run.root} is a trained run; give the result another --name.")


def identity_of(command: CombineCommand, stage: str, **settings: object) -> dict[str, object]:
    """Return the identity of the result: its members in place of a recipe, and their folds."""
    identity = load_json(command.members[0].identity)
    recipe = {"name": command.name, "made_by": stage, "made_of": command.member_names, **settings}
    return {"recipe": recipe, "folds": identity["folds"], "task": identity.get("task", "multiclass")}


def copy_tables(source: RunPaths, run: RunPaths) -> list[Path]:
    """Copy the tables that score.py reads, and return the copies."""
    copies = {
        source.classes: run.classes,
        source.test_samples: run.test_samples,
        source.found: run.found,
    }
    for old, new in copies.items():
        atomic_copy(old, new)
    return list(copies.values())


def require_combined(run: RunPaths) -> None:
    """Raise InputError if a blend or an average is missing, changed, or stale: a member changed."""
    stage = "blend" if run.stamp("blend").is_file() else "submit"
    require_whole(run.stamp(stage), stage)
    for member in load_json(run.blend)["runs"]:
        test = run.member(member["run"]).test
        if test.is_file() and digest_of_file(test) != member["digests"]["test.npz"]:
            raise InputError(
                f"{run.root} is stale: {test} changed since; run src/{stage}.py again with the same runs."
            )


def digests_of(members: Sequence[RunPaths]) -> list[dict[str, str]]:
    """Return the digests of predictions and folds, by file name, of each run."""
    files = [[member.test, member.oof, member.folds] for member in members]
    return [{path.name: digest_of_file(path) for path in paths if path.is_file()} for paths in files]
