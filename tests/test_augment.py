"""Every row of AUGMENTATIONS: invariants, seeds, distributions of parameters and resulting images.

The oracles are albumentations, torchvision, OpenCV and numpy. Pipelines from files are tested here too.
"""

import random
from pathlib import Path

import albumentations
import cv2
import numpy as np
import pytest
import scipy.stats
import torch
from conftest import MakeCompetition, naming
from torchvision.transforms.v2 import functional as torchvision

import prepare
import split
import train
from foldsmith.augment import device as augment_device
from foldsmith.augment import host as augment_host
from foldsmith.augment.host import augment_batch
from foldsmith.augment.rows import AUGMENTATIONS, LUMA, Augmentation, BatchSlice, Draws, build_augmentation
from foldsmith.errors import InputError

SIZE = 24


def make_images(count: int = 16, size: int = SIZE) -> np.ndarray:
    """Return smooth noisy pictures with distinct pixels in every row, so that flips and crops show."""
    draws = np.random.default_rng(0)
    slope = np.linspace(0, 150, size)
    pictures = (
        slope[:, None, None] * 0.6 + slope[None, :, None] + draws.normal(60, 12, (count, size, size, 3))
    )
    return np.clip(pictures, 0, 255).astype(np.uint8)


every_row = pytest.mark.parametrize("name", AUGMENTATIONS)
every_random_row = pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])


@every_row
def test_shape_and_type_are_kept_and_the_originals_left_alone(name: str) -> None:
    images = make_images()
    before = images.copy()
    augmented = augment_batch(build_augmentation(name, SIZE), images, 1)
    assert augmented.shape == images.shape and augmented.dtype == np.uint8
    assert np.array_equal(images, before)


