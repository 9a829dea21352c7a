"""The interface of a task: everything that depends on what a target is.

N images · B images of a batch · K outputs of the network. A target is what the label file says of an image;
a prediction is what the network says, after its activation; a decision is what is submitted.
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
    """The labelled images: `samples` has `path`, the task's target columns, names for people and `group`, in
    natural order of the path; `classes` one row an output: `label`, `category`, `class_name`; `repeated` are
    images that the label file names more than once in the same way."""

    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]


class Cells(Protocol):
    """The cells of a submission beside the id: what the sample asks for, how it is filled and checked."""

    @property
    def notes(self) -> list[str]:
        """Sentences on how the sample was understood."""
        ...

    @property
    def words(self) -> list[str]:
        """The words a cell may hold, for the stamp of a submission; empty where cells are numbers."""
        ...

    def fill(self, predictions: np.ndarray) -> pd.DataFrame:
        """Return the cells for predictions (N, K), one row an image."""
        ...

    def check(self, path: Path, rows: list[list[str]]) -> None:
        """Raise InputError at the first of the rows (id and cells, from line 2 on) that cannot be right."""
        ...


class Task(Protocol):
    """What a target is, from the label file to the submission. A task is built for a number of outputs and
    for the loss that its network is trained by."""

    name: ClassVar[str]
    target_columns: ClassVar[tuple[str, ...]]  # of samples.csv, folds.csv, oof.csv
    report_sections: ClassVar[tuple[str, ...]]  # keys of foldsmith.report.page.SECTIONS, in order

    def __init__(self, num_outputs: int, loss: str = "ce") -> None: ...

    @property
    def num_outputs(self) -> int: ...

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics by which predictions of this task can be judged, by name."""
        ...

    # --- label file -> targets
    @staticmethod
    def encode(rows: pd.DataFrame, names: dict[str, str], source: Path) -> Encoded:
        """Return samples and classes of label rows (path, category, group); `names` are those of categories.

        Raises InputError, naming `source`, where the rows contradict each other.
        """
        ...

    def targets(self, table: pd.DataFrame) -> np.ndarray:
        """Return the targets of a table with the target columns, (N,) or (N, K)."""
        ...

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the stratum of each image, int64 (N,), whose shares folds, limits and sampling keep."""
        ...

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """Return the prediction for an image of which nothing is known, float32 (K,)."""
        ...

    # --- training
    def build_loss(
        self, targets: np.ndarray, class_weights: str, label_smoothing: float, logit_adjustment: float
    ) -> "nn.Module":
        """Return the loss of logits (B, K) and targets, whose class frequencies are those of `targets`."""
        ...

    def soft_targets(self, targets: "torch.Tensor") -> "torch.Tensor":
        """Return targets that can be mixed, float32 (B, K)."""
        ...

    def activate(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return predictions (B, K) of logits (B, K): softmax, sigmoid, …"""
        ...

    def count_correct(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the sum of the credit of a batch, a number on the device; targets may be soft."""
        ...

    def loss_and_credit(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """Return the mean loss and credit that the training log shows; NaN for no images."""
        ...

    # --- predictions -> decisions
    def finish(self, predictions: np.ndarray) -> np.ndarray:
        """Return predictions as files hold them, float32 (N, K): in bounds, and normalised."""
        ...

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """Return the decision for each image, in the form of targets."""
        ...

    def confidence(self, predictions: np.ndarray) -> np.ndarray:
        """Return how sure each decision is, (N,)."""
        ...

    def correct(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the credit of each image, (N,), from 0 to 1, by which runs are compared image by image."""
        ...

    def view_figures(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
        """Return what views.npz keeps of each image: `prediction`, and `given`, its target's likelihood."""
        ...

    # --- submission
    def default_cells(self, classes: pd.DataFrame) -> Cells:
        """Return the cells of a submission for which there is no sample."""
        ...

    def read_cells(self, path: Path, columns: list[str], table: pd.DataFrame, classes: pd.DataFrame) -> Cells:
        """Return the cells that a sample submission asks for; `columns` and `table` are those beside the id.

        Raises InputError if they fit no class of this competition.
        """
        ...

    def read_decisions(self, path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
        """Return the decisions that a table of a submission's form holds; its first column is the id.

        Raises InputError for a cell that is no label of this competition.
        """
        ...
