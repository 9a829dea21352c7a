"""Class-balanced sampling of an epoch's training samples."""

import numpy as np


def balanced_order(labels: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """Return n shuffled positions in `labels` (n,) in which every class occurs equally often.

    Randomly chosen classes get one more if n is not divisible by the number of classes. Within a class the
    samples occur equally often, or differ by one. Classes without a sample are ignored.
    """
    classes, counts = np.unique(labels, return_counts=True)
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[stream.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen = []
    for label, count, quota in zip(classes, counts, quotas, strict=True):
        members = np.flatnonzero(labels == label)
        chosen += [members] * (quota // count) + [stream.permutation(members)[: quota % count]]
    return stream.permutation(np.concatenate(chosen))
