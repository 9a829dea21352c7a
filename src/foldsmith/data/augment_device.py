"""Augmentation of whole batches as tensor operations, where the pixels lie on the device.

B images a batch · S the side of an image.
"""

import numpy as np
import torch
from torch.nn.functional import grid_sample

from foldsmith.data.augment import LUMA, Draws


def apply_draws(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """What was drawn, done to uint8 images (B, S, S, 3): float32 (B, S, S, 3), from 0 to 255."""
    size = images.shape[1]
    made = images.permute(0, 3, 1, 2).float()  # (B, S, S, 3) -> (B, 3, S, S)
    if draws.angle is not None or draws.box is not None:
        made = _resample(made, draws, size)
    elif draws.flip is not None:
        across, upside_down = (_put(draws.flip[:, side], made).bool().view(-1, 1, 1, 1) for side in (0, 1))
        made = torch.where(across, made.flip(3), made)
        made = torch.where(upside_down, made.flip(2), made)
    if draws.colour is not None:
        made = _recolour(made, draws)
    return made.permute(0, 2, 3, 1)


def _put(values: np.ndarray, beside: torch.Tensor) -> torch.Tensor:
    """Numbers of the host as float32 on the images' device; no step waits for them."""
    values = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    if beside.is_cuda:
        values = values.pin_memory()
    return values.to(beside.device, non_blocking=True)


def _resample(images: torch.Tensor, draws: Draws, size: int) -> torch.Tensor:
    """Crops or shifts, flips and turns in one bilinear sampling."""
    count = len(images)
    place = torch.arange(size, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    x, y = x.expand(count, -1, -1), y.expand(count, -1, -1)  # (B, S, S), pixels of the result
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
    if draws.box is not None:
        left, top, width, height = (_put(column, images).view(-1, 1, 1) for column in draws.box.T)
        x, y = _within(x, left, width, size), _within(y, top, height, size)
    grid = torch.stack([x, y], dim=-1) * (2 / max(size - 1, 1)) - 1  # (B, S, S, 2)
    made = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return made if inside is None else made * inside.unsqueeze(1)


def _within(place: torch.Tensor, start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """From pixels of the result to pixels of the image, in a box that it fills; mirrored at its sides.

    No sample reaches beyond the box: a crop is cut out before it is made larger.
    """
    place = start + (place + 0.5) * length / size - 0.5
    place = torch.minimum(torch.maximum(place, start), start + length - 1)
    last = size - 1
    return last - (last - place.abs()).abs()


def _recolour(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """As on the host: a matrix an image, and what keeps the mean brightness where contrast changes."""
    means = images.mean(dim=(2, 3)) @ torch.tensor(LUMA, dtype=torch.float32, device=images.device)  # (B,)
    lift = (_put(draws.lift, images) * means).view(-1, 1, 1, 1)
    made = torch.einsum("bij,bjhw->bihw", _put(draws.colour, images), images) + lift
    return made.clamp(0, 255)
