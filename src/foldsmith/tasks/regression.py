"""The task of numbers: one or several per image.

N images · B images of a batch · M numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from foldsmith.errors import InputError
from foldsmith.natural_order import natural_key
from foldsmith.tasks import cells
from foldsmith.tasks.metrics import Metric
from foldsmith.tasks.shared import SharedMethods
from foldsmith.tasks.single_label import drop_repeated
from foldsmith.tasks.task import Encoded, Scaling
from foldsmith.tasks.value_scores import as_columns

if TYPE_CHECKING:
    import torch
    from torch import nn

NUM_BINS = 10  # quantiles of a number, which folds keep the shares of


@dataclass(frozen=True)
class Regression(SharedMethods):
    """M numbers per image. Targets are float64 (N,), or (N, M) for several, predictions values (N, M).

    The network predicts standard scores: its outputs times the scale, plus the offset, are the values. Offset
    and scale are mean and standard deviation of all labels, not those of a fold's training images: they are
    units, which say nothing about single held-out images, and with one unit for all folds their losses and
    outputs are comparable.

    The network is trained with `loss`: `ce` and `smooth_l1`, squared error that turns into absolute error one
    standard deviation away, so that one wrong label cannot dominate a step; or `mse`.
    """

    num_outputs: int
    loss: str = "ce"
    scaling: Scaling = ()
    run_metric: Metric | None = None

    name: ClassVar[str] = "regression"
    target_columns: ClassVar[tuple[str, ...]] = ("label",)
    predictions_key: ClassVar[str] = "values"
    single_label: ClassVar[bool] = False
    default_metric: ClassVar[str] = "rmse"
    tie_break: ClassVar[str] = "rmse"
    credit_name: ClassVar[str] = "1 - absolute error / standard deviation"
    losses: ClassVar[dict[str, str]] = {"ce": "smooth_l1", "smooth_l1": "smooth_l1", "mse": "mse"}
    refusals: ClassVar[dict[str, str]] = {
        "class_weights": "numbers have no classes to weigh",
        "sampling": "numbers have no classes to balance",
        "logit_adjustment": "numbers have no classes with a prior",
        "rounds": "a predicted number has no confidence by which to choose pseudo-labels",
    }
    ignored: ClassVar[dict[str, str]] = {"label_smoothing": "numbers have no classes to spread a share over"}
    report_sections: ClassVar[tuple[str, ...]] = (
        "compared",
        "folds",
        "learning-curves",
        "predicted-against-true",
        "residuals",
        "subsets",
        "suspected-labels",
        "worst-images",
        "data",
        "near-duplicates",
        "problems",
        "training-against-test",
    )

    # --- label file -> targets
    @staticmethod
    def encode(rows: pd.DataFrame, names: Mapping[str, str], source: Path) -> Encoded:
        """Return samples in natural order, and a row of `classes` for each number, with its scaling.

        Categories are tuples of numbers, in the order of `names`; without names the columns are numbered.
        Raise InputError for a number that is not finite, and for labels that are all equal.
        """
        rows, repeated = drop_repeated(rows, source)
        samples = rows.set_index("path").loc[sorted(rows["path"], key=natural_key)].reset_index()
        numbers = np.array(samples["category"].tolist(), dtype=np.float64)  # (N, M)
        if not np.isfinite(numbers).all():
            first = samples["path"].iloc[int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])]
            raise InputError(f"{source}: the label of {first} is not a finite number; correct it.")
        if not numbers.std(axis=0).any():
            raise InputError(f"{source}: all labels are {numbers[0].tolist()}; there is nothing to learn.")
        categories = list(names) or [str(column) for column in range(numbers.shape[1])]
        classes = pd.DataFrame({"label": range(len(categories)), "category": categories})
        classes["class_name"] = [names.get(category, category) for category in categories]
        classes = with_scaling(classes, numbers)
        column = Regression(len(categories)).label_column(numbers)
        samples = samples.assign(
            label=column, class_name=list(map(str, column)), category=list(map(str, column))
        )
        return Encoded(samples[["path", "label", "class_name", "category", "group"]], classes, repeated)

    def targets(self, table: pd.DataFrame) -> np.ndarray:
        if self.num_outputs == 1:
            return table["label"].to_numpy(np.float64)
        return np.array([cell.split() for cell in table["label"]], dtype=np.float64)

    def label_column(self, targets: np.ndarray) -> list[object]:
        columns = as_columns(targets)
        if self.num_outputs == 1:
            return columns[:, 0].tolist()
        return [" ".join(map(repr, row)) for row in columns.tolist()]

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the quantile of a number, int64 (N,); of several, one column for each quantile of each."""
        columns = as_columns(targets)
        levels = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
        bins = np.stack(
            [np.searchsorted(np.unique(np.quantile(column, levels)), column) for column in columns.T], axis=1
        )
        if bins.shape[1] == 1:
            return bins[:, 0]
        return (bins[:, :, None] == np.arange(NUM_BINS)).reshape(len(bins), -1).astype(np.uint8)

    def class_counts(self, targets: np.ndarray) -> np.ndarray:
        return np.empty(0, np.int64)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """Return the mean of the targets, float32 (M,)."""
        return as_columns(targets).mean(axis=0).astype(np.float32)

    # --- training
    def build_loss(
        self, targets: np.ndarray, class_weights: str, label_smoothing: float, logit_adjustment: float
    ) -> "nn.Module":
        from foldsmith.tasks.value_losses import ValueLoss

        return ValueLoss(self.losses[self.loss], self.scaling)

    def soft_targets(self, targets: "torch.Tensor") -> "torch.Tensor":
        return targets.reshape(len(targets), -1).float()

    def activate(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return the values of standard scores (B, M)."""
        scaling = logits.new_tensor(self.scaling)  # (M, 2)
        return logits * scaling[:, 1] + scaling[:, 0]

    def count_correct(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the sum of the images' credit (see `correct`)."""
        errors = self.activate(logits.detach().float()) - self.soft_targets(targets)
        scale = errors.new_tensor(self.scaling)[:, 1]
        return (1 - (errors.abs() / scale).mean(dim=1)).sum()

    def loss_and_credit(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """Return the mean squared error in units of the variance, and the mean credit."""
        if len(targets) == 0:
            return float("nan"), float("nan")
        losses, credits = self.losses_of(targets, predictions), self.correct(targets, predictions)
        return float(losses.mean()), float(credits.mean())

    # --- predictions -> decisions
    def finish(self, predictions: np.ndarray) -> np.ndarray:
        return predictions.astype(np.float32)

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """Return the predicted values, float64 (N,) or (N, M)."""
        values = predictions.astype(np.float64)
        return values[:, 0] if self.num_outputs == 1 else values

    def confidence(self, predictions: np.ndarray) -> np.ndarray:
        """Return NaN for each image: a predicted number has no confidence."""
        return np.full(len(predictions), np.nan, np.float32)

    def correct(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return 1 - absolute error / standard deviation, the mean over the numbers, float64 (N,).

        It is 1 for the target itself, and negative for errors above one standard deviation of the labels.
        """
        return 1 - np.abs(self._standard_errors(targets, predictions)).mean(axis=1)

    def losses_of(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the squared error of each image in units of the variance, float64 (N,)."""
        return (self._standard_errors(targets, predictions) ** 2).mean(axis=1)

    def _standard_errors(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        return (as_columns(targets) - predictions) / np.array(self.scaling)[:, 1]

    def view_figures(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "credit": self.correct(targets, predictions).astype(np.float32),
            "loss": self.losses_of(targets, predictions).astype(np.float32),
        }

    # --- submission
    def read_decisions(self, path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
        return cells.read_answers(self, path, table, classes)


def with_scaling(classes: pd.DataFrame, numbers: np.ndarray) -> pd.DataFrame:
    """Return a table with a row a number, with the mean (offset) and deviation (scale) of numbers (N, M)."""
    scale = numbers.std(axis=0)
    return classes.assign(offset=numbers.mean(axis=0), scale=np.where(scale > 0, scale, 1.0))
