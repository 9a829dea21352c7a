"""Terminal output: lines, tables and progress bars."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# the bars shown at present, the outermost first, with their units; rich allows one live display a terminal
_shown: list[tuple["Progress", "TaskID", str]] = []
_hidden = False  # whether another process shows the bars


def hide_bars() -> None:
    """Show no bars in this process from now on: another process of the same terminal does."""
    global _hidden
    _hidden = True


def say(line: str) -> None:
    """Print a line at once, with unprintable characters escaped."""
    print(printable(line), flush=True)


def format_score(value: float | None) -> str:
    """Return four decimals, as leaderboards show them; a dash where there is no value."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def in_time(seconds: float) -> str:
    """Return a duration in words, such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_error(value: float | None) -> str:
    """Return a standard error with four decimals, or one digit if it is smaller; a dash if unknown."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4f}" if value >= 0.00005 else f"{value:.1g}"


def with_error(score: str, error: float | None) -> str:
    """Return `score ± error`; the score alone where its error is unknown."""
    return score if format_error(error) == "–" else f"{score} ± {format_error(error)}"


def printable(text: str) -> str:
    """Return the text with line breaks and control characters escaped: file names may contain any."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)` of a bar with speed and remaining time; without a terminal it shows nothing.

    Nested bars of the same unit advance together: each epoch's bar advances the overall bar.
    """
    with _bars() as bars:
        task = bars.add_task(description, total=total, rate="")
        _shown.append((bars, task, unit))

        def advance(count: int) -> None:
            if bars.disable:  # nobody sees it, and the speed of the last 1,000 steps takes a millisecond
                return
            for _, task_id, _ in [entry for entry in _shown if entry[2] == unit]:
                speed = next(bar.speed for bar in bars.tasks if bar.id == task_id)
                bars.update(task_id, advance=count, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        try:
            yield advance
        finally:
            bars.refresh()  # so that a short bar appears at least once, complete
            _shown.pop()
            bars.remove_task(task)


@contextmanager
def _bars() -> Iterator["Progress"]:
    """Yield the display that is live already, or a new one."""
    if _shown:
        yield _shown[0][0]
        return
    # imported here: rich takes a tenth of a second, which a stage that is up to date should not pay
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    silent = _hidden or not console.is_terminal
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=silent) as bars:
        yield bars


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, otherwise as aligned lines that other programs can read."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if console.is_terminal:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*map(Text, row))  # text from users is never parsed as markup
        console.print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    say(title)
    for row in (columns, *rows):
        say("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
