"""The cells of a submission by task and kind: from the sample's header and cells, or without a sample.

N images · K outputs.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.errors import InputError, first_of
from foldsmith.tasks.class_cells import (
    ConfidentCells,
    LabelCells,
    ProbabilityCells,
    RankedCells,
    class_vocabulary,
    distinct_words,
    find_class_columns,
    match_class_columns,
    read_labels,
)
from foldsmith.tasks.label_spelling import FLAGS, spell_classes
from foldsmith.tasks.set_cells import FlagCells, SetCells, ValueCells
from foldsmith.tasks.task import CONFIDENT, CellForm, Cells, Task

RANKED = 5  # labels in a cell, where neither sample nor metric says how many
SEPARATORS = (" ", ",", ";", "|")


def default_columns(task: Task, classes: pd.DataFrame, form: CellForm) -> list[str]:
    """Return the header beside the id of a submission without a sample."""
    if form.kind == "probabilities" and task.name == "binary":
        return [classes["category"].iloc[1]]
    if form.kind in ("probabilities", "values"):
        return list(classes["category"])
    return ["class"]


def default_cells(task: Task, classes: pd.DataFrame, form: CellForm) -> Cells:
    """Return the cells of a submission without a sample."""
    words = list(classes["category"])
    if task.name == "regression":
        return ValueCells(list(range(len(classes))))
    if form.kind == "probabilities":
        return _all_probabilities(task, len(classes))
    if form.kind == "ranked":
        return RankedCells(words, _length(form, len(classes)), _free_separator(words, " "))
    if form.kind == CONFIDENT:
        return ConfidentCells(words, decide=task.decide)
    if task.name == "multilabel":
        return SetCells(words, task.decide, _free_separator(words, form.separator))
    return LabelCells(words, decide=task.decide)


def _free_separator(words: list[str], usual: str) -> str:
    """Return the usual separator, or the first that is in no label. Raise InputError if each is in one."""
    for separator in (usual, *SEPARATORS):
        if not _holding(separator, words):
            return separator
    raise InputError(
        f"labels contain each of the separators of a cell, {' '.join(SEPARATORS).strip()} and space (first: "
        f"{first_of(words)}); add a sample submission with a column a label, or rename labels."
    )


def _all_probabilities(task: Task, num_classes: int) -> ProbabilityCells:
    if task.name == "binary":
        return ProbabilityCells([1], exclusive=False)
    return ProbabilityCells(list(range(num_classes)), exclusive=task.name != "multilabel")


def _length(form: CellForm, num_classes: int) -> int:
    """Return the number of ranked labels that a metric such as map_at_5 or top3_accuracy scores."""
    number = re.search(r"\d+", form.metric)
    return min(int(number[0]) if number else RANKED, num_classes)


def read_cells(task: Task, path: Path, table: pd.DataFrame, classes: pd.DataFrame, form: CellForm) -> Cells:
    """Return the cells that the sample at `path` asks for; `table` is the sample without its id column.

    Raise InputError if header or cells do not fit the classes.
    """
    columns = [column.strip() for column in table.columns]
    words = {cell.strip() for cell in table.iloc[:, 0]}
    kind = form.kind or ("labels" if len(columns) == 1 else "probabilities")
    if task.name == "regression":
        return _values(path, columns, classes)
    if kind == "values":
        raise InputError(
            f"{path}: values are submitted by the task regression; the task here is {task.name}."
        )
    if kind == "probabilities":
        return _probabilities(task, path, columns, classes)
    if len(columns) > 1:
        if kind in ("ranked", CONFIDENT):
            raise InputError(f"{path} has {len(columns)} columns beside the id; {kind} is submitted in one.")
        return _flags(task, path, columns, table, classes)
    if kind == "ranked":
        return _ranked(path, words, classes, form)
    if kind == CONFIDENT:
        labels = class_vocabulary(path, {word.split()[0] for word in words if word}, classes)
        return ConfidentCells(labels.values, labels.notes, task.decide)
    if task.name == "multilabel":
        return _sets(task, path, words, classes, form)
    return _labels(task, path, columns[0], words, classes)


def _labels(task: Task, path: Path, column: str, words: set[str], classes: pd.DataFrame) -> LabelCells:
    cells = class_vocabulary(path, words, classes)
    names = {*classes["category"], *classes["class_name"]}
    if column in names and not words <= names:
        raise InputError(
            f"{path}: the column is named after the class '{column}', but its cells would be labels; set "
            'submission = "probabilities" and task = "binary" in competition.toml for the probability of it.'
        )
    return LabelCells(cells.values, cells.notes, task.decide)


def _values(path: Path, columns: list[str], classes: pd.DataFrame) -> ValueCells:
    if len(columns) == len(classes) == 1:
        return ValueCells([0])
    labels = find_class_columns(columns, classes)
    if labels is None:
        raise InputError(
            f"{path} has the columns {first_of(columns)}, and labels are {first_of(classes['category'])}; "
            "set label_columns in competition.toml to the sample's columns."
        )
    return ValueCells(labels)


def _probabilities(task: Task, path: Path, columns: list[str], classes: pd.DataFrame) -> ProbabilityCells:
    if task.name == "binary" and len(columns) == 1:
        return ProbabilityCells([1], exclusive=False)
    if task.name != "multilabel":
        return ProbabilityCells(match_class_columns(path, columns, classes))
    labels = find_class_columns(columns, classes)
    if labels is None:
        names = {*classes["category"], *classes["class_name"]}
        unknown = first_of([column for column in columns if column not in names]) or "a column occurs twice"
        raise InputError(
            f"{path} asks for columns that are no labels ({unknown}); the labels are "
            f"{first_of(classes['category'])}."
        )
    rest = [name for label, name in enumerate(classes["class_name"]) if label not in labels]
    notes = [f"the sample does not ask for {len(rest)} of the labels: {first_of(rest)}"] if rest else []
    return ProbabilityCells(labels, notes, exclusive=False)


def _flags(
    task: Task, path: Path, columns: list[str], table: pd.DataFrame, classes: pd.DataFrame
) -> FlagCells:
    """Return cells of 0 and 1, or of whatever pair of words the sample has."""
    labels = _probabilities(task, path, columns, classes).labels
    used = {cell.strip() for column in range(table.shape[1]) for cell in table.iloc[:, column]}
    pair = spell_classes(used, pd.DataFrame({"category": FLAGS[0], "class_name": FLAGS[0]}))
    if pair is None:
        raise InputError(
            f"{path}: the cells of labels in several columns are 0 and 1, not {first_of(sorted(used))}; set "
            'submission = "probabilities" in competition.toml for probabilities.'
        )
    return FlagCells(labels, task.decide, (pair[0], pair[1]))


def _split(path: Path, words: set[str], classes: pd.DataFrame, form: CellForm) -> tuple[list[str], str, int]:
    """Return the word for each class, the separator in the sample's cells, and the most labels in one."""
    for separator in dict.fromkeys((form.separator, *SEPARATORS)):
        split = [_labels_in(cell, separator) for cell in words]
        used = {label for labels in split for label in labels if label}
        most = max(map(len, split), default=0)
        for column in ("category", "class_name"):
            if used and used <= set(classes[column]):
                return distinct_words(path, classes, column), _written(words, separator), most
        spelled = spell_classes(used, classes) if used else None
        if spelled is not None:
            return spelled, _written(words, separator), most
    if len(words) > 1:
        raise InputError(
            f"{path}: the cells ({first_of(sorted(words))}) are no labels of this competition between "
            f"'{form.separator}'; the labels are {first_of(classes['category'])}."
        )
    return distinct_words(path, classes, "category"), _placeholder_separator(words, classes, form), 1


