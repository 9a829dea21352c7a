"""Score submission.csv against the true labels, if <FOLDER>-truth.csv lies beside the folder.

.venv/bin/python src/score.py input/demo80
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from pathlib import Path

import pandas as pd

from foldsmith.competition.spellings import match_ids
from foldsmith.competition.tables import read_table
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.process.exit import run_main
from foldsmith.process.files import load_json
from foldsmith.process.terminal import format_score, say, show_table
from foldsmith.run.command import Command, read_command
from foldsmith.run.paths import truth_path
from foldsmith.run.stamps import (
    check_identity,
    check_use,
    digests_of_trained,
    require,
    require_from,
    training_seconds,
)
from foldsmith.run.tables import load_classes, load_samples, load_task
from foldsmith.tasks import Task


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run, truth = command.run, truth_path(command.folder)
    require(run.submission, "submit")
    if not run.blend.is_file():  # a blend has no folds of its own
        check_identity(run, **command.identity)
        check_use(run, **command.identity)
        trained = digests_of_trained(run, command.folds_to_use)
        for stage in ("validate", "submit"):
            require_from(run.stamp(stage), stage, trained)
    if truth.is_file():
        images = list(load_samples(run.test_samples)["path"])
        classes, task = load_classes(run.classes), load_task(run)
        submitted = read_decisions(run.submission, images, classes, task)
        true = read_decisions(truth, images, classes, task)
        missing = [image for image in true if image not in submitted]
        if missing:
            raise InputError(
                f"{run.submission} has no row for {len(missing)} images of {truth} ({first_of(missing)}); "
                "run src/submit.py again, or check the ids of that file."
            )
        share = sum(submitted[image] == label for image, label in true.items()) / len(true)
        say(f"score: true test accuracy {share:.4f} of {len(true):,} images ({truth})")
    if run.cv.is_file():  # an average of runs has none
        show_table(f"{command.competition}, {command.name}", ["what", "result"], summarise(command))
    if run.report.is_file():
        say(f"report:     {run.report}")
    say(f"submission: {run.submission}")
    return 0


def summarise(command: Command) -> list[tuple[str, str]]:
    """Return the rows of the table at the end of a run: scores, data, training time."""
    run, cv = command.run, load_json(command.run.cv)
    fold_runs = [load_json(path) for path in sorted(run.root.glob("fold*/run.json"))]
    error = "" if cv["standard_error"] is None else f" ± {cv['standard_error']:.4f}"
    rows = [
        (cv["metric"], f"{format_score(cv['mean'])}{error}, out-of-fold {format_score(cv['oof'])}"),
        ("folds", ", ".join(map(format_score, cv["folds"]))),
        ("images, classes", f"{cv['num_images']:,}, {cv['num_classes']:,}"),
    ]
    if run.blend.is_file():
        facts = load_json(run.blend)
        weights = ", ".join(f"{member['run']} {member['weight']:.2f}" for member in facts["runs"])
        best = f"{facts['better_run']} alone: blending is no gain"
        rows.append(("blend of", weights if facts["blended"] else best))
    else:
        seconds = training_seconds(run, fold_runs)
        rows.append(("training", f"{seconds:,.0f} s on {fold_runs[0]['hardware']}"))
    if run.label_issues.is_file():
        suspected = pd.read_csv(run.label_issues)["suspected"].sum()
        rows.append(("suspected labels", f"{suspected:,} ({run.label_issues})"))
    return rows


def read_decisions(path: Path, images: list[str], classes: pd.DataFrame, task: Task) -> dict[str, int]:
    """Return the decision for each image in a CSV of a submission's form.

    Raise InputError for an id that is no test image, or a label that is no class.
    """
    table = read_table(path)
    if len(table.columns) < 2:
        raise InputError(
            f"{path} needs an id column and a label column, and has only '{table.columns[0]}'; add labels."
        )
    matched = match_ids(table.iloc[:, 0].str.strip(), images, path)
    wrong = [row for row, image in enumerate(matched) if image is None]
    Entries(path, len(table), "line").refuse(table.index[wrong], "name no test image", "check the ids.")
    return dict(zip(matched, task.read_decisions(path, table, classes).tolist(), strict=True))


if __name__ == "__main__":
    run_main(main)
