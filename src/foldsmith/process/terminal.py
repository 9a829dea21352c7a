"""What a person sees: plain lines, tables, and progress bars where there is a terminal."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# the bars of this process's terminal, the outermost first, with their units; rich can show only one set
_shown: list[tuple["Progress", "TaskID", str]] = []


_hidden = False  # whether bars are left to another process


def hide_bars() -> None:
    """From here on this process shows no bars: another one of the same terminal does."""
    global _hidden
    _hidden = True


def say(line: str) -> None:
    print(printable(line), flush=True)


def figure(value: float | None) -> str:
    """Return four decimals, as leaderboards show them; a dash where there is no value."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def printable(text: str) -> str:
    """The text in one line, with what a terminal would obey spelled out: a file may be named anything."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(count)` of a bar with units a second and time left; silent without a terminal.

    A bar within another one of the same unit moves that one along: so all folds have one bar besides their
    epochs'.
    """
    with _bars() as bars:
        task = bars.add_task(description, total=total, rate="")
        _shown.append((bars, task, unit))

        def advance(count: int) -> None:
            for _, each, its_unit in [entry for entry in _shown if entry[2] == unit]:
                speed = next(shown.speed for shown in bars.tasks if shown.id == each)
                bars.update(each, advance=count, rate=f"{speed:,.0f} {its_unit}/s" if speed else "")

        try:
            yield advance
        finally:
            bars.refresh()  # a bar that was quick is shown at its end at least
            _shown.pop()
            bars.remove_task(task)


@contextmanager
def _bars() -> Iterator["Progress"]:
    """The bars that are shown already, or new ones."""
    if _shown:
        yield _shown[0][0]
        return
    # rich takes a tenth of a second to import, which a stage that is up to date should not pay
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
    """A table of words: drawn where there is a terminal, else aligned lines that other programs can read."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if console.is_terminal:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*map(Text, row))  # words from outside are never markup
        console.print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    say(title)
    for row in (columns, *rows):
        say("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
