"""The cells of a submission: which kinds there are, and how a task's predictions fill them.

N images · K outputs.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foldsmith.tasks.task import Cells, Task

KINDS = ("labels", "probabilities", "ranked", "values")


@dataclass(frozen=True)
class CellForm:
    """What the cells of a submission hold.

    `kind` is one of KINDS; empty: labels for one column, probabilities for several. `separator` divides labels in
    one cell. `metric` is the run's: map_at_5 ranks five labels where the sample shows fewer.
    """

    kind: str = ""
    separator: str = " "
    metric: str = ""


def default_cells(task: Task, classes: pd.DataFrame, form: CellForm) -> Cells:
    """Return the cells of a submission without a sample."""
    raise NotImplementedError


def read_cells(task: Task, path: Path, table: pd.DataFrame, classes: pd.DataFrame, form: CellForm) -> Cells:
    """Return the cells that the sample at `path` asks for; `table` is the sample without its id column.

    Raise InputError if header or cells do not fit the classes.
    """
    raise NotImplementedError
