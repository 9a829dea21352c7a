"""Score the held-out predictions: oof.csv, oof.npz and cv.json.

.venv/bin/python src/validate.py input/tiny80 --recipe resnet64
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from typing import Any

import numpy as np

from foldsmith.competition.found import load_found
from foldsmith.competition.settings import read_settings
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, load_npz, save_json
from foldsmith.process.terminal import format_score, say, with_error
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import (
    check_claim,
    digests_of_trained,
    is_current,
    require,
    require_trained,
    write_stamp,
)
from foldsmith.run.tables import load_classes, load_folds, load_task
from foldsmith.run.tracking import Tracker
from foldsmith.tasks.metrics import Metric
from foldsmith.tasks.own_metric import choose_metric, digest_of_metric


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    require(run.folds, "split")
    require(run.samples, "prepare")
    require_trained(run, command.folds_to_use)
    named = read_settings(command.folder).metric or load_found(run.found).metric
    metric = choose_metric(load_task(run), command.metric, named)
    inputs = {
        "folds": digest_of_file(run.folds),
        "trained": digests_of_trained(run, command.folds_to_use),
        "metric": metric.name,
        **digest_of_metric(metric.name),
        "samples": digest_of_file(run.samples),  # near-duplicates and groups, for the errors
    }
    outputs = [run.oof, run.oof_table, run.cv]
    if not command.again and is_current(run.stamp("validate"), inputs):
        say(f"validate: {run.cv} is up to date")
    else:
        validate(command, metric)
        write_stamp(run.stamp("validate"), inputs, outputs, trained=inputs["trained"])
    with Tracker.of(command) as tracker:
        tracker.mirror_run()
    return 0


def validate(command: Command, metric: Metric) -> None:
    """Write oof.csv, oof.npz and cv.json, and print the score and its notes."""
    # imported here: scikit-learn takes seconds, and a stage that is up to date does not need it
    from foldsmith.evaluation.baseline import baseline_figures
    from foldsmith.evaluation.cross_validation import cross_validation, left_out_notes, undefined_notes
    from foldsmith.evaluation.decisions import as_json, fit_decision
    from foldsmith.evaluation.predictions import related_images, save_oof, scatter_oof
    from foldsmith.report.provenance import notes_of

    run, task = command.run, load_task(command.run).with_metric(metric)
    all_folds, classes = load_folds(run.folds), load_classes(run.classes)
    held_out = all_folds[all_folds["fold"].isin(command.folds_to_use)].reset_index(drop=True)
    predictions = scatter_oof(held_out, [load_npz(run.heldout(fold)) for fold in command.folds_to_use], task)
    folds = held_out["fold"].to_numpy(np.int64)
    targets = task.targets(held_out)
    groups = related_images(run, held_out)
    figures = cross_validation(targets, folds, predictions, metric.name, task, groups)
    decision = fit_decision(task, metric, targets, predictions, folds, list(classes["class_name"]))
    cv = {
        "competition": command.competition,
        "run": command.name,
        **figures,
        **baseline_figures(figures, targets, task.prior(task.targets(all_folds)), task),
        **digest_of_metric(metric.name),
        "decision": as_json(decision),
        "seed": command.recipe.seed,
        "fold_seed": command.plan.seed,
    }
    save_oof(run, held_out, predictions, task)
    save_json(run.cv, cv)
    left_out = left_out_notes(metric, targets, list(classes["class_name"]))
    notes = notes_of(command.plan, command.folds_to_use, all_folds, classes, task)
    decided = [decision.sentence] if decision else []
    for line in [*lines_of(cv), *undefined_notes(cv), *decided, *left_out, *notes]:
        say(f"validate: {line}")
    say(f"validate: {run.cv}, {run.oof}")


def lines_of(cv: dict[str, Any]) -> list[str]:
    """Return the score with its error and the baseline; a score no better than that is the first line."""
    from foldsmith.evaluation.baseline import CAUSES, describe_baseline, warn_of_baseline

    error = "" if cv["standard_error"] is None else f" (standard error, by {cv['standard_error_by']})"
    spread = "" if cv["std"] is None else f", std over folds {cv['std']:.4f}"
    score = with_error(format_score(cv["mean"]), cv["standard_error"])
    warning = warn_of_baseline(cv)
    return [
        *([warning, f"likely causes: {'; '.join(CAUSES)}"] if warning else []),
        f"{cv['metric']} {score}{error}{spread}, out-of-fold {format_score(cv['oof'])}",
        f"for comparison, {cv['metric']} without looking at the images: {describe_baseline(cv)}",
    ]


if __name__ == "__main__":
    run_main(main)
