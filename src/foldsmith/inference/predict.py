"""Prediction: logits, probabilities and reconstructions of cached images, batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foldsmith.data.loader import prefetch
from foldsmith.data.pixels import Pixels
from foldsmith.inference.compute import Compute
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.views import VIEWS
from foldsmith.tasks import Task


@dataclass(frozen=True)
class CachedImages:
    """Images by their `rows` (n,) of the cache's `pixels`."""

    pixels: Pixels
    rows: np.ndarray

    def batches(self, size: int, compute: Compute) -> Iterator[torch.Tensor]:
        """Yield batches of `size` images, uint8 (B, H, W, 3); for a GPU in pinned memory and prefetched."""

        def load(start: int) -> torch.Tensor:
            images = torch.from_numpy(self.pixels[self.rows[start : start + size]])
            return images.pin_memory() if compute.on_gpu else images

        # no thread on a CPU: all its cores work on the network
        return prefetch(load, range(0, len(self.rows), size), threads=int(compute.on_gpu))


@dataclass(frozen=True)
class ViewAverage:
    """Test-time augmentation: the mean prediction of a `task` over `views` of an image."""

    task: Task
    views: Sequence[str] = ("identity",)

    def logits(self, model: nn.Module, images: torch.Tensor, compute: Compute) -> list[torch.Tensor]:
        """Return the logits (B, K) of each view of normalised images (B, C, H, W)."""
        with compute.autocast():
            return [model(VIEWS[view](images)) for view in self.views]

    def mean(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the mean prediction, float32 (B, K), of the logits of each view."""
        return torch.stack([self.task.activate(view.float()) for view in logits]).mean(dim=0)


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: CachedImages,
    average: ViewAverage,
    compute: Compute,
    batch_limit: BatchLimit,
    advance: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Return the mean predictions over views, float32 (n, K); `advance` is called with each batch's length.

    Batches are as large as `batch_limit` says. When a GPU's memory runs out, they are halved; order and
    images stay the same. On a GPU another batch size may round differently.
    """
    model.eval()

    def predict_batch(batch: torch.Tensor) -> torch.Tensor:
        return average.mean(average.logits(model, compute.normalise(batch), compute))

    predictions = []
    for batch in images.batches(batch_limit.size, compute):
        for prediction in batch_limit.map_batches(batch, predict_batch):
            # kept on the device until the end, so that no batch synchronises with the host
            predictions.append(prediction)
            advance(len(prediction))
    return torch.cat(predictions).cpu().numpy()


@torch.inference_mode()
def reconstruct(
    model: nn.Module, images: CachedImages, compute: Compute, batch_limit: BatchLimit
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of normalised images and their reconstructions, float32 (B, C, H, W) on the device.

    Batches are as large as `batch_limit` says, and halved when a GPU's memory runs out.
    """
    model.eval()

    def reconstruct_batch(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        normalised = compute.normalise(batch)
        with compute.autocast():
            return normalised, model.reconstruct(normalised).float()

    for batch in images.batches(batch_limit.size, compute):
        yield from batch_limit.map_batches(batch, reconstruct_batch)