@every_row
def test_images_of_a_read_only_memory_map_are_accepted(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", make_images(4))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    augmentation = build_augmentation(name, SIZE)
    assert np.array_equal(augment_batch(augmentation, pixels, 3), augment_batch(augmentation, pixels[:], 3))


@every_row
def test_the_images_depend_on_the_seed_alone(name: str) -> None:
    images, augmentation = make_images(), build_augmentation(name, SIZE)
    first = augment_batch(augmentation, images, 7)
    np.random.seed(99)
    augment_batch(augmentation, images, 8)
    assert np.array_equal(augment_batch(augmentation, images, 7), first)
    assert np.array_equal(augment_batch(build_augmentation(name, SIZE), images, 7), first)


@every_random_row
def test_another_seed_gives_other_images(name: str) -> None:
    images, augmentation = make_images(), build_augmentation(name, SIZE)
    first = augment_batch(augmentation, images, 7)
    # seeds have 63 bits
    assert not np.array_equal(augment_batch(augmentation, images, 8), first)
    assert not np.array_equal(augment_batch(augmentation, images, 2**62 + 12345), first)


@every_random_row
def test_each_image_of_a_batch_is_sampled_independently(name: str) -> None:
    images = np.repeat(make_images(1), 32, axis=0)
    augmented = augment_batch(build_augmentation(name, SIZE), images, 5)
    assert len({image.tobytes() for image in augmented}) > 1


def test_none_is_the_identity() -> None:
    images = make_images()
    assert np.array_equal(augment_batch(build_augmentation("none", SIZE), images, 1), images)


def test_half_of_the_images_are_flipped() -> None:
    images = make_images(200)
    augmented = augment_batch(build_augmentation("flip", SIZE), images, 1)
    mirrored = [np.array_equal(new, old[:, ::-1]) for new, old in zip(augmented, images, strict=True)]
    same = [np.array_equal(new, old) for new, old in zip(augmented, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 <= sum(mirrored) <= 130


def test_an_unknown_augmentation_names_the_nearest() -> None:
    with pytest.raises(InputError, match=naming("'crop-flop'", "'crop-flip'")):
        build_augmentation("crop-flop", SIZE)


# --- distributions of parameters, by Kolmogorov-Smirnov tests with fixed seeds

COUNT = 3000
CROPS = {
    "shift-flip": ((0.6, 1.0), (0.8, 1.25)),
    "crop-flip": ((0.35, 1.0), (3 / 4, 4 / 3)),
    "photo": ((0.35, 1.0), (3 / 4, 4 / 3)),
    "trivial-crop": ((0.35, 1.0), (3 / 4, 4 / 3)),
    "study-resnet": ((0.08, 1.0), (3 / 4, 4 / 3)),
}
every_cropping_row = pytest.mark.parametrize("name", CROPS)


def ks_p_value(one: np.ndarray, other: np.ndarray) -> float:
    """Return the p-value of the two-sample Kolmogorov-Smirnov test."""
    return scipy.stats.ks_2samp(one, other).pvalue


def albumentations_boxes(share: tuple[float, float], ratio: tuple[float, float], size: int) -> np.ndarray:
    """Return COUNT boxes (x, y, width, height) sampled by RandomResizedCrop."""
    transform = albumentations.RandomResizedCrop(size=(size, size), scale=share, ratio=ratio)
    transform.set_random_seed(0)
    shape = {"shape": (size, size, 3)}
    drawn = [transform.get_params_dependent_on_data(shape, {})["crop_coords"] for _ in range(COUNT)]
    corners = np.array(drawn)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def facts_of_boxes(boxes: np.ndarray) -> dict[str, np.ndarray]:
    x, y, width, height = boxes.T
    return {"area": width * height, "aspect": width / height, "x": x, "y": y}


def test_the_rows_that_crop_are_known() -> None:
    assert set(CROPS) == {name for name, row in AUGMENTATIONS.items() if row.crop}


@every_cropping_row
@pytest.mark.parametrize("size", [64, 31])
def test_crops_are_distributed_as_those_of_albumentations(name: str, size: int) -> None:
    share, ratio = CROPS[name]
    drawn = facts_of_boxes(AUGMENTATIONS[name].draw(1, COUNT, size).box)
    expected = facts_of_boxes(albumentations_boxes(share, ratio, size))
    for fact, values in drawn.items():
        assert ks_p_value(values, expected[fact]) > 0.01, fact
    # the test has power: it rejects a slightly wrong range of areas, and of aspect ratios
    wrong = facts_of_boxes(albumentations_boxes((share[0] + 0.05, share[1]), ratio, size))
    assert ks_p_value(drawn["area"], wrong["area"]) < 1e-3
    wider = facts_of_boxes(albumentations_boxes(share, (ratio[0] * 0.9, ratio[1] / 0.9), size))
    assert ks_p_value(drawn["aspect"], wider["aspect"]) < 1e-3


@every_cropping_row
def test_crops_lie_within_the_image(name: str) -> None:
    for size in (1, 2, 7, 64):
        x, y, width, height = AUGMENTATIONS[name].draw(2, COUNT, size).box.T
        assert min(x.min(), y.min()) >= 0 and min(width.min(), height.min()) >= 1
        assert max((x + width).max(), (y + height).max()) <= size


def test_a_crop_that_never_fits_is_the_whole_image() -> None:
    row = Augmentation(crop=(0.9, 1.0), ratio=(3.0, 4.0))
    np.testing.assert_array_equal(row.draw(0, 5, 20).box, [[0, 0, 20, 20]] * 5)


@every_random_row
def test_flips_have_probability_one_half_and_are_independent(name: str) -> None:
    row, flips = AUGMENTATIONS[name], AUGMENTATIONS[name].draw(3, COUNT, 64).flip
    assert row.hflip  # true of every row today
    assert scipy.stats.binomtest(int(flips[:, 0].sum()), COUNT).pvalue > 0.01
    if not row.vflip:
        assert not flips[:, 1].any()
        return
    assert scipy.stats.binomtest(int(flips[:, 1].sum()), COUNT).pvalue > 0.01
    assert scipy.stats.binomtest(int((flips[:, 0] == flips[:, 1]).sum()), COUNT).pvalue > 0.01


def test_rotations_are_uniform_within_the_limit_in_both_directions() -> None:
    angles = np.degrees(AUGMENTATIONS["study-resnet"].draw(4, COUNT, 64).angle)
    assert scipy.stats.kstest(angles, scipy.stats.uniform(-90, 180).cdf).pvalue > 0.01
    assert scipy.stats.kstest(angles, scipy.stats.uniform(-80, 160).cdf).pvalue < 1e-6
    assert np.abs(angles).max() <= 90


@pytest.mark.parametrize("size", [64, 31])
def test_shifts_are_those_of_padding_by_an_eighth_and_cropping_in_albumentations(size: int) -> None:
    reach = size // 8
    boxes = AUGMENTATIONS["pad-crop-flip"].draw(5, COUNT, size).box
    np.testing.assert_array_equal(boxes[:, 2:], size)
    padded = {"shape": (size + 2 * reach, size + 2 * reach, 3)}
    crop = albumentations.RandomCrop(size, size)
    crop.set_random_seed(0)
    coordinates = [crop.get_params_dependent_on_data(padded, {})["crop_coords"] for _ in range(COUNT)]
    expected = np.array(coordinates)[:, :2] - reach
    for side in (0, 1):
        values, counts = np.unique(boxes[:, side], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(-reach, reach + 1))
        np.testing.assert_array_equal(values, np.unique(expected[:, side]))
        assert scipy.stats.chisquare(counts).pvalue > 0.01
        assert ks_p_value(boxes[:, side], expected[:, side]) > 0.01
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1]) < 0.06


def colour_factors(draws: Draws) -> dict[str, np.ndarray]:
    """Recover brightness, contrast, saturation and hue rotation (radians) from the colour matrices.

    Brightness and contrast multiply a grey pixel; the other two eigenvalues have the saturation as modulus
    and the hue rotation as angle.
    """
    both = draws.colour.astype(float).sum(axis=2).mean(axis=1)
    brightness = draws.lift + both
    values = np.linalg.eigvals(draws.colour / both[:, None, None])
    chroma = values[np.arange(len(values)), np.abs(values - 1).argmax(axis=1)]
    return {
        "brightness": brightness,
        "contrast": both / brightness,
        "saturation": np.abs(chroma),
        "hue": np.abs(np.angle(chroma)),
    }


def test_four_of_five_images_have_colours_jittered_uniformly_within_the_ranges() -> None:
    draws = AUGMENTATIONS["photo"].draw(6, COUNT, 64)
    changed = np.abs(draws.colour - np.eye(3)).max(axis=(1, 2)) > 1e-6
    assert scipy.stats.binomtest(int(changed.sum()), COUNT, 0.8).pvalue > 0.01
    np.testing.assert_allclose(draws.lift[~changed], 0, atol=1e-6)
    factors = colour_factors(Draws(colour=draws.colour[changed], lift=draws.lift[changed]))
    for name in ("brightness", "contrast", "saturation"):
        assert scipy.stats.kstest(factors[name], scipy.stats.uniform(0.7, 0.6).cdf).pvalue > 0.01, name
        assert scipy.stats.kstest(factors[name], scipy.stats.uniform(0.75, 0.5).cdf).pvalue < 1e-6, name
    assert scipy.stats.kstest(factors["hue"], scipy.stats.uniform(0, 0.1 * np.pi).cdf).pvalue > 0.01
    assert scipy.stats.kstest(factors["hue"], scipy.stats.uniform(0, 0.12 * np.pi).cdf).pvalue < 1e-6
    forward = int((draws.colour[changed, 0, 1] < draws.colour[changed, 1, 0]).sum())
    assert scipy.stats.binomtest(forward, int(changed.sum())).pvalue > 0.01


# --- images for given parameters


BOXES = [(0, 0, 24, 24), (3, 5, 10, 7), (20, 0, 4, 24), (0, 23, 24, 1), (11, 12, 1, 1), (1, 2, 23, 22)]


@pytest.mark.parametrize("box", BOXES)
def test_a_crop_is_resized_as_by_albumentations_and_opencv(box: tuple[int, ...]) -> None:
    images, (x, y, width, height) = make_images(2), box
    augmented = augment_host.apply_draws(images, Draws(box=np.array([box, box])))
    pipeline = albumentations.Compose(
        [albumentations.Crop(x, y, x + width, y + height), albumentations.Resize(SIZE, SIZE)]
    )
    for new, old in zip(augmented, images, strict=True):
        crop = np.ascontiguousarray(old[y : y + height, x : x + width])
        np.testing.assert_array_equal(new, cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))
        np.testing.assert_array_equal(new, pipeline(image=old)["image"])


