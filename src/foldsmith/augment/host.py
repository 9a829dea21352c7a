"""Augmentation on the host, image by image, by OpenCV: on a CPU that is faster than tensor operations.

B images a batch · S the side of an image.
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np

from foldsmith.augment.albumentations_file import check_made
from foldsmith.augment.colours import LUMA
from foldsmith.augment.rows import WHOLE, Augmentation, BatchSlice, Draws
from foldsmith.augment.trivial import SMOOTHING, UNCHANGED, UNMOVED, spreading_table

if TYPE_CHECKING:
    import albumentations


# of cv2.flip, by (across, upside down)
FLIP_CODES = {(True, False): 1, (False, True): 0, (True, True): -1}


def augment_batch(
    augmentation: "Augmentation | albumentations.Compose",
    images: np.ndarray,
    seed: int,
    within: BatchSlice = WHOLE,
) -> np.ndarray:
    """Return augmented copies of uint8 images (B, S, S, 3), sampled from `seed` alone.

    The images may be a slice of a batch: they are what they would be in the whole. Only a pipeline of
    albumentations samples a slice from a seed of its own, and knows nothing else of `within`.
    """
    if isinstance(augmentation, Augmentation):
        draws = augmentation.draw_slice(seed, within, len(images), images.shape[1])
        return apply_draws(images, draws, within.side)
    # albumentations 2.0.8 keeps a stream of its own in every process, so it is seeded here: once a batch,
    # which gives the same images in any worker at half the cost of once an image
    augmentation.set_random_seed((seed + within.start) % 2**32)
    augmented = np.empty_like(images)
    for index, image in enumerate(images):
        result = augmentation(image=image)["image"]
        check_made(result, len(image))  # what is sampled may change size or type of some images only
        augmented[index] = result
    return augmented


def apply_draws(images: np.ndarray, draws: Draws, side: int = 0) -> np.ndarray:
    """Return copies of uint8 images (B, S, S, 3), changed by `draws`, in `side` pixels; 0: as they were."""
    augmented = _cut_and_turn(images, draws, side or images.shape[1])
    if draws.colour is not None:
        _recolour(augmented, draws)
    if draws.affine is not None:
        _transform(augmented, draws)
    if draws.erased is not None:
        _erase(augmented, draws)
    return augmented


def _cut_and_turn(images: np.ndarray, draws: Draws, size: int) -> np.ndarray:
    """Crop, resize to `size`, flip and rotate: into a new array."""
    resized = size != images.shape[1] or draws.box is not None
    copied = not resized and draws.angle is None
    augmented = images.copy() if copied else np.empty((len(images), size, size, 3), np.uint8)
    boxes = [None] * len(images) if draws.box is None else draws.box.tolist()
    flips = [(False, False)] * len(images) if draws.flip is None else draws.flip.tolist()
    for index, (box, flip) in enumerate(zip(boxes, flips, strict=True)):
        image = images[index] if box is None else _take(images[index], *box)
        target = augmented[index]
        if draws.angle is not None:
            matrix = _matrix(image.shape, size, *flip, draws.angle[index])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            cv2.warpAffine(image, matrix, (size, size), dst=target, flags=flags)
            continue
        if resized:
            cv2.resize(image, (size, size), dst=target, interpolation=cv2.INTER_LINEAR)
        if any(flip):
            cv2.flip(target, FLIP_CODES[tuple(flip)], dst=target)
    return augmented


def _take(image: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """The part of an image in a box, mirrored where the box goes beyond the image's sides."""
    size = len(image)
    before, after = max(0, -x, -y), max(0, x + width - size, y + height - size)
    if before or after:
        image = cv2.copyMakeBorder(image, before, after, before, after, cv2.BORDER_REFLECT_101)
    return image[y + before : y + before + height, x + before : x + before + width]


def _matrix(part: tuple[int, ...], size: int, across: bool, upside_down: bool, angle: float) -> np.ndarray:
    """From a pixel (x, y) of the result to one of the part, (2, 3): turned back, flipped back, scaled."""
    centre = (size - 1) / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    # y points down, so that this is a turn counter-clockwise
    turn = np.array([[cosine, -sine], [sine, cosine]])
    turn *= np.array([[-1 if across else 1], [-1 if upside_down else 1]])
    scale = np.array([part[1], part[0]]) / size
    matrix = scale[:, None] * turn
    offset = scale * (centre + 0.5) - 0.5 - matrix @ [centre, centre]
    return np.concatenate([matrix, offset[:, None]], axis=1)


def _recolour(images: np.ndarray, draws: Draws) -> None:
    """Multiplies the colours in place, and adds what keeps the mean brightness where contrast changes."""
    for image, colour, lift in zip(images, draws.colour, draws.lift.tolist(), strict=True):
        brightness = float(LUMA @ cv2.mean(image)[:3])
        matrix = np.concatenate([colour, np.full((3, 1), lift * brightness, np.float32)], axis=1)
        cv2.transform(image, matrix, dst=image)


def _erase(images: np.ndarray, draws: Draws) -> None:
    """Fill a box of each image with a colour, in place."""
    for image, (x, y, width, height), fill in zip(images, draws.erased.tolist(), draws.fill, strict=True):
        image[y : y + height, x : x + width] = fill


def _transform(images: np.ndarray, draws: Draws) -> None:
    """TrivialAugment's operations that are no matrix of colours, in place; most images have none of them."""
    size = images.shape[1]
    for index, image in enumerate(images):
        matrix, table = draws.affine[index], draws.table[index]
        sharpness, kind = float(draws.sharpness[index]), int(draws.spread[index])
        if not np.array_equal(matrix, UNMOVED):
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image[:] = cv2.warpAffine(image, matrix, (size, size), flags=flags)
        if sharpness != 1:
            smooth = cv2.filter2D(image, -1, SMOOTHING)
            inner = slice(1, -1), slice(1, -1)  # along its edges an image stays as it is
            image[inner] = cv2.addWeighted(image, sharpness, smooth, 1 - sharpness, 0)[inner]
        if not np.array_equal(table, UNCHANGED):
            image[:] = cv2.LUT(image, table)
        if kind:
            counts = [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)]
            tables = np.stack([spreading_table(kind, each) for each in counts], axis=-1)
            image[:] = cv2.LUT(image, tables[None])
