"""What one label column is: a class, an answer to yes or no, a grade, a number, or a set of labels."""

import re
import unicodedata
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from foldsmith.competition.label_columns import RARE, Reading, task_of_settings
from foldsmith.competition.label_words import (
    GRADE_NAMES,
    ID_NAMES,
    QUANTITY_NAMES,
    SEPARATORS,
    flags_in,
    is_negative,
    look_alikes,
    numbers_in,
    same_numbers,
    sets_or_words,
    split_cell,
    words_in,
)
from foldsmith.competition.sample_cells import SampleCells
from foldsmith.competition.settings import Settings
from foldsmith.errors import InputError, first_of
from foldsmith.natural_order import natural_key

MAX_GRADES = 12  # more steps are a number
MANY_VALUES = 20  # distinct integers that could be a number


@dataclass(frozen=True)
class _Column:
    """A label column, the names of its categories, and the sample: what its task is told by."""

    name: str
    cells: pd.Series
    names: dict[str, str]
    sample: SampleCells
    settings: Settings

    @property
    def words(self) -> set[str]:
        return set(self.cells)

    def usual(self, known: set[str]) -> bool:
        """Return whether a word of the column's or the sample column's name is known."""
        return any(words_in(name) & known for name in (self.name, *self.sample.columns[:1]))


def read_column(cells: pd.Series, names: dict[str, str], sample: SampleCells, settings: Settings) -> Reading:
    """Return what a label column is. Raise InputError with both readings where two fit."""
    column = _Column(str(cells.name), cells, names, sample, settings)
    separator = settings.label_separator or _separator(column)
    task = task_of_settings(settings) or ("multilabel" if settings.label_separator else "")
    if task == "multilabel" or (not task and separator):
        return _sets(column, separator or " ", said=not task)
    words = sorted(column.words - {""}, key=natural_key)
    spellings = {} if task == "regression" else same_numbers(words)
    evidence = []
    if spellings:
        evidence = [f"labels are spelled in two ways and read as one: {_pairs(list(spellings.items()))}"]
    words = [word for word in words if word not in spellings]
    if not settings.task:
        _refuse_look_alikes(column, words, task)
    if settings.positive and not task:
        task = "binary"
    reading = Reading(task) if task else _by_evidence(column, words)
    if reading.task == "binary" and not reading.spellings and settings.positive and len(words) > 2:
        reading = _one_against_others(column, words, settings.positive)
    if reading.task == "multiclass" and not task:
        evidence += _read_as_one(column, words)
    return replace(
        reading,
        spellings={**spellings, **reading.spellings},
        evidence=[*evidence, *reading.evidence],
    )


def _read_as_one(column: _Column, words: list[str]) -> list[str]:
    """Return a sentence on cells that could be several labels and are read as one class; none without any."""
    if set(words) <= {*column.names, *column.names.values(), *column.sample.columns}:
        return []
    for separator in SEPARATORS:
        several = [word for word in words if len(split_cell(word, separator)) > 1]
        if several:
            return [
                f"cells such as '{several[0]}' are one class each; label_separator = \"{separator}\" in "
                "competition.toml reads them as several labels"
            ]
    return []


def _pairs(pairs: list[tuple[str, str]]) -> str:
    return first_of([f"'{one}' and '{other}'" for one, other in pairs])


def _refuse_look_alikes(column: _Column, words: list[str], task: str) -> None:
    """Raise InputError if two classes differ in case or leading zeros alone and could be one."""
    if task == "regression" or set(words) <= set(column.names):
        return
    pairs = [
        pair for pair in look_alikes(words) if not set(pair) <= {*column.sample.words, *column.sample.columns}
    ]
    if pairs:
        counts = column.cells.value_counts()
        shown = first_of(
            [
                f"'{one}' ({counts[one]} rows) and '{other}' ({counts[other]}{_in_unicode(one, other)})"
                for one, other in pairs
            ]
        )
        raise InputError(
            f"column '{column.name}' has labels that look like one: {shown}; correct them, or set task = "
            '"multiclass" in competition.toml if they are different classes.'
        )