def test_flips_are_those_of_numpy() -> None:
    images = make_images(4)
    flip = np.array([[False, False], [True, False], [False, True], [True, True]])
    expected = [images[0], images[1, :, ::-1], images[2, ::-1], images[3, ::-1, ::-1]]
    np.testing.assert_array_equal(augment_host.apply_draws(images, Draws(flip=flip)), expected)
    on_device = augment_device.apply_draws(torch.from_numpy(images), Draws(flip=flip))
    np.testing.assert_array_equal(on_device.numpy(), expected)


@pytest.mark.parametrize("size", [24, 17])
def test_a_shift_uses_reflection_padding_as_numpy_and_albumentations_do(size: int) -> None:
    images, reach = make_images(5, size), size // 8
    corners = [(0, 0), (-reach, reach), (reach, -reach), (1, 0), (-reach, -reach)]
    boxes = np.array([(x, y, size, size) for x, y in corners])
    pad = albumentations.PadIfNeeded(
        size + 2 * reach, size + 2 * reach, border_mode=cv2.BORDER_REFLECT_101, p=1.0
    )
    augmented = augment_host.apply_draws(images, Draws(box=boxes))
    for new, old, (x, y) in zip(augmented, images, corners, strict=True):
        padded = np.pad(old, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
        np.testing.assert_array_equal(albumentations.Compose([pad])(image=old)["image"], padded)
        expected = padded[reach + y : reach + y + size, reach + x : reach + x + size]
        np.testing.assert_array_equal(new, expected)


def on_host_and_device(images: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    on_device = augment_device.apply_draws(torch.from_numpy(images), draws).numpy()
    return {"host": augment_host.apply_draws(images, draws).astype(float), "device": on_device}


@pytest.mark.parametrize("size", [8, 9, 24])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_a_rotation_by_90_degrees_is_numpys_rot90(size: int, quarters: int) -> None:
    images = make_images(3, size)
    expected = np.rot90(images, quarters, axes=(1, 2)).astype(float)
    for where, augmented in on_host_and_device(images, Draws(angle=np.full(3, quarters * np.pi / 2))).items():
        assert np.abs(augmented - expected).max() <= 1, where


def test_a_rotation_by_45_degrees_has_black_corners_and_keeps_the_centre() -> None:
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    for where, augmented in on_host_and_device(white, Draws(angle=np.array([np.pi / 4]))).items():
        assert [augmented[0, y, x].max() for y in (0, -1) for x in (0, -1)] == [0] * 4, where
        assert augmented[0, 8:24, 8:24].min() > 254.9, where
        # the image covers an octagon: 2 (sqrt(2) - 1) of the square's area
        assert augmented.mean() / 255 == pytest.approx(2 * (2**0.5 - 1), abs=0.01), where


def test_an_image_is_cropped_then_flipped_then_rotated() -> None:
    image, (x, y, width, height) = make_images(1), (2, 4, 12, 18)
    crop = cv2.resize(np.ascontiguousarray(image[0, y : y + height, x : x + width]), (SIZE, SIZE))
    draws = Draws(np.array([[x, y, width, height]]), np.array([[True, False]]), np.array([np.pi / 2]))
    for where, augmented in on_host_and_device(image, draws).items():
        difference = np.abs(augmented[0] - np.rot90(crop[:, ::-1]).astype(float))
        assert difference[2:-2, 2:-2].max() <= 1, where  # the host fades to black at the border


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_change_as_those_of_torchvision(name: str) -> None:
    images = np.random.default_rng(1).integers(100, 150, (12, 9, 11, 3), dtype=np.uint8)
    draws = Augmentation(**{name: 0.3}, jittered=1.0).draw(0, 12, 9)
    factors = colour_factors(draws)
    factor = factors.pop(name)
    assert factor.min() < 0.85 and factor.max() > 1.15
    for other in set(factors) - {"hue"}:
        np.testing.assert_allclose(factors[other], 1, atol=1e-5)
    adjust = getattr(torchvision, f"adjust_{name}")
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2)
    changed = [adjust(picture, one) for picture, one in zip(pictures, factor.tolist(), strict=True)]
    expected = torch.stack(changed).permute(0, 2, 3, 1).numpy().astype(float)
    for where, augmented in on_host_and_device(images, draws).items():
        assert np.abs(augmented - expected).max() <= 2, where  # torchvision truncates, ours rounds


def test_a_hue_rotation_keeps_luma_and_greys_and_changes_other_colours() -> None:
    images = np.random.default_rng(2).integers(100, 150, (6, 8, 8, 3), dtype=np.uint8)
    images[0] = images[0, :, :, :1]
    draws = Augmentation(hue=0.5, jittered=1.0).draw(0, 6, 8)
    for where, augmented in on_host_and_device(images, draws).items():
        np.testing.assert_allclose(augmented @ LUMA, images @ LUMA, atol=0.51, err_msg=where)
        np.testing.assert_allclose(augmented[0], images[0], atol=0.51, err_msg=where)
        assert (np.abs(augmented[1:] - images[1:]).max(axis=(1, 2, 3)) > 5).all(), where


def test_jitter_with_probability_zero_is_the_identity() -> None:
    images = np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    row = Augmentation(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.5, jittered=0.0)
    for where, augmented in on_host_and_device(images, row.draw(0, 4, 8)).items():
        np.testing.assert_allclose(augmented, images, atol=1e-3, err_msg=where)


# TrivialAugment's lookup tables amplify rounding differences: see tests/test_trivial_augment.py
every_plain_row = pytest.mark.parametrize(
    "name", [name for name, row in AUGMENTATIONS.items() if not row.trivial]
)


@every_plain_row
@pytest.mark.parametrize("size", [24, 25, 64])
def test_host_and_device_give_the_same_images_for_the_same_parameters(name: str, size: int) -> None:
    images = np.random.default_rng(4).integers(0, 256, (24, size, size, 3), dtype=np.uint8)
    draws = AUGMENTATIONS[name].draw(5, len(images), size)
    augmented = on_host_and_device(images, draws)
    difference = np.abs(augmented["host"] - augmented["device"])
    limit = np.full(len(images), 1.01)
    if draws.colour is not None:  # the host also rounds after the crop, before the colours
        limit = 0.51 + 0.8 * np.abs(draws.colour).sum(axis=2).max(axis=1)
        assert difference.mean() < 0.5
    if draws.angle is not None:  # borders of rotated images differ
        offset = np.arange(size) - (size - 1) / 2
        difference *= (np.hypot(offset[:, None], offset) < size / 2 - 3)[..., None]
    assert (difference.reshape(len(images), -1).max(axis=1) <= limit).all()


# --- random erasing

ERASING = Augmentation(erase=0.3)


def test_erased_boxes_have_the_published_frequency_and_sizes() -> None:
    draws = ERASING.draw(7, COUNT, 64)
    x, y, width, height = draws.erased.T
    erased = width > 0
    assert scipy.stats.binomtest(int(erased.sum()), COUNT, 0.3).pvalue > 0.01
    x, y, width, height = (column[erased] for column in (x, y, width, height))
    assert min(x.min(), y.min()) >= 0 and max(width.max(), height.max()) < 64
    assert max((x + width).max(), (y + height).max()) <= 64
    # sampled one by one as in the paper, with an independent generator
    stream, areas, ratios = np.random.default_rng(1), [], []
    while len(areas) < COUNT:
        area, ratio = stream.uniform(0.02, 1 / 3) * 64**2, np.exp(stream.uniform(np.log(0.3), -np.log(0.3)))
        sides = np.round([np.sqrt(area * ratio), np.sqrt(area / ratio)])
        if sides.max() < 64:
            areas.append(sides.prod())
            ratios.append(sides[0] / sides[1])
    assert ks_p_value(width * height, areas) > 0.01
    assert ks_p_value(width / height, ratios) > 0.01
    assert (
        draws.fill.dtype == np.uint8 and scipy.stats.kstest(draws.fill.ravel() / 256, "uniform").pvalue > 1e-3
    )


def test_an_erased_box_has_one_colour_and_the_rest_is_unchanged() -> None:
    images = make_images(40)
    draws = ERASING.draw(8, len(images), SIZE)
    expected = images.copy()
    for image, (x, y, width, height), fill in zip(expected, draws.erased, draws.fill[:, :3], strict=True):
        for row in range(y, y + height):
            for column in range(x, x + width):
                image[row, column] = fill
    assert 5 <= sum((expected != images).any(axis=(1, 2, 3))) <= 20
    for where, augmented in on_host_and_device(images, draws).items():
        np.testing.assert_array_equal(augmented, expected, err_msg=where)


def test_erasing_changes_no_other_parameter_and_is_off_by_default() -> None:
    plain = AUGMENTATIONS["photo"].draw(9, 16, SIZE)
    row = build_augmentation("photo", SIZE, erase=0.5)
    for field in ("box", "flip", "colour", "lift"):
        np.testing.assert_array_equal(getattr(row.draw(9, 16, SIZE), field), getattr(plain, field))
    assert plain.erased is None and build_augmentation("photo", SIZE) == AUGMENTATIONS["photo"]


def test_erase_with_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming("erase=0.5", "pipeline.json")):
        build_augmentation(saved(tmp_path, albumentations.HorizontalFlip()), SIZE, erase=0.5)


