"""Our own tables, read back with the types they were written with."""

from pathlib import Path

import pandas as pd

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


def _load(path: Path) -> pd.DataFrame:
    # names such as "NA" or "null" are names, not gaps
    return pd.read_csv(path, dtype=TEXT, keep_default_na=False)


def load_samples(path: Path) -> pd.DataFrame:
    """samples.csv: path, label, class_name, category, group, digest, width, height, near; or of the test.

    `near` is the path of the first image that shows the same picture, empty where there is no other.
    """
    return _load(path)


def load_classes(path: Path) -> pd.DataFrame:
    """classes.csv: label, category, class_name; row i is class i."""
    return _load(path)


def load_problems(path: Path) -> pd.DataFrame:
    """problems.csv: path, problem, detail, action."""
    return _load(path)


def load_folds(path: Path) -> pd.DataFrame:
    """folds.csv: path, label, fold."""
    return _load(path)


def load_log(path: Path) -> pd.DataFrame:
    """log.csv: epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy, seconds, images_per_second."""
    return pd.read_csv(path)
