"""Augmentation of whole batches as tensor operations, for pixels that lie on the device.

The sampled parameters are compiled into (operation, tensors) pairs on the host, which a background thread can
do ahead of the training step. The device then runs a few operations a batch.

B images a batch · S the side of an image · C its channels, 3 or 4. What an operation does to a fourth channel
is as on the host (`host.py`).
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch.nn.functional import conv2d, grid_sample

from foldsmith.augment.colours import widen_colour, widen_luma
from foldsmith.augment.rows import Draws
from foldsmith.augment.trivial import EQUALIZE, SMOOTHING, UNCHANGED, UNMOVED

# a function of images (B, C, S, S), float32 from 0 to 255, and of tensors; and these tensors, on the host
Operation = tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]
Coordinates = TypeVar("Coordinates", np.ndarray, torch.Tensor)


def apply_draws(images: torch.Tensor, draws: Draws, side: int = 0) -> torch.Tensor:
    """Return uint8 images (B, S, S, C) augmented: float32 (B, S, S, C), from 0 to 255.

    `side` is the size of the result in pixels; 0 keeps the size of the images.
    """
    return apply_operations(images, compile_operations(draws, images.shape[1], side, images.shape[3]))


def compile_operations(draws: Draws, source: int, side: int = 0, channels: int = 3) -> list[Operation]:
    """Return the operations for images of `source` pixels and results of `side` pixels; 0 keeps the size.

    Crop, shift, resize, flip and rotation are one bilinear sampling.
    """
    size, operations = side or source, list[Operation]()
    boxes = np.array([[0, 0, source, source]]) if draws.box is None else draws.box
    flips = np.array([[False, False]]) if draws.flip is None else draws.flip
    if draws.angle is not None:
        per_image = np.broadcast_arrays(np.cos(draws.angle), np.sin(draws.angle), *flips.T, *boxes.T)
        operations.append((partial(_rotate, size=size), tuple(map(_tensor, per_image))))
    elif draws.box is not None or size != source:
        coordinates = (_source_coordinates(axis, boxes, flips, source, size) for axis in (0, 1))
        operations.append((_resample, tuple(map(_tensor, coordinates))))
    elif draws.flip is not None:
        operations.append((_flip, tuple(map(_tensor, flips.T))))
    if draws.colour is not None:
        matrices = _tensor(widen_colour(draws.colour, channels)), _tensor(draws.lift)
        operations.append((_recolour, (*matrices, _tensor(widen_luma(channels)))))
    if draws.affine is not None:
        operations += _trivial_operations(draws)
    if draws.erased is not None:
        operations.append((_erase, (*map(_tensor, draws.erased.T), _tensor(draws.fill[:, :channels]))))
    return operations


def pin_operations(operations: Iterable[Operation]) -> list[Operation]:
    """Return the operations with their tensors in pinned memory, which a GPU copies asynchronously."""
    return [(apply, tuple(tensor.pin_memory() for tensor in tensors)) for apply, tensors in operations]


def apply_operations(images: torch.Tensor, operations: Iterable[Operation]) -> torch.Tensor:
    """Return uint8 images (B, S, S, C) after all operations: float32 (B, S, S, C), from 0 to 255."""
    batch = images.permute(0, 3, 1, 2).float()  # (B, S, S, C) -> (B, C, S, S)
    for operation, tensors in operations:
        batch = operation(batch, *(tensor.to(batch.device, non_blocking=True) for tensor in tensors))
    return batch.permute(0, 2, 3, 1)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _source_coordinates(
    axis: int, boxes: np.ndarray, flips: np.ndarray, source: int, size: int
) -> np.ndarray:
    """Return the source coordinate of every pixel along an axis (0: x, 1: y): float32 (B or 1, S)."""
    start, length = boxes[:, axis, None].astype(np.float32), boxes[:, 2 + axis, None].astype(np.float32)
    target = np.arange(size, dtype=np.float32)
    target = np.where(flips[:, axis, None], size - 1 - target, target)
    return _to_source(target, start, length, size, source)


def _resample(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sample the images at columns `x` and rows `y`, (B or 1, S) both."""
    count, size = len(images), x.shape[1]
    return _bilinear(images, x[:, None, :].expand(count, size, size), y[:, :, None].expand(count, size, size))


def _rotate(images: torch.Tensor, *per_image: torch.Tensor, size: int) -> torch.Tensor:
    """Crop or shift, resize, flip, then rotate about the centre, to `size` pixels.

    `per_image` (B,): cosine and sine of the angle, horizontal and vertical flip, and the box.
    """
    source, centre = images.shape[-1], (size - 1) / 2
    cosine, sine, hflip, vflip, left, top, width, height = (values.view(-1, 1, 1) for values in per_image)
    target = torch.arange(size, device=images.device, dtype=torch.float32)
    x, y = target.view(1, 1, -1) - centre, target.view(1, -1, 1) - centre
    x, y = cosine * x - sine * y + centre, sine * x + cosine * y + centre  # (B, S, S)
    inside = (x >= -0.5) & (x <= size - 0.5) & (y >= -0.5) & (y <= size - 0.5)
    x, y = x + hflip * (size - 1 - 2 * x), y + vflip * (size - 1 - 2 * y)
    x, y = _to_source(x, left, width, size, source), _to_source(y, top, height, size, source)
    return _bilinear(images, x, y) * inside.unsqueeze(1)


