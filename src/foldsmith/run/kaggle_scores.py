"""kaggle.json: what was submitted of a run to Kaggle, and its scores on the leaderboards."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from foldsmith.process.files import digest_of_file, load_json, save_json
from foldsmith.run.paths import RunPaths

SENDING, PENDING, COMPLETE, REJECTED = "sending", "pending", "complete", "rejected"


@dataclass(frozen=True)
class Submission:
    """A submission: `digest` is that of its submission.csv, `when` the time of sending in UTC.

    `status` is "sending" until Kaggle has confirmed the arrival, then "pending", "complete" or "rejected".
    `reference` is Kaggle's number, 0 if unknown. The private score is known once a contest has ended.
    """

    when: str
    slug: str
    message: str
    digest: str
    status: str = SENDING
    reference: int = 0
    public: float | None = None
    private: float | None = None
    reason: str = ""


def load_submissions(run: RunPaths) -> list[Submission]:
    """Return the submissions of a run, the oldest first."""
    if not run.kaggle.is_file():
        return []
    return [Submission(**entry) for entry in load_json(run.kaggle)]


def save_submissions(run: RunPaths, submissions: Sequence[Submission]) -> None:
    save_json(run.kaggle, [asdict(submission) for submission in submissions])


def scored_submission(run: RunPaths) -> Submission | None:
    """Return the last scored submission of the submission.csv that is there; None without one."""
    scored = [entry for entry in load_submissions(run) if entry.public is not None]
    if not scored or not run.submission.is_file():
        return None
    digest = digest_of_file(run.submission)
    return next((entry for entry in reversed(scored) if entry.digest == digest), None)
