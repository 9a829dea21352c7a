"""Images that show the same, and which samples must therefore stay together."""

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
    pairs = [np.empty((0, 2), np.int64)]
    for key in keys:
        by_name = pd.Series(range(len(key))).groupby(np.array(key, dtype=object), sort=False).indices
        for name, indices in by_name.items():
            if name != "" and len(indices) > 1:
                pairs.append(np.stack([np.full(len(indices) - 1, indices[0]), indices[1:]], axis=1))
    return join_pairs(np.concatenate(pairs), len(keys[0]))


def join_pairs(pairs: np.ndarray, count: int) -> np.ndarray:
    """One group number for each of `count` samples, int64 (count,): pairs (P, 2), directly or through others,
    share it.

    Numbers are the index of the group's first sample.
    """
    parent = np.arange(count)

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in pairs.tolist():
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(index) for index in range(count)], dtype=np.int64)


def name_groups(groups: np.ndarray, paths: Sequence[str]) -> list[str]:
    """For every image the path of its group's first one, and nothing for an image that is a group alone."""
    sizes = np.bincount(groups, minlength=len(groups))
    return [paths[group] if sizes[group] > 1 else "" for group in groups]


def release_large(names: Sequence[str], largest: int) -> list[str]:
    """The names of groups, but none for a group of more than `largest` images.

    A long chain of look-alikes is a kind of picture, and no balanced folds could be made around it.
    """
    sizes = pd.Series(names, dtype=str).value_counts()
    return [name if name and sizes[name] <= largest else "" for name in names]