# --- results of another size


@pytest.mark.parametrize("side", [9, 16, 23])
def test_a_crop_is_resized_directly_to_another_size_as_by_opencv(side: int) -> None:
    images, draws = make_images(6), Draws(box=np.array(BOXES))
    augmented = augment_host.apply_draws(images, draws, side)
    whole = augment_host.apply_draws(images, Draws(), side)
    for index, (x, y, width, height) in enumerate(BOXES):
        crop = np.ascontiguousarray(images[index, y : y + height, x : x + width])
        np.testing.assert_array_equal(augmented[index], cv2.resize(crop, (side, side)))
        np.testing.assert_array_equal(whole[index], cv2.resize(images[index], (side, side)))


@every_plain_row
@pytest.mark.parametrize("side", [16, 31])
def test_host_and_device_give_the_same_images_of_another_size(name: str, side: int) -> None:
    images = make_images(24)
    draws = AUGMENTATIONS[name].draw(5, len(images), SIZE, side)
    here = augment_host.apply_draws(images, draws, side).astype(float)
    there = augment_device.apply_draws(torch.from_numpy(images), draws, side).numpy()
    offset = np.arange(side) - (side - 1) / 2
    inner = (np.hypot(offset[:, None], offset) < side / 2 - 3)[..., None]
    assert here.shape == there.shape == (24, side, side, 3)
    assert (np.abs(here - there) * inner).max() <= 3


