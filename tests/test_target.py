"""What labels and sample ask for: a table of readings by hand, refusals with both, and look-alikes."""

import unicodedata

import pandas as pd
import pytest
from conftest import naming
from hypothesis import given
from hypothesis import strategies as st

from foldsmith.competition.label_words import (
    flags_in,
    look_alikes,
    numbers_in,
    sets_or_words,
    without_brackets,
    words_in,
)
from foldsmith.competition.settings import Settings
from foldsmith.competition.target import Target, categories_of, read_target
from foldsmith.errors import InputError

TAGS = [
    "clear primary",
    "haze primary",
    "clear primary road",
    "haze",
    "clear road",
    "primary",
    "road haze primary",
]
GRADES = ["0", "1", "2", "3", "4"]
PAWS = [str(number) for number in range(1, 60)]
DOGS = ["golden retriever", "labrador retriever", "beagle"]
CITIES = ["red circle", "red square", "blue circle", "blue square", "big circle", "big square"]
WHALES = ["new_whale", "w_1", "w_2", "w_3", "w_4", "w_5"]


def table(columns: dict[str, list[str]]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype=str)


def read(labels: dict, sample: dict | None, names: dict | None = None, **settings: object) -> Target:
    frame = None if sample is None else table(sample)
    return read_target(table(labels), names or {}, frame, Settings(**settings))


