"""Augmentation on the host, image by image, by OpenCV, which is faster on a CPU than tensor operations.

B images a batch · S the side of an image · C its channels, 3 or 4.
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np

from foldsmith.augment.albumentations_file import apply_pipeline
from foldsmith.augment.colours import LUMA, widen_colour
from foldsmith.augment.rows import WHOLE, Augmentation, BatchSlice, Draws
from foldsmith.augment.trivial import SMOOTHING, UNCHANGED, UNMOVED, contrast_table

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
    """Return augmented copies of uint8 images (B, S, S, C), sampled from `seed` alone.

    The images may be a slice of a batch, such as one rank's share: a row of AUGMENTATIONS treats them as in
    the whole batch. A pipeline samples a slice from a seed of its own, and ignores the rest of `within`.
    """
    if isinstance(augmentation, Augmentation):
        draws = augmentation.draw_slice(seed, within, len(images), images.shape[1])
        return apply_draws(images, draws, within.side)
    return apply_pipeline(augmentation, images, seed + within.start)


def apply_draws(images: np.ndarray, draws: Draws, side: int = 0) -> np.ndarray:
    """Return copies of uint8 images (B, S, S, C), changed by `draws`, in `side` pixels; 0: as they were."""
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
    augmented = images.copy() if copied else np.empty((len(images), size, size, images.shape[3]), np.uint8)
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
    """Crop a box from an image; beyond the border the image is reflected."""
    size = len(image)
    before, after = max(0, -x, -y), max(0, x + width - size, y + height - size)
    if before or after:
        image = cv2.copyMakeBorder(image, before, after, before, after, cv2.BORDER_REFLECT_101)
    return image[y + before : y + before + height, x + before : x + before + width]


def _matrix(crop: tuple[int, ...], size: int, hflip: bool, vflip: bool, angle: float) -> np.ndarray:
    """Return the matrix (2, 3) from a pixel (x, y) of the result to one of the crop: rotate, flip, scale."""
    centre = (size - 1) / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    # y points down, so that this rotates counter-clockwise
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    rotation *= np.array([[-1 if hflip else 1], [-1 if vflip else 1]])
    scale = np.array([crop[1], crop[0]]) / size
    matrix = scale[:, None] * rotation
    offset = scale * (centre + 0.5) - 0.5 - matrix @ [centre, centre]
    return np.concatenate([matrix, offset[:, None]], axis=1)


def _recolour(images: np.ndarray, draws: Draws) -> None:
    """Multiply channels by a matrix an image, and add `lift` times its mean brightness, in place."""
    colours = widen_colour(draws.colour, images.shape[3])
    for image, colour, lift in zip(images, colours, draws.lift.tolist(), strict=True):
        brightness = float(LUMA @ cv2.mean(image)[:3])
        matrix = np.concatenate([colour, np.full((len(colour), 1), lift * brightness, np.float32)], axis=1)
        cv2.transform(image, matrix, dst=image)


def _erase(images: np.ndarray, draws: Draws) -> None:
    """Fill a box of each image with a colour, in place: of all channels, which show one thing."""
    fills = draws.fill[:, : images.shape[3]]
    for image, (x, y, width, height), fill in zip(images, draws.erased.tolist(), fills, strict=True):
        image[y : y + height, x : x + width] = fill


def _transform(images: np.ndarray, draws: Draws) -> None:
    """Apply TrivialAugment's operations other than colour matrices, in place; most images have none.

    All act on every channel: shears and the like move the whole image, and the other operations are defined
    for one channel, whatever it shows.
    """
    size = images.shape[1]
    for index, image in enumerate(images):
        matrix, table = draws.affine[index], draws.table[index]
        sharpness, kind = float(draws.sharpness[index]), int(draws.spread[index])
        if not np.array_equal(matrix, UNMOVED):
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image[:] = cv2.warpAffine(image, matrix, (size, size), flags=flags)
        if sharpness != 1:
            smooth = cv2.filter2D(image, -1, SMOOTHING)
            inner = slice(1, -1), slice(1, -1)  # Pillow keeps the outermost pixels
            image[inner] = cv2.addWeighted(image, sharpness, smooth, 1 - sharpness, 0)[inner]
        if not np.array_equal(table, UNCHANGED):
            image[:] = cv2.LUT(image, table)
        if kind:
            counts = [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(image, -1, 0)]
            tables = np.stack([contrast_table(kind, histogram) for histogram in counts], axis=-1)
            image[:] = cv2.LUT(image, tables[None])
