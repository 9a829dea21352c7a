"""The cells of a submission for one class per image: a label, or a probability for each class."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.errors import InputError, first_of
from foldsmith.tasks.metrics import decide


@dataclass(frozen=True)
class LabelCells:
    """One cell per image: its most probable class; `values` are the names of class 0 … K-1."""

    values: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return self.values

    def fill(self, predictions: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame([self.values[label] for label in decide(predictions)])

    def check(self, path: Path, rows: list[list[str]]) -> None:
        known = set(self.values)
        for line, row in enumerate(rows, start=2):
            if row[1] not in known:
                raise InputError(f"{path}, line {line}: '{row[1]}' is not a label of this competition.")


@dataclass(frozen=True)
class ProbabilityCells:
    """One cell per class: its probability; `labels` has the class of each column."""

    labels: list[int]
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return []

    def fill(self, predictions: np.ndarray) -> pd.DataFrame:
        rows = predictions.astype(np.float64)
        rows /= rows.sum(axis=1, keepdims=True)
        return pd.DataFrame(rows[:, self.labels])

    def check(self, path: Path, rows: list[list[str]]) -> None:
        try:
            values = pd.DataFrame(rows).iloc[:, 1:].to_numpy(dtype=np.float64)
        except ValueError as error:
            raise InputError(f"{path}: a probability is not a number ({error}).") from error
        with np.errstate(invalid="ignore"):
            inside = (values >= 0).all(axis=1) & (values <= 1).all(axis=1)
            valid = inside & (np.abs(values.sum(axis=1) - 1) < 1e-6)
        if not valid.all():
            line = int(np.flatnonzero(~valid)[0])
            raise InputError(f"{path}, line {line + 2}: probabilities must lie in [0, 1] and sum to 1.")


def class_vocabulary(path: Path, used: set[str], classes: pd.DataFrame) -> LabelCells:
    """Return label cells as the sample at `path` spells them: categories of the label file, or class names.

    `used` are the sample's labels. Raise InputError if they are neither.
    """
    for column in ("category", "class_name"):
        if used <= set(classes[column]):
            if classes[column].duplicated().any():
                twice = classes.loc[classes[column].duplicated(), column].iloc[0]
                raise InputError(
                    f"{path} asks for class names, but two classes are named '{twice}'; rename one."
                )
            return LabelCells(list(classes[column]))
    both = {*classes["category"], *classes["class_name"]}
    if used <= both:
        raise InputError(
            f"{path} mixes class numbers and class names ({first_of(sorted(used))}); download it again."
        )
    unknown = sorted(used - both)
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


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def match_class_columns(path: Path, columns: list[str], classes: pd.DataFrame) -> list[int]:
    """Return the class of each probability column. Raise InputError unless there is one for every class."""
    for known in ("category", "class_name"):
        labels = dict(zip(classes[known], classes["label"], strict=True))
        if len(labels) == len(classes) == len(columns) and set(columns) == set(labels):
            return [int(labels[column]) for column in columns]
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
