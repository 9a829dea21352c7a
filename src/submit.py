"""Write submission.csv and check it against the sample submission and the test folder.

.venv/bin/python src/submit.py input/tiny80 --recipe resnet64
.venv/bin/python src/submit.py output/tiny80/resnet64 output/tiny80/default    # the mean of several runs
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import sys
from typing import Any

import numpy as np

from foldsmith.comparison.average import fit_average, validations_of
from foldsmith.comparison.members import (
    CombineCommand,
    copy_tables,
    digests_of,
    identity_of,
    read_combine_command,
    read_folder,
    refuse_trained,
    require_same_classes,
    require_test,
    starts_with_runs,
)
from foldsmith.competition.folder import Competition, read_competition
from foldsmith.competition.found import load_found
from foldsmith.competition.submission import SubmissionForm, read_submission_form, save_submission
from foldsmith.evaluation.predictions import average_predictions, stack_predictions
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, load_json, load_npz, save_json, save_npz
from foldsmith.process.terminal import say
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import (
    check_claim,
    claim_run,
    digests_of_trained,
    is_current,
    require_from,
    write_stamp,
)
from foldsmith.run.tables import load_classes, load_folds, load_samples, load_task


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if starts_with_runs(arguments):
        return submit_average(read_combine_command(arguments, __doc__, "average"))
    command = read_command(arguments, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    trained = digests_of_trained(run, command.folds_to_use)
    require_from(run.stamp("infer"), "infer", trained)
    num_predicted, num_test = len(load_npz(run.test)["path"]), len(load_samples(run.test_samples))
    if num_predicted < num_test:
        for stale in (run.submission, run.stamp("submit")):
            stale.unlink(missing_ok=True)
        say(f"submit: no submission, as only {num_predicted:,} of {num_test:,} test images are predicted "
            "(--limit-test); the same command without it writes one")  # fmt: skip
        return 0
    competition, classes = read_competition(command.folder, run.cache_root), load_classes(run.classes)
    task = load_task(run)
    form = read_submission_form(competition, classes, task, load_found(run.found).cell_form)
    decision = read_decision(run, trained)
    decided = {"decision": decision} if decision else {}
    inputs = {"test": digest_of_file(run.test), "trained": trained, **form.content, **decided}
    if not command.again and is_current(run.stamp("submit"), inputs):
        say(f"submit: {run.submission} is up to date")
        return 0
    submit(run, competition, form, task.prior(task.targets(load_folds(run.folds))), decision)
    write_stamp(run.stamp("submit"), inputs, [run.submission], trained=trained)
    return 0


def read_decision(run: RunPaths, trained: dict[str, str]) -> dict[str, Any] | None:
    """Return the fitted decision of cv.json, if it was kept; None for a run that was not validated.

    Raise InputError if cv.json is of other weights.
    """
    if not run.cv.is_file():
        return None
    decision = load_json(run.cv).get("decision")
    if not decision or not decision["kept"]:
        return None
    require_from(run.stamp("validate"), "validate", trained)
    return decision


def submit_average(command: CombineCommand) -> int:
    """Write the mean of several runs' test predictions, equally weighted, as a run of its own."""
    run, members = command.run, command.members
    for member in members:
        require_test(member)
    require_same_classes(members)
    refuse_trained(run)
    identity = identity_of(command, "submit")
    check_claim(run, command.again, **identity)
    competition, classes = read_folder(command), load_classes(members[0].classes)
    task = load_task(members[0])
    form = read_submission_form(competition, classes, task, load_found(members[0].found).cell_form)
    digests = digests_of(members)
    inputs = {"members": digests, "validations": validations_of(command), **form.content}
    if not command.again and is_current(run.stamp("submit"), inputs):
        say(f"submit: {run.submission} is up to date")
        return 0

    paths = load_npz(members[0].test)["path"]
    stacked = stack_predictions([member.test for member in members], paths.tolist(), task)
    claim_run(run, command.again, **identity)
    copies = copy_tables(members[0], run)
    save_npz(run.test, path=paths, **{task.predictions_key: average_predictions(stacked, task)})
    decision, said = fit_average(command, task)
    weighted_runs = [
        {"run": name, "weight": 1 / len(members), "digests": digest}
        for name, digest in zip(command.member_names, digests, strict=True)
    ]
    save_json(run.blend, {"command": command.line("submit"), "runs": weighted_runs, "decision": decision})
    say(f"submit: {run.test}, the mean of {', '.join(command.member_names)}")
    kept = decision if decision and decision["kept"] else None
    if said and not kept:
        say(f"submit: {said}")
    submit(run, competition, form, task.prior(task.targets(load_folds(members[0].folds))), kept)
    write_stamp(run.stamp("submit"), inputs, [*copies, run.test, run.blend, run.submission])
    return 0


def submit(
    run: RunPaths,
    competition: Competition,
    form: SubmissionForm,
    prior: np.ndarray,
    decision: dict[str, Any] | None = None,
) -> None:
    """Write submission.csv from test.npz, and print where the sample and the test folder disagree.

    Labels are those of a fitted `decision`, as cv.json and blend.json hold it; without one those of the task.
    """
    decide = None
    if decision:
        from foldsmith.evaluation.decisions import Decision, decider  # scipy and scikit-learn take seconds

        fitted = Decision(**decision)
        decide = decider(fitted, load_task(run))
        say(f"submit: {fitted.sentence}")
    for line in save_submission(run.submission, form, load_npz(run.test), prior, competition, decide):
        say(f"submit: {line}")
    say(f"submit: {run.submission} ({len(form.ids):,} rows, checked)")


if __name__ == "__main__":
    run_main(main)
