"""Iterative stratification of sets of labels, by groups.

Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, 2011, with a group in place of a
single sample. N samples · S strata, such as labels · U units (groups) · B bins (folds).
"""

import numpy as np
import pandas as pd


def assign_iteratively(
    strata: np.ndarray, groups: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the bin of each sample, int64 (N,); samples of one group share a bin.

    `strata` (N, S) are 0 and 1, `shares` (B,) the shares of the bins. The stratum with the fewest remaining
    samples is next: each of its units, the largest first, goes to the bin that lacks most of this stratum,
    then to the one that lacks most samples. Units without a stratum fill the bins up.
    """
    # imported here: it takes a while, and folds of classes do not need it
    from scipy import sparse

    members = list(pd.Series(np.arange(len(groups))).groupby(groups).indices.values())
    sizes = np.array([len(unit) for unit in members])
    units_of = np.repeat(np.arange(len(members)), sizes), np.concatenate(members)
    belongs = sparse.csr_array((np.ones(len(groups), np.int64), units_of), (len(members), len(groups)))
    counts = (belongs @ sparse.csr_array(strata.astype(np.uint8, copy=False))).astype(np.int64)  # (U, S)
    by_stratum, left = counts.tocsc(), np.asarray(counts.sum(axis=0))
    lacking = np.outer(shares, left).astype(np.float64)  # (B, S)
    room = shares * len(groups)  # (B,)
    tie_break = rng.permutation(len(shares))
    order = rng.permutation(len(members))  # of units that are equal otherwise
    remaining, chosen = np.ones(len(members), bool), np.empty(len(members), np.int64)

    def put(unit: int, lack: np.ndarray) -> None:
        # rounded, so that floating-point error decides nothing
        ranked = np.lexsort((tie_break, -np.round(room / shares, 6), -np.round(lack, 6)))
        chosen[unit] = ranked[0]
        own = slice(*counts.indptr[unit : unit + 2])
        lacking[ranked[0], counts.indices[own]] -= counts.data[own]
        left[counts.indices[own]] -= counts.data[own]
        room[ranked[0]] -= sizes[unit]
        remaining[unit] = False

    while left.any():
        rarest = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        own, held = slice(*by_stratum.indptr[rarest : rarest + 2]), np.zeros(len(members), np.int64)
        held[by_stratum.indices[own]] = by_stratum.data[own]
        units = order[remaining[order] & (held[order] > 0)]
        for unit in units[np.argsort(-held[units], kind="stable")]:
            put(unit, lacking[:, rarest])
    rest = order[remaining[order]]
    for unit in rest[np.argsort(-sizes[rest], kind="stable")]:
        put(unit, room / shares)
    bins = np.empty(len(groups), np.int64)
    for unit, bin_ in zip(members, chosen, strict=True):
        bins[unit] = bin_
    return bins
