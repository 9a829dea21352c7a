"""Augmentation on the host, image by image, by OpenCV, which is faster on a CPU than tensor operations.

B images a batch · S the side of an image.
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np

from foldsmith.augment.albumentations_file import apply_pipeline
from foldsmith.augment.colours import LUMA
from foldsmith.augment.rows import Augmentation, Draws
from foldsmith.augment.trivial import SMOOTHING, UNCHANGED, UNMOVED, contrast_table

if TYPE_CHECKING:
    import albumentations


def augment_batch(
    augmentation: "Augmentation | albumentations.Compose",
    images: np.ndarray,
    seed: int,
    start: int = 0,
    count: int | None = None,
    side: int = 0,
    mirrored: np.ndarray | None = None,
) -> np.ndarray:
    """Return augmented copies of uint8 images (B, S, S, 3), which depend on `seed` and `mirrored` alone.

    `side` is the size of the result in pixels; 0 keeps the size. `mirrored` (B,) are explicit flip flags;
    None samples them. The images may be one rank's share of a batch of `count`, from its image `start` on: a
    row of AUGMENTATIONS treats them as in the whole batch, a pipeline samples them from `seed + start`.
    """
    if isinstance(augmentation, Augmentation):
        count = len(images) if count is None else count
        part = slice(start, start + len(images))
        draws = augmentation.draw_part(seed, part, count, images.shape[1], side, mirrored)
        return apply_draws(images, draws, side)
    return apply_pipeline(augmentation, images, seed + start)


def apply_draws(images: np.ndarray, draws: Draws, side: int = 0) -> np.ndarray:
    """Return augmented copies of uint8 images (B, S, S, 3), of `side` pixels; 0 keeps the size."""
    size = side or images.shape[1]
    resized = size != images.shape[1] or draws.box is not None
    whole = not resized and draws.angle is None
    made = images.copy() if whole else np.empty((len(images), size, size, 3), np.uint8)
    boxes = [None] * len(images) if draws.box is None else draws.box.tolist()
    flips = [(False, False)] * len(images) if draws.flip is None else draws.flip.tolist()
    for index, (box, (across, upside_down)) in enumerate(zip(boxes, flips, strict=True)):
        part = images[index] if box is None else _take(images[index], *box)
        target = made[index]
        if draws.angle is not None:
            matrix = _matrix(part.shape, size, across, upside_down, draws.angle[index])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            cv2.warpAffine(part, matrix, (size, size), dst=target, flags=flags)
            continue
        if resized:
            cv2.resize(part, (size, size), dst=target, interpolation=cv2.INTER_LINEAR)
        if across or upside_down:
            cv2.flip(target, -1 if across and upside_down else 0 if upside_down else 1, dst=target)
    if draws.colour is not None:
        _recolour(made, draws)
    if draws.affine is not None:
        _transform(made, draws)
    if draws.erased is not None:
        for image, (x, y, width, height), fill in zip(made, draws.erased.tolist(), draws.fill, strict=True):
            image[y : y + height, x : x + width] = fill
    return made


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
    """Multiply RGB by a matrix an image, and add `lift` times its mean brightness, in place."""
    for image, colour, lift in zip(images, draws.colour, draws.lift.tolist(), strict=True):
        brightness = float(LUMA @ cv2.mean(image)[:3])
        matrix = np.concatenate([colour, np.full((3, 1), lift * brightness, np.float32)], axis=1)
        cv2.transform(image, matrix, dst=image)


def _transform(images: np.ndarray, draws: Draws) -> None:
    """Apply TrivialAugment's operations other than colour matrices, in place; most images have none."""
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
            counts = [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)]
            tables = np.stack([contrast_table(kind, histogram) for histogram in counts], axis=-1)
            image[:] = cv2.LUT(image, tables[None])
