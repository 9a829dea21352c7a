"""The outputs of a network's blocks for one image, and class heat maps, drawn as pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

TILE, GAP, MARGIN = 72, 4, 22  # pixels: side of a map, space around it, height of a row's title
MAPS = 12  # maps drawn of a block; they set the width of the picture
LARGE = 3 * (TILE + GAP) - GAP  # side of a heat map
OPAQUE = 0.75  # of the hottest place of a heat map


def record_blocks(model: "nn.Module", images: "torch.Tensor") -> dict[str, "torch.Tensor"]:
    """Return the output of each block for images (B, C, H, W), float32 on the host, in order of execution.

    Convolutions give (B, channels, h, w). Recurrent and token networks give (B, steps, features).
    """
    # imported here: torch takes seconds, and the report, which draws heat maps, rarely needs it
    import torch

    from foldsmith.models import blocks_of

    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> object:
        def hook(block: "nn.Module", inputs: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) else output  # an LSTM returns its state too
            outputs[name] = tensor.detach().float().cpu()

        return hook

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks_of(model).items()]
    try:
        with torch.inference_mode():
            model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def draw_feature_maps(image: np.ndarray, maps: dict[str, "torch.Tensor"]) -> np.ndarray:
    """Return a picture, uint8 (h, w, 3), of the image, uint8 (H, W, C), above one row per block.

    Of an image with four channels the first three are drawn, as red, green and blue.

    A block (1, channels, h, w) is drawn as its first maps. A block (1, steps, features), or one of 1 x 1
    maps, is drawn as one matrix. Grey values run from the lowest (black) to the highest (white) of a tile.
    """
    height, width, channels = image.shape
    shown = ", the first three of its four channels" if channels > 3 else ""
    rows = [_row(f"image {width} x {height}{shown}", [_fit(image[..., :3])])]
    for name, output in maps.items():
        first = output[0].numpy()
        if first.shape[1:] == (1, 1):
            first = first.reshape(1, -1)
        if first.ndim == 3:
            channels, height, width = first.shape
            tiles = [_fit(_grey(channel)) for channel in first[:MAPS]]
            rows.append(_row(f"{name}: {channels} maps of {width} x {height}, the first {len(tiles)}", tiles))
        else:
            steps, features = first.shape
            wide = cv2.resize(_grey(first), (_width() - 2 * GAP, TILE), interpolation=cv2.INTER_NEAREST)
            title = f"{steps} steps of {features}" if steps > 1 else f"{features} values"
            rows.append(_row(f"{name}: {title}", [wide]))
    return np.concatenate(rows)


def draw_heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image uint8 (H, W, 3) under its heat map (H, W), whose highest value is yellow.

    Where the map is 0 the image is as it is.
    """
    high = heat.max()
    share = heat / high if high > 0 else heat
    colours = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = OPAQUE * share[..., None]
    return (opacity * colours + (1 - opacity) * image).round().astype(np.uint8)


def draw_reasons(image: np.ndarray, reasons: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Return a row of the image uint8 (H, W, C) under each heat map (H, W), as wide as `draw_feature_maps`.

    `reasons` are at most four titles and maps.
    """
    row = np.full((MARGIN + LARGE + GAP, _width(), 3), 255, np.uint8)
    for index, (title, heat) in enumerate(reasons):
        left = GAP + index * (LARGE + GAP)
        text = title if len(title) <= 32 else f"{title[:31]}…"
        _write(row, text, left)
        tile = _fit(draw_heat(image[..., :3], heat), LARGE)
        row[MARGIN : MARGIN + LARGE, left : left + LARGE] = tile
    return row


def _width() -> int:
    return MAPS * (TILE + GAP) + GAP


def _grey(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.repeat((255 * share).astype(np.uint8)[..., None], 3, axis=2)


def _fit(pixels: np.ndarray, side: int = TILE) -> np.ndarray:
    """Return the picture resized to fit a white tile; its aspect ratio stays."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrinks = scale < 1
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    tile = np.full((side, side, 3), 255, np.uint8)
    tile[: size[1], : size[0]] = small
    return tile


def _row(text: str, tiles: list[np.ndarray]) -> np.ndarray:
    row = np.full((MARGIN + TILE + GAP, _width(), 3), 255, np.uint8)
    _write(row, text, GAP)
    left = GAP
    for tile in tiles:
        row[MARGIN : MARGIN + TILE, left : left + tile.shape[1]] = tile
        left += tile.shape[1] + GAP
    return row


def _write(row: np.ndarray, text: str, left: int) -> None:
    cv2.putText(row, text, (left, MARGIN - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
