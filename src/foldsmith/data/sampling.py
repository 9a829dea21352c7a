"""Which training samples an epoch has, in which order; all drawn from the stream it is given."""

import numpy as np


def balanced_order(labels: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """As many positions in `labels` (n,) as there are, shuffled, every class of them equally often.

    What does not divide evenly goes to classes that are drawn. Within a class every image comes as often as
    any other, but for one time. A class without an image has no share.
    """
    classes, counts = np.unique(labels, return_counts=True)
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[stream.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen = []
    for label, count, quota in zip(classes, counts, quotas, strict=True):
        places = np.flatnonzero(labels == label)
        chosen += [places] * (quota // count) + [stream.permutation(places)[: quota % count]]
    return stream.permutation(np.concatenate(chosen))
