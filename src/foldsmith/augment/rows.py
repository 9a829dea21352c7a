"""Augmentations by name, and the parameters they sample for a whole batch from one seed.

`host.py` and `device.py` apply the same sampled parameters, so that images are equal to rounding on both; the
edges of rotated images alone fade differently.

B images a batch · S the side of an image.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from foldsmith.augment.albumentations_file import describe_augment, is_pipeline, load_pipeline
from foldsmith.augment.colours import CHROMA, LUMA
from foldsmith.augment.trivial import draw_trivial
from foldsmith.errors import InputError, unknown_name

if TYPE_CHECKING:
    import albumentations

ATTEMPTS = 10  # to sample a box that fits; after them a crop is the whole image, and nothing is erased
# random erasing as in timm: share of the image's area, and ratio of width to height
ERASED_SHARE, ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Draws:
    """Sampled parameters of a batch, in the order they are applied; None disables an operation.

    - `box` int64 (B, 4): crop (x, y, width, height), resized to the size of the result. A shift reaches
      beyond the image, which is reflected there.
    - `flip` (B, 2): horizontal and vertical.
    - `angle` (B,): rotation about the centre in radians, counter-clockwise, filled with black.
    - `colour` (B, 3, 3): multiplies RGB; `widen_colour` says what it does to a fourth channel. `lift` (B,)
      times the image's mean brightness before is added.
    - `affine` (B, 2, 3): maps a pixel (x, y) of the result to one of the image, filled with black.
    - `sharpness` (B,): blends the smoothed image (0) with the image (1).
    - `table` (B, 256): lookup table of grey levels.
    - `spread` (B,): AUTOCONTRAST or EQUALIZE of trivial.py, or 0.
    - `erased` int64 (B, 4): box that is filled with the colour `fill`, uint8 (B, 4), of up to four channels.
    """

    box: np.ndarray | None = None
    flip: np.ndarray | None = None
    angle: np.ndarray | None = None
    colour: np.ndarray | None = None
    lift: np.ndarray | None = None
    affine: np.ndarray | None = None
    sharpness: np.ndarray | None = None
    table: np.ndarray | None = None
    spread: np.ndarray | None = None
    erased: np.ndarray | None = None
    fill: np.ndarray | None = None

    def __getitem__(self, span: slice) -> "Draws":
        """Return the parameters of a slice of the batch."""
        return Draws(**{name: None if value is None else value[span] for name, value in vars(self).items()})


@dataclass(frozen=True)
class BatchSlice:
    """The slice of a batch of `count` images that starts at image `start`; None: the whole batch.

    `side` is the side of the augmented images in pixels; 0: unchanged. `mirrored` (B,) are explicit flips,
    for rows with flips; None samples them.
    """

    start: int = 0
    count: int | None = None
    side: int = 0
    mirrored: np.ndarray | None = None


WHOLE = BatchSlice()


@dataclass(frozen=True)
class Augmentation:
    """Sampling ranges. Shares are of the image's area; 0 or None disables.

    The crop is RandomResizedCrop of albumentations and torchvision (Szegedy et al., Going deeper with
    convolutions, 2014). The colours are their ColorJitter, except that the hue rotates in YIQ.
    """

    crop: tuple[float, float] | None = None  # smallest and largest share of the area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # of the crop's width to its height
    shift: int = 0  # by up to the side divided by this, in both directions
    hflip: bool = False
    vflip: bool = False
    rotation: float = 0.0  # degrees, in both directions
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # of a full turn
    jittered: float = 0.8  # probability of the four above
    trivial: float = 0.0  # strength of TrivialAugment, instead of the four above; 1 is as published
    erase: float = 0.0  # probability of random erasing (Zhong et al., Random Erasing, 2020)

    def draw(self, seed: int, count: int, size: int, side: int = 0) -> Draws:
        """Sample the parameters of a batch of `count` images of `size` pixels, from the seed alone.

        `side` is the size of the result in pixels; 0 keeps the size.
        """
        stream, side = np.random.default_rng(seed), side or size
        draws = {}
        if self.crop or self.shift:
            draws["box"] = self._draw_crops(stream, count, size)
        if self.hflip or self.vflip:
            draws["flip"] = (stream.random((count, 2)) < 0.5) & np.array([self.hflip, self.vflip])
        if self.rotation:
            draws["angle"] = np.radians(stream.uniform(-self.rotation, self.rotation, count))
        if any((self.brightness, self.contrast, self.saturation, self.hue)):
            draws["colour"], draws["lift"] = self._draw_colours(stream, count)
        if self.trivial:
            draws |= draw_trivial(stream, count, side, self.trivial)
        if self.erase:
            boxes, fits = _draw_boxes(stream, count, side, ERASED_SHARE, ERASED_RATIO, side - 1)
            fits &= stream.random(count) < self.erase
            draws["erased"] = np.where(fits[:, None], boxes, 0)
            # the fourth channel's last of all, so that three channels have the colours they had without it
            fill = [stream.integers(256, size=(count, more), dtype=np.uint8) for more in (3, 1)]
            draws["fill"] = np.concatenate(fill, axis=1)
        return Draws(**draws)

    def draw_slice(self, seed: int, within: BatchSlice, length: int, size: int) -> Draws:
        """Return the draws of `length` images of `size` pixels that are a slice of a batch."""
        count = length if within.count is None else within.count
        draws = self.draw(seed, count, size, within.side)[within.start : within.start + length]
        if within.mirrored is None or not self.hflip or draws.flip is None:
            return draws
        return replace(draws, flip=np.stack([within.mirrored, draws.flip[:, 1]], axis=1))

    def _draw_crops(self, stream: np.random.Generator, count: int, size: int) -> np.ndarray:
        """Return the boxes (x, y, width, height) of crops, or of shifts, int64 (count, 4)."""
        if self.crop:
            boxes, fits = _draw_boxes(stream, count, size, self.crop, self.ratio, size)
            return np.where(fits[:, None], boxes, [0, 0, size, size])
        corners = stream.integers(-(size // self.shift), size // self.shift, (count, 2), endpoint=True)
        return np.concatenate([corners, np.full((count, 2), size)], axis=1)

    def _draw_colours(self, stream: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample brightness, contrast, saturation and hue as one matrix an image, and its `lift`.

        The four commute, except for clipping in between.
        """
        jittered = stream.random(count) < self.jittered
        spans = (self.brightness, self.contrast, self.saturation)
        factors = [1 + jittered * stream.uniform(-span, span, count) for span in spans]
        brightness, contrast, saturation = (factor[:, None, None] for factor in factors)
        angle = 2 * np.pi * jittered * stream.uniform(-self.hue, self.hue, count)
        cosine, sine = np.cos(angle), np.sin(angle)
        rotation = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)  # (B, 2, 2)
        to_yiq = np.concatenate([LUMA[None], CHROMA])
        from_yiq = np.linalg.inv(to_yiq)
        grey = from_yiq[:, :1] @ to_yiq[:1]  # (3, 3), the grey image
        coloured = from_yiq[:, 1:] @ rotation @ to_yiq[1:]  # (B, 3, 3)
        colour = brightness * contrast * (grey + saturation * coloured)
        return colour.astype(np.float32), (factors[0] * (1 - factors[1])).astype(np.float32)


