"""The rows of problems.csv and their summary."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldsmith.data.problems import (
    COLUMNS,
    duplicate_rows,
    grey_rows,
    near_duplicate_rows,
    problem_rows,
    summarise,
    unreadable_rows,
)
from foldsmith.process.files import save_csv
from foldsmith.run.tables import load_problems


def index_of(**columns: list) -> pd.DataFrame:
    count = len(columns["path"])
    return pd.DataFrame({"problem": [""] * count, "grey": [False] * count, **columns})


def table_of(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_every_path_gets_a_row_of_the_columns() -> None:
    rows = problem_rows(["train/1.jpg", "train/2.jpg"], "no label in answer.json", "not used")
    assert table_of(rows)["path"].tolist() == ["train/1.jpg", "train/2.jpg"]
    assert {row[1:] for row in rows} == {("no label in answer.json", "", "not used")}
    assert problem_rows([], "nothing", "done") == []


def test_an_unreadable_image_is_left_out_of_training_and_predicted_in_the_test() -> None:
    index = index_of(
        path=["train/1.jpg", "train/2.jpg", "test/1.jpg"], problem=["the file is empty", "", "cut off"]
    )
    assert unreadable_rows(index, ["test/1.jpg"]) == [
        ("train/1.jpg", "unreadable", "the file is empty", "left out"),
        ("test/1.jpg", "unreadable", "cut off", "predicted as the class prior"),
    ]


@pytest.mark.parametrize("count", range(11))
def test_grey_images_are_reported_if_fewer_than_half_are_grey(count: int) -> None:
    grey = [number < count for number in range(10)]
    index = index_of(path=[f"train/{number}.jpg" for number in range(10)], grey=grey)
    grey_paths = [row[0] for row in grey_rows(index)]
    assert grey_paths == ([f"train/{number}.jpg" for number in range(count)] if count < 5 else [])


def test_an_exact_duplicate_is_reported_with_its_consequence() -> None:
    paths = [
        "train/1.jpg",
        "train/2.jpg",
        "train/3.jpg",
        "test/1.jpg",
        "test/2.jpg",
        "test/3.jpg",
        "test/4.jpg",
    ]
    digests = ["x", "x", "x", "x", "y", "y", ""]
    rows = duplicate_rows(paths, digests, {"train/1.jpg": 0, "train/2.jpg": 0, "train/3.jpg": 1})
    assert rows == [
        ("train/2.jpg", "same pixels as another image", "train/1.jpg", "kept in the same fold"),
        (
            "train/3.jpg",
            "same pixels as another image with another label",
            "train/1.jpg",
            "kept in the same fold; check both labels",
        ),
        ("test/1.jpg", "same pixels as a training image", "train/1.jpg", "predicted like any other"),
        ("test/3.jpg", "same pixels as a test image", "test/2.jpg", "predicted like any other"),
    ]


def test_images_that_could_not_be_read_are_no_duplicates_of_each_other() -> None:
    assert duplicate_rows(["train/1.jpg", "train/2.jpg"], ["", ""], {}) == []


ROWS = st.lists(
    st.tuples(
        st.sampled_from([f"train/{number}.jpg" for number in range(9)] + ["train/a, b.jpg"]),
        st.sampled_from(["unreadable", "in test/, but not in the sample", "same pixels as another image"]),
        st.sampled_from(["", "train/x.jpg", "the file is empty"]),
        st.sampled_from(["left out", "kept"]),
    )
)


@given(ROWS)
def test_there_is_one_line_for_each_kind_with_its_count_and_its_first_file(
    rows: list[tuple[str, str, str, str]],
) -> None:
    kinds = list(dict.fromkeys((problem, action) for _, problem, _, action in rows))
    lines = summarise(table_of(rows))
    assert len(lines) == len(kinds)
    for line, kind in zip(lines, kinds, strict=True):
        members = [row for row in rows if (row[1], row[3]) == kind]
        path, problem, detail, action = members[0]
        assert all(words in line for words in (str(len(members)), problem, action, path, detail))


def test_thousands_have_a_comma_and_no_problems_print_no_lines() -> None:
    rows = problem_rows([f"train/{number}.jpg" for number in range(1234)], "no label in a.csv", "not used")
    assert summarise(table_of(rows)) == ["no label in a.csv: 1,234 files, not used (first: train/0.jpg)"]
    assert summarise(table_of([])) == []


def test_a_detail_that_looks_like_a_number_round_trips(tmp_path: Path) -> None:
    save_csv(tmp_path / "problems.csv", table_of([("train/7.jpg", "unreadable", "007", "left out")]))
    assert load_problems(tmp_path / "problems.csv")["detail"].tolist() == ["007"]


def test_a_near_duplicate_is_reported_with_the_first_image_of_its_group() -> None:
    paths = [
        "train/1.jpg",
        "train/2.jpg",
        "train/3.jpg",
        "train/4.jpg",
        "test/1.jpg",
        "test/2.jpg",
        "test/3.jpg",
    ]
    near = ["train/1.jpg", "train/1.jpg", "train/1.jpg", "", "train/1.jpg", "test/2.jpg", "test/2.jpg"]
    rows = near_duplicate_rows(
        paths, near, {"train/1.jpg": 0, "train/2.jpg": 0, "train/3.jpg": 1, "train/4.jpg": 0}
    )
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("train/2.jpg", "near-duplicate of another image", "train/1.jpg"),
        ("train/3.jpg", "near-duplicate of another image with another label", "train/1.jpg"),
        ("test/1.jpg", "near-duplicate of a training image", "train/1.jpg"),
        ("test/3.jpg", "near-duplicate of a test image", "test/2.jpg"),
    ]
    assert rows[1][3].endswith("check both labels") and rows[0][3] in rows[1][3]
