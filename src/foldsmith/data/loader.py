"""Training batches: whole, augmented, uint8, and the same whatever the number of workers."""

import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from foldsmith.data.augment import augment_batch
from foldsmith.faults import MachineError
from foldsmith.seeding import derive_seed

if TYPE_CHECKING:
    import albumentations

SHARED_MEMORY = "/dev/shm"

# what a worker is asked for: the seed of the batch's augmentation, and positions in the training samples
BatchKey = tuple[int, np.ndarray]


class EpochBatches(Sampler[BatchKey]):
    """The batches of one epoch of one training, a fold's or another's; set `epoch` before iterating.

    Every sample comes once. Batches differ in length by at most one, so that none is left with a single
    image, which batch norm could not train on. Those before `start` are left out: an epoch goes on there.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, purpose: int | str) -> None:
        self.num_samples, self.seed, self.purpose = num_samples, seed, purpose
        self.num_batches = max(1, min(math.ceil(num_samples / batch_size), num_samples // 2))
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[BatchKey]:
        order = np.random.default_rng(derive_seed(self.seed, "order", self.purpose, self.epoch))
        shuffled = order.permutation(self.num_samples)
        for batch, positions in enumerate(np.array_split(shuffled, self.num_batches)):
            if batch < self.start:
                continue
            yield derive_seed(self.seed, "augment", self.purpose, self.epoch, batch), positions


class AugmentedBatches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Whole batches by key: images uint8 (B, H, W, 3) and labels int64 (B,).

    `pixels` is the cache's memory map, `rows` (n,) the rows of the training samples in it, `labels`
    (n,).
    """

    def __init__(
        self, pixels: np.ndarray, rows: np.ndarray, labels: np.ndarray, augmentation: "albumentations.Compose"
    ) -> None:
        self.pixels, self.rows, self.labels, self.augmentation = pixels, rows, labels, augmentation

    def __getitem__(self, key: BatchKey) -> tuple[torch.Tensor, torch.Tensor]:
        seed, positions = key
        images = augment_batch(self.augmentation, self.pixels[self.rows[positions]], seed)
        batch = torch.from_numpy(images), torch.from_numpy(self.labels[positions])
        if get_worker_info() is not None:
            # shared here, because a worker that fails to share what it sends loses it, and the loader waits
            # for it forever
            for part in batch:
                part.share_memory_()
        return batch


def build_loader(
    dataset: AugmentedBatches, batches: EpochBatches, workers: int, pin_memory: bool
) -> DataLoader:
    """Batches in the order of `batches`, prepared by that many worker processes (0: in this one).

    Raises MachineError if worker processes have no shared memory to send them through.
    """
    if workers and not os.access(SHARED_MEMORY, os.W_OK):
        raise MachineError(
            f"{SHARED_MEMORY} is not there or cannot be written, and worker processes send batches through "
            "it; mend that, or use --workers 0"
        )
    # one image is too small to share between threads, and the cores belong to the network
    cv2.setNumThreads(0)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        prefetch_factor=2 if workers > 0 else None,
        # forked workers share the memory map and start at once; they never touch the GPU
        multiprocessing_context="fork" if workers > 0 else None,
        # the loader draws a seed of its own every epoch, which must not come from the stream that dropout
        # uses
        generator=torch.Generator(),
    )
