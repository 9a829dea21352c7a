"""The cells of a submission that hold one class of an image, its most probable classes, or probabilities."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.errors import InputError, first_of
from foldsmith.tasks.label_spelling import spell_classes, spell_words
from foldsmith.tasks.metrics import decide as most_probable


@dataclass(frozen=True)
class LabelCells:
    """One cell per image: its class; `values` are the words for class 0 … K-1."""

    values: list[str]
    notes: list[str] = field(default_factory=list)
    decide: Callable[[np.ndarray], np.ndarray] = most_probable

    @property
    def words(self) -> list[str]:
        return self.values

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        labels = self.decide(predictions) if decisions is None else decisions
        return pd.DataFrame([self.values[label] for label in labels])

    def check(self, path: Path, rows: list[list[str]]) -> None:
        known = set(self.values)
        for line, row in enumerate(rows, start=2):
            if row[1] not in known:
                raise InputError(f"{path}, line {line}: '{row[1]}' is not a label of this competition.")


@dataclass(frozen=True)
class ConfidentCells(LabelCells):
    """One cell per image: its class and the probability of it, as in `137790 0.52`."""

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        labels = self.decide(predictions) if decisions is None else decisions
        probabilities = predictions[np.arange(len(labels)), labels]
        return pd.DataFrame(
            [f"{self.values[label]} {p:.6f}" for label, p in zip(labels, probabilities, strict=True)]
        )

    def check(self, path: Path, rows: list[list[str]]) -> None:
        known = set(self.values)
        for line, row in enumerate(rows, start=2):
            label, _, number = row[1].rpartition(" ")
            if label not in known or not re.fullmatch(r"0\.\d+|1\.0+", number):
                raise InputError(f"{path}, line {line}: '{row[1]}' is not a label and its probability.")


@dataclass(frozen=True)
class RankedCells:
    """One cell per image: its `length` most probable classes, the most probable one first."""

    values: list[str]
    length: int
    separator: str = " "
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return self.values

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        # of equal probabilities the first class, as in map_at_k
        ranked = np.argsort(-predictions, axis=1, kind="stable")[:, : self.length]  # (N, k)
        return pd.DataFrame([self.separator.join(self.values[label] for label in row) for row in ranked])

    def check(self, path: Path, rows: list[list[str]]) -> None:
        known = set(self.values)
        for line, row in enumerate(rows, start=2):
            words = row[1].split(self.separator)
            wrong = [word for word in words if word not in known]
            if wrong:
                raise InputError(f"{path}, line {line}: '{wrong[0]}' is not a label of this competition.")
            if len(words) > self.length or len(set(words)) < len(words):
                raise InputError(
                    f"{path}, line {line}: '{row[1]}' must be at most {self.length} different labels."
                )


@dataclass(frozen=True)
class ProbabilityCells:
    """One probability per column; `labels` has the class of each column.

    `exclusive`: the columns are all classes of a task with one class per image, so that a row sums to 1.
    """

    labels: list[int]
    notes: list[str] = field(default_factory=list)
    exclusive: bool = True

    @property
    def words(self) -> list[str]:
        return []

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        rows = predictions.astype(np.float64)
        if self.exclusive:
            rows /= rows.sum(axis=1, keepdims=True)
        return pd.DataFrame(rows[:, self.labels])

    def check(self, path: Path, rows: list[list[str]]) -> None:
        values = numbers_of(path, rows, "a probability")
        with np.errstate(invalid="ignore"):
            valid = (values >= 0).all(axis=1) & (values <= 1).all(axis=1)
            if self.exclusive:
                valid &= np.abs(values.sum(axis=1) - 1) < 1e-6
        if not valid.all():
            line = int(np.flatnonzero(~valid)[0])
            total = " and sum to 1" if self.exclusive else ""
            raise InputError(f"{path}, line {line + 2}: probabilities must lie in [0, 1]{total}.")


def numbers_of(path: Path, rows: list[list[str]], what: str) -> np.ndarray:
    """Return the cells beside the id, float64 (N, C). Raise InputError for one that is not a number."""
    try:
        return pd.DataFrame(rows).iloc[:, 1:].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: {what} is not a number ({error}).") from error


def class_vocabulary(path: Path, used: set[str], classes: pd.DataFrame) -> LabelCells:
    """Return label cells as the sample at `path` spells them: categories of the label file, or class names.

    `used` are the sample's labels. Raise InputError if they are neither.
    """
    for column in ("category", "class_name"):
        if used <= set(classes[column]):
            return LabelCells(distinct_words(path, classes, column))
    both = {*classes["category"], *classes["class_name"]}
    if used <= both:
        raise InputError(
            f"{path} mixes class numbers and class names ({first_of(sorted(used))}); download it again."
        )
    spelled = spell_classes(used, classes)
    if spelled is not None:
        shown = first_of([f"{own} as {word}" for own, word in zip(classes["category"], spelled, strict=True)])
        return LabelCells(spelled, [f"labels are spelled as in the sample: {shown}"])
    unknown = sorted(used - both)
    numbers = all(word.isdigit() for word in {*used, *classes["category"]})
    if numbers and len(used) > 1 and len(unknown) >= len(used) / 2:
        note = (
            f"{len(unknown)} of {len(used)} labels in the sample submission are no classes (first: "
            f"{unknown[0]}), so that they are placeholders; labels are written as in the label file."
        )
        return LabelCells(list(classes["category"]), [note])
    if len(used) > 1 or _is_fraction(unknown[0]):
        raise InputError(
            f"{path}: {len(unknown)} labels are not classes of this competition (first: {unknown[0]!r}); "
            f"the classes are {first_of(classes['category'])}; use the sample of this competition."
        )
    note = (
        f"the sample submission has only '{unknown[0]}', which is not a class; labels are written as in the "
        "label file."
    )
    return LabelCells(list(classes["category"]), [note])


def distinct_words(path: Path, classes: pd.DataFrame, column: str) -> list[str]:
    """Return the words of a column of `classes`. Raise InputError if two classes share one."""
    if classes[column].duplicated().any():
        twice = classes.loc[classes[column].duplicated(), column].iloc[0]
        raise InputError(f"{path} asks for class names, but two classes are named '{twice}'; rename one.")
    return list(classes[column])


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def match_class_columns(path: Path, columns: list[str], classes: pd.DataFrame) -> list[int]:
    """Return the class of each probability column. Raise InputError unless there is one for every class."""
    labels = find_class_columns(columns, classes)
    if labels is not None and len(labels) == len(classes):
        return labels
    names = {*classes["category"], *classes["class_name"]}
    unknown = [column for column in columns if column not in names]
    problem = (
        f"{len(unknown)} columns are not classes (first: {first_of(unknown)})"
        if unknown
        else "some classes have no column"
    )
    raise InputError(
        f"{path} has {len(columns)} columns besides the id, and {problem}; a submission has one label "
        f"column, or one probability column for each of the {len(classes)} classes."
    )


def find_class_columns(columns: Sequence[str], classes: pd.DataFrame) -> list[int] | None:
    """Return the class of each column by category or name, also after a common prefix, as in prob_cat.

    Return None if a column is no class, or two are the same.
    """
    for spelled in (columns, spell_words(columns)):
        for known in ("category", "class_name"):
            labels = dict(zip(classes[known], classes["label"], strict=True))
            unique = len(labels) == len(classes) and len(set(spelled)) == len(spelled)
            if unique and set(spelled) <= set(labels):
                return [int(labels[column]) for column in spelled]
    return None


def read_labels(path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
    """Return the class index of each row of a table with ids and labels, or ids and probabilities by class.

    Labels are categories or class names, the same for all rows. Raise InputError for an unknown label.
    """
    labels = table.iloc[:, 1].str.strip()
    if len(table.columns) > 2:
        try:
            labels = table.iloc[:, 1:].astype(float).idxmax(axis=1)
        except ValueError as error:
            raise InputError(f"{path}: a probability is not a number ({error}).") from error
    words = next((words for words in ("category", "class_name") if set(labels) <= set(classes[words])), None)
    if words is None:
        unknown = first_of(sorted(set(labels) - set(classes["category"]) - set(classes["class_name"])))
        raise InputError(f"{path} has unknown labels, or mixes class numbers and class names: {unknown}.")
    index = dict(zip(classes[words], classes["label"], strict=True))
    return np.array([index[label] for label in labels], dtype=np.int64)
