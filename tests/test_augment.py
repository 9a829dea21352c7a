"""Every row of AUGMENTATIONS: what it keeps, what decides its draws, and what study 1 asks of its own."""

from pathlib import Path

import numpy as np
import pytest

from foldsmith.data.augment import AUGMENTATIONS, build_augmentation
from foldsmith.data.augment_host import augment_batch
from foldsmith.errors import InputError

SIZE = 24


def make_images(count: int = 16, size: int = SIZE) -> np.ndarray:
    """Smooth pictures with noise, no two pixels alike in a row: every flip and crop shows."""
    draws = np.random.default_rng(0)
    slope = np.linspace(0, 150, size)
    pictures = (
        slope[:, None, None] * 0.6 + slope[None, :, None] + draws.normal(60, 12, (count, size, size, 3))
    )
    return np.clip(pictures, 0, 255).astype(np.uint8)


each_row = pytest.mark.parametrize("name", AUGMENTATIONS)
each_drawn_row = pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])


@each_row
def test_shape_and_type_are_kept_and_the_originals_left_alone(name: str) -> None:
    images = make_images()
    before = images.copy()
    augmented = augment_batch(build_augmentation(name, SIZE), images, 1)
    assert augmented.shape == images.shape and augmented.dtype == np.uint8
    assert np.array_equal(images, before)


@each_row
def test_images_of_a_read_only_memory_map_are_fine(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", make_images(4))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    augmentation = build_augmentation(name, SIZE)
    assert np.array_equal(augment_batch(augmentation, pixels, 3), augment_batch(augmentation, pixels[:], 3))


@each_row
def test_the_seed_alone_decides(name: str) -> None:
    images, augmentation = make_images(), build_augmentation(name, SIZE)
    first = augment_batch(augmentation, images, 7)
    np.random.seed(99)
    augment_batch(augmentation, images, 8)
    assert np.array_equal(augment_batch(augmentation, images, 7), first)
    assert np.array_equal(augment_batch(build_augmentation(name, SIZE), images, 7), first)


@each_drawn_row
def test_another_seed_gives_other_images(name: str) -> None:
    images, augmentation = make_images(), build_augmentation(name, SIZE)
    first = augment_batch(augmentation, images, 7)
    # seeds of 63 bits; those that differ in the high half only are no matter, for they are digests
    assert not np.array_equal(augment_batch(augmentation, images, 8), first)
    assert not np.array_equal(augment_batch(augmentation, images, 2**62 + 12345), first)


@each_drawn_row
def test_images_of_one_batch_are_drawn_one_by_one(name: str) -> None:
    images = np.repeat(make_images(1), 32, axis=0)
    augmented = augment_batch(build_augmentation(name, SIZE), images, 5)
    assert len({image.tobytes() for image in augmented}) > 1


def test_none_is_the_identity() -> None:
    images = make_images()
    assert np.array_equal(augment_batch(build_augmentation("none", SIZE), images, 1), images)


def test_flip_gives_the_image_or_its_mirror_about_equally_often() -> None:
    images = make_images(200)
    augmented = augment_batch(build_augmentation("flip", SIZE), images, 1)
    mirrored = [np.array_equal(new, old[:, ::-1]) for new, old in zip(augmented, images, strict=True)]
    same = [np.array_equal(new, old) for new, old in zip(augmented, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 <= sum(mirrored) <= 130


def test_an_unknown_augmentation_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'crop-flip'"):
        build_augmentation("crop-flop", SIZE)
