"""The task of sets: an image has any number of K labels, also none; their probabilities are independent.

N images · B images of a batch · K labels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from foldsmith.errors import InputError, first_of
from foldsmith.natural_order import natural_key
from foldsmith.tasks import cells
from foldsmith.tasks.metrics import Metric
from foldsmith.tasks.probabilities import FLOOR, logarithms
from foldsmith.tasks.shared import SharedMethods
from foldsmith.tasks.single_label import drop_repeated
from foldsmith.tasks.task import Encoded, Scaling

if TYPE_CHECKING:
    import torch
    from torch import nn

THRESHOLD = 0.5


@dataclass(frozen=True)
class Multilabel(SharedMethods):
    """Any of K labels per image. Targets are 0 and 1, uint8 (N, K), predictions probabilities (N, K).

    The network is trained with `loss`: `ce` and `bce`, the binary cross entropy of each label, which is the
    cross entropy of independent labels; or `asymmetric` (Ridnik et al., 2021).
    """

    num_outputs: int
    loss: str = "ce"
    scaling: Scaling = ()
    run_metric: Metric | None = None

    name: ClassVar[str] = "multilabel"
    target_columns: ClassVar[tuple[str, ...]] = ("label",)
    predictions_key: ClassVar[str] = "probabilities"
    single_label: ClassVar[bool] = False
    default_metric: ClassVar[str] = "f1_samples"
    tie_break: ClassVar[str] = "log_loss"
    credit_name: ClassVar[str] = "F1 of the image"
    losses: ClassVar[dict[str, str]] = {"ce": "bce", "bce": "bce", "asymmetric": "asymmetric"}
    refusals: ClassVar[dict[str, str]] = {}
    ignored: ClassVar[dict[str, str]] = {}
    report_sections: ClassVar[tuple[str, ...]] = (
        "compared",
        "folds",
        "learning-curves",
        "labels",
        "co-occurrence",
        "subsets",
        "suspected-labels",
        "surest-mistakes",
        "data",
        "near-duplicates",
        "problems",
        "training-against-test",
    )

    # --- label file -> targets
    @staticmethod
    def encode(rows: pd.DataFrame, names: Mapping[str, str], source: Path) -> Encoded:
        """Return samples in natural order; classes are those of `names` in their order, or else sorted.

        Categories are tuples of texts, in which order and repeats do not count. In samples they are joined by
        spaces, or by commas if one has a space. Raise InputError if an image has two sets or groups, for a
        label that `names` lacks, and if no image has a label.
        """
        rows = rows.assign(category=[tuple(sorted(set(category))) for category in rows["category"]])
        rows, repeated = drop_repeated(rows, source)
        used = {label for labels in rows["category"] for label in labels}
        if not used:
            raise InputError(f"{source}: no image has a label; check the label columns.")
        if names and (unknown := sorted(used - set(names))):
            raise InputError(
                f"{source} has labels that are not classes of the competition: {first_of(unknown)}."
            )
        categories = list(names) or sorted(used, key=natural_key)
        classes = pd.DataFrame({"label": range(len(categories)), "category": categories})
        classes["class_name"] = [names.get(category, category) for category in categories]
        index = {category: label for label, category in enumerate(categories)}
        labels = [sorted(index[category] for category in labels) for labels in rows["category"]]
        samples = rows.assign(**columns_of(labels, classes))
        samples = samples.set_index("path").loc[sorted(rows["path"], key=natural_key)].reset_index()
        return Encoded(samples[["path", "label", "class_name", "category", "group"]], classes, repeated)

    def targets(self, table: pd.DataFrame) -> np.ndarray:
        targets = np.zeros((len(table), self.num_outputs), np.uint8)
        for row, cell in enumerate(table["label"].astype(str)):
            targets[row, [int(label) for label in cell.split()]] = 1
        return targets

    def label_column(self, targets: np.ndarray) -> list[object]:
        return [" ".join(map(str, np.flatnonzero(row))) for row in targets]

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def class_counts(self, targets: np.ndarray) -> np.ndarray:
        return targets.sum(axis=0, dtype=np.int64)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """Return the share of images with each label, float32 (K,)."""
        return self.finish(targets.mean(axis=0))

    # --- training
    def build_loss(
        self, targets: np.ndarray, class_weights: str, label_smoothing: float, logit_adjustment: float
    ) -> "nn.Module":
        from foldsmith.tasks import set_losses

        return set_losses.build_set_loss(
            self.losses[self.loss], targets, class_weights, label_smoothing, logit_adjustment
        )

    def soft_targets(self, targets: "torch.Tensor") -> "torch.Tensor":
        return targets.float()

    def activate(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return the sigmoid of each logit."""
        return logits.sigmoid()

    def count_correct(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the sum of the images' F1; of soft targets (B, K) that of their larger half."""
        decided, own = logits.detach() >= 0, targets >= THRESHOLD
        sides = decided.sum(dim=1) + own.sum(dim=1)
        hits = (decided & own).sum(dim=1)
        return ((2 * hits + (sides == 0)) / sides.clamp(min=1)).sum()

    def loss_and_credit(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """Return the mean negative log likelihood of a set, and the mean F1 of an image."""
        if len(targets) == 0:
            return float("nan"), float("nan")
        losses, credits = self.losses_of(targets, predictions), self.correct(targets, predictions)
        return float(losses.mean()), float(credits.mean())

    # --- predictions -> decisions
    def finish(self, predictions: np.ndarray) -> np.ndarray:
        """Return probabilities float32 (N, K), never zero and never one."""
        return np.clip(predictions.astype(np.float64), FLOOR, 1 - FLOOR).astype(np.float32)

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """Return the labels with a probability of at least one half, uint8 (N, K)."""
        return (predictions >= THRESHOLD).astype(np.uint8)

    def confidence(self, predictions: np.ndarray) -> np.ndarray:
        """Return the probability that all K decisions are right, as their geometric mean, (N,).

        The mean, because the product of many labels is almost zero for every image.
        """
        sure = np.maximum(predictions, 1 - predictions)
        return np.exp(logarithms(sure).mean(axis=1)).astype(np.float32)

    def correct(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the F1 of each image's decided set, float64 (N,); 1 if none is right and none is decided."""
        decided = self.decide(predictions)
        hits = (targets & decided).sum(axis=1, dtype=np.float64)
        sides = targets.sum(axis=1, dtype=np.float64) + decided.sum(axis=1)
        return np.divide(2 * hits, sides, out=np.ones(len(hits)), where=sides > 0)

    def losses_of(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return the negative log likelihood of each image's set, float64 (N,)."""
        own = np.where(targets.astype(bool), predictions, 1 - predictions.astype(np.float64))
        return -logarithms(own).sum(axis=1)

    def view_figures(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "credit": self.correct(targets, predictions).astype(np.float32),
            "loss": self.losses_of(targets, predictions).astype(np.float32),
        }

    # --- submission
    def read_decisions(self, path: Path, table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
        return cells.read_answers(self, path, table, classes)


def columns_of(labels: list[list[int]], classes: pd.DataFrame) -> dict[str, list[str]]:
    """Return the columns label, class_name and category of samples.csv for sets of class indices."""
    return {
        "label": [" ".join(map(str, own)) for own in labels],
        "class_name": _joined(labels, list(classes["class_name"])),
        "category": _joined(labels, list(classes["category"])),
    }


def separator_of(words: Iterable[str]) -> str:
    """Return what divides the labels of a set in one cell."""
    return ", " if any(" " in word for word in words) else " "


def _joined(labels: list[list[int]], words: list[str]) -> list[str]:
    separator = separator_of(words)
    return [separator.join(words[label] for label in own) for own in labels]