def _draw_boxes(
    stream: np.random.Generator,
    count: int,
    size: int,
    share: tuple[float, float],
    ratio: tuple[float, float],
    longest: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample boxes (x, y, width, height) int64 (B, 4), and whether each one fits (B,).

    Each is the first of ATTEMPTS whose sides are at most `longest`.
    """
    area = stream.uniform(*share, (count, ATTEMPTS)) * size**2
    aspect = np.exp(stream.uniform(math.log(ratio[0]), math.log(ratio[1]), (count, ATTEMPTS)))
    sides = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=-1).round().astype(np.int64)
    fits = ((sides >= 1) & (sides <= longest)).all(axis=-1)  # (B, ATTEMPTS)
    chosen = sides[np.arange(count), fits.argmax(axis=1)]
    corners = (stream.random((count, 2)) * (size - chosen + 1)).astype(np.int64)
    return np.concatenate([corners, chosen], axis=1), fits.any(axis=1)


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(hflip=True),
    "shift-flip": Augmentation(crop=(0.6, 1.0), ratio=(0.8, 1.25), hflip=True),
    # shifts by up to an eighth of the side, for small images
    "pad-crop-flip": Augmentation(shift=8, hflip=True),
    # by up to a sixteenth: with few epochs a network learns more from images that are shifted less
    "slight-shift-flip": Augmentation(shift=16, hflip=True),
    "crop-flip": Augmentation(crop=(0.35, 1.0), hflip=True),
    "photo": Augmentation(
        crop=(0.35, 1.0), hflip=True, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05
    ),
    # for small images and for photographs
    "trivial": Augmentation(shift=8, hflip=True, trivial=1.0),
    "trivial-crop": Augmentation(crop=(0.35, 1.0), hflip=True, trivial=1.0),
    "study-resnet": Augmentation(crop=(0.08, 1.0), hflip=True, vflip=True, rotation=90.0),  # study 1
}


def build_augmentation(
    name: str, size: int, erase: float = 0.0, strength: float = 1.0, channels: int = 3
) -> "Augmentation | albumentations.Compose":
    """Return a row of AUGMENTATIONS, or a pipeline from its text or file.

    `erase` sets a row's probability of random erasing, `strength` scales its TrivialAugment. Raise InputError
    for an unknown name, for a pipeline that does not keep uint8 (size, size, channels), and for one with
    `erase`.
    """
    if is_pipeline(name):
        if erase:
            raise InputError(
                f"erase={erase} is for rows of AUGMENTATIONS; --set erase=0, and add a CoarseDropout to "
                f"{describe_augment(name)} instead."
            )
        return load_pipeline(name, size, channels)
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, [*AUGMENTATIONS, "FILE.json"])
    row = AUGMENTATIONS[name]
    return replace(row, erase=erase, trivial=strength * row.trivial)
