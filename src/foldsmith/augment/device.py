"""Augmentation of whole batches as tensor operations, where the pixels lie on the device.

What was drawn becomes a list of edits, on the host: operations, and their numbers. That can be done ahead, by
a thread; what is left for the device are few operations.

B images a batch · S the side of an image.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch.nn.functional import conv2d, grid_sample

from foldsmith.augment.colours import LUMA
from foldsmith.augment.rows import Draws
from foldsmith.augment.trivial import EQUALIZE, SMOOTHING, UNCHANGED, UNMOVED

# an operation, which takes images (B, 3, S, S), float32 from 0 to 255, and numbers; and these, on the host
Edit = tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]
Places = TypeVar("Places", np.ndarray, torch.Tensor)


def apply_draws(images: torch.Tensor, draws: Draws, side: int = 0) -> torch.Tensor:
    """What was drawn, done to uint8 images (B, S, S, 3): float32 (B, S, S, 3), from 0 to 255.

    They are made in `side` pixels; 0: as large as they were.
    """
    return apply_edits(images, edits_of(draws, images.shape[1], side))


def edits_of(draws: Draws, source: int, side: int = 0) -> list[Edit]:
    """What was drawn for images of `source` pixels, made in `side` pixels; 0: as large as they were.

    Crops, shifts, resizing, flips and turns are one bilinear sampling.
    """
    size, edits = side or source, list[Edit]()
    boxes = np.array([[0, 0, source, source]]) if draws.box is None else draws.box
    flips = np.array([[False, False]]) if draws.flip is None else draws.flip
    if draws.angle is not None:
        per_image = np.broadcast_arrays(np.cos(draws.angle), np.sin(draws.angle), *flips.T, *boxes.T)
        edits.append((partial(_turned, size=size), tuple(map(_numbers, per_image))))
    elif draws.box is not None or size != source:
        places = (_along(axis, boxes, flips, source, size) for axis in (0, 1))
        edits.append((_sampled, tuple(map(_numbers, places))))
    elif draws.flip is not None:
        edits.append((_mirrored, tuple(map(_numbers, flips.T))))
    if draws.colour is not None:
        edits.append((_recolour, (_numbers(draws.colour), _numbers(draws.lift), _numbers(LUMA))))
    if draws.affine is not None:
        edits += _trivial_edits(draws)
    if draws.erased is not None:
        edits.append((_erase, (*map(_numbers, draws.erased.T), _numbers(draws.fill))))
    return edits


def pinned(edits: Iterable[Edit]) -> list[Edit]:
    """The edits with their numbers where a GPU can fetch them while the host goes on."""
    return [(operation, tuple(each.pin_memory() for each in numbers)) for operation, numbers in edits]


def apply_edits(images: torch.Tensor, edits: Iterable[Edit]) -> torch.Tensor:
    """Edits done to uint8 images (B, S, S, 3): float32 (B, S, S, 3), from 0 to 255."""
    made = images.permute(0, 3, 1, 2).float()  # (B, S, S, 3) -> (B, 3, S, S)
    for operation, numbers in edits:
        made = operation(made, *(each.to(made.device, non_blocking=True) for each in numbers))
    return made.permute(0, 2, 3, 1)


def _numbers(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _along(axis: int, boxes: np.ndarray, flips: np.ndarray, source: int, size: int) -> np.ndarray:
    """Where the pixels of the result lie in the images, along an axis (0: across): float32 (B or 1, S)."""
    start, length = boxes[:, axis, None].astype(np.float32), boxes[:, 2 + axis, None].astype(np.float32)
    place = np.arange(size, dtype=np.float32)
    place = np.where(flips[:, axis, None], size - 1 - place, place)
    return _within(place, start, length, size, source)


def _sampled(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The images at these columns and rows, each (B or 1, S)."""
    count, size = len(images), x.shape[1]
    return _sample(images, x[:, None, :].expand(count, size, size), y[:, :, None].expand(count, size, size))


def _turned(images: torch.Tensor, *per_image: torch.Tensor, size: int) -> torch.Tensor:
    """Cropped or shifted, resized, flipped, and turned about the centre, to `size` pixels.

    `per_image` are numbers (B,): cosine and sine, flips across and upside down, and the box.
    """
    source, centre = images.shape[-1], (size - 1) / 2
    cosine, sine, across, upside_down, left, top, width, height = (each.view(-1, 1, 1) for each in per_image)
    place = torch.arange(size, device=images.device, dtype=torch.float32)
    x, y = place.view(1, 1, -1) - centre, place.view(1, -1, 1) - centre
    x, y = cosine * x - sine * y + centre, sine * x + cosine * y + centre  # (B, S, S)
    inside = (x >= -0.5) & (x <= size - 0.5) & (y >= -0.5) & (y <= size - 0.5)
    x, y = x + across * (size - 1 - 2 * x), y + upside_down * (size - 1 - 2 * y)
    x, y = _within(x, left, width, size, source), _within(y, top, height, size, source)
    return _sample(images, x, y) * inside.unsqueeze(1)


def _mirrored(images: torch.Tensor, across: torch.Tensor, upside_down: torch.Tensor) -> torch.Tensor:
    images = torch.where(across.bool().view(-1, 1, 1, 1), images.flip(3), images)
    return torch.where(upside_down.bool().view(-1, 1, 1, 1), images.flip(2), images)