def _placeholder_separator(words: set[str], classes: pd.DataFrame, form: CellForm) -> str:
    """Return what divides the sample's only cell into labels, if some are known; else the labels' own."""
    known = {*classes["category"], *classes["class_name"]}
    for separator in dict.fromkeys((form.separator, *SEPARATORS)):
        for labels in (_labels_in(cell, separator) for cell in words):
            if len(labels) > 1 and known & set(labels):
                return _written(words, separator)
    return form.separator


def _labels_in(cell: str, separator: str) -> list[str]:
    return [label.strip() for label in cell.split(separator.strip() or None)]


def _written(words: set[str], separator: str) -> str:
    """Return the separator as the sample writes it, which may be followed by a space."""
    spaced = separator.strip() + " "
    return spaced if any(spaced in word for word in words) else separator.strip() or " "


def _holding(separator: str, words: list[str]) -> list[str]:
    """Return the labels that contain the separator; the space after a comma is none of it."""
    return [word for word in words if (separator.strip() or separator) in word]


def _refuse_inside(path: Path, words: list[str], separator: str) -> None:
    """Raise InputError if a label contains the separator: a cell could not be read back."""
    inside = _holding(separator, words)
    if inside:
        raise InputError(
            f"{path}: the label '{inside[0]}' contains the separator '{separator}' of the cells; set another "
            "label_separator in competition.toml."
        )