def test_erased_boxes_are_sampled_for_the_output_size() -> None:
    x, y, width, height = ERASING.draw(7, COUNT, 64, 16).erased.T
    assert max((x + width).max(), (y + height).max()) <= 16 and width.max() > 8


# --- shards of a batch


@every_row
@pytest.mark.parametrize(("start", "stop"), [(0, 5), (5, 11), (11, 16), (7, 8), (4, 4)])
def test_a_shard_of_a_batch_is_augmented_as_in_the_whole_batch(name: str, start: int, stop: int) -> None:
    images, row = make_images(), AUGMENTATIONS[name]
    whole = augment_batch(row, images, 9)
    shard = augment_batch(row, images[start:stop], 9, BatchSlice(start, len(images)))
    np.testing.assert_array_equal(shard, whole[start:stop])
    draws, pixels = row.draw(9, len(images), SIZE), torch.from_numpy(images)
    whole_there = augment_device.apply_draws(pixels, draws)[start:stop]
    shard_there = augment_device.apply_draws(pixels[start:stop], draws[start:stop])
    np.testing.assert_allclose(shard_there, whole_there, atol=1e-3)


# --- pipelines that albumentations saved

FORMS = {"json": "pipeline.json", "yaml": "pipeline.yaml", "yml": "pipeline.yml"}


