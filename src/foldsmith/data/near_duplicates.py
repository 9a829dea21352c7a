"""Pictures that were saved twice: re-encoded, resized, mirrored or turned, found by a perceptual hash.

The hash is the signs of the 63 lowest cosine coefficients of a grey thumbnail (after Zauner 2010, pHash,
whose limit is the median). A mirrored picture has the same coefficients with every other sign changed, and a
turned one the transposed ones, so that eight orientations cost one transform. Two pictures whose hashes
differ in few bits are compared once more, by the correlation of their thumbnails in colour: many skies share
a hash, few a picture.

N images · S the side of a thumbnail.
"""

from collections.abc import Callable, Iterator

import numpy as np

from foldsmith.augment.colours import LUMA

MAX_BITS = 7  # by which hashes may differ and still surely be found; see _pairs_within
SAME_PICTURE = 0.95  # correlation of the thumbnails: other files of one picture have more, look-alikes less
LEAST_CONTRAST = 4.0  # standard deviation of a thumbnail's brightness; the signs of a flatter one are noise
MOST_COPIES = (
    50  # a longer chain of look-alikes is a kind of picture, such as a shirt on white, not a picture
)
ORIENTATIONS = 8
SIDE = 8  # of the square of coefficients that are kept
BANDS, BAND_BITS = 4, 16
BATCH = 4096  # queries, or pairs, that are looked at together


def hash_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Two hashes an image, upright and transposed, uint64 (N, 2), from thumbnails uint8 (N, S, S, 3)."""
    grey = thumbnails.astype(np.float32) @ LUMA.astype(np.float32)  # (N, S, S)
    basis = _cosines(thumbnails.shape[1])  # (SIDE, S)
    coefficients = basis @ grey @ basis.T  # (N, SIDE, SIDE), rows are vertical frequencies
    return np.stack([_pack_signs(coefficients), _pack_signs(coefficients.transpose(0, 2, 1))], axis=1)


def find_near_duplicates(
    thumbnails: np.ndarray, bits: int, advance: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """Pairs of images that show one picture, in any orientation: int64 (P, 2), each with the earlier first.

    `bits`, at most MAX_BITS, is by how many bits of 63 their hashes may differ; below 0 nothing is sought.
    `advance` is told how many hashes are looked up, of ORIENTATIONS an image. Raises ValueError for more
    bits.
    """
    if bits > MAX_BITS:
        raise ValueError(f"near-duplicates are found up to {MAX_BITS} bits, not {bits}")
    if bits < 0:
        return np.empty((0, 2), np.int64)
    known = np.flatnonzero(_contrast(thumbnails) >= LEAST_CONTRAST)
    hashes, found = hash_thumbnails(thumbnails[known]), [np.empty((0, 2), np.int64)]
    for transposed in (0, 1):
        for mirror in (0, MIRRORED, FLIPPED, MIRRORED ^ FLIPPED):
            turned = hashes[:, transposed] ^ np.uint64(mirror)
            for start in range(0, len(known), BATCH):
                queries = turned[start : start + BATCH]
                for query, other in _pairs_within(queries, hashes[:, 0], bits):
                    one, two = known[start + query], known[other]
                    same = one < two
                    one, two = one[same], two[same]
                    found.append(_confirm(thumbnails, one, two, bool(transposed), mirror))
                advance(len(queries))
    return np.unique(np.concatenate(found), axis=0)


def _confirm(
    thumbnails: np.ndarray, one: np.ndarray, two: np.ndarray, transposed: bool, mirror: int
) -> np.ndarray:
    """The pairs (p, 2) of images `one` and `two` whose thumbnails agree when the first is turned."""
    kept = [np.empty(0, bool)]
    for start in range(0, len(one), BATCH):
        batch = slice(start, start + BATCH)
        turned = orient(thumbnails[one[batch]], transposed, mirror)
        kept.append(_correlate(turned, thumbnails[two[batch]]) >= SAME_PICTURE)
    return np.stack([one, two], axis=1)[np.concatenate(kept)]


def orient(thumbnails: np.ndarray, transposed: bool, mirror: int) -> np.ndarray:
    """Thumbnails (n, S, S, 3) turned as a hash is by a transposition and an exclusive or with `mirror`."""
    turned = thumbnails.transpose(0, 2, 1, 3) if transposed else thumbnails
    turned = turned[:, :, ::-1] if mirror in (MIRRORED, MIRRORED ^ FLIPPED) else turned
    return turned[:, ::-1] if mirror in (FLIPPED, MIRRORED ^ FLIPPED) else turned


def _cosines(side: int) -> np.ndarray:
    """The first SIDE rows of the cosine transform of `side` samples (DCT-II)."""
    places = (np.arange(side) + 0.5) * np.pi / side
    return np.cos(np.arange(SIDE)[:, None] * places).astype(np.float32)


def _pack_signs(coefficients: np.ndarray) -> np.ndarray:
    """uint64 (N,) from coefficients (N, SIDE, SIDE): bit SIDE * row + column, the mean's bit always zero."""
    signs = (coefficients > 0).reshape(-1, SIDE * SIDE)
    signs[:, 0] = False
    return np.packbits(signs, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)


def _odd(axis: int) -> int:
    """The bits of the coefficients that change sign when the picture is turned over along an axis."""
    odd = np.indices((SIDE, SIDE))[axis] % 2 == 1
    return int(_pack_signs(np.where(odd, 1.0, 0.0)[None])[0])


FLIPPED, MIRRORED = _odd(0), _odd(1)


def _contrast(thumbnails: np.ndarray) -> np.ndarray:
    return thumbnails.mean(axis=3).reshape(len(thumbnails), -1).std(axis=1)


def _correlate(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation of the pixels of images (n, S, S, 3), pair by pair, over all three colours: (n,)."""
    one, other = (
        each - each.mean(axis=(1, 2), keepdims=True, dtype=np.float32)  # each colour about its own mean
        for each in (one, other)
    )
    pixels = (1, 2, 3)
    return (one * other).sum(axis=pixels) / np.sqrt((one**2).sum(axis=pixels) * (other**2).sum(axis=pixels))


def _pairs_within(
    queries: np.ndarray, hashes: np.ndarray, bits: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of every query and every hash, uint64, that differ in at most `bits` bits, in batches.

    Of four bands of 16 bits at least one differs in no more than one bit where at most seven differ in all:
    every query asks each band for its own value and the 16 beside it. A pair comes once for every such band.
    """
    for band in range(BANDS):
        shift = np.uint64(band * BAND_BITS)
        keys, asked = ((each >> shift).astype(np.uint16) for each in (hashes, queries))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for flip in (0, *(1 << bit for bit in range(BAND_BITS))):
            wanted = asked ^ np.uint16(flip)
            start, end = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
            counts = end - start
            query = np.repeat(np.arange(len(queries)), counts)
            # the places start, start + 1, … end - 1 of every query, one after the other
            place = np.arange(counts.sum()) + np.repeat(start - (np.cumsum(counts) - counts), counts)
            other = order[place]
            near = np.bitwise_count(queries[query] ^ hashes[other]) <= bits
            yield query[near], other[near]
