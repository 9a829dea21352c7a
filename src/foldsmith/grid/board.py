"""The table of a grid while it runs: in the terminal, and as grid.html."""

import time
from collections.abc import Sequence
from pathlib import Path

from foldsmith.grid.driver import Grid, Progress
from foldsmith.process.files import atomic_write, save_json
from foldsmith.process.terminal import in_time, show_table
from foldsmith.report.page import build_environment

HEADER = ("run", "state", "folds", "score so far", "where", "why")
EVERY = 60.0  # seconds between two tables


class Board:
    """Shows a grid every minute, and at its end: a table in the terminal, and grid.html and grid.json."""

    def __init__(self, folder: Path, title: str, line: str) -> None:
        self._folder, self._title, self._line = folder, title, line
        self._shown = -EVERY

    def show(self, grid: Grid, at_once: bool = False) -> None:
        """Show the table, unless it was shown within the last minute."""
        now = time.monotonic()
        if now - self._shown < EVERY and not at_once:
            return
        self._shown = now
        rows = [row_of(progress) for progress in grid.progress.values()]
        left = grid.seconds_left()
        status = status_of(rows, left)
        show_table(f"{self._title}: {status}", HEADER, rows)
        page = build_environment().get_template("grid.html")
        with atomic_write(self._folder / "grid.html") as temporary:
            text = page.render(
                title=self._title, status=status, header=HEADER, rows=rows, command=self._line,
                written=time.strftime("%Y-%m-%d %H:%M"), over=all(p.is_over for p in grid.progress.values()),
            )  # fmt: skip
            temporary.write_text(text, encoding="utf-8")
        save_json(
            self._folder / "grid.json",
            {name: {"state": p.state, "reason": p.reason} for name, p in grid.progress.items()},
        )


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
    return f"{len(rows)} runs, {', '.join(counts)}{left}"
