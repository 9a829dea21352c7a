"""Submission cells of every kind: in the words of the sample, filled, and read back independently."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import naming
from hypothesis import given, settings
from hypothesis import strategies as st

from foldsmith.errors import InputError
from foldsmith.tasks import build_task
from foldsmith.tasks.cells import default_cells, read_cells
from foldsmith.tasks.task import CellForm, Cells

SAMPLE = Path("sample_submission.csv")
WORDS = st.lists(
    st.sampled_from(["cat", "dog", "eel", "NA", "None", "true", "007", "1.0", "new_whale"]),
    min_size=2,
    max_size=6,
    unique=True,
)


def classes_of(words: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"label": range(len(words)), "category": words, "class_name": words})


def cells_of(task: str, words: list[str], sample: dict[str, list[str]], kind: str = "", **form: str) -> Cells:
    built = build_task(task, len(words))
    return read_cells(
        built, SAMPLE, pd.DataFrame(sample, dtype=str), classes_of(words), CellForm(kind, **form)
    )


def written(cells: Cells, predictions: np.ndarray, decisions: np.ndarray | None = None) -> list[list[str]]:
    """Return the rows of the file that the cells fill, after their own check."""
    table = cells.fill(predictions, decisions)
    table.insert(0, "id", [f"{row}.png" for row in range(len(table))])
    rows = [line.split("\t") for line in table.to_csv(sep="\t", index=False, header=False).splitlines()]
    cells.check(SAMPLE, rows)
    return [row[1:] for row in rows]


def draw(num_images: int, num_classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1] * num_classes, size=num_images).astype(np.float32)


@settings(max_examples=40)
@given(WORDS, st.integers(0, 99), st.integers(1, 5))
def test_ranked_cells_are_the_most_probable_classes_in_order(words: list[str], seed: int, k: int) -> None:
    predictions, length = draw(5, len(words), seed), min(k, len(words))
    sample = {"label": [" ".join(words[:k])] * 5}
    rows = written(cells_of("multiclass", words, sample, "ranked", metric=f"map_at_{k}"), predictions)
    for (cell,), values in zip(rows, predictions.tolist(), strict=True):
        assert (
            cell.split()
            == [word for _, word in sorted(zip(values, words, strict=True), reverse=True)][:length]
        )


@settings(max_examples=40)
@given(WORDS, st.integers(0, 99), st.sampled_from([" ", ",", ", ", ";", "|"]))
def test_sets_are_the_decided_labels_between_the_separators_of_the_sample(
    words: list[str], seed: int, separator: str
) -> None:
    predictions = np.random.default_rng(seed).random((6, len(words))).astype(np.float32)
    cells = cells_of("multilabel", words, {"tags": [separator.join(words)] * 6}, "labels")
    for (cell,), values in zip(written(cells, predictions), predictions.tolist(), strict=True):
        labels = cell.strip('"').split(separator) if cell.strip('"') else []
        assert labels == [word for word, value in zip(words, values, strict=True) if value >= 0.5]


@settings(max_examples=30)
@given(WORDS, st.data())
def test_independent_columns_may_be_a_subset_in_any_order(words: list[str], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(words), min_size=2, unique=True))
    predictions = np.random.default_rng(0).random((4, len(words))).astype(np.float32)
    cells = cells_of("multilabel", words, {word: ["0"] * 4 for word in asked}, "probabilities")
    rows = np.array(written(cells, predictions), dtype=float)
    np.testing.assert_allclose(rows, predictions[:, [words.index(word) for word in asked]], rtol=1e-6)
    assert len(cells.notes) == (len(asked) < len(words))


def test_a_binary_probability_is_that_of_the_second_class() -> None:
    predictions = draw(4, 2)
    cells = cells_of("binary", ["dog", "cat"], {"cat": ["0"] * 4}, "probabilities")
    np.testing.assert_allclose(
        np.array(written(cells, predictions), float)[:, 0], predictions[:, 1], rtol=1e-6
    )


def test_values_follow_the_columns_of_the_sample() -> None:
    values = np.array([[1.5, -2.0], [3.0, 4.0]], np.float32)
    cells = cells_of("regression", ["x", "y"], {"y": ["0", "0"], "x": ["0", "0"]}, "values")
    assert written(cells, values) == [["-2.0", "1.5"], ["4.0", "3.0"]]


def test_labels_in_columns_are_zero_and_one_in_the_words_of_the_sample() -> None:
    sample = {"a": ["False", "True"], "b": ["True", "False"]}
    cells = cells_of("multilabel", ["b", "a"], sample, "labels")
    assert written(cells, np.array([[0.9, 0.1], [0.2, 0.7]])) == [["False", "True"], ["True", "False"]]


@pytest.mark.parametrize(
    ("words", "sample", "expected"),
    [
        (["0.0", "1.0"], ["0"], ["0", "1"]),
        (["0", "1"], ["1.0"], ["0.0", "1.0"]),
        (["0", "1"], ["False"], ["False", "True"]),
        (["Cat", "Dog"], ["cat"], ["cat", "dog"]),
        (["night_owl", "eel"], ["night owl", "eel"], ["night owl", "eel"]),
        (["1", "2", "3"], ["77", "88", "99"], ["1", "2", "3"]),
    ],
)
def test_labels_are_spelled_as_in_the_sample(
    words: list[str], sample: list[str], expected: list[str]
) -> None:
    cells = cells_of("multiclass", words, {"label": sample}, "labels")
    assert cells.words == expected and len(cells.notes) == (words != expected or "77" in sample)


@pytest.mark.parametrize(
    ("task", "words", "sample", "kind", "keys"),
    [
        (
            "multiclass",
            ["cat", "dog"],
            {"dog": ["0", "0"]},
            "labels",
            ["'dog'", 'submission = "probabilities"'],
        ),
        ("multiclass", ["cat", "dog"], {"label": ["cat", "cow"]}, "labels", ["'cow'"]),
        ("multiclass", ["a b", "c"], {"label": ["c", "c"]}, "ranked", ["'a b'", "label_separator"]),
        ("multilabel", ["a b", "c"], {"label": ["c", "c"]}, "labels", ["'a b'", "label_separator"]),
        ("multilabel", ["a", "b"], {"label": ["a c", "b"]}, "labels", ["a c"]),
        ("multilabel", ["a", "b"], {"a": ["0"], "c": ["0"]}, "probabilities", ["c"]),
        ("multilabel", ["a", "b"], {"a": ["0.5"], "b": ["0"]}, "labels", ["0.5", "probabilities"]),
        ("regression", ["x", "y"], {"x": ["0"], "z": ["0"]}, "values", ["z", "label_columns"]),
        ("multiclass", ["a", "b"], {"a": ["0"], "b": ["0"]}, "ranked", ["2 columns"]),
    ],
)
def test_a_sample_that_does_not_fit_the_labels_is_refused(
    task: str, words: list[str], sample: dict, kind: str, keys: list[str]
) -> None:
    with pytest.raises(InputError, match=naming(SAMPLE, *keys)):
        cells_of(task, words, sample, kind)


WRONG = {
    "ranked": (("multiclass", {"y": ["a b"]}), ["", "d", "a a", "a b c", "a  b", "b a "]),
    "labels": (("multilabel", {"y": ["a b"]}), ["d", "a a", "a,b", "a ", " "]),
    "probabilities": (("binary", {"y": ["0.5"]}), ["", "x", "nan", "-0.1", "1.1", "inf"]),
    "values": (("regression", {"y": ["0"]}), ["", "x", "nan", "inf"]),
}


@pytest.mark.parametrize(
    ("kind", "cell"), [(kind, cell) for kind, (_, cells) in WRONG.items() for cell in cells]
)
def test_a_wrong_cell_is_refused_with_its_line(kind: str, cell: str) -> None:
    task, sample = WRONG[kind][0]
    words = {"binary": ["a", "b"], "regression": ["y"]}.get(task, ["a", "b", "c"])
    with pytest.raises(InputError, match=SAMPLE.name):
        cells_of(task, words, sample, kind).check(SAMPLE, [["0.png", cell]])


def test_cells_are_filled_with_decisions_where_there_are_some() -> None:
    predictions = draw(3, 3)
    labels = cells_of("multiclass", ["a", "b", "c"], {"y": ["a", "b", "c"]}, "labels")
    assert written(labels, predictions, np.array([2, 0, 1])) == [["c"], ["a"], ["b"]]
    sets = cells_of("multilabel", ["a", "b", "c"], {"y": ["a b", "c", "a"]}, "labels")
    assert written(sets, predictions, np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]])) == [
        ["a b"],
        ["c"],
        ["a c"],
    ]


def test_without_a_sample_grades_are_those_of_the_task() -> None:
    task, predictions = build_task("ordinal", 3), np.array([[0.45, 0.1, 0.45]], np.float32)
    cells = default_cells(task, classes_of(["0", "1", "2"]), CellForm("labels"))
    assert cells.fill(predictions).iloc[0, 0] == "1"  # the expected grade, not the most probable one


@pytest.mark.parametrize(("task", "kind"), [("multilabel", "labels"), ("multiclass", "ranked")])
@pytest.mark.parametrize("names", [["a", "b c", "d"], ["a, b", "c d", "e"], ["a;b", "c, d", "e f"]])
def test_without_a_sample_cells_of_names_with_separators_can_be_read_back(
    names: list[str], task: str, kind: str
) -> None:
    built, predictions = build_task(task, 3), np.array([[0.9, 0.8, 0.7]], np.float32)
    cells = default_cells(built, classes_of(names), CellForm(kind, metric="map_at_3"))
    cell = cells.fill(predictions).iloc[0, 0]
    cells.check(SAMPLE, [["0.png", cell]])
    separator = next(mark for mark in (" ", ",", ";", "|") if not any(mark in name for name in names))
    assert cell.split(separator) == names


def test_without_a_sample_names_that_have_every_separator_are_refused() -> None:
    with pytest.raises(InputError, match=naming("a b,c;d|e")):
        default_cells(build_task("multilabel", 2), classes_of(["a b,c;d|e", "f"]), CellForm("labels"))
