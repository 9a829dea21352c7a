"""The cells of a submission that hold sets of labels, or numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.errors import InputError
from foldsmith.tasks.class_cells import numbers_of


@dataclass(frozen=True)
class SetCells:
    """One cell per image: its labels between separators; `values` are the words of the labels."""

    values: list[str]
    decide: Callable[[np.ndarray], np.ndarray]
    separator: str = " "
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return self.values

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        sets = self.decide(predictions) if decisions is None else decisions  # (N, K)
        return pd.DataFrame(
            [self.separator.join(self.values[label] for label in np.flatnonzero(row)) for row in sets]
        )

    def check(self, path: Path, rows: list[list[str]]) -> None:
        known = set(self.values)
        for line, row in enumerate(rows, start=2):
            labels = row[1].split(self.separator) if row[1] else []
            wrong = [label for label in labels if label not in known]
            if wrong:
                raise InputError(f"{path}, line {line}: '{wrong[0]}' is not a label of this competition.")
            if len(set(labels)) < len(labels):
                raise InputError(f"{path}, line {line}: '{row[1]}' has a label twice.")


@dataclass(frozen=True)
class FlagCells:
    """A column per label: whether the image has it; `labels` has the label of each column."""

    labels: list[int]
    decide: Callable[[np.ndarray], np.ndarray]
    values: tuple[str, str] = ("0", "1")
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return list(self.values)

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        decided = self.decide(predictions) if decisions is None else decisions
        if decided.ndim == 1:  # one class per image
            decided = np.eye(predictions.shape[1], dtype=np.uint8)[decided]
        return pd.DataFrame(np.array(self.values)[decided[:, self.labels].astype(np.int64)])

    def check(self, path: Path, rows: list[list[str]]) -> None:
        for line, row in enumerate(rows, start=2):
            wrong = [cell for cell in row[1:] if cell not in self.values]
            if wrong:
                raise InputError(
                    f"{path}, line {line}: '{wrong[0]}' must be {self.values[0]} or {self.values[1]}."
                )


@dataclass(frozen=True)
class ValueCells:
    """A number per column; `labels` has the output of each column."""

    labels: list[int]
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return []

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        return pd.DataFrame(predictions.astype(np.float64)[:, self.labels])

    def check(self, path: Path, rows: list[list[str]]) -> None:
        finite = np.isfinite(numbers_of(path, rows, "a value")).all(axis=1)
        if not finite.all():
            line = int(np.flatnonzero(~finite)[0]) + 2
            raise InputError(f"{path}, line {line}: a value must be a finite number.")
