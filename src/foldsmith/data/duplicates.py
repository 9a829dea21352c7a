"""Exact duplicates, and groups of samples that must be in the same fold."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd


def find_originals(digests: Sequence[str]) -> list[int | None]:
    """Return for every image the index of the first earlier one with the same pixels, or None.

    Empty digests, those of unreadable images, equal no other.
    """
    first: dict[str, int] = {}
    originals: list[int | None] = []
    for index, digest in enumerate(digests):
        originals.append(first.get(digest))
        if digest:
            first.setdefault(digest, index)
    return originals


def join_groups(*keys: Sequence[str]) -> np.ndarray:
    """Return a group number for each sample, int64 (N,): the index of the group's first sample.

    Samples with an equal, non-empty key are in one group, directly or through other samples.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for key in keys:
        names = np.array(key, dtype=object)
        codes, _ = pd.factorize(names)
        firsts = np.unique(codes, return_index=True)[1][codes]
        repeats = np.flatnonzero((firsts < np.arange(len(key))) & (names != ""))
        pairs.append(np.stack([firsts[repeats], repeats], axis=1))
    return join_pairs(np.concatenate(pairs), len(keys[0]))


def join_pairs(pairs: np.ndarray, count: int) -> np.ndarray:
    """Return a group number for each of `count` samples, int64 (count,): the index of its first sample.

    The samples of a pair (P, 2) are in one group, directly or through other pairs.
    """
    joined = Joined(count)
    joined.add(pairs)
    return joined.firsts(np.arange(count))


class Joined:
    """Groups of samples that are joined by pairs, a forest: `parents` (N,) are earlier members of a group."""

    def __init__(self, count: int) -> None:
        self.parents = np.arange(count)

    def firsts(self, samples: np.ndarray) -> np.ndarray:
        """Return the first member of each sample's group, of the shape of `samples`."""
        firsts = self.parents[samples]
        while ((earlier := self.parents[firsts]) != firsts).any():
            firsts = earlier
        self.parents[samples] = firsts  # the next search is short
        return firsts

    def apart(self, pairs: np.ndarray) -> np.ndarray:
        """Return which of the pairs (P, 2) are not in one group yet, (P,)."""
        firsts = self.firsts(pairs)
        return firsts[:, 0] != firsts[:, 1]

    def add(self, pairs: np.ndarray) -> None:
        """Join the groups of each pair (P, 2)."""
        firsts = self.firsts(pairs)
        while len(firsts := np.sort(firsts[firsts[:, 0] != firsts[:, 1]], axis=1)):
            np.minimum.at(self.parents, firsts[:, 1], firsts[:, 0])
            firsts = self.firsts(firsts)


def name_groups(groups: np.ndarray, paths: Sequence[str]) -> list[str]:
    """Return for every image the path of its group's first image; empty for a group of one."""
    sizes = np.bincount(groups, minlength=len(groups))
    return [paths[group] if sizes[group] > 1 else "" for group in groups]


def release_large(names: Sequence[str], largest: int) -> list[str]:
    """Return the group names, with those of groups of more than `largest` images replaced by "".

    A long chain of similar images is a motif rather than one image saved again, and a group that large makes
    balanced folds impossible.
    """
    sizes = Counter(names)
    return [name if name and sizes[name] <= largest else "" for name in names]