def _in_unicode(one: str, other: str) -> str:
    """Return how two labels that look the same on a screen differ; empty if they do not look so."""
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return ", with its accents as characters of their own in one of them" if same else ""


# --- sets
DECIMAL_COMMA = re.compile(r"-?\d+(,\d+)?")  # a number, or two labels


def _separator(column: _Column) -> str:
    """Return the separator of several labels in a cell; empty if cells are single labels.

    Raise InputError if cells could be either.
    """
    if column.settings.task not in ("", "multilabel"):
        return ""
    known = {*column.names, *column.names.values()}
    cells = column.words - {""}
    for separator in SEPARATORS:
        if not any(len(split_cell(cell, separator)) > 1 for cell in cells):
            continue
        tokens = {token for cell in cells for token in split_cell(cell, separator)}
        headers = set(column.sample.columns) if len(column.sample.columns) > 1 else set()
        if cells <= known or cells <= headers:
            return ""
        if tokens <= known or tokens <= headers or column.settings.task:
            return separator
        verdict = None if _is_odd_among_numbers(column, separator) else sets_or_words(cells, separator)
        if verdict is None and column.sample.words and not column.sample.words <= cells:
            # the sample's sets need not be among the labels; a class must be
            verdict = column.sample.separator_of_labels(tokens) == separator or None
        if verdict:
            return separator
        if verdict is None and not task_of_settings(column.settings):
            example = next(cell for cell in sorted(cells) if len(split_cell(cell, separator)) > 1)
            decimals = separator == "," and all(map(DECIMAL_COMMA.fullmatch, cells))
            numbers = "; of numbers write 3.52 instead of 3,52" if decimals else ""
            raise InputError(
                f"column '{column.name}': '{example}' is one label or several; set "
                f'in competition.toml label_separator = "{separator}" for sets of labels, or task = '
                f'"multiclass" for one class an image{numbers}.'
            )
    return ""


def _is_odd_among_numbers(column: _Column, separator: str) -> bool:
    """Return whether a few cells have the separator, and all others are grades or quantities by the name."""
    several = column.cells.map(lambda cell: len(split_cell(cell, separator)) > 1)
    numbers = numbers_in(column.cells[~several])
    return several.mean() < RARE and numbers is not None and column.usual(GRADE_NAMES | QUANTITY_NAMES)


def _sets(column: _Column, separator: str, said: bool) -> Reading:
    tokens = sorted(
        {token for cell in column.words for token in split_cell(cell, separator)}, key=natural_key
    )
    spellings = same_numbers(tokens)
    _refuse_look_alikes(column, [token for token in tokens if token not in spellings], "")
    single = 'task = "multiclass" in competition.toml reads a cell as one class'
    evidence = [f"cells of '{column.name}' are sets of {len(tokens)} labels between '{separator}'; {single}"]
    empty = int((column.cells == "").sum())
    if empty:
        evidence.append(f"{empty} cells of '{column.name}' are empty: sets without a label")
    # a helper table's names give the classes too, in the order of their numbers
    used = [token for token in tokens if token not in spellings]
    names = {key: column.names.get(key, key) for key in sorted({*used, *column.names}, key=natural_key)}
    return Reading(
        "multilabel", separator, names if column.names else {}, spellings, evidence if said else evidence[1:]
    )


# --- one label
def _by_evidence(column: _Column, words: list[str]) -> Reading:
    """Return the task of single labels by their words, their number and the sample."""
    classes = set(column.sample.columns)
    if len(classes) > 1 and set(words) <= {*classes, *_of_names(column, classes)}:
        return Reading("multiclass", evidence=[f"the sample has a column for each of {len(classes)} classes"])
    numbers = numbers_in(words)
    fractions = numbers is not None and bool((numbers % 1 != 0).any())
    if len(words) == 2 and not fractions:
        return _of_two(column, words)
    if numbers is not None and not column.names:
        return _of_numbers(column, numbers)
    _refuse_words_among_numbers(column, words)
    return _of_words(column, words)


