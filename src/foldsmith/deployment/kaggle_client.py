"""Kaggle's own client: how it is started, what it tells of a contest, and what its errors mean.

Credentials are read by the client alone. Messages have Kaggle's words and no address of a file: it is signed.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.process.terminal import printable

CREDENTIALS = (
    "generate an API token on kaggle.com/settings/api, and put it into ~/.kaggle/access_token or the "
    "variable KAGGLE_API_TOKEN (a legacy key: ~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY)"
)
INSTALL = ".venv/bin/python -m pip install -r requirements-kaggle.txt"
# what Kaggle says in a refusal -> what it means, and what to do
REFUSALS = (
    (r"daily submission|allowance|submission limit", "run the same command tomorrow, by UTC"),
    (r"deadline|has ended|is over|not accepting|closed", "the contest takes nothing any more"),
    (r"rules|must (accept|join)", "accept the rules on {rules}"),
)


@dataclass(frozen=True)
class Contest:
    """What Kaggle's API tells of a contest; `metric` is Kaggle's name of it, `deadline` is in UTC."""

    slug: str
    title: str
    metric: str
    deadline: str
    daily_submissions: int
    takes_notebooks_only: bool
    is_closed: bool
    is_entered: bool

    @property
    def lines(self) -> list[str]:
        """Return the sentences for people."""
        named = f"the metric is '{self.metric}'" if self.metric else "no metric is named"
        until = f", the deadline {self.deadline} UTC" if self.deadline else ""
        daily = f", {self.daily_submissions} submissions a day" if self.daily_submissions else ""
        notebooks = "a code contest: it takes notebooks, no files"
        first = f"{self.title} ({self.slug}): {named}{until}{daily}"
        return [first, notebooks] if self.takes_notebooks_only else [first]


def check_slug(slug: str) -> None:
    """Raise InputError unless a text can be a contest's name in addresses."""
    if re.fullmatch(r"[A-Za-z0-9][\w-]*", slug, re.ASCII):
        return
    found = re.search(r"kaggle\.com/(?:c|competitions)/([\w-]+)", slug)
    meant = f"write {found[1]} alone" if found else "write SLUG of kaggle.com/competitions/SLUG"
    raise InputError(f"'{slug}' is no name of a contest; {meant}.")


def connect() -> Any:
    """Return the client, signed in. Raise InputError if the package or the credentials are missing.

    Its import signs in too, prints how to, and may end the program; none of this is ours.
    """
    try:
        with explaining("", "sign in"), redirect_stdout(io.StringIO()):
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
    except ImportError as error:
        raise InputError(f"Kaggle's client cannot be imported ({error}); {INSTALL}") from error
    except SystemExit:
        raise InputError(f"there are no credentials that Kaggle accepts; {CREDENTIALS}.") from None
    return api


@contextmanager
def explaining(slug: str, doing: str) -> Iterator[None]:
    """Within the block raise InputError or MachineError for errors of the client, in Kaggle's own words.

    `doing` is what is tried with the contest, such as "download". The errors of requests, which comes with
    the client, are OSErrors without a number.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        response = getattr(error, "response", None)
        if response is None:
            raise MachineError(
                f"Kaggle cannot be reached, or the connection was cut ({type(error).__name__})"
            ) from error
        raise refusal(slug, doing, response.status_code, _words_of(error, response)) from error


def refusal(slug: str, doing: str, status: int, said: str) -> InputError | MachineError:
    """Return the error for an answer of Kaggle with this HTTP status and these words."""
    if status == 429 or status >= 500:
        return MachineError(f"Kaggle does not {doing} now (HTTP {status}, {said}); wait a little")
    if status == 401:
        return InputError(f"Kaggle does not accept the credentials ({said}); {CREDENTIALS}.")
    rules = f"https://www.kaggle.com/competitions/{slug}/rules"
    for pattern, remedy in REFUSALS:
        if re.search(pattern, said, re.IGNORECASE):
            return InputError(f"Kaggle does not {doing} {slug}: {said}; {remedy.format(rules=rules)}.")
    if status == 403:
        return InputError(f"Kaggle does not {doing} {slug}: {said}; accept the rules on {rules}.")
    if status == 404:
        return InputError(
            f"Kaggle has no contest '{slug}' ({said}); write SLUG of kaggle.com/competitions/SLUG."
        )
    return InputError(f"Kaggle does not {doing} {slug} (HTTP {status}): {said}")


def _words_of(error: Exception, response: Any) -> str:
    """Return what the body of an answer says, in one line; the status in words if it says nothing."""
    try:
        said = response.json()["message"]
    except (ValueError, KeyError, TypeError):  # not JSON, or another JSON
        said = getattr(response, "reason", "") or type(error).__name__
    return printable(" ".join(str(said).split()))[:300].rstrip(".")


def read_contest(api: Any, slug: str) -> Contest:
    """Return the facts of a contest. Raise InputError if there is none of this name."""
    from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest

    request = ApiGetCompetitionRequest()
    request.competition_name = slug
    with explaining(slug, "tell of"), api.build_kaggle_client() as client:
        answer = client.competitions.competition_api_client.get_competition(request)
    return Contest(
        slug=slug,
        title=printable(answer.title or slug),
        metric=printable((answer.evaluation_metric or "").strip())[:100],
        deadline=f"{answer.deadline:%Y-%m-%d %H:%M}" if answer.deadline else "",
        daily_submissions=answer.max_daily_submissions or 0,
        takes_notebooks_only=bool(answer.is_kernels_submissions_only),
        is_closed=bool(answer.submissions_disabled),
        is_entered=bool(answer.user_has_entered),
    )


def require_entered(contest: Contest) -> None:
    """Raise InputError if the rules of a contest are not accepted: Kaggle gives no file and takes none."""
    if not contest.is_entered:
        raise InputError(
            f"you have not joined {contest.slug}; accept the rules on "
            f"https://www.kaggle.com/competitions/{contest.slug}/rules, and run the same command again."
        )
