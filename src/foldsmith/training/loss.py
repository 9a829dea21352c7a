"""The loss of a recipe, and the same figures from probabilities."""

import numpy as np
import torch


def class_weights(kind: str, labels: np.ndarray, num_classes: int) -> torch.Tensor | None:
    """Weights of the classes in the loss, float32 (K,), or None. `auto`: N / (K * count), scikit-learn's
    balanced.

    A class without a training image has weight 1; it never enters the loss.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels, minlength=num_classes)
    weights = len(labels) / (num_classes * np.maximum(counts, 1))
    return torch.tensor(np.where(counts > 0, weights, 1.0), dtype=torch.float32)


def loss_and_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mean negative log likelihood and accuracy of probabilities (n, K); NaN for no images."""
    if len(labels) == 0:
        return float("nan"), float("nan")
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    loss = -np.log(np.maximum(given, np.finfo(np.float32).tiny)).mean()
    return float(loss), float((probabilities.argmax(axis=1) == labels).mean())
