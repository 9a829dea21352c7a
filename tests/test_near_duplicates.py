"""Perceptual hashes against scipy's cosine transform and a plain search, and images saved again."""

import io

import numpy as np
import pytest
from conftest import naming
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn
from scipy.sparse.csgraph import connected_components

from foldsmith.data import near_duplicates
from foldsmith.data.duplicates import join_pairs
from foldsmith.data.images import resize_image
from foldsmith.data.near_duplicates import (
    HFLIP,
    MAX_BITS,
    ORIENTATIONS,
    VFLIP,
    HashIndex,
    find_near_duplicates,
    hash_thumbnails,
)

THUMBNAIL = 16


def make_pictures(count: int, size: int = 64, seed: int = 0) -> list[Image.Image]:
    """Return smooth random pictures of coloured blobs, all different."""
    draws = np.random.default_rng(seed)
    coarse = draws.integers(0, 256, (count, 7, 7, 3)).astype(np.uint8)
    return [Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC) for pixels in coarse]


def thumbnails_of(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([resize_image(np.asarray(picture), THUMBNAIL) for picture in pictures])


def encode_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_a_hash_is_the_signs_of_the_cosine_transform_of_scipy() -> None:
    thumbnails = thumbnails_of(make_pictures(20))
    hashes = hash_thumbnails(thumbnails)
    for thumbnail, (upright, transposed) in zip(thumbnails, hashes.tolist(), strict=True):
        low = dctn(thumbnail @ [0.299, 0.587, 0.114], type=2)[:8, :8]
        low[0, 0] = 0
        bits = [upright >> bit & 1 for bit in range(64)]
        assert bits == (low > 0).ravel().astype(int).tolist()
        assert [transposed >> bit & 1 for bit in range(64)] == (low.T > 0).ravel().astype(int).tolist()


def test_a_mirrored_picture_has_the_hash_with_the_odd_signs_changed() -> None:
    thumbnails = thumbnails_of(make_pictures(20))
    hashes = hash_thumbnails(thumbnails)[:, 0]
    assert (hash_thumbnails(thumbnails[:, :, ::-1])[:, 0] == hashes ^ np.uint64(HFLIP)).all()
    assert (hash_thumbnails(thumbnails[:, ::-1])[:, 0] == hashes ^ np.uint64(VFLIP)).all()


@given(st.integers(0, 2**32), st.integers(0, MAX_BITS))
def test_the_search_finds_exactly_the_pairs_of_a_plain_loop(seed: int, bits: int) -> None:
    draws = np.random.default_rng(seed)
    hashes = draws.integers(0, 2**63, 12, dtype=np.uint64)
    changed = draws.integers(0, 12, 40)
    queries = hashes[changed]
    for index, count in enumerate(draws.integers(0, 12, 40)):
        for bit in draws.choice(64, count, replace=False):
            queries[index] ^= np.uint64(1) << np.uint64(bit)
    found = set()
    for query, other in HashIndex.of(hashes).pairs_within(queries, bits):
        found |= set(zip(query.tolist(), other.tolist(), strict=True))
    expected = {
        (query, other)
        for query in range(40)
        for other in range(12)
        if (int(queries[query]) ^ int(hashes[other])).bit_count() <= bits
    }
    assert found == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: encode_jpeg(picture, 40),
        lambda picture: picture.resize((37, 37), Image.Resampling.BILINEAR),
        lambda picture: picture.resize((150, 150), Image.Resampling.LANCZOS),
        lambda picture: encode_jpeg(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 80),
        *(lambda picture, turn=turn: picture.transpose(turn) for turn in Image.Transpose),
    ],
)
def test_a_picture_saved_again_is_found_without_false_positives(change) -> None:
    pictures = make_pictures(60)
    pairs = find_near_duplicates(thumbnails_of([*pictures, *map(change, pictures)]), MAX_BITS)
    assert (pairs[:, 1] - pairs[:, 0] == 60).all()
    assert len(pairs) >= 0.9 * 60


