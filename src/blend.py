"""Blend runs with weights fitted on their out-of-fold predictions, if that is a gain.

.venv/bin/python src/blend.py output/tiny80/resnet64 output/tiny80/default --name both

Write a run: oof.csv, oof.npz, cv.json, test.npz, submission.csv, and blend.json with the weights.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from foldsmith.comparison.members import (
    CombineCommand,
    copy_tables,
    digests_of,
    identity_of,
    read_combine_command,
    read_folder,
    read_metric,
    read_shared_folds,
    refuse_trained,
    require_predicted,
    require_same_classes,
)
from foldsmith.competition.folder import Competition
from foldsmith.competition.found import load_found
from foldsmith.competition.submission import SubmissionForm, read_submission_form, save_submission
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.files import atomic_copy, digest_of_file, load_json, load_npz, save_json, save_npz
from foldsmith.process.machine import versions
from foldsmith.process.terminal import say, show_table, with_error
from foldsmith.run.stamps import (
    check_claim,
    claim_run,
    is_current,
    trained_folds,
    training_seconds,
    write_stamp,
)
from foldsmith.run.tables import load_classes, load_folds, load_task
from foldsmith.tasks.metrics import Metric
from foldsmith.tasks.own_metric import digest_of_metric

if TYPE_CHECKING:
    from foldsmith.comparison.ensemble import Ensemble


def main(argv: list[str] | None = None) -> int:
    command = read_combine_command(argv, __doc__, "blend")
    run, members = command.run, command.members
    for member in members:
        require_predicted(member, "validate", "infer")
    require_same_classes(members)
    held_out = read_shared_folds(members)
    refuse_trained(run)
    identity = identity_of(command, "blend", seed=command.seed)
    check_claim(run, command.again, **identity)
    competition = read_folder(command)
    form = read_submission_form(
        competition,
        load_classes(members[0].classes),
        load_task(members[0]),
        load_found(members[0].found).cell_form,
    )
    metric = read_metric(command, competition, load_task(members[0]))
    inputs = {
        "members": digests_of(members),
        "metric": metric.name,
        **digest_of_metric(metric.name),
        "seed": command.seed,
        "found": digest_of_file(members[0].found),
        **form.content,
    }
    if not command.again and is_current(run.stamp("blend"), inputs):
        say(f"blend: {run.submission} is up to date")
        return 0
    ensemble = fit_ensemble(command, held_out, metric)
    claim_run(run, command.again, **identity)
    write_run(command, held_out, metric, ensemble)
    write_test(command, competition, form, ensemble)
    outputs = [run.oof, run.oof_table, run.cv, run.blend, run.test, run.submission]
    write_stamp(run.stamp("blend"), inputs, outputs)
    print_result(command, metric.name, ensemble)
    return 0


def fit_ensemble(command: CombineCommand, held_out: pd.DataFrame, metric: Metric) -> "Ensemble":
    """Return the ensemble of the runs, by their out-of-fold predictions."""
    # imported here: scikit-learn takes seconds, and a stage that is up to date does not need it
    from foldsmith.comparison.ensemble import build_ensemble
    from foldsmith.evaluation.predictions import stack_predictions

    if len(held_out) < 2:
        raise InputError(
            f"a blend needs at least two held-out images, and the runs have {len(held_out)}; hold out more."
        )
    task = load_task(command.members[0]).with_metric(metric)
    folds, files = held_out["fold"].to_numpy(np.int64), [member.oof for member in command.members]
    predictions = stack_predictions(files, list(held_out["path"]), task)
    return build_ensemble(task, task.targets(held_out), folds, predictions, metric, command.seed)


def write_run(command: CombineCommand, held_out: pd.DataFrame, metric: Metric, ensemble: "Ensemble") -> None:
    """Write the files of validate.py, and blend.json."""
    from foldsmith.evaluation.baseline import baseline_figures
    from foldsmith.evaluation.cross_validation import cross_validation
    from foldsmith.evaluation.decisions import as_json, fit_decision
    from foldsmith.evaluation.predictions import related_images, save_oof

    run, members = command.run, command.members
    copy_tables(members[0], run)
    atomic_copy(members[0].folds, run.folds)
    save_oof(run, held_out, ensemble.predictions, ensemble.task)
    task, folds = ensemble.task, held_out["fold"].to_numpy(np.int64)
    targets, groups = task.targets(held_out), related_images(members[0], held_out)
    figures = cross_validation(targets, folds, ensemble.predictions, metric.name, task, groups)
    figures |= baseline_figures(figures, targets, task.prior(task.targets(load_folds(run.folds))), task)
    seeds = {"seed": command.seed, "fold_seed": load_json(members[0].cv)["fold_seed"]}
    figures |= digest_of_metric(metric.name)
    names = list(load_classes(run.classes)["class_name"])
    decision = fit_decision(task, metric, targets, ensemble.predictions, folds, names)
    figures["decision"] = as_json(decision)
    if decision and (decision.kept or ensemble.value is None):  # after an adjustment a second one is no news
        say(f"blend: {decision.sentence}")
    save_json(run.cv, {"competition": command.competition, "run": command.name, **figures, **seeds})
    facts = ensemble.facts(command.member_names)
    for entry, member, digests in zip(facts["runs"], members, digests_of(members), strict=True):
        fold_runs = [load_json(member.fold_run(fold)) for fold in trained_folds(member)]
        entry |= {"training_seconds": training_seconds(member, fold_runs), "digests": digests}
    provenance = {"seed": command.seed, "command": command.line("blend"), "versions": versions()}
    save_json(run.blend, {"metric": metric.name, **facts, **provenance})


def write_test(
    command: CombineCommand, competition: Competition, form: SubmissionForm, ensemble: "Ensemble"
) -> None:
    """Write test.npz and submission.csv."""
    from foldsmith.evaluation.decisions import decider, decision_of
    from foldsmith.evaluation.predictions import stack_predictions

    run, members = command.run, command.members
    paths, task = load_npz(members[0].test)["path"], ensemble.task
    stacked = stack_predictions([member.test for member in members], paths.tolist(), task)
    test = {"path": paths, task.predictions_key: ensemble.predict(stacked)}
    save_npz(run.test, **test)
    prior = task.prior(task.targets(load_folds(run.folds)))
    decision = decision_of(load_json(run.cv))
    decide = decider(decision, task) if decision else None
    for line in save_submission(run.submission, form, test, prior, competition, decide):
        say(f"blend: {line}")


def print_result(command: CombineCommand, metric: str, ensemble: "Ensemble") -> None:
    """Print scores and weights of the runs, and the gains with their standard errors."""
    names, blend = command.member_names, ensemble.blend
    rows = [
        [name, f"{score:.4f}", f"{weight:.2f}"]
        for name, score, weight in zip(names, ensemble.scores, blend.weights, strict=True)
    ]
    rows.append(["their blend, cross-fitted", f"{ensemble.score:.4f}", ""])
    show_table(f"{command.competition}, {metric}, out-of-fold", ["run", "score", "weight"], rows)
    best, gain = names[ensemble.best], ensemble.gain
    figures = with_error(f"{gain.difference:+.4f}", gain.standard_error)
    say(f"blend: gain over {best} {figures} (standard error)")
    if not ensemble.blended:
        say(f"blend: no gain beyond one standard error: the submission uses {best} alone")
    if ensemble.adjustment is not None:
        gain, verdict = ensemble.adjustment_gain, "not applied" if ensemble.value is None else "applied"
        figures = with_error(f"{gain.difference:+.4f}", gain.standard_error)
        say(f"blend: {ensemble.adjustment.name} on top, gain {figures}: {verdict}")
    say(f"blend: {command.run.blend}, {command.run.submission} (checked)")


if __name__ == "__main__":
    run_main(main)
