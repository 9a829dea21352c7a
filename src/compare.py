"""Compare the runs of a competition on the same images: leaderboard.csv, pairs.csv, leaderboard.html.

.venv/bin/python src/compare.py output/tiny80
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
from pathlib import Path

from foldsmith.process.exit import run_main
from foldsmith.process.terminal import format_score, say, show_table
from foldsmith.run.command import WordParser
from foldsmith.run.tables import save_table


def main(argv: list[str] | None = None) -> int:
    competition = read_folder(argv)
    # imported here: scipy and scikit-learn take seconds, and --help does not need them
    from foldsmith.comparison.leaderboard import compare_runs, find_runs, find_stale, notes_on, rank_runs
    from foldsmith.report.leaderboard_page import write_leaderboard

    runs = find_runs(competition)
    ranked = rank_runs(runs)
    order = {name: rank for rank, name in enumerate(ranked["run"])}
    pairs = compare_runs(sorted(runs, key=lambda run: order[run.name]))
    notes = notes_on(runs, find_stale(competition))
    board, page = competition / "leaderboard.csv", competition / "leaderboard.html"
    save_table(board, ranked)
    save_table(competition / "pairs.csv", pairs)
    credit = runs[0].credit_name
    write_leaderboard(page, competition.name, ranked, pairs, notes, credit)
    show_table(
        f"{competition.name}, {ranked['metric'].iloc[0]}",
        ["run", "score", "± error", "seconds", "differs"],
        [
            [
                row.run,
                format_score(row.score),
                format_score(row.standard_error),
                f"{row.seconds:,.0f}",
                row.differs,
            ]
            for row in ranked.itertuples()
        ],
    )
    show_table(
        f"pairs on the same images, {credit}",
        ["a", "b", "b minus a", "± error", "only a, only b", "p", "verdict"],
        [
            [
                row.a,
                row.b,
                f"{row.difference:+.4f}",
                format_score(row.standard_error),
                f"{row.only_a:,}, {row.only_b:,}",
                f"{row.p_adjusted:.2g}",
                row.verdict,
            ]
            for row in pairs.itertuples()
        ],
    )
    for note in notes:
        say(f"compare: {note}")
    say(f"compare: {board}, {page}")
    return 0


def read_folder(argv: list[str] | None) -> Path:
    """Parse the command line, and return the folder of the runs. Raise InputError."""
    parser = WordParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  .venv/bin/python src/compare.py output/tiny80\n"
        "  .venv/bin/python src/compare.py elsewhere/tiny80        # runs with --output elsewhere\n\n"
        "p is that of McNemar's exact test on the images that both runs held out, for sets and numbers of the "
        "paired t test, adjusted for all pairs (Holm).",
    )
    parser.add_argument("folder", metavar="OUTPUT/COMPETITION", type=Path, help="the folder of the runs")
    return parser.parse_args(argv).folder


if __name__ == "__main__":
    run_main(main)
