"""What every task does alike: its metrics, and the cells of its submission."""

from dataclasses import replace
from pathlib import Path
from typing import Self

import pandas as pd

from foldsmith.tasks import cells
from foldsmith.tasks.metrics import Metric, metric_of, metrics_of
from foldsmith.tasks.task import BY_COLUMNS, CellForm, Cells


class SharedMethods:
    """Methods of Task that follow from its `name`, its `run_metric` and its `decide`."""

    @property
    def metrics(self) -> dict[str, Metric]:
        return metrics_of(self.name, self.decide, self.run_metric)

    def with_metric(self, metric: Metric) -> Self:
        return replace(self, run_metric=metric)

    def metric(self, name: str) -> Metric:
        return metric_of(name, self.name, self.decide)

    def default_cells(self, classes: pd.DataFrame, form: CellForm = BY_COLUMNS) -> Cells:
        return cells.default_cells(self, classes, form)

    def read_cells(
        self, path: Path, table: pd.DataFrame, classes: pd.DataFrame, form: CellForm = BY_COLUMNS
    ) -> Cells:
        return cells.read_cells(self, path, table, classes, form)