def test_zero_bits_find_exact_copies_and_negative_bits_find_none() -> None:
    thumbnails = thumbnails_of([*make_pictures(30), *make_pictures(30)])
    expected = np.stack([np.arange(30), np.arange(30, 60)], axis=1)
    np.testing.assert_array_equal(find_near_duplicates(thumbnails, 0), expected)
    assert find_near_duplicates(thumbnails, -1).shape == (0, 2)
    with pytest.raises(ValueError, match=naming(MAX_BITS)):
        find_near_duplicates(thumbnails, MAX_BITS + 1)


def test_pictures_without_contrast_are_no_duplicates() -> None:
    flat = (
        np.full((20, THUMBNAIL, THUMBNAIL, 3), 200, np.uint8)
        - np.arange(20, dtype=np.uint8)[:, None, None, None]
    )
    assert len(find_near_duplicates(flat, MAX_BITS)) == 0


def test_the_same_layout_in_another_colour_is_another_picture() -> None:
    thumbnails = thumbnails_of(make_pictures(1))
    assert len(find_near_duplicates(np.concatenate([thumbnails, thumbnails[..., ::-1]]), MAX_BITS)) == 0


def test_copies_of_a_picture_are_paired_with_the_first_alone() -> None:
    thumbnails = np.tile(thumbnails_of(make_pictures(5)), (200, 1, 1, 1))
    pairs = find_near_duplicates(thumbnails, MAX_BITS)
    expected = np.stack([np.arange(5, 1000) % 5, np.arange(5, 1000)], axis=1)  # 995, not 100,000
    assert pairs[np.argsort(pairs[:, 1])].tolist() == expected.tolist()


def test_groups_are_those_of_all_pairs_of_near_hashes_that_correlate() -> None:
    draws = np.random.default_rng(3)
    originals = thumbnails_of(make_pictures(6)).astype(float)
    noise = draws.normal(0, 1, (10, *originals.shape)) * draws.uniform(2, 40, (10, 6, 1, 1, 1))
    thumbnails = np.clip(originals + noise, 0, 255).round().astype(np.uint8).reshape(-1, *originals.shape[1:])
    hashes = hash_thumbnails(thumbnails)[:, 0].tolist()
    centred = (thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True)).reshape(len(thumbnails), -1)
    correlation = (
        centred @ centred.T / np.linalg.norm(centred, axis=1) / np.linalg.norm(centred, axis=1)[:, None]
    )
    near = np.array([[(one ^ other).bit_count() <= MAX_BITS for other in hashes] for one in hashes])
    alike = near & (correlation >= near_duplicates.MIN_CORRELATION)
    assert 60 < alike.sum() < near.sum()  # some near hashes are of images that do not correlate
    groups = join_pairs(find_near_duplicates(thumbnails, MAX_BITS), len(thumbnails))
    _, expected = connected_components(alike)
    np.testing.assert_array_equal(groups[:, None] == groups, expected[:, None] == expected)


def test_images_of_a_camera_that_stands_still_are_one_group_without_all_their_pairs() -> None:
    scene = thumbnails_of(make_pictures(1))[0].astype(int)
    changes = np.random.default_rng(0).integers(-4, 5, (600, *scene.shape))
    pairs = find_near_duplicates(np.clip(scene + changes, 0, 255).astype(np.uint8), MAX_BITS)
    assert (join_pairs(pairs, 600) == 0).all()
    assert len(pairs) < 600 * 599 / 2 / 5


def test_hashes_that_share_their_bands_are_compared_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_CANDIDATES", 1000)
    hashes = np.full(300, 12345, np.uint64)
    found = list(HashIndex.of(hashes).pairs_within(hashes, 0))
    assert max(len(query) for query, _ in found) <= 1000 + 300
    assert len({pair for query, match in found for pair in zip(query, match, strict=True)}) == 300**2


def test_progress_is_reported_to_the_end() -> None:
    counts: list[int] = []
    find_near_duplicates(thumbnails_of(make_pictures(10)), MAX_BITS, counts.append)
    assert sum(counts) == ORIENTATIONS * 10
