"""The leaderboard of a competition's runs as one HTML file, in the report's style."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from foldsmith.process.files import atomic_write
from foldsmith.report.page import build_environment

# column of `ranked` -> its heading on the page
KAGGLE_COLUMNS = {
    "public_score": "Public score",
    "public_minus_score": "Public minus score",
    "private_score": "Private score",
}


def write_leaderboard(
    path: Path,
    competition: str,
    ranked: pd.DataFrame,
    pairs: pd.DataFrame,
    notes: Sequence[str],
    credit_name: str = "accuracy",
) -> None:
    """Write the page to `path`, whole or not at all.

    `ranked`, `pairs` and `notes` are the results of `rank_runs`, `compare_runs` and `notes_on`. `credit_name`
    says what pairs are compared by.
    """
    page = (
        build_environment()
        .get_template("leaderboard.html")
        .render(
            competition=competition,
            metric=ranked["metric"].iloc[0],
            runs=ranked.to_dict("records"),
            pairs=pairs.to_dict("records"),
            notes=notes,
            kaggle={column: title for column, title in KAGGLE_COLUMNS.items() if column in ranked},
            credit=credit_name[:1].upper() + credit_name[1:],
        )
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
