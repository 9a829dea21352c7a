"""What a person sees: plain lines, and a progress bar where there is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def say(line: str) -> None:
    print(printable(line), flush=True)


def printable(text: str) -> str:
    """The text in one line, with what a terminal would obey spelled out: a file may be named anything."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(count)` of a bar with units a second and time left; silent without a terminal."""
    # rich takes a tenth of a second to import, which a stage that is up to date should not pay
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total, rate="")

        def advance(count: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=count, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        yield advance
