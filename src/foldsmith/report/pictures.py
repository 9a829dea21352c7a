"""Thumbnails inside the page: JPEG data URIs from the pixel cache."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from foldsmith.data.cache import PixelCache
from foldsmith.evaluation.feature_maps import draw_heat

LONGEST = 72  # pixels of a side: about 2 kB per picture, so that hundreds stay under a megabyte
QUALITY = 80


@dataclass(frozen=True)
class Pictures:
    """Thumbnails by path. Without a cache there are none, and the page shows text only.

    `heat` returns an image's heat map (S, S), of what speaks for its decision; None for an image without one.
    """

    cache: PixelCache | None = None
    heat: Callable[[str], np.ndarray | None] | None = None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {path: row for row, path in enumerate(self.cache.index["path"])}

    def uri(self, path: str) -> str:
        """Return the picture as a data URI, "" without a cache. Raise KeyError for an unknown path."""
        return "" if self.cache is None else encode_picture(self.cache.pixels[self._rows[path]])

    def card(self, path: str, *lines: str, proposal: str = "") -> dict[str, object]:
        """Return the entry of an image in a gallery: path, picture, heat map, lines, and a proposed label.

        The proposal is the name of a class; of a set the name of a label that it lacks, or `not NAME`.
        """
        return {
            "path": path,
            "uri": self.uri(path),
            "heat": self.heat_uri(path),
            "lines": lines,
            "proposal": proposal,
        }

    def heat_uri(self, path: str) -> str:
        """Return the picture under its heat map as a data URI; empty for an image without one."""
        heat = self.heat(path) if self.heat is not None else None
        if heat is None:
            return ""
        return encode_picture(draw_heat(self.cache.pixels[self._rows[path]][..., :3], heat))


def encode_picture(pixels: np.ndarray) -> str:
    """Return pixels, uint8 (S, S, C), as a JPEG data URI of at most LONGEST pixels a side.

    Of four channels the first three are shown.
    """
    side = min(LONGEST, len(pixels))
    if side < len(pixels):
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., 2::-1]), options)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
