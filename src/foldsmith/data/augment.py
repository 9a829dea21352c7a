"""Augmentations by name, and a whole batch drawn from one seed."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from foldsmith.errors import unknown_name

if TYPE_CHECKING:
    import albumentations

# Every row takes the image size (pixels) and the albumentations module, and gives the transforms in order.
# They see and return uint8 RGB of that size; normalisation comes after them, on the device.
AUGMENTATIONS: dict[str, Callable[[int, Any], list]] = {
    "none": lambda size, A: [],
    "flip": lambda size, A: [A.HorizontalFlip()],
    "shift-flip": lambda size, A: [
        A.RandomResizedCrop((size, size), scale=(0.6, 1.0), ratio=(0.8, 1.25)),
        A.HorizontalFlip(),
    ],
    # shifts by up to an eighth of the side: what small images can bear
    "pad-crop-flip": lambda size, A: [
        A.PadIfNeeded(size + 2 * (size // 8), size + 2 * (size // 8), border_mode=cv2.BORDER_REFLECT_101),
        A.RandomCrop(size, size),
        A.HorizontalFlip(),
    ],
    "crop-flip": lambda size, A: [
        A.RandomResizedCrop((size, size), scale=(0.35, 1.0)),
        A.HorizontalFlip(),
    ],
    "photo": lambda size, A: [
        A.RandomResizedCrop((size, size), scale=(0.35, 1.0)),
        A.HorizontalFlip(),
        A.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, p=0.8),
    ],
    # study 1, geometry before normalisation; corners that a rotation opens are black
    "study-resnet": lambda size, A: [
        A.RandomResizedCrop((size, size)),
        A.HorizontalFlip(),
        A.VerticalFlip(),
        A.Rotate(limit=90, p=1.0),
    ],
}


def build_augmentation(name: str, size: int) -> "albumentations.Compose":
    """The pipeline of a row of AUGMENTATIONS. Raises InputError for an unknown name."""
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    # read while albumentations is imported: it must not ask the network for newer versions of itself
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations.Compose(AUGMENTATIONS[name](size, albumentations))


def augment_batch(augmentation: "albumentations.Compose", images: np.ndarray, seed: int) -> np.ndarray:
    """Augmented copies of uint8 images (B, H, W, 3), drawn from `seed` alone.

    albumentations 2.0.8 keeps a stream of its own in every process, so it is seeded here: once a batch,
    which gives the same images in any worker at half the cost of once an image.
    """
    augmentation.set_random_seed(seed % 2**32)
    augmented = np.empty_like(images)
    for index, image in enumerate(images):
        augmented[index] = augmentation(image=image)["image"]
    return augmented
