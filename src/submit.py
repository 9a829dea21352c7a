"""Write submission.csv and check it against the sample submission and the test folder.

.venv/bin/python src/submit.py input/tiny80 --recipe resnet64
.venv/bin/python src/submit.py output/tiny80/resnet64 output/tiny80/default    # the mean of several runs
.venv/bin/python src/submit.py output/tiny80/resnet64 --kaggle SLUG -m TEXT    # and wait for its score

--kaggle SLUG sends the submission of one run to a contest of Kaggle, -m TEXT with this message.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
    require_combined,
    require_same_classes,
    require_test,
    starts_with_runs,
)
from foldsmith.competition.folder import Competition, read_competition
from foldsmith.competition.found import load_found
from foldsmith.competition.submission import SubmissionForm, read_submission_form, save_submission
from foldsmith.errors import InputError
from foldsmith.evaluation.predictions import average_predictions, stack_predictions
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, load_json, load_npz, save_json, save_npz
from foldsmith.process.terminal import say
from foldsmith.run.command import Command, read_command
from foldsmith.run.identity import load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import (
    check_claim,
    check_identity,
    check_use,
    claim_run,
    digests_of_trained,
    is_current,
    require_from,
    write_stamp,
)
from foldsmith.run.tables import load_classes, load_folds, load_samples, load_task


@dataclass(frozen=True)
class Plan:
    """What a run's submission.csv is written from; `inputs` are those of its stamp."""

    competition: Competition
    form: SubmissionForm
    decision: dict[str, Any] | None
    inputs: dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if any(word.partition("=")[0] == "--kaggle" for word in arguments):
        return submit_to_kaggle(arguments)
    if starts_with_runs(arguments):
        return submit_average(read_combine_command(arguments, __doc__, "average"))
    command = read_command(arguments, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    trained = digests_of_trained(run, command.folds_to_use)
    require_from(run.stamp("infer"), "infer", trained)
    num_predicted, num_test = count_predicted(run)
    if num_predicted < num_test:
        for stale in (run.submission, run.stamp("submit")):
            stale.unlink(missing_ok=True)
        say(f"submit: no submission, as only {num_predicted:,} of {num_test:,} test images are predicted "
            "(--limit-test); the same command without it writes one")  # fmt: skip
        return 0
    plan = make_plan(command, trained)
    if not command.again and is_current(run.stamp("submit"), plan.inputs):
        say(f"submit: {run.submission} is up to date")
        return 0
    task = load_task(run)
    submit(run, plan.competition, plan.form, task.prior(task.targets(load_folds(run.folds))), plan.decision)
    write_stamp(run.stamp("submit"), plan.inputs, [run.submission], trained=trained)
    return 0


def count_predicted(run: RunPaths) -> tuple[int, int]:
    """Return how many test images are predicted, and how many there are."""
    return len(load_npz(run.test)["path"]), len(load_samples(run.test_samples))


def make_plan(command: Command, trained: dict[str, str]) -> Plan:
    """Return what the submission of a predicted run is written from. `trained` are its folds' digests."""
    run = command.run
    competition, classes = read_competition(command.folder, run.cache_root), load_classes(run.classes)
    form = read_submission_form(competition, classes, load_task(run), load_found(run.found).cell_form)
    decision = read_decision(run, trained)
    decided = {"decision": decision} if decision else {}
    inputs = {
        "test": digest_of_file(run.test),
        "found": digest_of_file(run.found),
        "trained": trained,
        **form.content,
        **decided,
    }
    return Plan(competition, form, decision, inputs)


def submit_to_kaggle(arguments: Sequence[str]) -> int:
    """Send a run's submission.csv, which must be up to date, to Kaggle, and wait for its score."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--kaggle", metavar="SLUG")
    parser.add_argument("-m", "--message", metavar="TEXT", default="")
    parser.add_argument("--again", action="store_true")
    try:
        typed, words = parser.parse_known_args(arguments)  # the other words are those of the run
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; write src/submit.py RUN --kaggle SLUG -m TEXT.") from error
    if not typed.message.strip():
        raise InputError("--kaggle takes a text that tells the submission apart: -m TEXT.")
    if starts_with_runs(words):
        raise InputError(
            "--kaggle sends one run; src/submit.py RUN RUN writes the mean of several as a run of its own."
        )
    # imported here: no other submission needs them
    from foldsmith.deployment.kaggle_client import check_slug, connect
    from foldsmith.deployment.submitting import submit_run
    from foldsmith.process.locks import lock_until_exit

    check_slug(typed.kaggle)
    run = current_submission(words)
    if run.root.parent.name != typed.kaggle:
        say(f"submit: the run is of {run.root.parent.name}, and goes to {typed.kaggle}")
    lock_until_exit(run.kaggle.with_name(".kaggle.lock"), f"the submissions of {run.root}")
    submit_run(connect(), run, typed.kaggle, typed.message.strip(), typed.again)
    return 0


def current_submission(words: Sequence[str]) -> RunPaths:
    """Return the run of these words. Raise InputError unless its submission.csv is there and up to date."""
    if not words or words[0].startswith("-"):  # the default of other stages, the demo, is no contest
        raise InputError("--kaggle needs the run first: src/submit.py output/COMPETITION/RUN --kaggle SLUG …")
    run = RunPaths(Path(words[0]))
    if "made_of" in load_identity(run).get("recipe", {}):
        require_combined(run)
        return run
    command = read_command(list(words), __doc__)
    run = command.run
    check_identity(run, **command.identity)  # the run stays unlocked: a score may take long
    check_use(run, **command.identity)
    trained = digests_of_trained(run, command.folds_to_use)
    require_from(run.stamp("infer"), "infer", trained)
    num_predicted, num_test = count_predicted(run)
    if num_predicted < num_test or not is_current(run.stamp("submit"), make_plan(command, trained).inputs):
        raise InputError(f"{run.submission} is missing or stale; run ./run.sh {run.root} first.")
    return run


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
    found = digest_of_file(members[0].found)
    inputs = {"members": digests, "validations": validations_of(command), "found": found, **form.content}
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
