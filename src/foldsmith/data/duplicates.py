"""Images with the same pixels, and which samples must therefore stay together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def find_originals(digests: Sequence[str]) -> list[int | None]:
    """For every image the first earlier one with the same pixels, or None. Empty digests equal nothing."""
    first: dict[str, int] = {}
    originals: list[int | None] = []
    for index, digest in enumerate(digests):
        originals.append(first.get(digest))
        if digest:
            first.setdefault(digest, index)
    return originals


def join_groups(*keys: Sequence[str]) -> np.ndarray:
    """One group number a sample, int64 (N,): samples that share any non-empty key, directly or through
    others, share it.

    Numbers are the index of the group's first sample.
    """
    parent = np.arange(len(keys[0]))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for key in keys:
        by_name = pd.Series(range(len(key))).groupby(np.array(key, dtype=object), sort=False).indices
        for name, indices in by_name.items():
            if name == "" or len(indices) < 2:
                continue
            for index in indices[1:]:
                low, high = sorted((root(indices[0]), root(index)))
                parent[high] = low
    return np.array([root(index) for index in range(len(parent))], dtype=np.int64)