def saved(folder: Path, *transforms: object, name: str = "pipeline.json") -> str:
    form = "json" if name.endswith(".json") else "yaml"
    albumentations.save(albumentations.Compose(list(transforms)), folder / name, data_format=form)
    return str(folder / name)


def example() -> list[object]:
    return [
        albumentations.RandomResizedCrop(size=(SIZE, SIZE), scale=(0.5, 1.0), p=1.0),
        albumentations.HorizontalFlip(p=0.5),
        albumentations.RandomBrightnessContrast(p=0.7),
    ]


@pytest.mark.parametrize("name", FORMS.values(), ids=FORMS)
def test_a_saved_pipeline_gives_the_images_of_albumentations_with_the_same_seed(
    name: str, tmp_path: Path
) -> None:
    images, seed = make_images(), 2**40 + 7
    loaded = build_augmentation(saved(tmp_path, *example(), name=name), SIZE)
    augmented = augment_batch(loaded, images, seed)
    pipeline = albumentations.Compose(example())
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    np.testing.assert_array_equal(augmented, [pipeline(image=image)["image"] for image in images])
    np.testing.assert_array_equal(augment_batch(loaded, images, seed), augmented)
    assert not np.array_equal(augment_batch(loaded, images, seed + 1), augmented)


def test_a_single_transform_that_was_saved_is_a_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "flip.json"
    albumentations.save(albumentations.HorizontalFlip(p=1.0), path)
    images = make_images(3)
    augmented = augment_batch(build_augmentation(str(path), SIZE), images, 0)
    np.testing.assert_array_equal(augmented, images[:, :, ::-1])


