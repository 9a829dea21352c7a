"""Images of a pixel cache, in batches for a network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from foldsmith.data.cache import PixelCache
from foldsmith.data.loader import prefetch
from foldsmith.data.pixels import Pixels
from foldsmith.inference.compute import Compute


@dataclass(frozen=True)
class CachedImages:
    """Images by their `rows` (n,) of `pixels`.

    `cache` is the folder of the pixel cache, beside which the features of frozen networks are stored; None
    for other images, whose features are not.
    """

    pixels: Pixels
    rows: np.ndarray
    cache: Path | None = None

    @classmethod
    def of(cls, cache: PixelCache, rows: np.ndarray) -> "CachedImages":
        """Return the images of these rows (n,) of a pixel cache."""
        return cls(cache.pixels, rows, cache.path)

    def batches(self, size: int, compute: Compute) -> Iterator[torch.Tensor]:
        """Yield batches of `size` images, uint8 (B, H, W, 3); for a GPU in pinned memory and prefetched."""

        def load(start: int) -> torch.Tensor:
            images = torch.from_numpy(self.pixels[self.rows[start : start + size]])
            return images.pin_memory() if compute.on_gpu else images

        # no thread on a CPU: all its cores work on the network
        return prefetch(load, range(0, len(self.rows), size), threads=int(compute.on_gpu))
