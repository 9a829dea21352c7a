"""Prediction: logits and probabilities of cached images, batch by batch, and reconstructions."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from foldsmith.data.loader import prepare_ahead
from foldsmith.data.pixels import Pixels
from foldsmith.inference.compute import Compute
from foldsmith.inference.memory import Portion
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
    portion: Portion | None = None,
    *,
    task: Task,
) -> np.ndarray:
    """Return predictions of images in these rows of the cache, float32 (len(rows), K): the mean over views.

    A `portion` remembers the batch size that memory had room for.
    """
    predicted = []
    for logits in compute_logits(model, pixels, rows, views, batch_size, compute, portion):
        # left on the device until the end: there is no step that waits for it
        predicted.append(mean_of_views(logits, task))
        advance(len(predicted[-1]))
    return torch.cat(predicted).cpu().numpy()


@torch.inference_mode()
def compute_logits(
    model: nn.Module,
    pixels: Pixels,
    rows: np.ndarray,
    views: Sequence[str],
    batch_size: int,
    compute: Compute,
    portion: Portion | None = None,
) -> Iterator[list[torch.Tensor]]:
    """Logits (B, K) of every view, on the device, batch by batch of the images in these rows of the cache.

    When a GPU's memory runs out, fewer images are predicted at a time: the same ones, in the same order. On a
    GPU another size of batch may round differently.
    """
    model.eval()
    portion = portion or Portion(batch_size)

    def logits_of(images: torch.Tensor) -> list[torch.Tensor]:
        return logits_of_views(model, compute.normalise(images), views, compute)

    for images in load_batches(pixels, rows, batch_size, compute):
        yield from portion.made_of(images, logits_of)


def load_batches(
    pixels: Pixels, rows: np.ndarray, batch_size: int, compute: Compute
) -> Iterator[torch.Tensor]:
    """Batches of these rows, uint8 (B, H, W, 3); for a GPU pinned, and read one batch ahead."""

    def load(start: int) -> torch.Tensor:
        images = torch.from_numpy(pixels[rows[start : start + batch_size]])
        return images.pin_memory() if compute.on_gpu else images

    # a CPU's cores are all at work on the network
    return prepare_ahead(load, range(0, len(rows), batch_size), threads=int(compute.on_gpu))


def predict_views(
    model: nn.Module, images: torch.Tensor, views: Sequence[str], compute: Compute, task: Task
) -> torch.Tensor:
    """Return predictions of normalised images (B, C, H, W), float32 (B, K): the mean over views."""
    return mean_of_views(logits_of_views(model, images, views, compute), task)


def logits_of_views(
    model: nn.Module, images: torch.Tensor, views: Sequence[str], compute: Compute
) -> list[torch.Tensor]:
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
    portion: Portion | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of normalised images and their reconstructions, both float32 (B, C, H, W) on the device;
    smaller ones where a GPU's memory runs out, as in `predict`."""
    model.eval()
    portion = portion or Portion(batch_size)

    def pair_of(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = compute.normalise(batch)
        with compute.autocast():
            return images, model.reconstruct(images).float()

    for batch in load_batches(pixels, rows, batch_size, compute):
        yield from portion.made_of(batch, pair_of)
