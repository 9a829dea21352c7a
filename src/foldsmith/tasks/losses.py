"""Cross entropies of logits, with class weights, label smoothing and logit adjustment."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot


class ClassificationLoss(nn.Module):
    """The mean loss of logits (B, K) and labels (B,), or soft targets (B, K) that add up to 1; a scalar.

    `ce` is the cross entropy. `bce` is the mean over classes of the binary cross entropy (Beyer et al., Are
    we done with ImageNet?, 2020). With class `weights` (K,) the mean is weighted; an image with mixed targets
    has the mean of the weights by its targets. An `adjustment` (K,) is added to the logits.

    Label smoothing spreads its share of an image's target over all classes: evenly, or with an adjustment in
    proportion to its softmax, so that the spread share favours no class over the adjusted logits. Neither
    weights nor adjustment can make it outweigh the image's own class.
    """

    def __init__(
        self,
        kind: str,
        weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
        adjustment: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.label_smoothing = kind, label_smoothing
        self.register_buffer("weights", weights)
        self.register_buffer("adjustment", adjustment)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.adjustment is not None:
            logits = logits + self.adjustment
        even = self.weights is None and self.adjustment is None
        if self.kind == "ce" and labels.ndim == 1 and (even or not self.label_smoothing):
            return cross_entropy(logits, labels, self.weights, label_smoothing=self.label_smoothing)
        num_classes = logits.shape[1]
        targets = one_hot(labels, num_classes).float() if labels.ndim == 1 else labels
        weights = targets.new_ones(num_classes) if self.weights is None else self.weights
        of_image = targets @ weights  # (B,)
        spread = 1 / num_classes if self.adjustment is None else self.adjustment.softmax(dim=0)
        if self.kind == "ce":
            # torch weights the smoothed share by the class that it falls on: each image of a frequent class
            # would then raise a rare class more than its own
            own = (1 - self.label_smoothing) * weights * targets
            smoothed = own + self.label_smoothing * spread * of_image[:, None]
            losses = -(smoothed * logits.log_softmax(dim=1)).sum(dim=1)
        else:
            targets = (1 - self.label_smoothing) * targets + self.label_smoothing * spread
            by_class = binary_cross_entropy_with_logits(logits, targets, reduction="none")  # (B, K)
            losses = of_image * by_class.mean(dim=1)
        return losses.sum() / of_image.sum()


def class_weights(kind: str, labels: np.ndarray, num_classes: int) -> torch.Tensor | None:
    """Return the class weights of the loss, float32 (K,), or None.

    `auto` is N / (K * count), scikit-learn's `balanced`. A class without a training image has weight 1, which
    is never used.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels, minlength=num_classes)
    weights = len(labels) / (num_classes * np.maximum(counts, 1))
    return torch.tensor(np.where(counts > 0, weights, 1.0), dtype=torch.float32)


def log_priors(labels: np.ndarray, num_classes: int) -> torch.Tensor:
    """Return the log prior of each class, float32 (K,), for logit adjustment.

    Menon et al., Long-tail learning via logit adjustment, 2021. A class without a training image counts as
    having one.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(np.log(np.maximum(counts, 1) / len(labels)), dtype=torch.float32)
