"""Score submission.csv against the true labels, if <FOLDER>-truth.csv lies beside the folder.

.venv/bin/python src/score.py input/demo80
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.competition.folder import read_competition
from foldsmith.competition.found import load_found
from foldsmith.competition.settings import read_settings
from foldsmith.competition.spellings import match_ids
from foldsmith.competition.submission import (
    SubmissionForm,
    predictions_by_path,
    predictions_of_rows,
    read_submission_form,
)
from foldsmith.competition.tables import read_table
from foldsmith.errors import Entries, InputError
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
from foldsmith.run.tables import load_classes, load_folds, load_task
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

    The predictions are those of the rows of the submission, and the decisions those that it was filled with.
    The score is None where the metric is not defined. Raise InputError if the two files do not fit.
    """
    # imported here: scipy takes a second, and --help does not need it
    from foldsmith.evaluation.decisions import decider, decision_of

    run, named = command.run, read_settings(command.folder).metric
    cv, blend = (load_json(path) if path.is_file() else {} for path in (run.cv, run.blend))
    classes, task = load_classes(run.classes), load_task(run)
    metric = choose_metric(task, command.metric, cv.get("metric", named))
    competition = read_competition(command.folder, run.cache_root)
    form = read_submission_form(competition, classes, task, load_found(run.found).cell_form)
    table = read_table(truth)
    if len(table.columns) < 2:
        raise InputError(
            f"{truth} needs an id column and a label column, and has only '{table.columns[0]}'; add labels."
        )
    rows = rows_of_truth(truth, table, form, competition.test_images)
    # an average has no folds of its own
    folds = run.folds if run.folds.is_file() else run.member(blend["runs"][0]["run"]).folds
    by_path, prior = predictions_by_path(load_npz(run.test)), task.prior(task.targets(load_folds(folds)))
    decide = decider(decision_of(blend) or decision_of(cv), task)
    predictions, decided = decide(predictions_of_rows(form, by_path, prior)[rows])
    targets = task.read_decisions(truth, table, classes)
    if metric.score_decisions is None:
        return metric.name, metric.evaluate(targets, predictions), len(rows)
    return metric.name, metric.score_decisions(targets, decided), len(rows)


def rows_of_truth(
    path: Path, table: pd.DataFrame, form: SubmissionForm, test_images: list[str]
) -> np.ndarray:
    """Return for each row of the true labels the row of the submission with the same id, or the same image.

    Raise InputError for ids that are repeated, that fit no row, or that fit ids and images in two ways.
    """
    ids = table.iloc[:, 0].str.strip()
    Entries(path, len(table), "line").refuse(
        table.index[ids.duplicated()], "repeat an id", "keep one of each."
    )
    numbers = pd.Series(range(len(form.ids)))
    by_id = ids.map(numbers.set_axis(form.ids))
    own = [named[0] if len(named) == 1 else None for named in form.images]
    of_image = {image: row for row, image in enumerate(own) if image is not None}
    by_image = pd.Series([of_image.get(image) for image in match_ids(ids, test_images, path)], ids.index)
    if by_id.notna().all() and by_image.notna().all() and not (by_id == by_image).all():
        if table.columns[0].strip() != form.columns[0]:
            raise InputError(
                f"{path}: its ids are those of {form.sample} and names of other images as well; call the "
                f"column '{form.columns[0]}' if they are the former, as they are read then."
            )
        return by_id.to_numpy(np.int64)
    rows = by_id if by_id.notna().sum() >= by_image.notna().sum() else by_image
    wrong = table.index[rows.isna()]
    Entries(path, len(table), "line").refuse(wrong, "name no row of the submission", "check the ids.")
    return rows.to_numpy(np.int64)


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


if __name__ == "__main__":
    run_main(main)
