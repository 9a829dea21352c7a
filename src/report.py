"""Write the report of a run: report.html and label_issues.csv.

.venv/bin/python src/report.py input/tiny80 --recipe resnet64
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, load_json, load_npz
from foldsmith.process.terminal import say
from foldsmith.run.command import Command, read_command
from foldsmith.run.identity import load_identity
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
    load_corrections,
    load_folds,
    load_log,
    load_problems,
    load_samples,
    load_task,
    save_table,
)
from foldsmith.run.tracking import Tracker
from foldsmith.tasks import Task
from foldsmith.tasks.own_metric import choose_metric

if TYPE_CHECKING:
    from foldsmith.data.cache import PixelCache
    from foldsmith.report.mending import Mendable


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    fold_runs = require_trained(run, command.folds_to_use)
    trained = digests_of_trained(run, command.folds_to_use)
    require_from(run.stamp("validate"), "validate", trained)
    optional = optional_files(command, trained)
    files = [run.oof, run.cv, run.folds, run.samples, run.test_samples, run.problems, *optional]
    if run.corrections.is_file():
        files.append(run.corrections)
    inputs = {path.name: digest_of_file(path) for path in files}
    inputs["trained"] = trained
    if command.why:
        inputs["why"] = True
    if not command.again and is_current(run.stamp("report"), inputs):
        say(f"report: {run.report} is up to date")
    else:
        suspects = report(command, fold_runs, optional)
        write_stamp(run.stamp("report"), inputs, [run.report, run.label_issues])
        say(f"report: {run.report}, {run.label_issues} ({suspects})")
    with Tracker.of(command) as tracker:
        tracker.mirror_run()
    return 0


def optional_files(command: Command, trained: dict[str, str]) -> list[Path]:
    """Return the files of later stages that exist and are not stale: the page has sections for them.

    `trained` are the digests of the trained folds.
    """
    run = command.run
    optional = [run.test] if is_from(run.stamp("infer"), trained) else []
    if is_from(run.stamp("examine"), trained):
        recipe = command.recipe
        # a network that was pretrained on training images alone, or trained on pseudo-labelled test images,
        # separates training from test images by that
        biased = (recipe.pretrain != "none" and not recipe.pretrain_test) or recipe.rounds > 1
        optional += [run.views] if biased else [run.views, run.features]
    return optional


def report(command: Command, fold_runs: list[dict[str, Any]], optional: list[Path]) -> str:
    """Write both files, and return what is said of suspected labels.

    `fold_runs` are the run.json of the folds, `optional` the files of later stages.
    """
    # imported here: scikit-learn and cleanlab take seconds, and a stage that is up to date does not need them
    from foldsmith.data.cache import open_run_cache
    from foldsmith.evaluation.label_issues import describe_suspects, hold_back, rank_issues_of
    from foldsmith.evaluation.last_run import compared_with, find_last_run
    from foldsmith.report.evidence import Evidence
    from foldsmith.report.page import write_report
    from foldsmith.report.pictures import Pictures
    from foldsmith.report.provenance import facts_of

    run = command.run
    folds, classes, oof = load_folds(run.folds), load_classes(run.classes), load_npz(run.oof)
    samples, names = load_samples(run.samples), list(classes["class_name"])
    cv, task = load_json(run.cv), load_task(run)
    task = task.with_metric(choose_metric(task, command.metric, cv["metric"]))
    predictions = oof[task.predictions_key]
    issues = hold_back(rank_issues_of(task, oof["path"], oof["label"], predictions, names), cv)
    save_table(run.label_issues, issues)
    last = find_last_run(run)
    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    test, views, features = (
        load_npz(path) if path in optional else None for path in (run.test, run.views, run.features)
    )
    heat = heat_of(command, fold_runs, cache, oof, predictions) if command.why else None
    evidence = Evidence(
        competition=command.competition,
        run=command.name,
        task=task,
        cv=cv,
        labels=oof["label"],
        folds=oof["fold"],
        probabilities=predictions,
        class_names=names,
        class_counts=task.class_counts(task.targets(folds)),
        logs=logs_of(command),
        problems=load_problems(run.problems),
        notes=notes_on(command, folds, classes, task),
        facts=facts_of(command.plan, fold_runs, training_seconds(run, fold_runs), command.recipe.views),
        paths=oof["path"],
        pictures=Pictures(cache, heat),
        issues=issues,
        samples=samples[samples["path"].isin(folds["path"])],
        test_samples=predicted_samples(load_samples(run.test_samples), test),
        searches_near_duplicates=command.recipe.near_duplicates >= 0,
        views=views,
        features=features,
        is_limited=len(folds) < len(samples),
        last_run=last.name if last else "",
        differing=last.differing if last else [],
        comparison=last and compared_with(load_npz(last.run.oof), oof, cv["metric"], task),
        test_probabilities=None if test is None else test[task.predictions_key],
        known_images=load_json(run.stamp("prepare")).get("known_images", ""),
        mendable=mendable_of(command, samples, classes),
    )
    write_report(run.report, evidence)
    return describe_suspects(int(issues["suspected"].sum()), cv)


def logs_of(command: Command) -> dict[int, pd.DataFrame]:
    """Return log.csv of each fold; none of a probe, which is fitted in no epoch, so that it has no curve."""
    return {fold: load_log(command.run.log(fold)) for fold in command.folds_to_use if command.recipe.epochs}


def heat_of(
    command: Command,
    fold_runs: list[dict[str, Any]],
    cache: "PixelCache",
    oof: dict[str, np.ndarray],
    predictions: np.ndarray,
) -> Callable[[str], np.ndarray | None]:
    """Return the function from a held-out image to its heat map (S, S), and from others to None.

    It is for the highest prediction (N, K), by the first network of the image's fold.
    """
    from foldsmith.inference.heat_maps import heat_maps
    from foldsmith.inference.networks import FoldNetworks

    row = {path: index for index, path in enumerate(oof["path"].tolist())}
    networks = {
        facts["fold"]: next(FoldNetworks.of_run(command.run, facts, command.device, command.precision).load())
        for facts in fold_runs
    }

    def heat(path: str) -> np.ndarray | None:
        if path not in row:
            return None
        index = row[path]
        model, compute = networks[int(oof["fold"][index])]
        output = predictions[index].argmax(keepdims=True)
        return heat_maps(model, compute, cache.pixels[cache.rows([path])], output)[0]

    return heat


def notes_on(command: Command, folds: pd.DataFrame, classes: pd.DataFrame, task: Task) -> list[str]:
    """Return the sentences at the top of the page: on the split, and on corrections of labels."""
    from foldsmith.report.provenance import notes_of, notes_on_corrections

    notes = notes_of(command.plan, command.folds_to_use, folds, classes, task, command.recipe.channels)
    return [*notes, *notes_on_corrections(load_corrections(command.run.corrections))]


def mendable_of(command: Command, samples: pd.DataFrame, classes: pd.DataFrame) -> "Mendable":
    """Return the labels of the run, which the page corrects; a browser stores choices by run and data."""
    from foldsmith.report.mending import Mendable

    data = load_identity(command.run).get("data", "")
    key = f"foldsmith corrections {command.competition}/{command.name} {data}"
    return Mendable(key, samples, classes, load_corrections(command.run.corrections))


def predicted_samples(samples: pd.DataFrame, test: dict[str, np.ndarray] | None) -> pd.DataFrame:
    """Return the rows of the test images that `test`, the arrays of test.npz, predicts; all without it."""
    return samples if test is None else samples.set_index("path").loc[test["path"]].reset_index()


if __name__ == "__main__":
    run_main(main)
