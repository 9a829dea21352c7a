"""What the labels are and what a submission asks for: task, metric and form, by evidence in labels and sample."""

from dataclasses import dataclass, field

import pandas as pd

from foldsmith.competition.settings import Settings


@dataclass(frozen=True)
class Target:
    """What is predicted, and how it is submitted.

    `label_columns` are those that hold the labels. `separator` divides several labels in one cell; empty if
    there is one. `names` are the classes in their order and their names, for `Task.encode`; empty: those that
    occur. `positive` is the class whose probability is submitted. `submission` is the kind of the cells
    (`tasks.cells.CellForm`). `spellings` are label words that are read as another one (`1.0` as `1`).
    `evidence` is one sentence a fact.
    """

    task: str
    metric: str
    label_columns: tuple[str, ...]
    separator: str = ""
    positive: str = ""
    submission: str = "labels"
    names: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)


def read_target(
    labels: pd.DataFrame, names: dict[str, str], sample: pd.DataFrame | None, settings: Settings
) -> Target:
    """Return what labels and sample ask for. What competition.toml sets decides.

    `labels` has one row per label row and one or more label columns, all text; `names` are the names of the
    categories, empty without any; `sample` is the sample submission without its id column.

    Raise InputError with both readings, and the lines of competition.toml that decide, where two fit.
    """
    raise NotImplementedError


def categories_of(labels: pd.DataFrame, target: Target) -> pd.Series:
    """Return the category of each row, for `Task.encode`.

    It is text for multiclass, binary and ordinal, a tuple of texts for multilabel (empty if none is true), a
    tuple of numbers for regression. Raise InputError for a cell that is none.
    """
    raise NotImplementedError
