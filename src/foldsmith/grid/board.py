"""The table of a grid while it runs: in the terminal, and as grid.html."""

import time
from collections.abc import Sequence
from pathlib import Path

from foldsmith.grid.driver import DONE, STOPPED, WAITING, Grid, Progress
from foldsmith.process.files import atomic_write, load_json, save_json
from foldsmith.process.terminal import in_time, show_table
from foldsmith.report.page import build_environment

HEADER = ("run", "state", "folds", "score so far", "where", "why")
MOST_ROWS = 40  # in the terminal
EVERY = 60.0  # seconds between two tables


class Board:
    """Shows a grid every minute, and at its end: a table in the terminal, and grid.html and grid.json.

    Runs of earlier batches, and of earlier grids in grid.json, stay.
    """

    def __init__(self, folder: Path, title: str, line: str) -> None:
        self._folder, self._title, self._line = folder, title, line
        self._shown = -EVERY
        self._rows: dict[str, list[str]] = {}

    def show(self, grid: Grid, is_last: bool = False) -> None:
        """Show the table, unless it was shown within the last minute and this is not the last time."""
        now = time.monotonic()
        if now - self._shown < EVERY and not is_last:
            return
        self._shown = now
        self._rows |= {name: row_of(progress) for name, progress in grid.progress.items()}
        rows = list(self._rows.values())
        status = status_of(rows, None if is_last else grid.seconds_left())
        show_table(f"{self._title}: {status}", HEADER, shortened(rows))
        page = build_environment().get_template("grid.html")
        with atomic_write(self._folder / "grid.html") as temporary:
            text = page.render(
                title=self._title, status=status, header=HEADER, rows=rows, command=self._line,
                written=time.strftime("%Y-%m-%d %H:%M"), over=is_last,
            )  # fmt: skip
            temporary.write_text(text, encoding="utf-8")
        states = self._folder / "grid.json"
        held = load_json(states) if states.is_file() else {}
        own = {name: {"state": p.state, "reason": p.reason} for name, p in grid.progress.items()}
        save_json(states, {**held, **own})


def shortened(rows: Sequence[list[str]]) -> list[list[str]]:
    """Return at most MOST_ROWS rows for the terminal, runs at work first, and a row that counts the rest."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    order = sorted(rows, key=lambda row: row[1] in (WAITING, DONE, STOPPED))
    left = len(rows) - MOST_ROWS
    return [*order[:MOST_ROWS], [f"and {left} more, in grid.html", *[""] * (len(HEADER) - 1)]]


def row_of(progress: Progress) -> list[str]:
    """Return the cells of a run below HEADER."""
    hosts = sorted(set(progress.where.values()))
    return [
        progress.run.name,
        progress.state,
        f"{len(progress.trained)} of {len(progress.run.folds)}",
        "–" if progress.score is None else progress.score.in_words,
        ", ".join(hosts),
        progress.reason,
    ]


def status_of(rows: Sequence[Sequence[str]], seconds_left: float | None) -> str:
    """Return how many runs are in which state, and the time left."""
    states = [row[1] for row in rows]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    left = f"; about {in_time(seconds_left)} left" if seconds_left else ""
    return f"{len(rows)} run{'s' if len(rows) > 1 else ''}, {', '.join(counts)}{left}"
