"""TrivialAugment: parameters against the published space, images against Pillow."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image, ImageEnhance, ImageOps

from foldsmith.augment import device as augment_device
from foldsmith.augment import host as augment_host
from foldsmith.augment.rows import Draws, build_augmentation
from foldsmith.augment.trivial import OPERATIONS, draw_trivial

SIZE, COUNT = 40, 6000


def make_images(count: int) -> np.ndarray:
    """Return smooth noisy pictures without the darkest and brightest grey levels."""
    draws = np.random.default_rng(0)
    slope = np.linspace(0, 100, SIZE)
    pictures = slope[:, None, None] * 0.6 + slope[None, :, None] + draws.normal(50, 4, (count, SIZE, SIZE, 3))
    return np.clip(pictures, 0, 255).astype(np.uint8)


class Chosen:
    """A stand-in for a random generator that selects one operation, with levels of 31 and signs."""

    def __init__(self, operation: str, levels: np.ndarray, signs: np.ndarray) -> None:
        self.numbers, self.signs = iter([OPERATIONS.index(operation), levels]), signs

    def integers(self, most: int, size: int) -> np.ndarray:
        return np.broadcast_to(next(self.numbers), size)

    def choice(self, of: list[float], size: int) -> np.ndarray:
        return self.signs


LEVELS, SIGNS = np.tile([0, 1, 7, 15, 22, 30], 2), np.repeat([1.0, -1.0], 6)


def draws_of(operation: str, strength: float = 1.0) -> Draws:
    return Draws(**draw_trivial(Chosen(operation, LEVELS, SIGNS), len(LEVELS), SIZE, strength))


def on_host_and_device(images: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    on_device = augment_device.apply_draws(torch.from_numpy(images), draws).numpy()
    return {"host": augment_host.apply_draws(images, draws).astype(float), "device": on_device}


def transformed(*matrix: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.transform(image.size, Image.AFFINE, matrix, Image.BILINEAR)


def pillow(operation: str, level: float, sign: float) -> Callable[[Image.Image], Image.Image]:
    """Return the operation at a level of 0 to 1 of the wide space, as in the paper's tables."""
    change, shear, shift = 0.99 * level * sign, 0.99 * level * sign, 32 * level * sign
    return {
        "identity": lambda image: image,
        "shear-x": transformed(1, shear, 0, 0, 1, 0),
        "shear-y": transformed(1, 0, 0, shear, 1, 0),
        "translate-x": transformed(1, 0, shift, 0, 1, 0),
        "translate-y": transformed(1, 0, 0, 0, 1, shift),
        "rotate": lambda image: image.rotate(135 * level * sign, Image.BILINEAR),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(1 + change),
        "colour": lambda image: ImageEnhance.Color(image).enhance(1 + change),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1 + change),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(1 + change),
        "posterize": lambda image: ImageOps.posterize(image, 8 - round(6 * level)),
        "solarize": lambda image: ImageOps.solarize(image, 255 * (1 - level)),
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
    }[operation]


GEOMETRIC = ("shear-x", "shear-y", "translate-x", "translate-y", "rotate")
# tolerance in grey levels: Pillow truncates where ours rounds, and rounds the blurred image first
WITHIN = {"brightness": 1, "colour": 2, "contrast": 2, "sharpness": 2, "autocontrast": 1}


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in GEOMETRIC])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_operations_on_grey_levels_equal_pillows(operation: str, strength: float) -> None:
    images = make_images(len(LEVELS))
    expected = [
        np.asarray(pillow(operation, strength * level / 30, sign)(Image.fromarray(image)))
        for image, level, sign in zip(images, LEVELS, SIGNS, strict=True)
    ]
    if operation != "identity":
        assert (np.array(expected) != images).any()
    for where, augmented in on_host_and_device(images, draws_of(operation, strength)).items():
        assert np.abs(augmented - expected).max() <= WITHIN.get(operation, 0), where


