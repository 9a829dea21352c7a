"""Near-duplicates: images saved again, re-encoded, resized, flipped or rotated, found by a perceptual hash.

The hash holds the signs of the 63 lowest cosine coefficients of a grey thumbnail (after Zauner 2010, pHash,
which thresholds at the median instead). A flip negates every other coefficient and a rotation by 90 degrees
also transposes them, so that one transform yields the hashes of all eight orientations. Two images whose
hashes differ in few bits are then compared by the correlation of their colour thumbnails: many images of sky
have equal hashes, few are the same image.

N images · S the side of a thumbnail · C its channels, 3 or 4.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from foldsmith.augment.colours import LUMA
from foldsmith.data.duplicates import Joined
from foldsmith.data.pixels import StoredPixels

MAX_BITS = 7  # the largest difference of hashes up to which all pairs are found; see _pairs_within
MIN_CORRELATION = 0.95  # of the thumbnails: copies of one image have more, merely similar images less
MIN_CONTRAST = 4.0  # standard deviation of a thumbnail's brightness; below it the signs are noise
MAX_COPIES = 50  # a larger group of similar images is a motif, such as a shirt on white, not one image
ORIENTATIONS = 8
SIDE = 8  # of the square of coefficients that the hash uses
BANDS, BAND_BITS = 4, 16
BY_FREQUENCY = np.argsort(np.indices((SIDE, SIDE)).sum(axis=0).ravel(), kind="stable")  # bits of a hash
BATCH = 4096  # queries, or pairs, that are compared at a time
MOST_CANDIDATES = 2**20  # pairs of hashes at a time: many hashes may share a band


def hash_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Return the hashes of thumbnails uint8 (N, S, S, C) as they are and transposed, uint64 (N, 2)."""
    channels = thumbnails.shape[-1]
    # four channels are no colours: each may be the only one with a picture, so all count alike
    weights = LUMA if channels == 3 else np.full(channels, 1 / channels)
    grey = thumbnails.astype(np.float32) @ weights.astype(np.float32)  # (N, S, S)
    basis = _cosines(thumbnails.shape[1])  # (SIDE, S)
    coefficients = basis @ grey @ basis.T  # (N, SIDE, SIDE), rows are vertical frequencies
    return np.stack([_pack_signs(coefficients), _pack_signs(coefficients.transpose(0, 2, 1))], axis=1)


