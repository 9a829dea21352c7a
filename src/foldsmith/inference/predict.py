"""Prediction: logits, probabilities and reconstructions of cached images, batch by batch."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from foldsmith.data.loader import prefetch
from foldsmith.data.pixels import Pixels
from foldsmith.inference.compute import Compute
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.views import VIEWS
from foldsmith.tasks import Task


@torch.inference_mode()
def predict(
    model: nn.Module,
    pixels: Pixels,
    rows: np.ndarray,
    views: Sequence[str],
    batch_size: int,
    compute: Compute,
    advance: Callable[[int], None] = lambda count: None,
    batch_limit: BatchLimit | None = None,
    *,
    task: Task,
) -> np.ndarray:
    """Return the mean prediction over views of images in these rows of the cache, float32 (len(rows), K).

    Pass one `batch_limit` to several calls so that a batch size that did not fit into memory is not retried.
    """
    predictions = []
    for logits in compute_logits(model, pixels, rows, views, batch_size, compute, batch_limit):
        # kept on the device until the end, so that no batch synchronises with the host
        predictions.append(mean_of_views(logits, task))
        advance(len(predictions[-1]))
    return torch.cat(predictions).cpu().numpy()


@torch.inference_mode()
def compute_logits(
    model: nn.Module,
    pixels: Pixels,
    rows: np.ndarray,
    views: Sequence[str],
    batch_size: int,
    compute: Compute,
    batch_limit: BatchLimit | None = None,
) -> Iterator[list[torch.Tensor]]:
    """Yield for each batch of these rows of the cache the logits (B, K) of every view, on the device.

    When a GPU's memory runs out, batches are halved; order and images stay the same. On a GPU another batch
    size may round differently.
    """
    model.eval()
    batch_limit = batch_limit or BatchLimit(batch_size)

    def logits_of(images: torch.Tensor) -> list[torch.Tensor]:
        return logits_of_views(model, compute.normalise(images), views, compute)

    for images in load_batches(pixels, rows, batch_size, compute):
        yield from batch_limit.map_batches(images, logits_of)


def load_batches(
    pixels: Pixels, rows: np.ndarray, batch_size: int, compute: Compute
) -> Iterator[torch.Tensor]:
    """Yield batches of these rows, uint8 (B, H, W, 3); for a GPU in pinned memory and prefetched."""

    def load(start: int) -> torch.Tensor:
        images = torch.from_numpy(pixels[rows[start : start + batch_size]])
        return images.pin_memory() if compute.on_gpu else images

    # no thread on a CPU: all its cores work on the network
    return prefetch(load, range(0, len(rows), batch_size), threads=int(compute.on_gpu))


def predict_views(
    model: nn.Module, images: torch.Tensor, views: Sequence[str], compute: Compute, task: Task
) -> torch.Tensor:
    """Return the mean prediction over views of normalised images (B, C, H, W), float32 (B, K)."""
    return mean_of_views(logits_of_views(model, images, views, compute), task)


def logits_of_views(
    model: nn.Module, images: torch.Tensor, views: Sequence[str], compute: Compute
) -> list[torch.Tensor]:
    """Return the logits (B, K) of each view of normalised images (B, C, H, W)."""
    with compute.autocast():
        return [model(VIEWS[view](images)) for view in views]


def mean_of_views(logits: Sequence[torch.Tensor], task: Task) -> torch.Tensor:
    """Return the mean prediction, float32 (B, K), of the logits of each view."""
    return torch.stack([task.activate(view.float()) for view in logits]).mean(dim=0)


@torch.inference_mode()
def reconstruct(
    model: nn.Module,
    pixels: Pixels,
    rows: np.ndarray,
    batch_size: int,
    compute: Compute,
    batch_limit: BatchLimit | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of normalised images and their reconstructions, float32 (B, C, H, W) on the device.

    Batches are halved when a GPU's memory runs out.
    """
    model.eval()
    batch_limit = batch_limit or BatchLimit(batch_size)

    def reconstruct_batch(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = compute.normalise(batch)
        with compute.autocast():
            return images, model.reconstruct(images).float()

    for batch in load_batches(pixels, rows, batch_size, compute):
        yield from batch_limit.map_batches(batch, reconstruct_batch)
