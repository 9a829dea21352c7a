"""Class-balanced sampling of an epoch's training samples.

n samples · K classes.
"""

import numpy as np


def balanced_order(labels: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """Return n shuffled positions in `labels` in which every class is drawn equally often.

    `labels` are class indices (n,), or 0 and 1 (n, K) for sets. A sample may be drawn for any label of its
    set; samples without a label are a class of their own. Randomly chosen classes get one more if n is not
    divisible by the number of classes. Within a class the samples are drawn equally often, or differ by one.
    Classes without a sample are ignored.
    """
    classes = members_of(labels)
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[stream.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen = []
    for members, quota in zip(classes, quotas, strict=True):
        count = len(members)
        chosen += [members] * (quota // count) + [stream.permutation(members)[: quota % count]]
    return stream.permutation(np.concatenate(chosen))


def members_of(labels: np.ndarray) -> list[np.ndarray]:
    """Return the positions of the samples of each class that occurs, int64; sets are in several."""
    if labels.ndim == 1:
        return [np.flatnonzero(labels == label) for label in np.unique(labels)]
    columns = [*labels.T, ~labels.any(axis=1)]
    return [np.flatnonzero(column) for column in columns if column.any()]