def find_near_duplicates(
    thumbnails: np.ndarray | StoredPixels, bits: int, advance: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """Return pairs of near-duplicates in any orientation that join each group of them: int64 (P, 2).

    The earlier image of a pair is first. Images that other pairs join already are not compared: all pairs of
    a group, such as those of a camera that stands still, are as many as the square of its images. Of images
    with equal thumbnails only the first is compared with others.

    `bits`, at most MAX_BITS, is by how many of 63 bits the hashes may differ; negative values disable the
    search. `advance(count)` is called with the number of hashes looked up, in total ORIENTATIONS an image.
    Raise ValueError if `bits` is larger than MAX_BITS.
    """
    if bits > MAX_BITS:
        raise ValueError(f"near-duplicates are found up to {MAX_BITS} bits, not {bits}")
    if bits < 0:
        return np.empty((0, 2), np.int64)
    facts = _Facts.of(thumbnails)
    visible, is_first = facts.contrasts >= MIN_CONTRAST, facts.firsts == np.arange(len(thumbnails))
    copies, indices = np.flatnonzero(visible & ~is_first), np.flatnonzero(visible & is_first)
    hashes, pairs = facts.hashes[indices], [np.stack([facts.firsts[copies], copies], axis=1)]
    joined = Joined(len(thumbnails))
    joined.add(pairs[0])
    advance(ORIENTATIONS * (len(thumbnails) - len(indices)))
    index = HashIndex.of(hashes[:, 0])
    for transposed in (0, 1):
        for flip in (0, HFLIP, VFLIP, HFLIP ^ VFLIP):
            oriented = hashes[:, transposed] ^ np.uint64(flip)
            for start in range(0, len(indices), BATCH):
                queries = oriented[start : start + BATCH]
                for query, match in index.pairs_within(queries, bits):
                    first, second = indices[start + query], indices[match]
                    near = np.stack([first, second], axis=1)[first < second]
                    for piece in range(0, len(near), BATCH):
                        apart = near[piece : piece + BATCH]
                        apart = apart[joined.apart(apart)]
                        alike = apart[_are_alike(thumbnails, facts, apart, bool(transposed), flip)]
                        joined.add(alike)
                        pairs.append(alike)
                advance(len(queries))
    return np.unique(np.concatenate(pairs), axis=0)


@dataclass(frozen=True)
class _Facts:
    """Of each thumbnail the index of the first equal one (N,), its contrast (N,) and hashes (N, 2).

    `sums` (N, C) and `squares` (N,) are the sum of each channel's values and that of all squares.
    """

    firsts: np.ndarray
    contrasts: np.ndarray
    hashes: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, thumbnails: np.ndarray | StoredPixels) -> "_Facts":
        channels = thumbnails.shape[-1]
        digests, contrasts, hashes = [], [np.empty(0)], [np.empty((0, 2), np.uint64)]
        sums, squares = [np.empty((0, channels), np.int64)], [np.empty(0, np.int64)]
        for start in range(0, len(thumbnails), BATCH):
            batch = thumbnails[start : start + BATCH]
            digests += [hashlib.blake2b(thumbnail.tobytes(), digest_size=16).digest() for thumbnail in batch]
            contrasts.append(_contrast(batch))
            hashes.append(hash_thumbnails(batch))
            sums.append(batch.sum(axis=1, dtype=np.int64).sum(axis=1))
            squares.append(_dot(batch, batch))
        keys = np.frombuffer(b"".join(digests), "V16")
        _, firsts, groups = np.unique(keys, return_index=True, return_inverse=True)
        rows = (contrasts, hashes, sums, squares)
        return cls(firsts[groups], *(np.concatenate(values) for values in rows))


def _are_alike(
    thumbnails: np.ndarray | StoredPixels, facts: _Facts, pairs: np.ndarray, transposed: bool, flip: int
) -> np.ndarray:
    """Return whether the images of each pair (p, 2) correlate when the first is oriented so, (p,).

    The correlation is over all channels, each about its own mean. It is computed from sums of integers: they
    are exact, and many times as fast as values less their mean.
    """
    positions = thumbnails.shape[1] * thumbnails.shape[2]
    first, second = pairs.T
    a, b = facts.sums[first], facts.sums[second]
    product = _dot(orient(thumbnails[first], transposed, flip), thumbnails[second])
    covariance = product - (a * b).sum(axis=1) / positions
    variances = [
        facts.squares[images] - (sums**2).sum(axis=1) / positions
        for images, sums in ((first, a), (second, b))
    ]
    return covariance >= MIN_CORRELATION * np.sqrt(variances[0] * variances[1])


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the sum over all values of the products of images uint8 (n, S, S, C), pair by pair: (n,)."""
    values = math.prod(first.shape[1:])
    a, b = (images.reshape(-1, values).astype(np.int32) for images in (first, second))
    return np.vecdot(a, b).astype(np.int64)


def orient(thumbnails: np.ndarray, transposed: bool, flip: int) -> np.ndarray:
    """Return thumbnails (n, S, S, C) transposed and flipped; `flip` is what their hashes are XORed with."""
    oriented = thumbnails.transpose(0, 2, 1, 3) if transposed else thumbnails
    oriented = oriented[:, :, ::-1] if flip in (HFLIP, HFLIP ^ VFLIP) else oriented
    return oriented[:, ::-1] if flip in (VFLIP, HFLIP ^ VFLIP) else oriented


def _cosines(side: int) -> np.ndarray:
    """Return the first SIDE rows of the cosine transform (DCT-II) of `side` samples."""
    angles = (np.arange(side) + 0.5) * np.pi / side
    return np.cos(np.arange(SIDE)[:, None] * angles).astype(np.float32)


def _pack_signs(coefficients: np.ndarray) -> np.ndarray:
    """Return hashes uint64 (N,) of coefficients (N, SIDE, SIDE).

    Bit SIDE * row + column is set for a positive coefficient. The mean's bit, the first, is always 0.
    """
    signs = (coefficients > 0).reshape(-1, SIDE * SIDE)
    signs[:, 0] = False
    return np.packbits(signs, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)


def _odd(axis: int) -> int:
    """Return the bits of the coefficients that a flip along the axis negates."""
    odd = np.indices((SIDE, SIDE))[axis] % 2 == 1
    return int(_pack_signs(np.where(odd, 1.0, 0.0)[None])[0])


VFLIP, HFLIP = _odd(0), _odd(1)


def _contrast(thumbnails: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each thumbnail's brightness, (N,)."""
    return thumbnails.mean(axis=3).reshape(len(thumbnails), -1).std(axis=1)


