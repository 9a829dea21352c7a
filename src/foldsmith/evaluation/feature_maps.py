"""What a network makes of one image, block by block, as a picture."""

import cv2
import numpy as np
import torch
from torch import nn

from foldsmith.models import blocks_of

TILE, GAP, MARGIN = 72, 4, 22  # pixels: a map, the space around it, the line of text above a row
MAPS = 12  # maps shown of a block; the picture is as wide as they are


def record_blocks(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output of every block for images (B, C, H, W), float32 on the host, by name in order of execution.

    Convolutions give (B, channels, h, w); recurrent and token networks give (B, steps, features).
    """
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> object:
        def hook(block: nn.Module, inputs: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) else output  # an LSTM gives its state as well
            seen[name] = tensor.detach().float().cpu()

        return hook

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks_of(model).items()]
    try:
        with torch.inference_mode():
            model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def draw_feature_maps(image: np.ndarray, maps: dict[str, torch.Tensor]) -> np.ndarray:
    """The image uint8 (H, W, 3) above a row for each block, uint8 (h, w, 3).

    A block (1, channels, h, w) is drawn as its first maps, each from black (its lowest value) to white (its
    highest); a block (1, steps, features), or one with a single value a channel, as one matrix.
    """
    rows = [_row(f"image {image.shape[1]} x {image.shape[0]}", [_fit(image)])]
    for name, output in maps.items():
        first = output[0].numpy()
        if first.shape[1:] == (1, 1):
            first = first.reshape(1, -1)
        if first.ndim == 3:
            channels, height, width = first.shape
            shown = [_fit(_grey(each)) for each in first[:MAPS]]
            rows.append(_row(f"{name}: {channels} maps of {width} x {height}, the first {len(shown)}", shown))
        else:
            steps, features = first.shape
            wide = cv2.resize(_grey(first), (_width() - 2 * GAP, TILE), interpolation=cv2.INTER_NEAREST)
            title = f"{steps} steps of {features}" if steps > 1 else f"{features} values"
            rows.append(_row(f"{name}: {title}", [wide]))
    return np.concatenate(rows)


def _width() -> int:
    return MAPS * (TILE + GAP) + GAP


def _grey(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.repeat((255 * share).astype(np.uint8)[..., None], 3, axis=2)


def _fit(pixels: np.ndarray) -> np.ndarray:
    """The picture in a tile, its aspect kept, on white."""
    height, width = pixels.shape[:2]
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrinks = scale < 1
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    tile[: size[1], : size[0]] = small
    return tile


def _row(text: str, tiles: list[np.ndarray]) -> np.ndarray:
    row = np.full((MARGIN + TILE + GAP, _width(), 3), 255, np.uint8)
    cv2.putText(row, text, (GAP, MARGIN - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    left = GAP
    for tile in tiles:
        row[MARGIN : MARGIN + TILE, left : left + tile.shape[1]] = tile
        left += tile.shape[1] + GAP
    return row
