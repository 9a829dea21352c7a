"""The task of grades: classes in an order, where a near miss is better than a far one.

N images · K grades.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from foldsmith.errors import InputError
from foldsmith.natural_order import natural_key
from foldsmith.tasks.single_label import INTEGER, SingleLabel, encode_rows
from foldsmith.tasks.task import Encoded

if TYPE_CHECKING:
    import torch

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")
MOST_BETWEEN = 20  # grades without an image between others; more are no scale of grades


@dataclass(frozen=True)
class Ordinal(SingleLabel):
    """One of K grades per image, class 0 the lowest; predictions are probabilities (N, K).

    The network is trained by cross entropy, a proper score of the whole distribution over grades. The
    decision is its expected grade, rounded, which has the least expected squared distance: the distance that
    quadratic weighted kappa measures.
    """

    name: ClassVar[str] = "ordinal"
    default_metric: ClassVar[str] = "quadratic_weighted_kappa"
    report_sections: ClassVar[tuple[str, ...]] = (
        "compared",
        "folds",
        "learning-curves",
        "distance-of-errors",
        "confusion-matrix",
        "classes",
        "subsets",
        "suspected-labels",
        "farthest-mistakes",
        "data",
        "near-duplicates",
        "problems",
        "training-against-test",
        "test-predictions",
    )

    @staticmethod
    def encode(rows: pd.DataFrame, names: dict[str, str], source: Path) -> Encoded:
        """Return samples and classes, the lowest grade first; repeated rows occur once.

        Of whole numbers a grade between two others is a class though it has no image: distances are those of
        the numbers. Words are in the order of `names`. Raise InputError as SingleLabel.encode does, and for
        words that `names` lacks: they have no order.
        """
        grades = set(rows["category"])
        if all(INTEGER.fullmatch(grade) for grade in grades):
            numbers = {int(grade) for grade in grades}
            between = sorted(set(range(min(numbers), max(numbers))) - numbers)
            if len(between) > MOST_BETWEEN:
                raise InputError(
                    f"{source}: {len(between)} grades from {min(numbers)} to {max(numbers)} have no image; "
                    'correct the labels, or set task = "regression" in competition.toml.'
                )
            return encode_rows(rows, {**{str(grade): str(grade) for grade in between}, **names}, source)
        if not grades <= set(names) and not all(NUMBER.fullmatch(grade) for grade in grades):
            words = ", ".join(f'"{grade}"' for grade in sorted(grades, key=natural_key))
            raise InputError(
                f"{source}: the task ordinal needs an order of the labels; write grades = [{words}] into "
                'competition.toml, the lowest first, or task = "multiclass".'
            )
        return encode_rows(rows, names, source, keep_order=bool(names))

    def count_correct(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return how often the decision is the grade (B,), or the expected grade of soft targets (B, K)."""
        import torch

        grades = torch.arange(self.num_outputs, device=logits.device, dtype=torch.float32)
        if targets.ndim == 2:
            targets = (targets @ grades).round()
        return ((self.activate(logits.detach().float()) @ grades).round() == targets).sum()

    def expected_grade(self, predictions: np.ndarray) -> np.ndarray:
        """Return the mean of the grades by their probabilities, float64 (N,), 0 to K - 1."""
        return predictions.astype(np.float64) @ np.arange(self.num_outputs)

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """Return the expected grade, rounded, int64 (N,); half is rounded up."""
        return np.floor(self.expected_grade(predictions) + 0.5).astype(np.int64)

    def confidence(self, predictions: np.ndarray) -> np.ndarray:
        """Return the probability of the decided grade, (N,)."""
        return predictions[np.arange(len(predictions)), self.decide(predictions)]
