"""Losses of sets: binary cross entropy of each label, and timm's asymmetric loss."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


class SetLoss(nn.Module):
    """The mean over images of a loss of logits (B, K) and targets (B, K), summed over labels; a scalar.

    The sum of the binary cross entropies is the negative log likelihood of the set. So a label's gradient is
    that of cross entropy, for any K, and the learning rates of cross entropy suit it. `balance` (2, K) weighs
    negative and positive images of each label. An `adjustment` (K,) is added to the logits.

    Label smoothing moves its share of each target to the label's `frequency` (K,) among the training images,
    which leaves the mean of the targets as it is.
    """

    def __init__(
        self,
        frequency: torch.Tensor,
        label_smoothing: float = 0.0,
        balance: torch.Tensor | None = None,
        adjustment: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("frequency", frequency)
        self.register_buffer("balance", balance)
        self.register_buffer("adjustment", adjustment)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        targets = targets.float()
        weights = None
        if self.balance is not None:
            weights = targets * self.balance[1] + (1 - targets) * self.balance[0]
        if self.adjustment is not None:
            logits = logits + self.adjustment
        smoothed = self.smooth(targets)
        return binary_cross_entropy_with_logits(logits, smoothed, weights, reduction="sum") / len(logits)

    def smooth(self, targets: torch.Tensor) -> torch.Tensor:
        if not self.label_smoothing:
            return targets
        return (1 - self.label_smoothing) * targets + self.label_smoothing * self.frequency


class AsymmetricLoss(SetLoss):
    """The asymmetric loss of Ridnik et al., 2021, which weighs easy negatives down; timm's settings."""

    def __init__(self, frequency: torch.Tensor, label_smoothing: float = 0.0) -> None:
        super().__init__(frequency, label_smoothing)
        from timm.loss import AsymmetricLossMultiLabel  # timm takes seconds to import

        self.loss_function = AsymmetricLossMultiLabel()

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.loss_function(logits, self.smooth(targets.float())) / len(logits)


def build_set_loss(
    kind: str, targets: np.ndarray, class_weights: str, label_smoothing: float, logit_adjustment: float
) -> SetLoss:
    """Return the loss `bce` or `asymmetric`; frequencies are those of the targets (N, K)."""
    frequency = torch.tensor(targets.mean(axis=0), dtype=torch.float32)
    if kind == "asymmetric":
        return AsymmetricLoss(frequency, label_smoothing)
    balance = balanced_weights(targets) if class_weights == "auto" else None
    adjustment = log_odds(targets) * logit_adjustment if logit_adjustment else None
    return SetLoss(frequency, label_smoothing, balance, adjustment)


def balanced_weights(targets: np.ndarray) -> torch.Tensor:
    """Return the weights of negative and positive images of each label, float32 (2, K).

    They are N / (2 * count), scikit-learn's `balanced` of each label by itself: their sum over the images is
    the same for both sides and all labels. A label with one side only has weight 1.
    """
    counts = _both_counts(targets)
    weights = np.where((counts > 0).all(axis=0), len(targets) / (2 * np.maximum(counts, 1)), 1.0)
    return torch.tensor(weights, dtype=torch.float32)


def log_odds(targets: np.ndarray) -> torch.Tensor:
    """Return the log odds of each label, float32 (K,), for logit adjustment.

    For each label this is the adjustment of Menon et al., 2021, for two classes. A side without an image
    counts as having one.
    """
    negative, positive = np.maximum(_both_counts(targets), 1)
    return torch.tensor(np.log(positive / negative), dtype=torch.float32)


def _both_counts(targets: np.ndarray) -> np.ndarray:
    """Return the numbers of negative and positive images of each label, (2, K)."""
    positive = targets.sum(axis=0, dtype=np.int64)
    return np.stack([len(targets) - positive, positive])
