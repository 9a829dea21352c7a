"""Prediction: logits, probabilities and reconstructions of cached images, batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foldsmith.inference.compute import Compute
from foldsmith.inference.frozen import frozen_features
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.views import VIEWS
from foldsmith.models.probe import ProbedNetwork
from foldsmith.tasks import Task

STORED_BATCH = 4096  # images whose stored features are on the device at a time


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

    The features of a network with a frozen extractor are stored for the images of a pixel cache, so that
    only the first prediction of an image passes through the extractor.
    """
    model.eval()
    if not len(images.rows):  # of several processes one may have no image
        return np.empty((0, average.task.num_outputs), np.float32)
    if isinstance(model, ProbedNetwork) and model.frozen and images.cache is not None:
        return _predict_stored(model, images, average, compute, advance)

    def predict_batch(batch: torch.Tensor) -> torch.Tensor:
        return average.mean(average.logits(model, compute.normalise(batch), compute))

    predictions = []
    for batch in images.batches(batch_limit.size, compute):
        for prediction in batch_limit.map_batches(batch, predict_batch):
            # kept on the device until the end, so that no batch synchronises with the host
            predictions.append(prediction)
            advance(len(prediction))
    return torch.cat(predictions).cpu().numpy()


def _predict_stored(
    model: ProbedNetwork,
    images: CachedImages,
    average: ViewAverage,
    compute: Compute,
    advance: Callable[[int], None],
) -> np.ndarray:
    """Return what `predict` does, by the stored features of each view."""
    features = frozen_features(model.extractor, images, average.views, compute)
    head = model.head.to(compute.device)
    predictions = []
    for start in range(0, len(images.rows), STORED_BATCH):
        rows = slice(start, start + STORED_BATCH)
        logits = [
            head(torch.from_numpy(features[view][rows]).to(compute.device).float()) for view in average.views
        ]
        predictions.append(average.mean(logits).cpu())
        advance(len(predictions[-1]))
    return torch.cat(predictions).numpy()


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
