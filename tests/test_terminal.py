"""Lines, bars and tables: always one line, drawn on a terminal, plain or silent elsewhere."""

import io

import pytest
import rich.console
from hypothesis import given
from hypothesis import strategies as st

from foldsmith.process.terminal import printable, progress, say, show_table


@given(st.text())
def test_a_line_contains_no_terminal_control_sequences(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()


def test_invisible_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say("train/one\ntwo \x1b[2J \u202egnp.png ± 猫")
    assert capsys.readouterr().out == "train/one\\ntwo \\x1b[2J \\u202egnp.png ± 猫\n"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Simulate a terminal of 100 columns; return what is sent to it."""
    sent, console = io.StringIO(), rich.console.Console
    drawn = {"file": sent, "force_terminal": True, "width": 100, "color_system": None}
    monkeypatch.setattr(rich.console, "Console", lambda: console(**drawn))
    return sent


def test_without_a_terminal_a_bar_is_silent_and_a_table_is_aligned_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress("reading", 3, "images") as advance:
        for _ in range(3):
            advance(1)
    assert capsys.readouterr().out == ""
    show_table("two runs", ["run", "score"], [["a", "0.5"], ["longer [bold]", "0.75"]])
    assert capsys.readouterr().out.splitlines() == [
        "two runs", "  run            score", "  a              0.5", "  longer [bold]  0.75",
    ]  # fmt: skip


def test_a_nested_bar_of_the_same_unit_advances_the_outer_one(terminal: io.StringIO) -> None:
    with progress("all folds", 20, "images"):
        for fold in range(2):
            with progress(f"fold {fold}", 10, "images") as advance, progress("parts", 5, "steps") as step:
                advance(10)
                step(5)
    drawn = terminal.getvalue()
    assert "all folds" in drawn and "fold 1" in drawn and "20/20" in drawn


def test_a_bar_ends_with_its_block_even_if_that_fails(terminal: io.StringIO) -> None:
    with pytest.raises(KeyError), progress("outer", 2, "images"), progress("inner", 2, "images"):
        raise KeyError
    with progress("next", 4, "images") as advance:
        advance(4)
    assert "4/4" in terminal.getvalue()


def test_cells_of_a_table_are_text_and_never_markup(terminal: io.StringIO) -> None:
    show_table("runs", ["name"], [["[red]loud[/red]"]])
    assert "[red]loud[/red]" in terminal.getvalue() and "┃ name" in terminal.getvalue()
