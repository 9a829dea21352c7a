"""Submitting a run to Kaggle: sent once, waited for, and kept in kaggle.json."""

import io
import time
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from foldsmith.deployment.kaggle_client import (
    Contest,
    explaining,
    read_contest,
    refusal,
    require_entered,
)
from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.process.files import digest_of_file
from foldsmith.process.terminal import printable, say
from foldsmith.run.kaggle_scores import (
    COMPLETE,
    PENDING,
    REJECTED,
    Submission,
    load_submissions,
    save_submissions,
)
from foldsmith.run.paths import RunPaths

WAIT_SECONDS = 3600.0  # for a score; Kaggle takes seconds for most files
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds between two questions
TIME = "%Y-%m-%dT%H:%M:%SZ"
CLOCKS_DIFFER = timedelta(minutes=10)  # between this machine and Kaggle, at most


def submit_run(api: Any, run: RunPaths, slug: str, message: str, again: bool) -> Submission:
    """Return the scored submission of a run's submission.csv; send it unless it was sent before.

    With `again` it is sent once more. Every step is saved in kaggle.json first, so that a command that was
    killed goes on waiting. Raise InputError if Kaggle refuses or rejects it, MachineError without a score in
    time.
    """
    digest = digest_of_file(run.submission)
    sent = [entry for entry in load_submissions(run) if (entry.slug, entry.digest) == (slug, digest)]
    submission = sent[-1] if sent else None
    if submission and not submission.reference:  # killed while it was sent
        submission = _find(api, run, submission)
    if submission is None or (again and submission.status in (COMPLETE, REJECTED)):
        submission = _send(api, run, Submission(time.strftime(TIME, time.gmtime()), slug, message, digest))
    else:
        say(f"submit: sent to {slug} on {submission.when} as {submission.reference}; --again sends it again")
    return _wait(api, run, submission)


def _send(api: Any, run: RunPaths, submission: Submission) -> Submission:
    """Send submission.csv, and return the submission with Kaggle's number.

    Raise InputError if the contest takes no files, or if Kaggle refuses it.
    """
    slug = submission.slug
    require_open(read_contest(api, slug))
    _keep(run, submission)
    try:
        # the client prints addresses
        with explaining(slug, "take the submission to"), redirect_stdout(io.StringIO()):
            answer = api.competition_submit(str(run.submission), submission.message, slug, quiet=True)
        if answer.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:
            raise MachineError(f"the upload to {slug} failed")
    except InputError:  # refused; after a failure of the service it may have arrived
        _forget(run, submission)
        raise
    if not answer.ref:  # an older service, which gives no number
        found = _find(api, run, submission)
        if found is None:
            raise refusal(slug, "take the submission to", 400, printable(answer.message))
        return found
    say(f"submit: {run.submission} is sent to {slug} as {answer.ref}")
    return _keep(run, replace(submission, status=PENDING, reference=answer.ref))


def require_open(contest: Contest) -> None:
    """Raise InputError if a contest takes no file from this person."""
    if contest.takes_notebooks_only:
        raise InputError(
            f"{contest.slug} is a code contest, which takes no files; src/bundle.py RUN writes a notebook "
            "that predicts there, to submit on Kaggle."
        )
    if contest.is_closed:
        until = f" since {contest.deadline} UTC" if contest.deadline else ""
        raise InputError(f"{contest.slug} takes no submissions any more{until}; choose another contest.")
    require_entered(contest)


def _find(api: Any, run: RunPaths, submission: Submission) -> Submission | None:
    """Return the submission with the number that it has in Kaggle's list; None if it never arrived.

    It is found by its message and its time. One that is not in the list is removed from kaggle.json.
    """
    with explaining(submission.slug, "list the submissions to"):
        listed = api.competition_submissions(submission.slug) or []
    known = {entry.reference for entry in load_submissions(run)}
    earliest = datetime.strptime(submission.when, TIME) - CLOCKS_DIFFER
    for entry in listed:
        same = entry.description == submission.message and entry.file_name == run.submission.name
        if same and entry.ref not in known and entry.date and entry.date >= earliest:
            return _keep(run, replace(submission, status=PENDING, reference=entry.ref))
    _forget(run, submission)
    return None


def _wait(api: Any, run: RunPaths, submission: Submission) -> Submission:
    """Ask for the score until there is one, and return the submission with it; print the scores.

    A number that was just given is not known everywhere at once, and a service may fail for a while: both are
    asked again. Raise InputError if the file is rejected, MachineError after WAIT_SECONDS.
    """
    waited, pause = 0.0, FIRST_PAUSE
    while True:
        submission = _keep(run, _ask(api, submission))
        if submission.status == REJECTED:
            raise InputError(
                f"Kaggle rejected {run.submission} (submission {submission.reference} to {submission.slug}): "
                f"{submission.reason}; correct it, or send it once more with --again."
            )
        if submission.status == COMPLETE:
            private = "" if submission.private is None else f", private {submission.private:g}"
            public = "is not shown" if submission.public is None else f"{submission.public:g}"
            say(f"submit: {submission.slug}: public score {public}{private}; kept in {run.kaggle}")
            return submission
        if waited >= WAIT_SECONDS:
            raise MachineError(
                f"{submission.slug} has not scored submission {submission.reference} within "
                f"{WAIT_SECONDS / 60:.0f} minutes; the same command goes on waiting and sends nothing"
            )
        if not waited:
            say(f"submit: waiting for the score of submission {submission.reference}")
        time.sleep(pause)
        waited, pause = waited + pause, min(pause * 1.5, LONGEST_PAUSE)


def _ask(api: Any, submission: Submission) -> Submission:
    """Return the submission as Kaggle has it now; as it was if Kaggle cannot tell at the moment."""
    try:
        answer = api.get_submission(submission.reference)
    except OSError as error:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if status == 404 or status == 429 or status >= 500:
            return submission
        with explaining(submission.slug, "tell of the submission to"):
            raise
    if answer.status.name == "ERROR":
        reason = printable(" ".join((answer.error_description or "no reason is given").split()))
        return replace(submission, status=REJECTED, reason=reason.rstrip("."))
    if answer.status.name != "COMPLETE":
        return submission
    public, private = _number(answer.public_score), _number(answer.private_score)
    return replace(submission, status=COMPLETE, public=public, private=private)


def _number(text: str | None) -> float | None:
    """Return a score as a number; None where Kaggle shows none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _keep(run: RunPaths, submission: Submission) -> Submission:
    """Save a submission in kaggle.json, in place of its earlier state; return it."""
    entries = load_submissions(run)
    kept = [submission if _is_earlier(entry, submission) else entry for entry in entries]
    if submission not in kept:
        kept.append(submission)
    if kept != entries:
        save_submissions(run, kept)
    return submission


def _forget(run: RunPaths, submission: Submission) -> None:
    """Remove a submission from kaggle.json that did not arrive."""
    save_submissions(run, [entry for entry in load_submissions(run) if not _is_earlier(entry, submission)])


def _is_earlier(entry: Submission, submission: Submission) -> bool:
    """Return whether an entry is the same submission, perhaps before Kaggle gave it a number."""
    same = (entry.when, entry.slug, entry.digest) == (submission.when, submission.slug, submission.digest)
    return same and entry.reference in (0, submission.reference)
