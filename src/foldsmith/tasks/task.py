"""The interface of a task: everything that depends on the kind of target.

N images · B images of a batch · K outputs of the network. A target is an image's entry in the label file; a
prediction is the output of the network after its activation; a decision is the submitted value.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import numpy as np
import pandas as pd

from foldsmith.tasks.metrics import Metric

Scaling = tuple[tuple[float, float], ...]  # (offset, scale) of each number of a regression

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Encoded:
    """The labelled images.

    `samples` has `path`, the task's target columns, class names and `group`, in natural order of the path.
    `classes` has one row per output: `label`, `category`, `class_name`; for numbers also `offset` and
    `scale`. `repeated` are the images that the label file names more than once, with the same target.
    """

    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]


@dataclass(frozen=True)
class CellForm:
    """What the cells of a submission hold.

    `kind` is labels, probabilities, ranked, values or CONFIDENT; empty: labels in one column, probabilities
    in several.
    `separator` divides labels in one cell. `metric` is the run's: map_at_5 ranks five labels where the sample
    shows one.
    """

    kind: str = ""
    separator: str = " "
    metric: str = ""


CONFIDENT = "label_and_probability"  # the kind of cells with the most probable class and its probability
BY_COLUMNS = CellForm()  # labels in one column, probabilities in several


class Cells(Protocol):
    """The cells of a submission beside the id: their format, and how they are filled and checked."""

    @property
    def notes(self) -> list[str]:
        """Sentences on how the sample submission was interpreted."""
        ...

    @property
    def words(self) -> list[str]:
        """The possible values of a cell, for the stamp of a submission; empty if cells are numbers."""
        ...

    def fill(self, predictions: np.ndarray, decisions: np.ndarray | None = None) -> pd.DataFrame:
        """Return the cells for predictions (N, K), one row per image.

        Labels are written as `decisions` say, in the form of targets; without them as the task decides.
        """
        ...

    def check(self, path: Path, rows: list[list[str]]) -> None:
        """Raise InputError for the first invalid row; `rows` have the id and the cells, from line 2 on."""
        ...


class Task(Protocol):
    """A kind of target, from the label file to the submission.

    A task is built for a number of outputs, for the loss of its network and, for numbers, their scaling.
    """

    name: ClassVar[str]
    target_columns: ClassVar[tuple[str, ...]]  # of samples.csv, folds.csv, oof.csv
    predictions_key: ClassVar[str]  # of the predictions in oof.npz and test.npz: probabilities or values
    single_label: ClassVar[bool]  # whether a target is one class index, and predictions sum to 1
    default_metric: ClassVar[str]
    tie_break: ClassVar[str]  # the metric that decides between equal scores
    credit_name: ClassVar[str]  # of the mean of `correct`, in words
    losses: ClassVar[dict[str, str]]  # values of the recipe's field `loss`, and the loss that each stands for
    refusals: ClassVar[dict[str, str]]  # recipe fields without a meaning for this task, and why
    ignored: ClassVar[dict[str, str]]  # recipe fields that have no effect on this task, and why
    report_sections: ClassVar[tuple[str, ...]]  # keys of foldsmith.report.page.SECTIONS, in order

    def __init__(self, num_outputs: int, loss: str = "ce", scaling: Scaling = ()) -> None: ...

    @property
    def num_outputs(self) -> int: ...

    @property
    def scaling(self) -> Scaling:
        """The offset and scale of each output of a regression; empty for other tasks."""
        ...

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that a run of this task computes, by name: those of every run, and `run_metric`."""
        ...

    def with_metric(self, metric: Metric) -> Self:
        """Return the task with the metric of a run, which `metrics` then holds too."""
        ...

    def metric(self, name: str) -> Metric:
        """Return the metric of this name, which makes decisions as this task does.

        Raise InputError for an unknown name and for a metric of other tasks.
        """
        ...

    # --- label file -> targets
    @staticmethod
    def encode(rows: pd.DataFrame, names: dict[str, str], source: Path) -> Encoded:
        """Return samples and classes of label rows (path, category, group); `names` maps categories to names.

        A category is text; for `multilabel` a tuple of texts, for `regression` a tuple of numbers. `names`,
        if not empty, gives the classes: for `multilabel` and `regression` the columns and their order, for
        `binary` the negative and the positive class. `multiclass` and `ordinal` sort the classes.

        Raise InputError, naming `source`, if rows contradict each other.
        """
        ...

    def targets(self, table: pd.DataFrame) -> np.ndarray:
        """Return the targets of a table with the target columns.

        They are int64 (N,) for one class, uint8 (N, K) for sets, float64 (N,) or (N, M) for numbers.
        """
        ...

    def label_column(self, targets: np.ndarray) -> list[object]:
        """Return the cells of the column `label`: the inverse of `targets`."""
        ...

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the stratum of each image, int64 (N,), or the strata, uint8 (N, S).

        Folds and limits keep their shares.
        """
        ...

    def class_counts(self, targets: np.ndarray) -> np.ndarray:
        """Return the number of images of each class, int64 (K,); empty for numbers."""
        ...

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """Return the prior, the prediction for an image without features, float32 (K,)."""
        ...

    # --- training
    def build_loss(
        self, targets: np.ndarray, class_weights: str, label_smoothing: float, logit_adjustment: float
    ) -> "nn.Module":
        """Return the loss of logits (B, K) and targets; class frequencies are computed from `targets`."""
        ...

    def soft_targets(self, targets: "torch.Tensor") -> "torch.Tensor":
        """Return targets in the form that mixup and CutMix need, float32 (B, K) or (B, M)."""
        ...

    def activate(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return predictions (B, K) of logits (B, K): softmax, sigmoid, scaled numbers."""
        ...

    def count_correct(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the total credit of a batch (see `correct`), a scalar on the device; targets may be soft."""
        ...

    def loss_and_credit(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """Return the mean loss and credit for the training log; NaN without images."""
        ...

    # --- predictions -> decisions
    def finish(self, predictions: np.ndarray) -> np.ndarray:
        """Return predictions as they are saved, float32 (N, K): within bounds, and normalised."""
        ...

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """Return the decision for each image, in the same form as targets."""
        ...

    def confidence(self, predictions: np.ndarray) -> np.ndarray:
        """Return the confidence of each decision, (N,)."""
        ...

    def correct(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the credit of each image, (N,), at most 1, for comparing runs image by image.

        It is bool where an image is either right or wrong.
        """
        ...

    def losses_of(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the loss of each image, float64 (N,): negative log likelihood, or squared error."""
        ...

    def view_figures(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of views.npz, each (N,).

        For one class they are `prediction`, and `given`, the probability of the target; for other tasks
        `credit` and `loss`.
        """
        ...

    # --- submission
    def default_cells(self, classes: pd.DataFrame, form: CellForm = BY_COLUMNS) -> Cells:
        """Return the cells of a submission without a sample."""
        ...

    def read_cells(
        self, path: Path, table: pd.DataFrame, classes: pd.DataFrame, form: CellForm = BY_COLUMNS
    ) -> Cells:
        """Return the cells of a sample submission; `table` is without the id.

        Raise InputError if they do not fit the classes of the competition.
        """
        ...

    def read_decisions(self, path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
        """Return the decisions in a table of submission format, whose first column is the id.

        Raise InputError for a cell that is not a label of the competition.
        """
        ...
