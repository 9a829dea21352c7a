"""Mixup and CutMix: the images and labels of a batch, mixed with one another.

B images a batch · S the side of an image · K classes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from foldsmith.data.loader import EpochBatches
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
from foldsmith.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Mix:
    """The sampled parameters of a mixed batch: image i has the share `kept`, image `partners[i]` the rest.

    `partners` is (B,). Without a `box` the images are added (mixup). With one, (x, y, width, height) in
    pixels, the box is the partner's (CutMix).
    """

    partners: np.ndarray
    kept: float
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Mixing:
    """Mixup and CutMix for the share `share` of the batches of the first `num_epochs` epochs.

    `mixup` (Zhang et al. 2018) and `cutmix` (Yun et al. 2019) are the alphas of the Beta(alpha, alpha)
    distribution of the kept share; 0: never. With both, each batch samples one of the two. `purpose` tells
    apart the random streams of one seed.
    """

    mixup: float
    cutmix: float
    share: float
    num_epochs: float
    seed: int
    purpose: int | str
    task: Task

    def draw(self, epoch: int, batch: int, count: int, size: int) -> Mix | None:
        """Return the mix of a batch of `count` images with sides of `size` pixels; None: it is not mixed."""
        stream = np.random.default_rng(derive_seed(self.seed, "mix", self.purpose, epoch, batch))
        if epoch >= self.num_epochs or stream.random() >= self.share:
            return None
        cuts = self.cutmix > 0 and (not self.mixup or stream.random() < 0.5)
        alpha = self.cutmix if cuts else self.mixup
        kept, partners = stream.beta(alpha, alpha), stream.permutation(count)
        if not cuts:
            return Mix(partners, kept)
        half = size * (1 - kept) ** 0.5 / 2
        centre = stream.random(2) * size
        x, y = np.clip(np.round(centre - half), 0, size).astype(int).tolist()
        right, bottom = np.clip(np.round(centre + half), 0, size).astype(int).tolist()
        # the box is clipped to the image, so the kept share is computed again from its area
        kept = 1 - (right - x) * (bottom - y) / size**2
        return Mix(partners, kept, (x, y, right - x, bottom - y))

    def mixed(
        self,
        loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
        batches: EpochBatches,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the epoch's batches, mixed on the device: float32 (B, S, S, 3) from 0 to 255, targets (B, K).

        Batches that are not mixed are unchanged. Each of several processes mixes the whole batch and yields
        its share, so that images have the same partners as with one process.
        """
        for batch, (images, labels) in enumerate(loader, start=batches.start):
            start, count = batches.shard_of(batch)
            mix = self.draw(batches.epoch, batch, count, images.shape[1])
            if mix is None:
                yield images, labels
                continue
            images = images.to(device, non_blocking=True).float()
            labels = labels.to(device, non_blocking=True)
            own = slice(start, start + len(labels))
            images = processes.join_batch(images, start, count)
            labels = processes.join_batch(labels, start, count)
            images, targets = apply_mix(images, self.task.soft_targets(labels), mix)
            yield images[own], targets[own]


def apply_mix(images: torch.Tensor, targets: torch.Tensor, mix: Mix) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mixed copies of images (B, S, S, C) and of targets (B, K)."""
    partners = torch.from_numpy(mix.partners)
    if images.is_cuda:
        partners = partners.pin_memory().to(images.device, non_blocking=True)
    if mix.box is None:
        mixed = mix.kept * images + (1 - mix.kept) * images[partners]
    else:
        x, y, width, height = mix.box
        mixed = images.clone()
        mixed[:, y : y + height, x : x + width] = images[partners, y : y + height, x : x + width]
    return mixed, mix.kept * targets + (1 - mix.kept) * targets[partners]


def build_mixing(recipe: Recipe, purpose: int | str, task: Task) -> Mixing | None:
    """Return the mixing of a training, or None if the recipe has no mixup and no CutMix."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    return Mixing(
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        share=recipe.mix_share,
        num_epochs=recipe.mix_until * recipe.epochs,
        seed=recipe.seed,
        purpose=purpose,
        task=task,
    )
