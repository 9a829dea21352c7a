"""Augmentations by name, and what is drawn for a whole batch from one seed.

Draws are numbers alone: `augment_host.py` and `augment_device.py` both carry them out, so that images are the
same, to rounding, wherever that is done; only along the edges of what is turned do they fade differently.

B images a batch · S the side of an image.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from foldsmith.augment.albumentations_file import load_pipeline, pipeline_file
from foldsmith.augment.colours import CHROMA, LUMA
from foldsmith.augment.trivial import draw_trivial
from foldsmith.errors import InputError, unknown_name

if TYPE_CHECKING:
    import albumentations

ATTEMPTS = 10  # at a box that fits; then the whole image is taken, or nothing erased
# of random erasing, as timm's: of the image's area, and of the box's width to its height
ERASED_SHARE, ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Draws:
    """What happens to each image of a batch, in this order; None: to none of them.

    `box` (x, y, width, height) is the part that is taken and made as large as the image, int64 (B, 4); beyond
    the image's sides, which only a shift reaches, it is mirrored. `flip` (B, 2) is across and upside down.
    `angle` (B,) turns about the centre, in radians, counter-clockwise; corners that opens are black. `colour`
    (B, 3, 3) multiplies RGB, and `lift` (B,) times the mean brightness of the image as it came is added.
    `affine` (B, 2, 3) is from a pixel (x, y) of the result to one of the image; what lies outside is black.
    `sharpness` (B,) blends with the smoothed image: 0 is that, 1 the image as it is. `table` (B, 256) gives
    each grey level its new one; `spread` (B,) is trivial_augment's AUTOCONTRAST or EQUALIZE, or 0. The part
    in the box `erased`, int64 (B, 4), takes the colour `fill`, uint8 (B, 3).
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

    def __getitem__(self, part: slice) -> "Draws":
        """The draws of a part of the batch."""
        return Draws(**{name: None if drawn is None else drawn[part] for name, drawn in vars(self).items()})


@dataclass(frozen=True)
class BatchSlice:
    """Which images of a batch of `count` these are, from its image `start` on; None: they are all of it.

    They are made in `side` pixels; 0: as large as they are. `mirrored` (B,) are explicit flips, for rows that
    flip; None samples them.
    """

    start: int = 0
    count: int | None = None
    side: int = 0
    mirrored: np.ndarray | None = None


WHOLE = BatchSlice()


@dataclass(frozen=True)
class Augmentation:
    """Sampling ranges. Shares are of the image's area, or of 1; 0 or None disables.

    The crop is albumentations' and torchvision's RandomResizedCrop (after Szegedy et al., Going deeper with
    convolutions, 2014), the colours are their ColorJitter, but for the hue, which turns in YIQ.
    """

    crop: tuple[float, float] | None = None  # least and largest share of the area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # of the crop's width to its height
    shift: int = 0  # by up to the side divided by this, each way
    hflip: bool = False
    vflip: bool = False
    rotation: float = 0.0  # degrees, each way
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # of a full turn
    jittered: float = 0.8  # share of the images whose colours change, where they do at all
    trivial: float = 0.0  # TrivialAugment's strength, in place of the four above; 1: as published
    erase: float = 0.0  # share of the images of which a box is erased (Zhong et al., Random Erasing, 2020)

    def draw(self, seed: int, count: int, size: int, side: int = 0) -> Draws:
        """Return the draws of a batch of `count` images of `size` pixels, from the seed alone.

        They make images of `side` pixels; 0: as large as they were.
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
            draws["fill"] = stream.integers(256, size=(count, 3), dtype=np.uint8)
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
        """The four changes as one matrix an image: they commute, but for what is clipped in between."""
        jittered = stream.random(count) < self.jittered
        spans = (self.brightness, self.contrast, self.saturation)
        factors = [1 + jittered * stream.uniform(-span, span, count) for span in spans]
        brightness, contrast, saturation = (factor[:, None, None] for factor in factors)
        turn = 2 * np.pi * jittered * stream.uniform(-self.hue, self.hue, count)
        cosine, sine = np.cos(turn), np.sin(turn)
        turns = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)  # (B, 2, 2)
        to_yiq = np.concatenate([LUMA[None], CHROMA])
        from_yiq = np.linalg.inv(to_yiq)
        grey = from_yiq[:, :1] @ to_yiq[:1]  # (3, 3), what is left of a picture without colours
        coloured = from_yiq[:, 1:] @ turns @ to_yiq[1:]  # (B, 3, 3)
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
    """Boxes (x, y, width, height) int64 (B, 4), of ATTEMPTS at each the first that fits; and if any did (B,).

    It fits if its sides are no longer than `longest`.
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
    # shifts by up to an eighth of the side: what small images can bear
    "pad-crop-flip": Augmentation(shift=8, hflip=True),
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
    name: str, size: int, erase: float = 0.0, strength: float = 1.0
) -> "Augmentation | albumentations.Compose":
    """A row of AUGMENTATIONS, or the pipeline that `albumentations.save` wrote into the file of that name.

    A row erases a box in the share `erase` of the images, and has the share `strength` of its
    TrivialAugment, if it has any. Raises InputError for an unknown name, and for a pipeline that does not
    give uint8 (size, size, 3), or is to erase.
    """
    file = pipeline_file(name)
    if file:
        if erase:
            raise InputError(f"erase={erase} is for rows of AUGMENTATIONS; erase in {name} itself.")
        return load_pipeline(file, size)
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, [*AUGMENTATIONS, "FILE.json"])
    row = AUGMENTATIONS[name]
    return replace(row, erase=erase, trivial=strength * row.trivial)
