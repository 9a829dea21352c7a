"""Our own tables, read back with the types they were written with.

Names come from outside, and a spreadsheet runs a cell that starts like a formula: such a cell is written with
an apostrophe before it, which marks a text there, and loses it when the table is read.
"""

import re
from pathlib import Path

import pandas as pd

from foldsmith.process.files import load_json, save_csv
from foldsmith.run.paths import RunPaths
from foldsmith.tasks import Task, build_task

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
}
# a number with a sign is none
FORMULA = re.compile(r"'*([=@\t\r\n]|[+-](?![0-9.]+$))")


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Saves a table whose texts come from outside: class names, ids, groups."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    save_csv(path, table.assign(**{column: texts[column].map(_guarded) for column in texts}))


def _guarded(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def _unguarded(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def _load(path: Path) -> pd.DataFrame:
    # names such as "NA" or "null" are names, not gaps
    table = pd.read_csv(path, dtype=TEXT, keep_default_na=False)
    return table.assign(**{column: table[column].map(_unguarded) for column in table if column in TEXT})


def load_samples(path: Path) -> pd.DataFrame:
    """samples.csv: path, label, class_name, category, group, digest, width, height, near; or of the test.

    `near` is the path of the first image that shows the same picture, empty where there is no other.
    """
    return _load(path)


def load_classes(path: Path) -> pd.DataFrame:
    """classes.csv: label, category, class_name; row i is class i."""
    return _load(path)


def load_task(run: RunPaths, loss: str = "ce") -> Task:
    """Return the task of a prepared run, or of a blend, for networks trained by `loss`."""
    name = load_json(run.identity).get("task", "multiclass")
    return build_task(name, len(load_classes(run.classes)), loss)


def load_problems(path: Path) -> pd.DataFrame:
    """problems.csv: path, problem, detail, action."""
    return _load(path)


def load_folds(path: Path) -> pd.DataFrame:
    """folds.csv: path, label, fold."""
    return _load(path)


def load_pseudo_labels(path: Path) -> pd.DataFrame:
    """pseudo_labels.csv: path, label, confidence."""
    return _load(path)


def load_log(path: Path) -> pd.DataFrame:
    """log.csv: epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy, seconds, images_per_second."""
    return pd.read_csv(path)