def _refuse_words_among_numbers(column: _Column, words: list[str]) -> None:
    """Raise InputError if labels would be flags, grades or quantities but for some that are no numbers."""
    plain = [word for word in words if numbers_in([word]) is not None]
    rows = ~column.cells.isin(plain)
    if column.names or len(plain) < 2 or rows.mean() > 0.5:
        return
    task = _of_two(column, plain).task if len(plain) == 2 else _of_numbers(column, numbers_in(plain)).task
    if task != "multiclass":
        raise InputError(
            f"column '{column.name}': {int(rows.sum())} of {len(rows)} labels are no numbers (first: "
            f"'{column.cells[rows].iloc[0]}'), and without them the task is {task}; correct them or remove "
            'their rows, or set task = "multiclass" in competition.toml if all are classes.'
        )


def _of_names(column: _Column, names: set[str]) -> set[str]:
    return {category for category, name in column.names.items() if name in names}


def _of_two(column: _Column, words: list[str]) -> Reading:
    """Return binary if the sample holds one number a row, or the metric needs one; else multiclass."""
    sample, flags, metric = column.sample, flags_in(words), column.settings.metric
    shown = f"the labels are {words[0]} and {words[1]}"
    # log_loss is of any number of classes, so that of 0 and 1 alone it asks for one probability
    ranks = metric in ("roc_auc", "average_precision") or (metric == "log_loss" and flags is not None)
    if len(sample.columns) > 1:
        return Reading("multiclass")
    if not sample.rows:
        return (
            Reading("binary", evidence=[f"{shown}, and the metric is {metric}"])
            if ranks
            else Reading("multiclass")
        )
    numbers = numbers_in(words)
    numeric = (
        flags is not None and numbers is not None and numbers.min() >= 0
    )  # -1 and 1 are no probabilities
    if not numeric and sample.words <= set(words):
        return Reading("multiclass")
    if sample.could_be_probabilities and not (sample.mixes_zero_and_one and numeric):
        what = f"one number from 0 to 1 a row ('{sample.shown}')"
        return Reading("binary", evidence=[f"{shown}, and the sample has {what}: the task is binary"])
    if sample.mixes_zero_and_one and ranks:
        return Reading("binary", evidence=[f"{shown}, and the metric is {metric}"])
    if sample.mixes_zero_and_one:
        said = (
            f'{shown}, and the sample has both: labels are submitted; set submission = "probabilities" and '
            'task = "binary" in competition.toml for the probability of one'
        )
        return Reading("multiclass", evidence=[said])
    if sample.words == {""} and (numeric or sample.class_in_header(dict.fromkeys(words, "") | column.names)):
        if numeric and not metric and not column.settings.submission:
            raise InputError(
                f"column '{column.name}': {shown}, and the cells of the sample are empty, so that labels or "
                'probabilities could be asked for; set in competition.toml submission = "labels" or '
                'submission = "probabilities".'
            )
        return Reading(
            "binary", evidence=[f"the sample's column '{sample.columns[0]}' is one of two classes"]
        )
    return Reading("multiclass")


def _of_words(column: _Column, words: list[str]) -> Reading:
    """Return multiclass, or binary where the sample asks for one number a row and a class stands out."""
    sample = column.sample
    named = {word: column.names.get(word, word) for word in words}
    spelled = {*named, *named.values()}
    if len(sample.columns) != 1 or not sample.could_be_probabilities or sample.words <= spelled:
        return Reading("multiclass")
    headed = sample.class_in_header(named)
    if headed:
        return _one_against_others(column, words, headed)
    negative = [word for word in words if is_negative(named[word])]
    if len(negative) == 1:
        return _others_against_one(column, words, negative[0])
    if sample.has_fractions:
        raise InputError(
            f"column '{column.name}' has {len(words)} classes ({first_of(words)}), and the sample has one "
            f"number a row ('{sample.shown}'); set in competition.toml positive = \"CLASS\" for the "
            'probability of one class, or submission = "labels" and task = "multiclass" for labels.'
        )
    return Reading("multiclass")


def _one_against_others(column: _Column, words: list[str], positive: str) -> Reading:
    category = next((word for word in words if positive in (word, column.names.get(word))), positive)
    rest = f"not {category}"
    said = (
        f"'{category}' is told from the other {len(words) - 1} classes; set task = \"multiclass\" in "
        "competition.toml to tell all of them"
    )
    spellings = {word: rest for word in words if word != category}
    return Reading("binary", spellings=spellings, evidence=[said])