def _flip(images: torch.Tensor, hflip: torch.Tensor, vflip: torch.Tensor) -> torch.Tensor:
    images = torch.where(hflip.bool().view(-1, 1, 1, 1), images.flip(3), images)
    return torch.where(vflip.bool().view(-1, 1, 1, 1), images.flip(2), images)


def _bilinear(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sample the images at pixel coordinates (B, S, S); beyond the border the border's value counts."""
    grid = torch.stack([x, y], dim=-1) * (2 / max(images.shape[-1] - 1, 1)) - 1  # (B, S, S, 2)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _to_source(
    target: Coordinates, start: Coordinates, length: Coordinates, size: int, source: int
) -> Coordinates:
    """Map coordinates of the result, of `size` pixels, to those of the image, of `source` pixels.

    The box from `start`, `length` pixels long, fills the result. Coordinates are clipped to the box, as if it
    were cropped before it is resized. Beyond the image they are reflected.
    """
    inside = (start + (target + 0.5) * length / size - 0.5).clip(start, start + length - 1)
    last = source - 1
    return last - abs(last - abs(inside))


def _recolour(
    images: torch.Tensor, colour: torch.Tensor, lift: torch.Tensor, luma: torch.Tensor
) -> torch.Tensor:
    """Multiply channels by a matrix an image, and add `lift` times its mean brightness, as on the host."""
    pixels = images.flatten(2)  # (B, C, S * S)
    means = pixels.mean(dim=2) @ luma  # (B,)
    changed = torch.baddbmm((lift * means).view(-1, 1, 1), colour, pixels)
    return changed.clamp(0, 255).view(images.shape)


def _trivial_operations(draws: Draws) -> list[Operation]:
    """Return TrivialAugment's operations other than colour matrices, each for the images that sampled it."""
    operations = []
    for operation, values, neutral, *constants in (
        (_warp, draws.affine, UNMOVED),
        (_sharpen, draws.sharpness, 1.0, SMOOTHING),
        (_look_up, draws.table, UNCHANGED),
        (_autocontrast_or_equalize, draws.spread, 0),
    ):
        chosen = np.flatnonzero((values != neutral).any(axis=tuple(range(1, values.ndim))))
        if len(chosen):
            tensors = torch.from_numpy(chosen), *map(_tensor, (values[chosen], *constants))
            operations.append((partial(_on_subset, operation), tensors))
    return operations


def _on_subset(
    operation: Callable[..., torch.Tensor],
    images: torch.Tensor,
    chosen: torch.Tensor,
    *tensors: torch.Tensor,
) -> torch.Tensor:
    """Apply an operation to the chosen images alone, in place."""
    images[chosen] = operation(images[chosen], *tensors)
    return images


def _warp(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Shear, translate or rotate by matrices (B, 2, 3) from the result to the image; fill with black."""
    size = images.shape[-1]
    target = torch.arange(size, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(target, target, indexing="ij")
    x, y = torch.einsum("bij,jhw->ibhw", matrix, torch.stack([x, y, torch.ones_like(x)]))
    inside = (x >= -0.5) & (x <= size - 0.5) & (y >= -0.5) & (y <= size - 0.5)
    return _bilinear(images, x, y) * inside.unsqueeze(1)


def _sharpen(images: torch.Tensor, sharpness: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Blend with the smoothed image, but for the outermost pixels, as Pillow does."""
    channels, sharpened = images.shape[1], images.clone()
    smooth = conv2d(images, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
    factor, inner = sharpness.view(-1, 1, 1, 1), (..., slice(1, -1), slice(1, -1))
    sharpened[inner] = (factor * images + (1 - factor) * smooth).clamp(0, 255)[inner]
    return sharpened


def _look_up(images: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Replace grey levels by tables (B, 256), or (B, C, 256) with one a channel."""
    levels = images.round().long().flatten(2)  # (B, C, S * S)
    table = table.view(len(table), -1, 256).expand(-1, images.shape[1], -1)
    return table.gather(2, levels).view(images.shape)


def _autocontrast_or_equalize(images: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
    """Apply the tables of `contrast_table`, computed for the whole batch; `kind` (B,)."""
    levels = images.round().long().flatten(2)  # (B, C, S * S)
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
    """Fill a box of each image with its colour."""
    pixel = torch.arange(images.shape[-1], device=images.device)
    left, top, right, bottom = (edge.view(-1, 1) for edge in (left, top, left + width, top + height))
    columns, rows = (pixel >= left) & (pixel < right), (pixel >= top) & (pixel < bottom)
    inside = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)  # (B, 1, S, S)
    return torch.where(inside, fill[:, :, None, None], images)
