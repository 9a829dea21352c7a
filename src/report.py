"""Writes the report that decisions are made from: report.html, label_issues.csv.

.venv/bin/python src/report.py input/tiny80 --recipe resnet64
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from pathlib import Path
from typing import Any

import numpy as np

from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, load_json, load_npz
from foldsmith.process.terminal import say
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import (
    check_claim,
    digests_of_trained,
    is_current,
    is_from,
    require_from,
    require_trained,
    training_seconds,
    write_stamp,
)
from foldsmith.run.tables import (
    load_classes,
    load_folds,
    load_log,
    load_problems,
    load_samples,
    load_task,
    save_table,
)


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    made = require_trained(run, command.folds_to_use)
    require_from(run.stamp("validate"), "validate", digests_of_trained(run, command.folds_to_use))
    shown = optional_files(command)
    files = [run.oof, run.cv, run.folds, run.samples, run.test_samples, run.problems, *shown]
    inputs = {path.name: digest_of_file(path) for path in files}
    inputs["trained"] = digests_of_trained(run, command.folds_to_use)
    if not command.again and is_current(run.stamp("report"), inputs):
        say(f"report: {run.report} is up to date")
        return 0
    num_suspected = report(command, made, shown)
    write_stamp(run.stamp("report"), inputs, [run.report, run.label_issues])
    say(f"report: {run.report}, {run.label_issues} ({num_suspected:,} labels suspected)")
    return 0


def optional_files(command: Command) -> list[Path]:
    """What is shown where it is there: the page of a run whose test is not predicted is a page all the same.

    What was made from other weights than are there is left out.
    """
    run, trained = command.run, digests_of_trained(command.run, command.folds_to_use)
    shown = [run.test] if is_from(run.stamp("infer"), trained) else []
    if is_from(run.stamp("examine"), trained):
        recipe = command.recipe
        # an encoder that was pretrained on training images alone tells them from test images by that, and a
        # network that was trained on test images tells these
        biased = (recipe.pretrain != "none" and not recipe.pretrain_test) or recipe.rounds > 1
        shown += [run.views] if biased else [run.views, run.features]
    return shown


def report(command: Command, made: list[dict[str, Any]], shown: list[Path]) -> int:
    """Writes both files, and returns how many labels are suspected.

    `made` are run.json of the folds, `shown` the optional files that the page shows.
    """
    # scikit-learn and cleanlab take seconds to import, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_run_cache
    from foldsmith.evaluation.label_issues import rank_label_issues
    from foldsmith.report import Evidence, Pictures, write_report
    from foldsmith.report.provenance import facts_of, notes_of

    run = command.run
    folds, classes, oof = load_folds(run.folds), load_classes(run.classes), load_npz(run.oof)
    samples, names = load_samples(run.samples), list(classes["class_name"])
    issues = rank_label_issues(oof["path"], oof["label"], oof["probabilities"], names)
    save_table(run.label_issues, issues)
    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    test, views, features = (
        load_npz(path) if path in shown else None for path in (run.test, run.views, run.features)
    )
    evidence = Evidence(
        competition=command.competition,
        run=command.name,
        task=load_task(run),
        cv=load_json(run.cv),
        labels=oof["label"],
        folds=oof["fold"],
        probabilities=oof["probabilities"],
        class_names=names,
        class_counts=np.bincount(folds["label"], minlength=len(classes)),
        logs={fold: load_log(run.log(fold)) for fold in command.folds_to_use},
        problems=load_problems(run.problems),
        notes=notes_of(command.plan, command.folds_to_use, folds, classes),
        facts=facts_of(command.plan, made, training_seconds(run, made), command.recipe.views),
        paths=oof["path"],
        pictures=Pictures(cache),
        issues=issues,
        samples=samples[samples["path"].isin(folds["path"])],
        test_samples=load_samples(run.test_samples),
        views=views,
        features=features,
        test_probabilities=None if test is None else test["probabilities"],
    )
    write_report(run.report, evidence)
    return int(issues["suspected"].sum())


if __name__ == "__main__":
    run_main(main)
