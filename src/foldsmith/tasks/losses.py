"""Cross entropies of logits, with class weights, label smoothing and logit adjustment."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot


class ClassificationLoss(nn.Module):
    """Logits (B, K) and labels (B,), or targets (B, K) that add up to 1 -> the mean loss, a number.

    `ce` is the cross entropy, `bce` the mean over classes of the binary cross entropy with one-hot or mixed
    targets, each class for itself (Beyer et al., Are we done with ImageNet?, 2020). `weights` (K,) of classes
    make the mean a weighted one; an image of two classes has both weights, by their shares. Label smoothing
    takes its share of an image's target and spreads it over all classes, evenly; with an `adjustment` (K,),
    which is added to the logits, as its softmax: what is spread then tells no class from another, and neither
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
            # torch would give what smoothing spreads the weight of the class that it falls on, so that a rare
            # class would gain more by every image of a frequent one than that class itself
            own = (1 - self.label_smoothing) * weights * targets
            smoothed = own + self.label_smoothing * spread * of_image[:, None]
            losses = -(smoothed * logits.log_softmax(dim=1)).sum(dim=1)
        else:
            targets = (1 - self.label_smoothing) * targets + self.label_smoothing * spread
            each = binary_cross_entropy_with_logits(logits, targets, reduction="none")  # (B, K)
            losses = of_image * each.mean(dim=1)
        return losses.sum() / of_image.sum()


def class_weights(kind: str, labels: np.ndarray, num_classes: int) -> torch.Tensor | None:
    """Weights of the classes in the loss, float32 (K,), or None. `auto`: N / (K * count), scikit-learn's
    balanced.

    A class without a training image has weight 1, which no image ever has.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels, minlength=num_classes)
    weights = len(labels) / (num_classes * np.maximum(counts, 1))
    return torch.tensor(np.where(counts > 0, weights, 1.0), dtype=torch.float32)


def log_priors(labels: np.ndarray, num_classes: int) -> torch.Tensor:
    """Logarithms of the classes' shares of the labels, float32 (K,), which make logits that are added to them
    balanced (Menon et al., Long-tail learning via logit adjustment, 2021).

    A class without a training image is taken for one with one image.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(np.log(np.maximum(counts, 1) / len(labels)), dtype=torch.float32)
