"""Small pictures inside the page: JPEG data URIs from the pixel cache."""

import base64
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from foldsmith.data.cache import PixelCache

LONGEST = 72  # pixels of a side: some 2 kB a picture, so that hundreds of them stay under a megabyte
QUALITY = 80


@dataclass(frozen=True)
class Pictures:
    """Pictures by path; without a cache there are none, and the page stands on its text alone."""

    cache: PixelCache | None = None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {path: row for row, path in enumerate(self.cache.index["path"])}

    def uri(self, path: str) -> str:
        """The picture as a data URI, or empty. Raises KeyError if the cache does not hold it."""
        return "" if self.cache is None else encode_picture(self.cache.pixels[self._rows[path]])

    def card(self, path: str, *lines: str) -> dict[str, object]:
        """What a gallery shows of an image: its picture, and lines that say what it is taken for."""
        return {"path": path, "uri": self.uri(path), "lines": lines}


def encode_picture(pixels: np.ndarray) -> str:
    """uint8 (S, S, 3) as a JPEG data URI of at most LONGEST pixels a side. Same pixels, same bytes."""
    side = min(LONGEST, len(pixels))
    if side < len(pixels):
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