def _ranked(path: Path, words: set[str], classes: pd.DataFrame, form: CellForm) -> RankedCells:
    values, separator, most = _split(path, words, classes, form)
    length = min(most, len(classes)) if most > 1 else _length(form, len(classes))
    _refuse_inside(path, values, separator)
    return RankedCells(values, length, separator)


def _sets(task: Task, path: Path, words: set[str], classes: pd.DataFrame, form: CellForm) -> SetCells:
    values, separator, _ = _split(path, words, classes, form)
    _refuse_inside(path, values, separator)
    return SetCells(values, task.decide, separator)


# --- answers in a table of submission format
def read_answers(task: Task, path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
    """Return the decisions in a table whose first column is the id, in the form of targets.

    Probabilities count as decisions: the most probable class, or one half and more. Raise InputError for a
    cell that is no label.
    """
    rows = table.to_numpy().tolist()
    if task.name == "regression":
        columns = ValueCells(_values(path, list(table.columns[1:]), classes).labels).labels
        values = numbers_of_answers(path, rows)[:, np.argsort(columns)]
        return values[:, 0] if values.shape[1] == 1 else values
    if task.name == "multilabel":
        return _answered_sets(path, table, classes)
    cells = table.iloc[:, 1].str.strip()
    known = {*classes["category"], *classes["class_name"]}
    if len(table.columns) == 2 and not set(cells) <= known:
        if task.name == "binary" and cells.map(_is_probability).all():
            return (cells.astype(float) >= 0.5).to_numpy(np.int64)
        table = table.iloc[:, :1].assign(label=cells.str.split().str[0].fillna(""))
    return read_labels(path, table, classes)


def _is_probability(cell: str) -> bool:
    try:
        return 0 <= float(cell) <= 1
    except ValueError:
        return False


def numbers_of_answers(path: Path, rows: list[list[str]]) -> np.ndarray:
    try:
        return np.array([row[1:] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: a value is not a number ({error}).") from error


def _answered_sets(path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
    """Return 0 and 1 for each label, uint8 (N, K), of columns or of labels in one cell."""
    sets = np.zeros((len(table), len(classes)), np.uint8)
    if len(table.columns) > 2:
        labels = find_class_columns([column.strip() for column in table.columns[1:]], classes)
        if labels is None:
            raise InputError(
                f"{path} has columns that are no labels; they are {first_of(classes['category'])}."
            )
        sets[:, labels] = numbers_of_answers(path, table.to_numpy().tolist()) >= 0.5
        return sets
    words, separator, _ = _split(path, set(table.iloc[:, 1].str.strip()), classes, CellForm())
    index = {word: label for label, word in enumerate(words)}
    for row, cell in enumerate(table.iloc[:, 1]):
        labels = _labels_in(cell, separator)
        sets[row, [index[label] for label in labels if label]] = 1
    return sets