# labels (column: cells), sample without ids, settings -> task, metric, submission, separator, positive
CASES: dict[str, tuple[dict, dict | None, dict, tuple[str, str, str, str, str]]] = {
    "a sample of five labels that do not occur": (
        {"id": ["w_1", "w_2", "w_3"]}, {"id": ["a b c d e", "a b c d e"]}, {},
        ("multiclass", "map_at_5", "ranked", "", ""),
    ),
    "a sample of a label and its probability": (
        {"id": ["w_1", "w_2", "w_3"]}, {"id": ["a 0.5 1"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "pairs of integers that recur are labels": (
        {"y": ["1 2", "1 2 7 9", "1 2 3 4", "3 4", "7 9", "1 2 7 8", "7 8"]}, None, {},
        ("multilabel", "f1_samples", "labels", " ", ""),
    ),
    # yes or no
    "0 and 1, a sample of .5": (
        {"y": ["0", "1"]}, {"y": ["0.5", "0.5"]}, {}, ("binary", "roc_auc", "probabilities", "", "1"),
    ),
    "0 and 1, a sample of 0": (
        {"y": ["0", "1"]}, {"y": ["0", "0"]}, {}, ("binary", "roc_auc", "probabilities", "", "1"),
    ),
    "0 and 1, a sample of 1": (
        {"y": ["0", "1"]}, {"y": ["1", "1"]}, {}, ("binary", "roc_auc", "probabilities", "", "1"),
    ),
    "0 and 1, fractions": (
        {"y": ["0", "1"]}, {"y": ["0.25", "0.875"]}, {}, ("binary", "roc_auc", "probabilities", "", "1"),
    ),
    "0.0 and 1.0": (
        {"y": ["0.0", "1.0"]}, {"y": ["0", "0"]}, {}, ("binary", "roc_auc", "probabilities", "", "1.0"),
    ),
    "true and false": (
        {"y": ["True", "False"]}, {"y": ["0.5"]}, {}, ("binary", "roc_auc", "probabilities", "", "True"),
    ),
    "no and yes": ({"y": ["yes", "no"]}, {"y": ["0"]}, {}, ("binary", "roc_auc", "probabilities", "", "yes")),
    "the sample has both": (
        {"y": ["0", "1"]}, {"y": ["0", "1"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "the sample has both, but AUC": (
        {"y": ["0", "1"]}, {"y": ["0", "1"]}, {"metric": "roc_auc"},
        ("binary", "roc_auc", "probabilities", "", "1"),
    ),
    "labels of yes or no": (
        {"y": ["True", "False"]}, {"y": ["False", "False"]}, {},
        ("multiclass", "accuracy", "labels", "", ""),
    ),
    "a metric of labels": (
        {"y": ["0", "1"]}, {"y": ["0", "0"]}, {"metric": "accuracy"},
        ("binary", "accuracy", "labels", "", "1"),
    ),
    "a metric of two classes": (
        {"y": ["0", "1"]}, {"y": ["0", "1"]}, {"metric": "f1"}, ("binary", "f1", "labels", "", "1"),
    ),
    "probabilistic F1": (
        {"y": ["0", "1"]}, {"y": ["0", "0"]}, {"metric": "probabilistic_f1"},
        ("binary", "probabilistic_f1", "probabilities", "", "1"),
    ),
    "labels by the settings": (
        {"y": ["0", "1"]}, {"y": ["0", "0"]}, {"submission": "labels"},
        ("binary", "accuracy", "labels", "", "1"),
    ),
    "log loss by the settings": (
        {"y": ["0", "1"]}, {"y": ["0.5"]}, {"metric": "log_loss"},
        ("binary", "log_loss", "probabilities", "", "1"),
    ),
    "no sample": ({"y": ["0", "1"]}, None, {}, ("multiclass", "accuracy", "labels", "", "")),
    "no sample, but AUC": (
        {"y": ["0", "1"]}, None, {"metric": "roc_auc"}, ("binary", "roc_auc", "probabilities", "", "1"),
    ),
    "no and yes, 0 is asked for": (
        {"y": ["0", "1"]}, {"y": ["0.5"]}, {"positive": "0"},
        ("binary", "roc_auc", "probabilities", "", "0"),
    ),
    # two words
    "cat and dog, a sample of .5": (
        {"y": ["cat", "dog"]}, {"label": ["0.5"]}, {}, ("binary", "roc_auc", "probabilities", "", "dog"),
    ),
    "cat and dog, a header cat": (
        {"y": ["cat", "dog"]}, {"cat": ["0"]}, {}, ("binary", "roc_auc", "probabilities", "", "cat"),
    ),
    "a header is_cat": (
        {"y": ["cat", "dog"]}, {"is_cat": ["0.5"]}, {}, ("binary", "roc_auc", "probabilities", "", "cat"),
    ),
    "a negative word": (
        {"y": ["tumour", "normal"]}, {"p": ["0.5"]}, {},
        ("binary", "roc_auc", "probabilities", "", "tumour"),
    ),
    "a negative word at the front": (
        {"y": ["no_ship", "a ship"]}, {"p": ["0.5"]}, {},
        ("binary", "roc_auc", "probabilities", "", "a ship"),
    ),
    "cat by the settings": (
        {"y": ["cat", "dog"]}, {"label": ["0.5"]}, {"positive": "cat"},
        ("binary", "roc_auc", "probabilities", "", "cat"),
    ),
    "words in the sample": (
        {"y": ["cat", "dog"]}, {"label": ["cat", "cat"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "words and two columns": (
        {"y": ["cat", "dog"]}, {"dog": ["0.5"], "cat": ["0.5"]}, {},
        ("multiclass", "log_loss", "probabilities", "", ""),
    ),
    "1 and 2 in the sample": (
        {"y": ["1", "2"]}, {"label": ["1", "1"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "empty cells": (
        {"y": ["cat", "dog"]}, {"label": ["", ""]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "NA and None": (
        {"y": ["NA", "None"]}, {"label": ["NA", "NA"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    # several words
    "one class in the header": (
        {"y": ["cat", "dog", "eel"]}, {"dog": ["0", "0"]}, {},
        ("binary", "roc_auc", "probabilities", "", "dog"),
    ),
    "one negative class": (
        {"y": ["normal", "a", "b"]}, {"label": ["0", "0"]}, {},
        ("binary", "roc_auc", "probabilities", "", "all but normal"),
    ),
    "one class by the settings": (
        {"y": ["cat", "dog", "eel"]}, {"label": ["0.5"]}, {"positive": "eel"},
        ("binary", "roc_auc", "probabilities", "", "eel"),
    ),
    "a column a class": (
        {"y": ["cat", "dog", "eel"]}, {"eel": ["0"], "cat": ["0"], "dog": ["0"]}, {},
        ("multiclass", "log_loss", "probabilities", "", ""),
    ),
    "a placeholder": (
        {"y": ["cat", "dog", "eel"]}, {"label": ["?", "?"]}, {},
        ("multiclass", "accuracy", "labels", "", ""),
    ),
    "spaces in words": (
        {"y": DOGS}, {"label": ["beagle", "beagle"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "spaces in words, as columns": (
        {"y": CITIES}, {city: ["0.1"] for city in CITIES}, {},
        ("multiclass", "log_loss", "probabilities", "", ""),
    ),
    # ranked
    "five in a cell": (
        {"y": WHALES}, {"y": ["new_whale w_1 w_2 w_3 w_4"]}, {},
        ("multiclass", "map_at_5", "ranked", "", ""),
    ),
    "three in a cell, commas": (
        {"y": WHALES}, {"y": ["w_1,w_2,w_3"]}, {}, ("multiclass", "map_at_3", "ranked", "", ""),
    ),
    "integers ranked": (
        {"y": GRADES}, {"y": ["0 1 2 3 4"]}, {}, ("multiclass", "map_at_5", "ranked", "", ""),
    ),
    "ranked by the metric": (
        {"y": WHALES}, {"y": ["w_1", "w_2"]}, {"metric": "map_at_3"},
        ("multiclass", "map_at_3", "ranked", "", ""),
    ),
    # sets
    "tags": (
        {"tags": TAGS}, {"tags": ["primary clear road"]}, {},
        ("multilabel", "f1_samples", "labels", " ", ""),
    ),
    "tags without a sample": ({"tags": TAGS}, None, {}, ("multilabel", "f1_samples", "labels", " ", "")),
    "numbers in a cell": (
        {"Target": ["16 0", "5", "0 2 16"]}, {"Predicted": ["0", "0"]}, {},
        ("multilabel", "f1_samples", "labels", " ", ""),
    ),
    "bars": (
        {"Labels": ["Mass|Nodule", "Mass", "Effusion|Nodule", "No Finding"]}, None, {},
        ("multilabel", "f1_samples", "labels", "|", ""),
    ),
    "commas": (
        {"genre": ["a, b", "b", "a", "b, c", "c"]}, None, {},
        ("multilabel", "f1_samples", "labels", ",", ""),
    ),
    "an empty set": ({"tags": [*TAGS, ""]}, None, {}, ("multilabel", "f1_samples", "labels", " ", "")),
    "a separator by the settings": (
        {"y": CITIES}, None, {"label_separator": " "}, ("multilabel", "f1_samples", "labels", " ", ""),
    ),
    "one class by the settings, with spaces": (
        {"y": CITIES}, None, {"task": "multiclass"}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "sets ranked": (
        {"tags": TAGS}, {"tags": ["primary clear"]}, {"metric": "map_at_3"},
        ("multilabel", "map_at_3", "ranked", " ", ""),
    ),
    "tags as columns": (
        {"tags": ["a b", "a", "b c", "c"]}, {"a": ["0"], "b": ["0"], "c": ["0"]}, {},
        ("multilabel", "roc_auc", "probabilities", " ", ""),
    ),
    # several columns
    "one-hot columns": (
        {"a": ["1", "0", "0"], "b": ["0", "1", "1"]}, {"a": [".5"], "b": [".5"]}, {},
        ("multiclass", "log_loss", "probabilities", "", ""),
    ),
    "0/1 columns": (
        {"a": ["1", "1", "0"], "b": ["0", "1", "0"]}, {"a": ["0"], "b": ["0"]}, {},
        ("multilabel", "roc_auc", "probabilities", "", ""),
    ),
    "a subset of the columns": (
        {"a": ["1", "1"], "b": ["0", "1"], "c": ["0", "0"]}, {"a": ["0"], "c": ["0"]}, {},
        ("multilabel", "roc_auc", "probabilities", "", ""),
    ),
    "0/1 columns as a set": (
        {"a": ["1", "1", "0"], "b": ["0", "1", "0"]}, {"labels": ["a b"]}, {},
        ("multilabel", "f1_samples", "labels", "", ""),
    ),
    "labels in columns": (
        {"a": ["1", "1", "0"], "b": ["0", "1", "0"]}, {"a": ["0", "1"], "b": ["1", "1"]}, {},
        ("multilabel", "f1_samples", "labels", "", ""),
    ),
    "one-hot, independent": (
        {"a": ["1", "0"], "b": ["0", "1"]}, {"a": [".5"], "b": [".5"]}, {"task": "multilabel"},
        ("multilabel", "roc_auc", "probabilities", "", ""),
    ),
    "numbers in columns": (
        {"x": ["1.5", "2"], "y": ["3", "4"]}, {"x": ["0"], "y": ["0"]}, {},
        ("regression", "rmse", "values", "", ""),
    ),
    "0 and 1 by log loss": (
        {"label": ["0", "1"]}, None, {"metric": "log_loss"},
        ("binary", "log_loss", "probabilities", "", "1"),
    ),
    "0 and 1 by log loss, and in the sample": (
        {"label": ["0", "1"]}, {"label": ["0", "1", "1"]}, {"metric": "log_loss"},
        ("binary", "log_loss", "probabilities", "", "1"),
    ),
    "classes by log loss": (
        {"label": ["a", "b", "c"]}, None, {"metric": "log_loss"},
        ("multiclass", "log_loss", "probabilities", "", ""),
    ),
    # numbers
    "grades": (
        {"diagnosis": GRADES}, {"diagnosis": ["0", "0"]}, {},
        ("ordinal", "quadratic_weighted_kappa", "labels", "", ""),
    ),
    "grades by the sample's header": (
        {"y": GRADES}, {"severity": ["0", "0"]}, {},
        ("ordinal", "quadratic_weighted_kappa", "labels", "", ""),
    ),
    "integers": ({"label": GRADES}, {"label": ["4", "4"]}, {}, ("multiclass", "accuracy", "labels", "", "")),
    "grades as classes": (
        {"diagnosis": GRADES}, {"diagnosis": ["0"]}, {"task": "multiclass"},
        ("multiclass", "accuracy", "labels", "", ""),
    ),
    "grades by the metric": (
        {"label": GRADES}, {"label": ["0"]}, {"metric": "quadratic_weighted_kappa"},
        ("ordinal", "quadratic_weighted_kappa", "labels", "", ""),
    ),
    "integers and fractions in the sample": (
        {"Pawpularity": PAWS}, {"Pawpularity": ["78.76", "3.5"]}, {},
        ("regression", "rmse", "values", "", ""),
    ),
    "fractions": (
        {"label": ["0.5", "1.25", "2"]}, {"label": ["0"]}, {}, ("regression", "rmse", "values", "", ""),
    ),
    "ages": ({"age": PAWS}, {"age": ["0"]}, {}, ("regression", "rmse", "values", "", "")),
    "numbers by the metric": (
        {"label": PAWS}, {"label": ["0"]}, {"metric": "mae"}, ("regression", "mae", "values", "", ""),
    ),
    "80 classes": (
        {"label": PAWS * 3}, {"label": ["1", "2"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "leading zeros": (
        {"label": ["007", "010", "100"]}, {"label": ["007"]}, {},
        ("multiclass", "accuracy", "labels", "", ""),
    ),
    "letters": (
        {"label": ["A", "a", "b", "B"]}, {"label": ["A"]}, {}, ("multiclass", "accuracy", "labels", "", ""),
    ),
    "look-alikes by the settings": (
        {"label": ["Cat", "cat", "dog"]}, None, {"task": "multiclass"},
        ("multiclass", "accuracy", "labels", "", ""),
    ),
}  # fmt: skip


def test_a_single_number_has_the_name_of_its_column() -> None:
    assert read({"age": ["1.5", "2.25", "3.125", "9.5"]}, None).names == {"age": "age"}
    assert read({"kind": ["cat", "dog", "cat"]}, None).names == {}


@pytest.mark.parametrize("name", CASES)
def test_labels_and_sample_say_what_is_asked_for(name: str) -> None:
    labels, sample, settings, expected = CASES[name]
    target = read(labels, sample, **settings)
    said = (target.task, target.metric, target.submission, target.separator, target.positive)
    assert said == expected
    if "metric" not in settings:  # what is assumed is said, with the line that changes it
        assert any("metric = " in sentence for sentence in target.evidence)
    if target.submission == "probabilities" and target.task == "binary" and "submission" not in settings:
        assert any('submission = "labels"' in sentence for sentence in target.evidence)


REFUSED: dict[str, tuple[dict, dict | None, dict, list[str]]] = {
    "a row for each image and class": (
        {"y": ["cat", "dog", "eel"]},
        {"class": ["cat", "dog"], "probability": ["0", "0"]},
        {},
        ["'class'", "'probability'"],
    ),
    "spaces that fit both": ({"y": CITIES}, None, {}, ['label_separator = " "', 'task = "multiclass"']),
    "empty cells for 0 and 1": (
        {"y": ["0", "1"]}, {"y": ["", ""]}, {}, ['submission = "labels"', 'submission = "probabilities"'],
    ),
    "a fraction for three words": (
        {"y": ["cat", "dog", "eel"]}, {"y": ["0.5"]}, {}, ["positive = ", 'submission = "labels"'],
    ),
    "integers, each rare": (
        {"reading": PAWS}, {"reading": ["0"]}, {}, ['task = "regression"', 'task = "multiclass"'],
    ),
    "few counts": (
        {"count": ["1", "2", "3", "4"]}, {"count": ["1"]}, {},
        ['task = "regression"', 'task = "multiclass"'],
    ),
    "Cat and cat": (
        {"y": ["Cat", "cat", "dog"]}, None, {}, ["'Cat' (1 rows) and 'cat' (1)", 'task = "multiclass"'],
    ),
    "1 and 01": ({"y": ["1", "01", "2"]}, None, {}, ["'01'", "'1'"]),
    "two words in columns": (
        {"a": ["cat", "dog"], "b": ["0", "1"]}, None, {}, ["'a' has 'cat'", "label_columns"],
    ),
    "numbers in columns that could be classes": (
        {"a": ["3", "1"], "b": ["0", "1"]}, None, {}, ['task = "regression"', 'label_columns = ["a"]'],
    ),
    "an unknown positive class": (
        {"y": ["cat", "dog"]}, {"y": ["0.5"]}, {"positive": "cow"}, ["'cow'", "cat, dog"],
    ),
    "binary of three": ({"y": ["cat", "dog", "eel"]}, None, {"task": "binary"}, ["3 ", "positive = "]),
    "values of classes": (
        {"y": ["cat", "dog"]}, None, {"task": "multiclass", "submission": "values"},
        ["values", "regression"],
    ),
    "a metric of another task": (
        {"y": ["cat", "dog"]}, None, {"task": "multiclass", "metric": "rmse"},
        ["rmse", "regression", "multiclass"],
    ),
    "words as numbers": ({"y": ["1", "n/a"]}, None, {"task": "regression"}, ["'y'", "'n/a'"]),
    "masks": (
        {"rle": ["3 2 9 4", "5 1", "7 3 20 1", ""]}, {"rle": [""]}, {}, ["'rle'", "masks", "label_columns"],
    ),
    "boxes": ({"box": ["[1, 2, 3.5, 4]", "[[9,8],[7,6]]"]}, None, {}, ["'box'", "boxes", "label_columns"]),
    "an empty label": ({"y": ["cat", "", "dog"]}, None, {}, ["1 of 3", "'y'"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_fits_two_readings_is_refused_with_the_lines_that_decide(name: str) -> None:
    labels, sample, settings, keys = REFUSED[name]
    with pytest.raises(InputError, match=naming(*keys)):
        target = read(labels, sample, **settings)
        categories_of(table(labels), target)


def test_names_of_the_classes_make_integers_classes() -> None:
    names = {grade: f"disease {grade}" for grade in GRADES}
    target = read({"diagnosis": GRADES}, {"diagnosis": ["0"]}, names)
    assert (target.task, target.names) == ("multiclass", names)


def test_names_tell_whether_a_space_separates_labels() -> None:
    assert read({"y": CITIES}, None, {city: city for city in CITIES}).task == "multiclass"
    words = sorted({word for city in CITIES for word in city.split()})
    target = read({"y": CITIES}, None, {word: word for word in words})
    assert (target.task, list(target.names)) == ("multilabel", words)


def test_a_name_in_the_header_is_the_positive_class() -> None:
    target = read({"label": ["0", "1"]}, {"cat": ["0.5"]}, {"0": "cat", "1": "dog"})
    assert (target.positive, target.names) == ("0", {"1": "dog", "0": "cat"})


@pytest.mark.parametrize(
    ("labels", "sample", "settings", "expected"),
    [
        ({"y": ["1", "1.0", "0"]}, None, {}, ["1", "1", "0"]),
        ({"y": ["cat", "eel", "dog"]}, {"dog": ["0"]}, {}, ["not dog", "not dog", "dog"]),
        ({"y": ["16 0", "", "5 16 5"]}, None, {"task": "multilabel"}, [("0", "16"), (), ("5", "16")]),
        ({"b": ["1", "0"], "a": ["1", "0"]}, None, {}, [("b", "a"), ()]),
        ({"b": ["1.0", "0.0"], "a": ["0.0", "1.0"]}, None, {}, ["b", "a"]),
        ({"x": ["1.5", "-2e1"]}, None, {}, [(1.5,), (-20.0,)]),
        ({"x": ["1.5", "2"], "y": ["3", "4"]}, None, {}, [(1.5, 3.0), (2.0, 4.0)]),
        ({"y": [" cat", "dog "]}, None, {}, ["cat", "dog"]),
    ],
)
def test_categories_are_what_the_task_encodes(
    labels: dict, sample: dict | None, settings: dict, expected: list
) -> None:
    assert categories_of(table(labels), read(labels, sample, **settings)).tolist() == expected


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4, unique=True), st.data())
def test_sets_are_read_whatever_separates_them(labels: list[str], data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(st.lists(st.sampled_from(labels), unique=True, min_size=1), min_size=1, max_size=6)
    )
    separator = data.draw(st.sampled_from([" ", ",", ", ", ";", "|"]))
    cells = {"y": [separator.join(row) for row in rows]}
    target = read(cells, None, task="multilabel", label_separator=separator.strip() or " ")
    assert [set(category) for category in categories_of(table(cells), target)] == [set(row) for row in rows]


def test_words_are_told_from_numbers_and_flags() -> None:
    assert numbers_in(["nan"]) is None and numbers_in(["inf"]) is None and numbers_in(["1_000"]) is None
    assert numbers_in(["NA"]) is None and numbers_in([]) is None and numbers_in(["1e400"]) is None
    assert flags_in({"Yes", "No"}) == {"Yes": True, "No": False} and flags_in({"0", "2"}) is None
    assert words_in("hasCactus_2") == {"has", "cactus", "2"}
    assert look_alikes({"A", "a", "1", "2"}) == []
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    assert {frozenset(pair) for pair in look_alikes({composed, decomposed, "tea"})} == {
        frozenset({composed, decomposed})
    }
    assert sets_or_words({"type 1", "type 2", "type 3"}, " ") is False
    shapes = {f"{colour} {shape}" for colour in ("red", "blue", "grey") for shape in ("disc", "bar", "ring")}
    assert sets_or_words(shapes, " ") is None  # a class for each, or a set of two
    assert sets_or_words(shapes | {"red", "blue", "disc", "bar"}, " ") is True
    lists = pd.Series(["['a', 'b c']", "[]", '["b c"]'])
    assert list(without_brackets(lists)) == ["a|b c", "", "b c"]
    assert list(without_brackets(pd.Series(["[1, 12]", "[3]"]))) == ["1 12", "3"]
    plain = pd.Series(["[a]", "b"])
    assert without_brackets(plain) is plain