@pytest.mark.parametrize("operation", GEOMETRIC)
def test_geometric_operations_equal_pillows_within_the_image(operation: str) -> None:
    images = make_images(len(LEVELS))
    white = np.full_like(images, 255)
    for where, augmented in on_host_and_device(images, draws_of(operation)).items():
        visible = on_host_and_device(white, draws_of(operation))[where]
        for index, (level, sign) in enumerate(zip(LEVELS, SIGNS, strict=True)):
            change = pillow(operation, level / 30, sign)
            covered = np.asarray(change(Image.fromarray(white[index]))) / 255
            # borders fade differently on host and device; only a small area may differ
            assert abs(visible[index].mean() / 255 - covered.mean()) <= 0.03, (where, level)
            inner = (covered == 1) & (visible[index] > 254.9)
            assert inner.mean() >= covered.mean() - 0.15
            difference = np.abs(augmented[index] - np.asarray(change(Image.fromarray(images[index])), float))
            assert difference[inner].max() <= 2.1, (where, level)


@pytest.mark.parametrize("name", ["trivial", "trivial-crop"])
def test_host_and_device_give_the_same_images_except_for_rounding_before_tables(name: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)
    draws = build_augmentation(name, SIZE).draw(5, len(images), SIZE)
    augmented = on_host_and_device(images, draws)
    difference = np.abs(augmented["host"] - augmented["device"])
    assert np.median(difference) <= 0.5 and (difference > 3).mean() < 0.03


def test_autocontrast_and_equalize_keep_an_image_of_one_grey_level() -> None:
    images = np.full((len(LEVELS), SIZE, SIZE, 3), 77, np.uint8)
    for operation in ("autocontrast", "equalize"):
        for where, augmented in on_host_and_device(images, draws_of(operation)).items():
            assert (augmented == 77).all(), where


def drawn(strength: float = 1.0) -> dict[str, np.ndarray]:
    return draw_trivial(np.random.default_rng(3), COUNT, SIZE, strength)


def test_operations_are_equally_frequent_and_one_an_image() -> None:
    draws = drawn()
    moved = draws["affine"] - np.eye(2, 3)
    angle = np.arctan2(draws["affine"][:, 1, 0], draws["affine"][:, 1, 1])
    turned = draws["affine"][:, 0, 0] != 1
    found = {
        "rotate": turned,
        "shear-x": ~turned & (moved[:, 0, 1] != 0),
        "shear-y": ~turned & (moved[:, 1, 0] != 0),
        "translate-x": ~turned & (moved[:, 0, 1] == 0) & (moved[:, 0, 2] != 0),
        "translate-y": ~turned & (moved[:, 1, 0] == 0) & (moved[:, 1, 2] != 0),
        "sharpness": draws["sharpness"] != 1,
        "contrast": draws["lift"] != 0,
        "autocontrast": draws["spread"] == 1,
        "equalize": draws["spread"] == 2,
    }
    for operation, is_drawn in found.items():
        share = (
            1 / 14 if operation in ("autocontrast", "equalize") else 30 / 31 / 14
        )  # the first level is the identity
        assert scipy.stats.binomtest(int(is_drawn.sum()), COUNT, share).pvalue > 0.001, operation
    changed = np.abs(draws["colour"] - np.eye(3)).max(axis=(1, 2)) > 1e-6
    other = changed.astype(int) + (draws["table"] != np.arange(256)).any(axis=1)
    assert (sum(found[name].astype(int) for name in found if name != "contrast") + other).max() == 1
    # 31 levels in both directions; only rotations below 90 degrees, where the tangent is unique
    degrees = np.degrees(angle[turned & (np.abs(angle) < np.pi / 2)])
    np.testing.assert_allclose(degrees / 4.5, np.round(degrees / 4.5), atol=1e-6)
    assert np.degrees(np.abs(angle[turned])).max() == pytest.approx(135)
    assert scipy.stats.binomtest(int((angle[turned] > 0).sum()), int(turned.sum())).pvalue > 0.01
    shears = moved[found["shear-x"], 0, 1]
    assert np.abs(shears).max() == pytest.approx(0.99)
    assert scipy.stats.chisquare(np.unique(np.round(shears, 6), return_counts=True)[1]).pvalue > 0.001


def test_strength_is_a_share_of_the_maximum() -> None:
    half, whole = drawn(0.5), drawn()
    shears = [draws["affine"][:, 0, 1].max() for draws in (half, whole)]
    assert half["sharpness"].max() - 1 == pytest.approx((whole["sharpness"].max() - 1) / 2)
    assert shears[0] < shears[1]
    assert build_augmentation("trivial", SIZE, strength=0.5).trivial == 0.5
    assert build_augmentation("photo", SIZE, strength=0.5).trivial == 0
