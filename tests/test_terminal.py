"""What a person sees is one line, whatever files are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldsmith.terminal import printable, say


@given(st.text())
def test_a_line_holds_nothing_that_a_terminal_would_obey(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()


def test_what_cannot_be_seen_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    say("train/one\ntwo \x1b[2J \u202egnp.png ± 猫")
    assert capsys.readouterr().out == "train/one\\ntwo \\x1b[2J \\u202egnp.png ± 猫\n"
