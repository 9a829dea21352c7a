"""Our own tables round-trip with any names, and no cell is a formula."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foldsmith.run.tables import (
    load_classes,
    load_folds,
    load_problems,
    load_samples,
    save_table,
    save_table_in_chunks,
)

NAMES = st.text(st.characters(codec="utf-8"), max_size=6) | st.text("=+-@'\t\r\n0.a,\"", max_size=4)


def test_a_table_in_chunks_is_whole_or_not_there(tmp_path: Path) -> None:
    chunks = [pd.DataFrame({"path": [f"{row}.png"], "label": [row]}) for row in range(4)]
    save_table_in_chunks(tmp_path / "whole.csv", chunks)
    save_table(tmp_path / "once.csv", pd.concat(chunks))
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "once.csv").read_bytes()

    def removed() -> Iterator[pd.DataFrame]:
        for chunk in chunks:
            for half in tmp_path.glob(".*.part"):  # as a person, or a process of another machine, may
                half.unlink()
            yield chunk

    with pytest.raises(OSError):
        save_table_in_chunks(tmp_path / "lost.csv", removed())
    assert {path.name for path in tmp_path.iterdir()} == {"whole.csv", "once.csv"}


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=4))
@example([("", "NA"), ("null", "nan"), ("True", "1e5"), ("007", "a\rb"), ("'=1", "''=1"), ("'s", "'")])
def test_texts_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "classes.csv"
    table = pd.DataFrame(rows, columns=["category", "class_name"], dtype=str)
    table.insert(0, "label", range(len(rows)))
    save_table(path, table)
    pd.testing.assert_frame_equal(load_classes(path), table)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_no_cell_of_a_written_table_starts_a_formula(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "problems.csv"
    save_table(path, pd.DataFrame({"path": names, "problem": names, "detail": names, "action": names}))
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    for cell in cells:
        number = cell[:1] in ("+", "-") and cell[1:].strip("0123456789.") == ""
        assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n") or (number and len(cell) > 1)


@pytest.mark.parametrize("name", ["-1", "+2", "-0.5", "cat", "a=b", "'s Gravenhage", "train/=1.png"])
def test_ordinary_names_and_numbers_are_written_unchanged(tmp_path: Path, name: str) -> None:
    save_table(tmp_path / "classes.csv", pd.DataFrame({"label": [0], "class_name": [name]}))
    assert (tmp_path / "classes.csv").read_text() == f"label,class_name\n0,{name}\n"


@pytest.mark.parametrize("load", [load_samples, load_classes, load_problems, load_folds])
def test_an_empty_table_round_trips(load, tmp_path: Path) -> None:
    table = pd.DataFrame(columns=["path", "problem", "detail", "action"])
    save_table(tmp_path / "table.csv", table)
    assert list(load(tmp_path / "table.csv").columns) == list(table.columns)
    assert load(tmp_path / "table.csv").empty
