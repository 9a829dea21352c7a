"""Compare the runs of a competition on the same images: leaderboard.csv, pairs.csv, leaderboard.html.

.venv/bin/python src/compare.py output/tiny80
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from foldsmith.process.exit import run_main
from foldsmith.process.terminal import format_error, format_score, say, show_table
from foldsmith.run.command import WordParser
from foldsmith.run.tables import save_table

if TYPE_CHECKING:
    import pandas as pd

# column of the leaderboard -> its heading on the terminal
KAGGLE_COLUMNS = {
    "public_score": "public",
    "public_minus_score": "public - score",
    "private_score": "private",
}


def main(argv: list[str] | None = None) -> int:
    typed = read_words(argv)
    competition: Path = typed.folder
    # imported here: scipy and scikit-learn take seconds, and --help does not need them
    from foldsmith.comparison import leaderboard
    from foldsmith.report.leaderboard_page import write_leaderboard

    runs = leaderboard.find_runs(competition)
    ranked = leaderboard.rank_runs(runs)
    order = {name: rank for rank, name in enumerate(ranked["run"])}
    pairs = leaderboard.compare_runs(sorted(runs, key=lambda run: order[run.name]))
    notes = [
        *leaderboard.gains_of_corrections(runs),
        *leaderboard.notes_on(runs, leaderboard.find_stale(competition)),
        *leaderboard.notes_of_grid(competition),
        *leaderboard.earlier_submissions(competition),
    ]
    board, page = competition / "leaderboard.csv", competition / "leaderboard.html"
    save_table(board, ranked)
    save_table(competition / "pairs.csv", pairs)
    shown = pairs if typed.all_pairs else leaderboard.pairs_with_best(pairs, ranked)
    if len(shown) < len(pairs):
        notes = [
            f"pairs without the best run, {len(pairs) - len(shown)}, are in pairs.csv; --all-pairs shows "
            "them.",
            *notes,
        ]
    credit = runs[0].credit_name
    write_leaderboard(page, competition.name, ranked, shown, notes, credit)
    show_ranks(competition.name, ranked)
    show_pairs(shown, credit)
    for note in notes:
        say(f"compare: {note}")
    say(f"compare: {board}, {page}")
    return 0


def show_ranks(competition: str, ranked: "pd.DataFrame") -> None:
    """Print the runs, the best first; Kaggle's scores beside their own, where there are any."""
    kaggle = {column: heading for column, heading in KAGGLE_COLUMNS.items() if column in ranked}
    show_table(
        f"{competition}, {ranked['metric'].iloc[0]}",
        [
            "run",
            "score",
            "± error",
            *kaggle.values(),
            "images",
            "folds",
            "seconds",
            "differs",
        ],
        [
            [
                row.run,
                format_score(row.score),
                format_error(row.standard_error),
                *(format_score(getattr(row, column)) for column in kaggle),
                f"{row.images:,}",
                str(row.folds),
                f"{row.seconds:,.0f}",
                row.differs,
            ]
            for row in ranked.itertuples()
        ],
    )


def show_pairs(pairs: "pd.DataFrame", credit: str) -> None:
    """Print the comparisons of pairs of runs; `credit` says what is compared."""
    show_table(
        f"pairs on the same images, {credit}",
        ["a", "b", "images", "b minus a", "± error", "only a, only b", "p", "verdict"],
        [
            [
                row.a,
                row.b,
                f"{row.images:,}",
                f"{row.difference:+.4f}",
                format_error(row.standard_error),
                f"{row.only_a:,}, {row.only_b:,}",
                f"{row.p_adjusted:.2g}",
                row.verdict,
            ]
            for row in pairs.itertuples()
        ],
    )


def read_words(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line: `folder`, that of the runs, and `all_pairs`. Raise InputError."""
    parser = WordParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  .venv/bin/python src/compare.py output/tiny80\n"
        "  .venv/bin/python src/compare.py elsewhere/tiny80        # runs with --output elsewhere\n\n"
        "p is that of McNemar's exact test on the images that both runs held out, for sets and numbers of "
        "the paired t test, adjusted for all pairs (Holm).",
    )
    parser.add_argument("folder", metavar="OUTPUT/COMPETITION", type=Path, help="the folder of the runs")
    parser.add_argument(
        "--all-pairs", action="store_true", help="show every pair of runs, not only the best against each"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_main(main)
