"""The interface of a task: everything that depends on the kind of target.

N images · B images of a batch · K outputs of the network. A target is an image's entry in the label file; a
prediction is the output of the network after its activation; a decision is the submitted value.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import pandas as pd

from foldsmith.tasks.metrics import Metric

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Encoded:
    """The labelled images.

    `samples` has `path`, the task's target columns, class names and `group`, in natural order of the path.
    `classes` has one row per output: `label`, `category`, `class_name`. `repeated` are the images that the
    label file names more than once, with the same target.
    """

    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]


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

    def fill(self, predictions: np.ndarray) -> pd.DataFrame:
        """Return the cells for predictions (N, K), one row per image."""
        ...

    def check(self, path: Path, rows: list[list[str]]) -> None:
        """Raise InputError for the first invalid row; `rows` have the id and the cells, from line 2 on."""
        ...


class Task(Protocol):
    """A kind of target, from the label file to the submission.

    A task is built for a number of outputs and for the loss of its network.
    """

    name: ClassVar[str]
    target_columns: ClassVar[tuple[str, ...]]  # of samples.csv, folds.csv, oof.csv
    report_sections: ClassVar[tuple[str, ...]]  # keys of foldsmith.report.page.SECTIONS, in order

    def __init__(self, num_outputs: int, loss: str = "ce") -> None: ...

    @property
    def num_outputs(self) -> int: ...

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics for predictions of this task, by name."""
        ...

    # --- label file -> targets
    @staticmethod
    def encode(rows: pd.DataFrame, names: dict[str, str], source: Path) -> Encoded:
        """Return samples and classes of label rows (path, category, group); `names` maps categories to names.

        Raise InputError, naming `source`, if rows contradict each other.
        """
        ...

    def targets(self, table: pd.DataFrame) -> np.ndarray:
        """Return the targets of a table with the target columns, (N,) or (N, K)."""
        ...

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the stratum of each image, int64 (N,): folds, limits and sampling keep their shares."""
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
        """Return targets in the form that mixup and CutMix need, float32 (B, K)."""
        ...

    def activate(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return predictions (B, K) of logits (B, K): softmax, sigmoid, …"""
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
        """Return the credit of each image, (N,), from 0 to 1, for comparing runs image by image."""
        ...

    def view_figures(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of views.npz: `prediction`, and `given`, the probability of the target; (N,)."""
        ...

    # --- submission
    def default_cells(self, classes: pd.DataFrame) -> Cells:
        """Return the cells of a submission without a sample."""
        ...

    def read_cells(self, path: Path, columns: list[str], table: pd.DataFrame, classes: pd.DataFrame) -> Cells:
        """Return the cells of a sample submission; `columns` and `table` are without the id.

        Raise InputError if they do not fit the classes of the competition.
        """
        ...

    def read_decisions(self, path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
        """Return the decisions in a table of submission format, whose first column is the id.

        Raise InputError for a cell that is not a label of the competition.
        """
        ...