@dataclass(frozen=True)
class HashIndex:
    """Hashes, uint64 (N,), that can be looked up by each of their four bands.

    `bands` has of each band the order of the hashes by it, (N,), and where each value begins in that order,
    (2**16 + 1,).
    """

    hashes: np.ndarray
    bands: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, hashes: np.ndarray) -> "HashIndex":
        bands = []
        for keys in _bands_of(hashes):
            counts = np.bincount(keys, minlength=2**BAND_BITS)
            bands.append((np.argsort(keys, kind="stable"), np.concatenate([[0], np.cumsum(counts)])))
        return cls(hashes, bands)

    def pairs_within(self, queries: np.ndarray, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield index arrays of queries, uint64, and hashes that differ in at most `bits` bits.

        If two hashes differ in at most seven bits, at least one of their four bands differs in at most one.
        So each band is looked up for the query's value and the 16 values at one bit of distance. A pair is
        yielded once for every band that matches.
        """
        for keys, (order, starts) in zip(_bands_of(queries), self.bands, strict=True):
            for changed_bit in (0, *(1 << bit for bit in range(BAND_BITS))):
                lookup = (keys ^ np.uint16(changed_bit)).astype(np.int64)
                start, counts = starts[lookup], starts[lookup + 1] - starts[lookup]
                for rows in _pieces(counts):
                    count = counts[rows]
                    query = np.repeat(rows, count)
                    # the positions start, start + 1, … of each query, concatenated
                    offset = start[rows] - (np.cumsum(count) - count)
                    match = order[np.arange(len(query)) + np.repeat(offset, count)]
                    near = np.bitwise_count(queries[query] ^ self.hashes[match]) <= bits
                    yield query[near], match[near]


def _bands_of(hashes: np.ndarray) -> np.ndarray:
    """Return the bands of hashes (N,), uint16 (BANDS, N).

    Each has bits of all frequencies: the signs of low ones are alike in many images of one kind, so that a
    band of only these would have few values.
    """
    bits = np.unpackbits(hashes.astype("<u8").view(np.uint8).reshape(-1, SIDE), axis=1, bitorder="little")
    bands = bits[:, BY_FREQUENCY].reshape(-1, BAND_BITS, BANDS).transpose(2, 0, 1)
    return np.packbits(bands, axis=2, bitorder="little").view("<u2")[:, :, 0]


def _pieces(counts: np.ndarray) -> list[np.ndarray]:
    """Return the indices of queries in pieces of about MOST_CANDIDATES, the sum of their `counts` (n,)."""
    numbers = np.cumsum(counts) // MOST_CANDIDATES
    return np.split(np.arange(len(counts)), np.flatnonzero(np.diff(numbers)) + 1)