def _sample(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The images at these pixels (B, S, S), bilinear; beyond the sides as at them."""
    grid = torch.stack([x, y], dim=-1) * (2 / max(images.shape[-1] - 1, 1)) - 1  # (B, S, S, 2)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _within(place: Places, start: Places, length: Places, size: int, source: int) -> Places:
    """From `size` pixels of the result to pixels of the image, in a box that it fills.

    The box is mirrored at the sides of the image, of `source` pixels.

    No sample reaches beyond the box: a crop is cut out before it is made larger.
    """
    place = (start + (place + 0.5) * length / size - 0.5).clip(start, start + length - 1)
    last = source - 1
    return last - abs(last - abs(place))


def _recolour(
    images: torch.Tensor, colour: torch.Tensor, lift: torch.Tensor, luma: torch.Tensor
) -> torch.Tensor:
    """As on the host: a matrix an image, and what keeps the mean brightness where contrast changes."""
    pixels = images.flatten(2)  # (B, 3, S * S)
    means = pixels.mean(dim=2) @ luma  # (B,)
    made = torch.baddbmm((lift * means).view(-1, 1, 1), colour, pixels)
    return made.clamp(0, 255).view(images.shape)


def _trivial_edits(draws: Draws) -> list[Edit]:
    """TrivialAugment's operations that are no matrix of colours, each on the images that have it."""
    edits = []
    for operation, drawn, neutral, *constants in (
        (_move, draws.affine, UNMOVED),
        (_sharpen, draws.sharpness, 1.0, SMOOTHING),
        (_look_up, draws.table, UNCHANGED),
        (_spread, draws.spread, 0),
    ):
        chosen = np.flatnonzero((drawn != neutral).any(axis=tuple(range(1, drawn.ndim))))
        if len(chosen):
            numbers = torch.from_numpy(chosen), *map(_numbers, (drawn[chosen], *constants))
            edits.append((partial(_on_some, operation), numbers))
    return edits


def _on_some(
    operation: Callable[..., torch.Tensor],
    images: torch.Tensor,
    chosen: torch.Tensor,
    *numbers: torch.Tensor,
) -> torch.Tensor:
    """Done to the chosen images, in place."""
    images[chosen] = operation(images[chosen], *numbers)
    return images


def _move(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Sheared, shifted or turned by matrices (B, 2, 3); black where that opens the image."""
    size = images.shape[-1]
    place = torch.arange(size, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    x, y = torch.einsum("bij,jhw->ibhw", matrix, torch.stack([x, y, torch.ones_like(x)]))
    inside = (x >= -0.5) & (x <= size - 0.5) & (y >= -0.5) & (y <= size - 0.5)
    return _sample(images, x, y) * inside.unsqueeze(1)


def _sharpen(images: torch.Tensor, sharpness: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    smooth, made = conv2d(images, kernel.expand(3, 1, 3, 3), padding=1, groups=3), images.clone()
    factor, inner = sharpness.view(-1, 1, 1, 1), (..., slice(1, -1), slice(1, -1))
    # along its edges an image stays as it is
    made[inner] = (factor * images + (1 - factor) * smooth).clamp(0, 255)[inner]
    return made


def _look_up(images: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """New grey levels by tables (B, 256), or (B, 3, 256) with one for each channel."""
    levels = images.round().long().flatten(2)  # (B, 3, S * S)
    table = table.view(len(table), -1, 256).expand(-1, 3, -1)
    return table.gather(2, levels).view(images.shape)


def _spread(images: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
    """Autocontrast or equalize, as spreading_table."""
    levels = images.round().long().flatten(2)  # (B, 3, S * S)
    counts = levels.new_zeros((*levels.shape[:2], 256)).scatter_add_(2, levels, torch.ones_like(levels))
    low, high = levels.amin(dim=2, keepdim=True), levels.amax(dim=2, keepdim=True)
    all_levels = torch.arange(256, device=images.device).expand(counts.shape)
    stretched = ((all_levels - low) * 255 // (high - low).clamp(min=1)).clamp(0, 255)
    stretched = torch.where(high > low, stretched, all_levels)
    step = (levels.shape[2] - counts.gather(2, high)) // 255
    equal = ((counts.cumsum(dim=2) - counts + step // 2) // step.clamp(min=1)).clamp(max=255)
    equal = torch.where(step > 0, equal, all_levels)
    return _look_up(images, torch.where(kind.view(-1, 1, 1) == EQUALIZE, equal, stretched).float())


def _erase(
    images: torch.Tensor,
    left: torch.Tensor,
    top: torch.Tensor,
    width: torch.Tensor,
    height: torch.Tensor,
    fill: torch.Tensor,
) -> torch.Tensor:
    """Fills a box of each image with its colour."""
    place = torch.arange(images.shape[-1], device=images.device)
    left, top, right, bottom = (each.view(-1, 1) for each in (left, top, left + width, top + height))
    across, down = (place >= left) & (place < right), (place >= top) & (place < bottom)
    inside = (down[:, :, None] & across[:, None, :]).unsqueeze(1)  # (B, 1, S, S)
    return torch.where(inside, fill.view(-1, 3, 1, 1), images)
