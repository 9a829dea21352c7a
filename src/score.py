"""Score submission.csv against the true labels, if <FOLDER>-truth.csv lies beside the folder.

.venv/bin/python src/score.py input/demo80
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.competition.settings import read_settings
from foldsmith.competition.spellings import match_ids
from foldsmith.competition.tables import read_table
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.process.exit import run_main
from foldsmith.process.files import load_json, load_npz
from foldsmith.process.terminal import format_score, say, show_table, with_error
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
from foldsmith.tasks.own_metric import choose_metric


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run, truth = command.run, truth_path(command.folder)
    is_first_look = command.limit_test is not None and not run.submission.is_file()
    if not is_first_look:
        require(run.submission, "submit")
    if not run.blend.is_file():  # a blend has no folds of its own
        check_identity(run, **command.identity)
        check_use(run, **command.identity)
        trained = digests_of_trained(run, command.folds_to_use)
        for stage in ("validate",) if is_first_look else ("validate", "submit"):
            require_from(run.stamp(stage), stage, trained)
    if truth.is_file() and not is_first_look:
        metric, score, count = score_truth(command, truth)
        say(f"score: true test {metric} {format_score(score)} of {count:,} images ({truth})")
    if run.cv.is_file():  # an average of runs has none
        show_table(f"{command.competition}, {command.name}", ["what", "result"], summarise(command))
    if run.report.is_file():
        say(f"report:     {run.report}")
    if not is_first_look:
        say(f"submission: {run.submission}")
    return 0


def score_truth(command: Command, truth: Path) -> tuple[str, float | None, int]:
    """Return the name and the score of the run's metric on the true labels, and how many there are.

    A metric of decisions is that of the submitted ones, by image; others are that of test.npz. The score is
    None where the metric is not defined. Raise InputError if the submission lacks an image of `truth`.
    """
    run, named = command.run, read_settings(command.folder).metric
    if run.cv.is_file():
        named = load_json(run.cv)["metric"]
    classes, task = load_classes(run.classes), load_task(run)
    metric, tests = choose_metric(task, command.metric, named), list(load_samples(run.test_samples)["path"])
    true = read_decisions(truth, tests, classes, task)
    targets = np.array(list(true.values()))
    if metric.score_decisions is None:
        test = load_npz(run.test)
        rows = pd.Series(np.arange(len(test["path"])), index=test["path"]).loc[list(true)]
        return metric.name, metric.evaluate(targets, test[task.predictions_key][rows.to_numpy()]), len(true)
    submitted = read_decisions(run.submission, tests, classes, task)
    missing = [image for image in true if image not in submitted]
    if missing:
        raise InputError(
            f"{run.submission} has no row for {len(missing)} images of {truth} ({first_of(missing)}); "
            "run src/submit.py again, or check the ids of that file."
        )
    decided = np.array([submitted[image] for image in true])
    return metric.name, metric.score_decisions(targets, decided), len(true)


def summarise(command: Command) -> list[tuple[str, str]]:
    """Return the rows of the table at the end of a run: scores, data, training time."""
    run, cv = command.run, load_json(command.run.cv)
    fold_runs = [load_json(path) for path in sorted(run.root.glob("fold*/run.json"))]
    # imported here: scipy takes a second, and --help does not need it
    from foldsmith.evaluation.baseline import describe_baseline, warn_of_baseline
    from foldsmith.evaluation.decisions import decision_of
    from foldsmith.evaluation.label_issues import describe_suspects

    decision = decision_of(cv)
    score, warning = with_error(format_score(cv["mean"]), cv["standard_error"]), warn_of_baseline(cv)
    rows = [
        *([("no better", warning)] if warning else []),
        (cv["metric"], f"{score}, out-of-fold {format_score(cv['oof'])}"),
        *([("the submission", f"{format_score(decision.score)}, {decision.title}")] if decision else []),
        ("without the images", describe_baseline(cv) or "–"),
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
        suspects = describe_suspects(pd.read_csv(run.label_issues)["suspected"].sum(), cv)
        rows.append(("suspected labels", f"{suspects} ({run.label_issues})"))
    return rows


def read_decisions(path: Path, images: list[str], classes: pd.DataFrame, task: Task) -> dict[str, Any]:
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
