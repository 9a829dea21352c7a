"""The task of grades: classes in an order, where a near miss is better than a far one.

N images · K grades.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from foldsmith.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    import torch


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
