"""The submission: the form the sample asks for, filled by image, read back and checked cell by cell."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import naming, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from foldsmith.competition.folder import Competition
from foldsmith.competition.settings import Settings
from foldsmith.competition.submission import (
    check_submission,
    disagreements,
    fill_submission,
    read_submission_form,
    write_submission,
)
from foldsmith.errors import InputError
from foldsmith.tasks import SingleLabel

# categories are not indices, and names are sorted differently from categories
CLASSES = pd.DataFrame(
    {"label": [0, 1, 2], "category": ["3", "7", "20"], "class_name": ["eel", "cat", "dog"]}
)
TASK = SingleLabel(3)
TEST = [f"test/{index}.jpg" for index in range(12)]
LABEL_ROWS = [[index, "3"] for index in range(12)]
UNIFORM = np.full(3, 1 / 3, dtype=np.float32)


def make(
    folder: Path, header: Sequence[str] = (), rows: Sequence = (), test: list[str] = TEST, **settings: str
) -> Competition:
    """Return a competition with this sample submission, or none; no image is opened to fill or check one."""
    if header:
        write_rows(folder / "sample_submission.csv", list(header), list(rows))
    return Competition(folder, Settings(**settings), ["train/0.jpg"], test)


def draw_probabilities(images: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    return {image: draws.dirichlet([0.5] * 3).astype(np.float32) for image in images}


def check(path: Path, competition: Competition) -> list[str]:
    return check_submission(path, read_submission_form(competition, CLASSES, TASK), competition)


def cells_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def submit(folder: Path, competition: Competition, probabilities: dict[str, np.ndarray]) -> list[list[str]]:
    """Fill, write and check a submission; return its lines, read by the csv module."""
    form = read_submission_form(competition, CLASSES, TASK)
    path = folder / "submission.part"  # a submission.csv in the folder would be the form
    write_submission(path, fill_submission(form, probabilities, UNIFORM))
    check(path, competition)
    return cells_of(path)


# --- the form


def test_without_a_sample_the_rows_are_in_natural_order_under_filename_and_class(tmp_path: Path) -> None:
    test = ["test/10.jpg", "test/9.jpg", "test/deep/1.jpg", "test/2.jpg"]
    probabilities = draw_probabilities(test)
    written = submit(tmp_path, make(tmp_path, test=test), probabilities)
    assert written[0] == ["filename", "class"]
    names = ["2.jpg", "9.jpg", "10.jpg", "deep/1.jpg"]
    best = [int(np.argmax(probabilities[f"test/{name}"])) for name in names]
    assert written[1:] == [[name, ["3", "7", "20"][label]] for name, label in zip(names, best, strict=True)]
    notes = read_submission_form(make(tmp_path, test=test), CLASSES, TASK).notes
    assert len(notes) == 1 and "no sample submission" in notes[0]


@pytest.mark.parametrize("used", [["7", "20"], ["3"], ["cat", "eel"], ["dog"]])
@pytest.mark.parametrize("spell", ["{}.jpg", "{}", "test/{}.jpg", "test/{}"])
def test_a_label_column_uses_the_labels_of_the_sample(tmp_path: Path, used: list[str], spell: str) -> None:
    order = [5, 11, 0, 3, 10, 1, 2, 9, 8, 7, 6, 4]
    rows = [[spell.format(index), used[index % len(used)]] for index in order]
    probabilities = draw_probabilities(TEST)
    written = submit(tmp_path, make(tmp_path, ["Image", "Label"], rows), probabilities)
    words = CLASSES["class_name"] if used[0].isalpha() else CLASSES["category"]
    best = [words[int(np.argmax(probabilities[f"test/{index}.jpg"]))] for index in order]
    rows = [[spell.format(index), word] for index, word in zip(order, best, strict=True)]
    assert written == [["Image", "Label"], *rows]


@pytest.mark.parametrize(
    "columns",
    [["3", "7", "20"], ["20", "3", "7"], ["cat", "dog", "eel"], ["eel", "cat", "dog"]],
)
def test_probability_columns_have_the_order_of_the_sample(tmp_path: Path, columns: list[str]) -> None:
    rows = [[f"{index}.jpg", 1, 0, 0] for index in range(12)]
    probabilities = draw_probabilities(TEST)
    written = submit(tmp_path, make(tmp_path, ["id", *columns], rows), probabilities)
    assert written[0] == ["id", *columns]
    position = {"3": 0, "eel": 0, "7": 1, "cat": 1, "20": 2, "dog": 2}
    for name, *cells in written[1:]:
        drawn = probabilities[f"test/{name}"].astype(np.float64)[[position[column] for column in columns]]
        np.testing.assert_allclose([float(cell) for cell in cells], drawn / drawn.sum(), rtol=1e-12)
        assert abs(sum(float(cell) for cell in cells) - 1) < 1e-9


@pytest.mark.parametrize("placeholder", ["0", "", "?", "unknown"])
def test_a_sample_with_only_a_placeholder_uses_the_labels_of_the_label_file_and_says_so(
    tmp_path: Path, placeholder: str
) -> None:
    competition = make(tmp_path, ["id", "label"], [[index, placeholder] for index in range(12)])
    form = read_submission_form(competition, CLASSES, TASK)
    assert form.cells.words == ["3", "7", "20"]
    assert len(form.notes) == 1 and f"'{placeholder}'" in form.notes[0]


def test_labels_that_are_both_numbers_and_names_are_read_as_numbers(
    tmp_path: Path,
) -> None:
    swapped = CLASSES.assign(category=["0", "1", "2"], class_name=["2", "1", "0"])
    competition = make(tmp_path, ["id", "label"], [[index, "0"] for index in range(12)])
    assert read_submission_form(competition, swapped, TASK).cells.words == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("header", "rows", "keys"),
    [
        (["id", "label"], [], []),
        (["id"], [[0]], []),
        (["id", "label"], [[0, "cat"], [1, "cow"], [2, "pig"]], [2, "'cow'", "3, 7, 20"]),
        (["id", "label"], [[0, "0.5"], [1, "0.5"]], ["'0.5'"]),
        (["id", "label"], [[0, "3"], [1, "3"], [0, "7"]], [1, 3, "line"]),
        (["id", "label"], [[0, "3"], [77, "3"]], [1, 2, 77]),
        (["id", "3", "7"], [[0, 1, 0]], [3, 2]),
        (["id", "3", "7", "21"], [[0, 1, 0, 0]], [3, 21]),
        (["id", "3", "cat", "dog"], [[0, 1, 0, 0]], [3]),
        (["id", "3", "7", "20", "width"], [[0, 1, 0, 0, 5]], [3, 4, "width"]),
    ],
)  # fmt: skip
def test_a_sample_that_does_not_fit_is_refused(
    tmp_path: Path, header: list, rows: list, keys: list[object]
) -> None:
    with pytest.raises(InputError, match=naming(tmp_path / "sample_submission.csv", *keys)):
        read_submission_form(make(tmp_path, header, rows), CLASSES, TASK)


def test_a_sample_that_mixes_numbers_and_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sample_submission.csv"):
        read_submission_form(make(tmp_path, ["id", "label"], [[0, "3"], [1, "cat"]]), CLASSES, TASK)


def test_a_sample_without_a_header_is_refused(tmp_path: Path) -> None:
    # its first row would be read as the header, and the first image would get no row
    with pytest.raises(InputError, match="header"):
        read_submission_form(make(tmp_path, ["0", "3"], LABEL_ROWS[1:]), CLASSES, TASK)


@pytest.mark.parametrize("header", [["id", "label"], ["id", "eel", "cat", "dog"]])
def test_names_that_two_classes_share_cannot_be_submitted(tmp_path: Path, header: list[str]) -> None:
    twins = CLASSES.assign(class_name=["cat", "cat", "eel"])
    rows = [[0, *(["cat"] if len(header) == 2 else [1, 0, 0])]]
    with pytest.raises(InputError, match="sample_submission.csv"):
        read_submission_form(make(tmp_path, header, rows), twins, TASK)


def test_the_id_column_of_the_settings_must_come_first(tmp_path: Path) -> None:
    rows = [["3", "0.jpg"], ["7", "1.jpg"]]
    with pytest.raises(InputError, match="'image'"):
        competition = make(tmp_path, ["label", "image"], rows, id_column="image")
        read_submission_form(competition, CLASSES, TASK)


# --- where the sample and the test folder disagree


def test_up_to_one_row_in_a_hundred_without_an_image_gets_the_prior_and_is_reported(tmp_path: Path) -> None:
    test = [f"test/{index}.jpg" for index in range(99)]
    competition = make(tmp_path, ["id", "label"], [[index, "3"] for index in range(100)], test=test)
    form = read_submission_form(competition, CLASSES, TASK)
    assert form.missing_images == ["99"]
    prior = np.array([0.2, 0.3, 0.5])
    certain = {image: np.array([1.0, 0, 0]) for image in test}
    table = fill_submission(form, certain, prior)
    assert table["label"].tolist() == ["3"] * 99 + ["20"]
    write_submission(tmp_path / "submission.csv", table)
    notes = check(tmp_path / "submission.csv", competition)
    assert notes == disagreements(form, competition)
    assert len(notes) == 1 and "1 row" in notes[0] and "prior" in notes[0] and "99" in notes[0]


def test_a_probability_row_without_an_image_is_the_prior(tmp_path: Path) -> None:
    test = [f"test/{index}.jpg" for index in range(99)]
    rows = [[index, 1, 0, 0] for index in range(100)]
    form = read_submission_form(make(tmp_path, ["id", "dog", "cat", "eel"], rows, test=test), CLASSES, TASK)
    table = fill_submission(form, draw_probabilities(test), np.array([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(table.iloc[99, 1:].to_numpy(dtype=float), [0.5, 0.3, 0.2])


def test_more_rows_without_an_image_are_refused(tmp_path: Path) -> None:
    test = [f"test/{index}.jpg" for index in range(98)]
    competition = make(tmp_path, ["id", "label"], [[index, "3"] for index in range(100)], test=test)
    with pytest.raises(InputError, match=naming("sample_submission.csv", 2, 100, 98, 99)):
        read_submission_form(competition, CLASSES, TASK)


def test_test_images_without_a_row_are_reported_in_natural_order(tmp_path: Path) -> None:
    competition = make(tmp_path, ["id", "label"], [[index, "3"] for index in (0, 1, 3)])
    form = read_submission_form(competition, CLASSES, TASK)
    notes = disagreements(form, competition)
    assert (
        len(notes) == 1 and "9 test images" in notes[0] and "test/2.jpg, test/4.jpg, test/5.jpg" in notes[0]
    )
    assert len(fill_submission(form, draw_probabilities(TEST), UNIFORM)) == 3


def test_a_sample_that_matches_the_test_folder_gives_no_notes(tmp_path: Path) -> None:
    competition = make(tmp_path, ["id", "label"], LABEL_ROWS)
    assert disagreements(read_submission_form(competition, CLASSES, TASK), competition) == []


# --- filling


@settings(max_examples=20)
@given(st.permutations(TEST), st.integers(0, 2**20), st.booleans())
def test_predictions_are_matched_by_image_whatever_their_order(
    tmp_path_factory: pytest.TempPathFactory, shuffled: list[str], seed: int, as_probabilities: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "shuffled"
    folder.mkdir(exist_ok=True)
    header = ["id", "dog", "eel", "cat"] if as_probabilities else ["id", "label"]
    rows = [[index, *([0.5, 0.5, 0] if as_probabilities else ["3"])] for index in range(12)]
    form = read_submission_form(make(folder, header, rows), CLASSES, TASK)
    probabilities = draw_probabilities(TEST, seed)
    table = fill_submission(form, {image: probabilities[image] for image in shuffled}, UNIFORM)
    pd.testing.assert_frame_equal(table, fill_submission(form, probabilities, UNIFORM))


def test_an_image_without_a_prediction_is_refused(tmp_path: Path) -> None:
    form = read_submission_form(make(tmp_path, ["id", "label"], LABEL_ROWS), CLASSES, TASK)
    probabilities = draw_probabilities(TEST)
    del probabilities["test/7.jpg"], probabilities["test/10.jpg"]
    with pytest.raises(InputError, match=naming(2, "test/7.jpg", "infer.py")):
        fill_submission(form, probabilities, UNIFORM)


def test_a_nan_prediction_is_refused(tmp_path: Path) -> None:
    # the argmax of NaNs is the first class, which was not predicted
    form = read_submission_form(make(tmp_path, ["id", "label"], LABEL_ROWS), CLASSES, TASK)
    probabilities = {**draw_probabilities(TEST), "test/7.jpg": np.full(3, np.nan)}
    with pytest.raises(InputError, match="test/7.jpg"):
        fill_submission(form, probabilities, UNIFORM)


# --- checking

Cells = list[list[str]]


def set_cell(row: int, column: int, cell: str) -> Callable[[Cells], object]:
    return lambda cells: cells[row].__setitem__(column, cell)


def swap(first: int, second: int) -> Callable[[Cells], object]:
    def change(cells: Cells) -> None:
        cells[first], cells[second] = cells[second], cells[first]

    return change


EITHER: dict[str, tuple[Callable[[Cells], object], str]] = {
    "another id header": (set_cell(0, 0, "Id"), "header"),
    "another value header": (set_cell(0, 1, "Label"), "header"),
    "no header": (lambda cells: cells.pop(0), "header"),
    "one column more": (lambda cells: [row.append("0") for row in cells], "header"),
    "one column less": (lambda cells: [row.pop() for row in cells], "header"),
    "nothing": (lambda cells: cells.clear(), "CSV"),
    "only a header": (lambda cells: cells.__delitem__(slice(1, None)), "0 rows"),
    "a row missing in the middle": (lambda cells: cells.pop(4), "11 rows"),
    "the last row missing": (lambda cells: cells.pop(), "11 rows"),
    "a row more": (lambda cells: cells.append(["12.jpg", *cells[-1][1:]]), "13 rows"),
    "a row twice": (lambda cells: cells.insert(4, list(cells[4])), "13 rows"),
    "two rows in each other's place": (swap(3, 9), "line 4: .*'8.jpg'.*'2.jpg'"),
    "an id twice": (set_cell(5, 0, "0.jpg"), "line 6: .*'0.jpg'.*'4.jpg'"),
    "an id of nothing": (set_cell(12, 0, "99.jpg"), "line 13: .*'99.jpg'.*'11.jpg'"),
    "an id without its extension": (set_cell(1, 0, "0"), "line 2: .*'0'.*'0.jpg'"),
    "an id with a blank": (set_cell(1, 0, " 0.jpg"), "line 2: .*' 0.jpg'"),
    "an empty id": (set_cell(1, 0, ""), "line 2"),
    "a row of the header's words": (lambda cells: cells.__setitem__(1, list(cells[0])), "line 2"),
}  # fmt: skip

LABELS: dict[str, tuple[Callable[[Cells], object], str]] = {
    f"label {cell!r}": (set_cell(7, 1, cell), f"line 8: '{cell}'")
    for cell in ("cow", "", "0", "7", "nan", "Cat", "cat ", "cat,dog")
}

PROBABILITIES: dict[str, tuple[Callable[[Cells], object], str]] = {
    "exchanged columns": (lambda cells: cells[0].__setitem__(slice(1, 3), ["dog", "cat"]), "header"),
    "no number": (set_cell(7, 1, "much"), "not a number"),
    "an empty cell": (set_cell(7, 1, ""), "not a number"),
    "NaN": (set_cell(7, 1, "nan"), "line 8"),
    "negative": (lambda cells: cells[7].__setitem__(slice(1, 4), ["-0.1", "0.6", "0.5"]), "line 8"),
    "over 1": (lambda cells: cells[7].__setitem__(slice(1, 4), ["1.1", "-0.1", "0"]), "line 8"),
    "infinite": (set_cell(7, 1, "inf"), "line 8"),
    "sum not 1": (lambda cells: cells[7].__setitem__(slice(1, 4), ["0.3", "0.3", "0.39"]), "line 8"),
    "sum 0": (lambda cells: cells[7].__setitem__(slice(1, 4), ["0", "0", "0"]), "line 8"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("label", name) for name in [*EITHER, *LABELS]),
        *(("probabilities", name) for name in [*EITHER, *PROBABILITIES]),
    ],
)
def test_every_single_change_of_a_valid_submission_is_refused(tmp_path: Path, form: str, name: str) -> None:
    header = ["id", "label"] if form == "label" else ["id", "cat", "dog", "eel"]
    rows = [[f"{index}.jpg", *(["cat"] if form == "label" else [1, 0, 0])] for index in range(12)]
    competition = make(tmp_path, header, rows)
    cells = submit(tmp_path, competition, draw_probabilities(TEST))
    change, pattern = {**EITHER, **(LABELS if form == "label" else PROBABILITIES)}[name]
    change(cells)
    path = tmp_path / "submission.csv"
    write_rows(path, cells[0] if cells else [], cells[1:])
    with pytest.raises(InputError, match=pattern) as caught:
        check(path, competition)
    assert str(path) in str(caught.value)


@settings(max_examples=60)
@given(st.data())
def test_a_label_submission_with_any_cell_replaced_is_accepted_only_for_another_label(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "cells"
    folder.mkdir(exist_ok=True)
    competition = make(folder, ["id", "label"], [[f"{index}.jpg", "cat"] for index in range(12)])
    cells = submit(folder, competition, draw_probabilities(TEST))
    row, column = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 1))
    words = st.sampled_from(["id", "label", "3", "cat", "dog", "5.jpg"])
    cell = data.draw(words | st.text("abc01. ,\"'\n", max_size=4))
    same = cell == cells[row][column]
    cells[row][column] = cell
    write_rows(folder / "changed.csv", cells[0], cells[1:])
    if same or (row > 0 and column == 1 and cell in ("cat", "dog", "eel")):
        assert check(folder / "changed.csv", competition) == []
    else:
        with pytest.raises(InputError):
            check(folder / "changed.csv", competition)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("id,label", "id, label"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n5.jpg", "\n\n5.jpg"),
    ],
    ids=["a blank in the header", "a byte order mark", "an empty line"],
)
def test_a_file_with_an_invisible_difference_is_refused(tmp_path: Path, change: Callable) -> None:
    competition = make(tmp_path, ["id", "label"], [[f"{index}.jpg", "cat"] for index in range(12)])
    submit(tmp_path, competition, draw_probabilities(TEST))
    path = tmp_path / "submission.part"
    path.write_text(change(path.read_text()), encoding="utf-8")
    with pytest.raises(InputError, match="submission.part"):
        check(path, competition)


def test_a_header_with_a_repeated_name_is_written_unchanged(tmp_path: Path) -> None:
    competition = make(tmp_path, ["id", "id"], [[f"{index}.jpg", "cat"] for index in range(12)])
    assert submit(tmp_path, competition, draw_probabilities(TEST))[0] == ["id", "id"]
