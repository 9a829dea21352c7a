"""The training images of a network, and the loader of their batches."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from foldsmith.augment.rows import Augmentation, build_augmentation
from foldsmith.data.loader import AugmentedBatches, BalancedBatches, DeviceBatches, EpochBatches, build_loader
from foldsmith.data.pixels import Pixels, StreamedPixels
from foldsmith.inference.compute import Compute, augments_on_device
from foldsmith.process.machine import default_workers
from foldsmith.recipes import Recipe
from foldsmith.training.machine import Machine

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
LEAST_BATCH = 8  # images; batch norm's statistics of fewer are too noisy


@dataclass(frozen=True)
class TrainingData:
    """The training images: `rows` (n,) of the cache's `pixels`, and their `labels` (n,)."""

    pixels: Pixels
    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def fitted_batch_size(recipe: Recipe, num_images: int) -> int:
    """Return the images per step: `batch_size`, halved while an epoch has fewer steps than `least_steps`.

    It does not fall below LEAST_BATCH.
    """
    batch_size = recipe.batch_size
    while math.ceil(num_images / batch_size) < recipe.least_steps and batch_size >= 2 * LEAST_BATCH:
        batch_size //= 2
    return batch_size


def build_batches(
    recipe: Recipe, data: TrainingData, purpose: int | str, machine: Machine, compute: Compute
) -> tuple[EpochBatches, Batches]:
    """Return the sampler of an epoch's batches, and the loader that augments them.

    `purpose` tells apart the random streams of one seed, such as those of folds.
    """
    augmentation = build_augmentation(
        recipe.augment, recipe.image_size, recipe.erase, recipe.augment_strength, recipe.cached_channels
    )
    rank_and_count = machine.processes.rank_and_count
    batch_size = fitted_batch_size(recipe, len(data))
    settings = (batch_size, recipe.seed, purpose, rank_and_count, recipe.alternating_flip)
    keys = EpochBatches(len(data), *settings)
    if recipe.sampling == "balanced":
        keys = BalancedBatches(np.asarray(data.labels), *settings)
    on_device = augments_on_device(recipe, augmentation, data.pixels, len(data), compute)
    if on_device and isinstance(augmentation, Augmentation):
        return keys, DeviceBatches(data.pixels, data.rows, data.labels, augmentation, keys, compute.device)
    dataset = AugmentedBatches(data.pixels, data.rows, data.labels, augmentation)
    workers = machine.workers
    if workers is None:
        workers = default_workers(compute.on_gpu, isinstance(data.pixels, StreamedPixels))
    return keys, build_loader(dataset, keys, workers, pin_memory=compute.on_gpu)