def _others_against_one(column: _Column, words: list[str], negative: str) -> Reading:
    positive = f"all but {negative}"
    said = (
        f"the sample has one number a row ('{column.sample.shown}'): the probability that an image is not "
        f"'{negative}' ({first_of([word for word in words if word != negative])}); set in competition.toml "
        'positive = "CLASS" for one class, or task = "multiclass" for labels'
    )
    return Reading(
        "binary", spellings={word: positive for word in words if word != negative}, evidence=[said]
    )


def _refuse_numbers_among_flags(column: _Column) -> None:
    """Raise InputError if labels are 0 and 1 but for a few, and the sample may hold probabilities."""
    numbers = pd.to_numeric(column.cells, errors="coerce")
    odd = ~numbers.isin((0, 1))
    if column.sample.could_be_probabilities and odd.mean() < RARE and numbers[~odd].nunique() == 2:
        raise InputError(
            f"column '{column.name}': {int(odd.sum())} of {len(odd)} labels are neither 0 nor 1 (first: "
            f"'{column.cells[odd].iloc[0]}'); correct them or remove their rows, or set in competition.toml "
            'task = "regression" if they are quantities, or task = "multiclass" if they are classes.'
        )


def _refuse_rare_fractions(column: _Column) -> None:
    """Raise InputError if only a few cells of the sample have a fraction, beside labels that have none."""
    fractions = [
        row[0] for row, number in zip(column.sample.rows, column.sample.numbers, strict=True) if number % 1
    ]
    if len(fractions) < RARE * len(column.sample.rows):
        raise InputError(
            f"column '{column.name}' has whole numbers, and {len(fractions)} of {len(column.sample.rows)} "
            f"cells of the sample have none (first: '{fractions[0]}'); correct them, or set in "
            'competition.toml task = "regression" for quantities, "ordinal" for grades or "multiclass" for '
            "classes."
        )


def _of_numbers(column: _Column, values: np.ndarray) -> Reading:
    """Return regression, ordinal or multiclass of distinct numbers, all labels that occur."""
    name, sample = column.name, column.sample
    shown = f"'{name}' has {len(values)} different numbers from {values.min():g} to {values.max():g}"
    classes = 'task = "multiclass" in competition.toml reads them as classes'
    _refuse_numbers_among_flags(column)
    if (values % 1 != 0).any():
        return Reading("regression", evidence=[f"{shown}, not all whole: the task is regression; {classes}"])
    if sample.has_fractions and len(sample.columns) == 1:  # in several columns they are probabilities
        _refuse_rare_fractions(column)
        return Reading(
            "regression",
            evidence=[f"{shown}, and the sample has '{sample.shown}': the task is regression; {classes}"],
        )
    steps = values.max() - values.min() + 1
    graded = len(values) >= 3 and steps <= MAX_GRADES and len(values) > steps / 2
    if graded and column.usual(GRADE_NAMES):
        said = f"{shown}, and by its name they are grades: the task is ordinal; {classes}"
        return Reading("ordinal", evidence=[said])
    if len(values) > MAX_GRADES and column.usual(QUANTITY_NAMES):
        said = f"{shown}, and by its name it is a quantity: the task is regression; {classes}"
        return Reading("regression", evidence=[said])
    counts = column.cells.value_counts()
    scattered = len(values) > MANY_VALUES and counts.median() <= 2 and not words_in(name) & ID_NAMES
    if scattered and len(sample.words & column.words) < 2 or (graded and column.usual(QUANTITY_NAMES)):
        grades = ' task = "ordinal" if they are grades,' if graded else ""
        raise InputError(
            f'column {shown}; set in competition.toml task = "regression" if they are quantities,{grades} or '
            'task = "multiclass" if they are classes.'
        )
    others = 'task = "ordinal" or task = "regression" in competition.toml reads them as grades or quantities'
    return Reading("multiclass", evidence=[f"{shown}, read as classes; {others}"])
