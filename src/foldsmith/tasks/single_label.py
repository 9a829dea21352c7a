"""The task of most competitions, one class per image: softmax probabilities, the most probable class wins.

N images · B images of a batch · K classes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from foldsmith.errors import InputError
from foldsmith.natural_order import natural_key
from foldsmith.tasks import cells
from foldsmith.tasks.metrics import Metric, decide
from foldsmith.tasks.probabilities import class_prior, floor_probabilities, logarithms
from foldsmith.tasks.shared import SharedMethods
from foldsmith.tasks.task import Encoded, Scaling

if TYPE_CHECKING:
    import torch
    from torch import nn

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # a category that is one, in 64 bits


@dataclass(frozen=True)
class SingleLabel(SharedMethods):
    """One of K classes per image. Targets are class indices int64 (N,), predictions probabilities (N, K).

    The network is trained with `loss`: `ce`, cross entropy, or `bce`, binary cross entropy of each class.
    """

    num_outputs: int
    loss: str = "ce"
    scaling: Scaling = ()
    run_metric: Metric | None = None

    name: ClassVar[str] = "multiclass"
    target_columns: ClassVar[tuple[str, ...]] = ("label",)
    predictions_key: ClassVar[str] = "probabilities"
    single_label: ClassVar[bool] = True
    default_metric: ClassVar[str] = "accuracy"
    tie_break: ClassVar[str] = "log_loss"
    credit_name: ClassVar[str] = "accuracy"
    losses: ClassVar[dict[str, str]] = {"ce": "ce", "bce": "bce"}
    refusals: ClassVar[dict[str, str]] = {}
    ignored: ClassVar[dict[str, str]] = {}
    report_sections: ClassVar[tuple[str, ...]] = (
        "compared",
        "folds",
        "learning-curves",
        "classes",
        "confused-pairs",
        "confusion-matrix",
        "subsets",
        "suspected-labels",
        "mistakes",
        "calibration",
        "data",
        "near-duplicates",
        "problems",
        "training-against-test",
        "test-predictions",
    )

    # --- label file -> targets
    @staticmethod
    def encode(rows: pd.DataFrame, names: dict[str, str], source: Path) -> Encoded:
        """Return samples in natural order and classes sorted by number or name; repeated rows occur once.

        Raise InputError if an image has two classes or groups, or if there is only one class.
        """
        return encode_rows(rows, names, source)

    def targets(self, table: pd.DataFrame) -> np.ndarray:
        return table["label"].to_numpy(np.int64)

    def label_column(self, targets: np.ndarray) -> list[object]:
        return targets.tolist()

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def class_counts(self, targets: np.ndarray) -> np.ndarray:
        return np.bincount(targets, minlength=self.num_outputs)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """Return the share of each class, float32 (K,)."""
        return class_prior(targets, self.num_outputs)

    # --- training
    def build_loss(
        self, targets: np.ndarray, class_weights: str, label_smoothing: float, logit_adjustment: float
    ) -> "nn.Module":
        from foldsmith.tasks import losses

        weights = losses.class_weights(class_weights, targets, self.num_outputs)
        adjustment = losses.log_priors(targets, self.num_outputs) * logit_adjustment
        return losses.ClassificationLoss(
            self.loss, weights, label_smoothing, adjustment if logit_adjustment else None
        )

    def soft_targets(self, targets: "torch.Tensor") -> "torch.Tensor":
        """Return one-hot targets float32 (B, K)."""
        from torch.nn.functional import one_hot

        return one_hot(targets, self.num_outputs).float()

    def activate(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return the softmax of logits (B, K); for the loss `bce` the sigmoids divided by their sum.

        A network trained with `bce` predicts a sigmoid per class; the softmax of its logits is overconfident.
        """
        from torch.nn.functional import logsigmoid

        return (logsigmoid(logits) if self.loss == "bce" else logits).softmax(dim=1)

    def count_correct(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return how often the most probable class is the label (B,), or the largest soft target (B, K)."""
        labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
        return (logits.detach().argmax(dim=1) == labels).sum()

    def loss_and_credit(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """Return the mean negative log likelihood and the accuracy."""
        if len(targets) == 0:
            return float("nan"), float("nan")
        loss = self.losses_of(targets, predictions).mean()
        return float(loss), float(self.correct(targets, predictions).mean())

    # --- predictions -> decisions
    def finish(self, predictions: np.ndarray) -> np.ndarray:
        return floor_probabilities(predictions)

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        return decide(predictions)

    def confidence(self, predictions: np.ndarray) -> np.ndarray:
        return predictions.max(axis=1)

    def correct(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return whether the decision is the target, bool (N,)."""
        return self.decide(predictions) == targets

    def losses_of(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the negative log likelihood of each target, float64 (N,)."""
        return -logarithms(predictions[np.arange(len(targets)), targets])

    def view_figures(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "prediction": self.decide(predictions).astype(np.int32),
            "given": predictions[np.arange(len(targets)), targets],
        }

    # --- submission
    def read_decisions(self, path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
        return cells.read_answers(self, path, table, classes)


def encode_rows(
    rows: pd.DataFrame, names: Mapping[str, str], source: Path, keep_order: bool = False
) -> Encoded:
    """Return samples and classes of rows with one category each; repeated rows occur once.

    Classes are sorted by number or name, or with `keep_order` as in `names`, then those that only rows have.
    Raise InputError as SingleLabel.encode does.
    """
    rows, repeated = drop_repeated(rows, source)
    categories = sorted({*rows["category"], *names}, key=natural_key)
    if all(INTEGER.fullmatch(category) for category in categories):
        categories.sort(key=int)
    if keep_order:
        categories = list(dict.fromkeys([*names, *categories]))
    if rows["category"].nunique() < 2:
        only = rows["category"].iloc[0]
        raise InputError(f"{source} has only one class ({only}); a classifier needs two or more.")
    classes = pd.DataFrame({"label": range(len(categories)), "category": categories})
    classes["class_name"] = [names.get(category, category) for category in categories]
    merged = rows.merge(classes, on="category").set_index("path")
    samples = merged.loc[sorted(rows["path"], key=natural_key)].reset_index()
    return Encoded(samples[["path", "label", "class_name", "category", "group"]], classes, repeated)


def drop_repeated(rows: pd.DataFrame, source: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return one row (path, category, group) per image, and the images with several equal rows.

    Raise InputError if an image has two categories or groups.
    """
    rows = rows[["path", "category", "group"]]
    repeated = sorted(set(rows.loc[rows["path"].duplicated(), "path"]), key=natural_key)
    rows = rows.drop_duplicates()
    several = rows[rows["path"].duplicated(keep=False)]
    for column, meaning in (("category", "labels"), ("group", "groups")):
        values = several.groupby("path", sort=True)[column].unique()
        torn = values[values.map(len) > 1]
        if len(torn):
            first = " and ".join(map(str, torn.iloc[0]))
            raise InputError(
                f"{source}: {len(torn)} images have two different {meaning} "
                f"(first: {torn.index[0]}: {first}); keep one row of each."
            )
    return rows, repeated