@pytest.mark.parametrize(
    ("transform", "keys"),
    [
        (albumentations.Resize(8, 9), ["Resize", "(8, 9, 3)"]),
        (albumentations.Normalize(), ["Normalize", "float32 (24, 24, 3)"]),
    ],
    ids=["size", "type"],
)
def test_a_pipeline_that_changes_size_or_type_is_refused(
    transform: object, keys: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=naming("pipeline.json", "24 x 24", *keys)):
        build_augmentation(saved(tmp_path, transform), SIZE)


@pytest.mark.parametrize(
    "transform", [albumentations.Normalize(p=0.1), albumentations.Resize(8, 8, p=0.1)], ids=["type", "size"]
)
def test_a_pipeline_that_changes_size_or_type_of_some_images_is_refused_when_it_does(
    transform: albumentations.BasicTransform, tmp_path: Path
) -> None:
    pipeline = albumentations.Compose([transform])
    with pytest.raises(InputError, match="uint8"):
        augment_batch(pipeline, np.repeat(make_images(), 8, axis=0), 0)


@pytest.mark.parametrize("name", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[1, 2]", '{"transform": {"__class_fullname__": "Nobody"}}']
)
def test_a_file_that_is_no_pipeline_is_refused_with_the_reason(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=naming(name, "albumentations.save")) as refused:
        build_augmentation(str(tmp_path / name), SIZE)
    assert "\n" not in str(refused.value)


def test_a_missing_pipeline_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.yaml"):
        build_augmentation(str(tmp_path / "none.yaml"), SIZE)


def test_a_fold_is_trained_again_when_its_pipeline_has_changed(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path, albumentations.HorizontalFlip(p=0.5))
    words = [str(make_competition()), "--recipe", "quick", "--image-size", "16", "--epochs", "1"]
    words += ["--batch-size", "8", "--precision", "fp32", "--workers", "0", "--device", "cpu"]
    words += ["--holdout", "0.3", "--set", f"augment={file}", "--output", str(tmp_path / "output")]
    for stage in (prepare, split, train):
        assert stage.main(words) == 0
    weights = tmp_path / "output" / "tiny" / "quick" / "fold0" / "weights.safetensors"
    first = weights.read_bytes()
    capsys.readouterr()
    train.main(words)
    assert "is up to date" in capsys.readouterr().out
    saved(tmp_path, albumentations.HorizontalFlip(p=1.0))
    train.main(words)
    assert "is up to date" not in capsys.readouterr().out
    assert weights.read_bytes() != first
    Path(file).write_text("{}")
    with pytest.raises(InputError, match=naming(file, "albumentations.save")):
        train.main(words)
    Path(file).unlink()
    with pytest.raises(InputError, match=naming(file)):
        train.main(words)
