"""Read and write the tables of a run, with fixed column types.

Names come from the user's files, and spreadsheets run cells that start like a formula. Such a cell is written
with an apostrophe before it, which marks text in a spreadsheet; reading removes it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from foldsmith.process.files import append_csv, atomic_write, load_json, save_csv
from foldsmith.run.paths import RunPaths
from foldsmith.tasks import Scaling, Task, build_task

TEXT = {
    "path": str,
    "class_name": str,
    "category": str,
    "group": str,
    "digest": str,
    "near": str,
    "problem": str,
    "detail": str,
    "action": str,
    "old": str,
    "new": str,
}
# a number with a sign is not a formula
MARKS = ("'", "=", "@", "\t", "\r", "\n", "+", "-")  # with which a formula may start, or a guarded cell
FORMULA = re.compile(r"'*([=@\t\r\n]|[+-](?![0-9.]+$))")


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table with text from the user's files (class names, ids, groups), guarded against formulas."""
    save_csv(path, guarded_table(table))


def save_table_in_chunks(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    """Write tables with the same columns below each other, guarded as by `save_table`.

    One is in memory at a time. The file is written whole or not at all, also if an iteration raises.
    """
    # one handle for all: a file that is removed meanwhile is then missed, and not begun again
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for table in tables:
            append_csv(file, guarded_table(table))


def guarded_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts no spreadsheet runs as a formula."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    suspicious = [column for column in texts if texts[column].astype(str).str.startswith(MARKS).any()]
    return table.assign(**{column: texts[column].map(_guarded) for column in suspicious})


def _guarded(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def unguarded(text: str) -> str:
    """Return the text of a cell without the apostrophe that guards it."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def _load(path: Path) -> pd.DataFrame:
    # "NA" and "null" are names, not missing values
    table = pd.read_csv(path, dtype=TEXT, keep_default_na=False)
    # sets of labels and several numbers are text in the column `label`
    texts = [column for column in table if column in TEXT or not is_numeric_dtype(table[column])]
    guarded = [column for column in texts if table[column].str.startswith("'").any()]
    return table.assign(**{column: table[column].map(unguarded) for column in guarded})


def load_samples(path: Path) -> pd.DataFrame:
    """Return samples.csv: path, label, class_name, category, group, digest, width, height, near.

    test_samples.csv has path, digest, width, height, near. `near` is the path of the first image of the
    near-duplicate group, empty without near-duplicates.
    """
    return _load(path)


def load_classes(path: Path) -> pd.DataFrame:
    """Return classes.csv: label, category, class_name; row i is class i.

    For numbers row i is number i, with its offset and scale besides.
    """
    return _load(path)


def load_task(run: RunPaths, loss: str = "ce") -> Task:
    """Return the task of a prepared run, or of a blend, for networks trained with `loss`."""
    return task_of(load_json(run.identity).get("task", "multiclass"), load_classes(run.classes), loss)


def task_of(name: str, classes: pd.DataFrame, loss: str = "ce") -> Task:
    """Return the task of this name for the rows of a table of classes, of numbers with their scaling."""
    scaling: Scaling = ()
    if "offset" in classes:
        scaling = tuple(zip(classes["offset"].tolist(), classes["scale"].tolist(), strict=True))
    return build_task(name, len(classes), loss, scaling)


def load_problems(path: Path) -> pd.DataFrame:
    """Return problems.csv: path, problem, detail, action."""
    return _load(path)


def load_corrections(path: Path) -> pd.DataFrame:
    """Return corrections.csv of a run: path, digest, old, new; without rows if there is no such file."""
    return _load(path) if path.is_file() else pd.DataFrame(columns=["path", "digest", "old", "new"])


def load_folds(path: Path) -> pd.DataFrame:
    """Return folds.csv: path, label, fold."""
    return _load(path)


def load_pseudo_labels(path: Path) -> pd.DataFrame:
    """Return pseudo_labels.csv: path, label, confidence."""
    return _load(path)


def load_log(path: Path) -> pd.DataFrame:
    """Return log.csv, one row per epoch: lr, loss and accuracy of training and validation, time and speed."""
    return pd.read_csv(path)
