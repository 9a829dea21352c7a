"""Augmentation of whole batches as tensor operations, where the pixels lie on the device.

B images a batch · S the side of an image.
"""

import numpy as np
import torch
from torch.nn.functional import conv2d, grid_sample

from foldsmith.data.augment import Draws
from foldsmith.data.images import LUMA
from foldsmith.data.trivial_augment import EQUALIZE, SMOOTHING, UNCHANGED, UNMOVED


def apply_draws(images: torch.Tensor, draws: Draws, side: int = 0) -> torch.Tensor:
    """What was drawn, done to uint8 images (B, S, S, 3): float32 (B, S, S, 3), from 0 to 255.

    They are made in `side` pixels; 0: as large as they were.
    """
    size = side or images.shape[1]
    made = images.permute(0, 3, 1, 2).float()  # (B, S, S, 3) -> (B, 3, S, S)
    if draws.angle is not None or draws.box is not None or size != images.shape[1]:
        made = _resample(made, draws, size)
    elif draws.flip is not None:
        across, upside_down = (_put(draws.flip[:, side], made).bool().view(-1, 1, 1, 1) for side in (0, 1))
        made = torch.where(across, made.flip(3), made)
        made = torch.where(upside_down, made.flip(2), made)
    if draws.colour is not None:
        made = _recolour(made, draws)
    if draws.affine is not None:
        made = _transform(made, draws)
    if draws.erased is not None:
        made = _erase(made, draws)
    return made.permute(0, 2, 3, 1)


def _put(values: np.ndarray, beside: torch.Tensor) -> torch.Tensor:
    """Numbers of the host as float32 on the images' device; no step waits for them."""
    values = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    if beside.is_cuda:
        values = values.pin_memory()
    return values.to(beside.device, non_blocking=True)


def _resample(images: torch.Tensor, draws: Draws, size: int) -> torch.Tensor:
    """Crops or shifts, resizes, flips and turns in one bilinear sampling, to `size` pixels."""
    count, source = len(images), images.shape[-1]
    place = torch.arange(size, device=images.device, dtype=torch.float32)
    # pixels of the result: of a column and of a row, until a turn makes them differ within these, (B, S, S)
    x, y = place.expand(count, 1, -1), place.view(-1, 1).expand(count, -1, 1)
    inside = None
    if draws.angle is not None:
        centre = (size - 1) / 2
        cosine, sine = (_put(f(draws.angle), images).view(-1, 1, 1) for f in (np.cos, np.sin))
        x, y = (
            cosine * (x - centre) - sine * (y - centre) + centre,
            sine * (x - centre) + cosine * (y - centre) + centre,
        )
        inside = (x >= -0.5) & (x <= size - 0.5) & (y >= -0.5) & (y <= size - 0.5)
    if draws.flip is not None:
        across, upside_down = (_put(draws.flip[:, side], images).view(-1, 1, 1) for side in (0, 1))
        x, y = x + across * (size - 1 - 2 * x), y + upside_down * (size - 1 - 2 * y)
    if draws.box is not None or size != source:
        boxes = np.array([[0, 0, source, source]]) if draws.box is None else draws.box
        left, top, width, height = (_put(column, images).view(-1, 1, 1) for column in boxes.T)
        x, y = _within(x, left, width, size, source), _within(y, top, height, size, source)
    made = _sample(images, x, y)
    return made if inside is None else made * inside.unsqueeze(1)


def _sample(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The images at these pixels, bilinear; beyond the sides as at them.

    `x` is (B, S, S), or (B, 1, S) where rows are alike; `y` likewise, or (B, S, 1).
    """
    scale = 2 / max(images.shape[-1] - 1, 1)
    grid = torch.stack(torch.broadcast_tensors(x * scale - 1, y * scale - 1), dim=-1)  # (B, S, S, 2)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _within(
    place: torch.Tensor, start: torch.Tensor, length: torch.Tensor, size: int, source: int
) -> torch.Tensor:
    """From `size` pixels of the result to pixels of the image, in a box that it fills.

    The box is mirrored at the sides of the image, of `source` pixels.

    No sample reaches beyond the box: a crop is cut out before it is made larger.
    """
    place = start + (place + 0.5) * length / size - 0.5
    place = torch.minimum(torch.maximum(place, start), start + length - 1)
    last = source - 1
    return last - (last - place.abs()).abs()


def _recolour(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """As on the host: a matrix an image, and what keeps the mean brightness where contrast changes."""
    means = images.mean(dim=(2, 3)) @ _put(LUMA, images)  # (B,)
    lift = (_put(draws.lift, images) * means).view(-1, 1, 1, 1)
    made = torch.einsum("bij,bjhw->bihw", _put(draws.colour, images), images) + lift
    return made.clamp(0, 255)


def _transform(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """TrivialAugment's operations that are no matrix of colours, in place, on the images that have it."""
    for drawn, neutral, operation in (
        (draws.affine, UNMOVED, _move),
        (draws.sharpness, 1.0, _sharpen),
        (draws.table, UNCHANGED, _look_up),
        (draws.spread, 0, _spread),
    ):
        chosen = np.flatnonzero((drawn != neutral).any(axis=tuple(range(1, drawn.ndim))))
        if len(chosen):
            places = _put(chosen, images).long()
            images[places] = operation(images[places], _put(drawn[chosen], images))
    return images


def _move(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Sheared, shifted or turned by matrices (B, 2, 3); black where that opens the image."""
    size = images.shape[-1]
    place = torch.arange(size, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    x, y = torch.einsum("bij,jhw->ibhw", matrix, torch.stack([x, y, torch.ones_like(x)]))
    inside = (x >= -0.5) & (x <= size - 0.5) & (y >= -0.5) & (y <= size - 0.5)
    return _sample(images, x, y) * inside.unsqueeze(1)


def _sharpen(images: torch.Tensor, sharpness: torch.Tensor) -> torch.Tensor:
    kernel = _put(SMOOTHING, images).expand(3, 1, 3, 3)
    smooth, made = conv2d(images, kernel, padding=1, groups=3), images.clone()
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


def _erase(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Fills a box of each image with its colour."""
    place = torch.arange(images.shape[-1], device=images.device)
    left, top, width, height = (_put(column, images).view(-1, 1) for column in draws.erased.T)
    across, down = (place >= left) & (place < left + width), (place >= top) & (place < top + height)
    inside = (down[:, :, None] & across[:, None, :]).unsqueeze(1)  # (B, 1, S, S)
    return torch.where(inside, _put(draws.fill, images).view(-1, 3, 1, 1), images)
