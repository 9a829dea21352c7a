"""Measure a pretrained network on a sample of the training images: its cost, and the side that suits it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from foldsmith.data.folds import assign_folds, choose_limited
from foldsmith.data.images import decode_image, resize_image
from foldsmith.inference.compute import Compute, build_compute
from foldsmith.models import TIMM, Start, normalisation, takes_any_size
from foldsmith.models.probe import STAGES, FeatureExtractor, as_stored, build_extractor
from foldsmith.recipes import Recipe
from foldsmith.recipes.borrowed import LARGER_SIZES
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
from foldsmith.training.head_fitting import Choice, ProbeData, fit_head, one_thread, predict_head

SAMPLE = 500  # images; two sides of them take a minute on one core
PARTS = 4  # of the sample, each predicted by a head fitted on the others
BATCH = 50
CHOICE = Choice(STAGES, "cosine", 1.0)


def cost_of(model: str, image_size: int, channels: int) -> tuple[float, bool]:
    """Return the 10^9 multiplications and additions of one image in timm's network.

    Return also whether the network takes images of other sizes.
    """
    from torch.utils.flop_counter import FlopCounterMode

    extractor = build_extractor(model.removeprefix(TIMM), image_size, channels).eval()
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        extractor(torch.zeros(1, channels, image_size, image_size))
    return counter.get_total_flops() / 1e9, takes_any_size(extractor.backbone)


@dataclass(frozen=True)
class Sample:
    """The labelled images that sides are compared on: files in `root`, and `targets` of the task (n, …)."""

    root: Path
    images: Sequence[str]
    targets: np.ndarray
    task: Task
    groups: Sequence[str]  # of related images; empty for an image of its own


def compare_sizes(
    recipe: Recipe, sample: Sample, device: str = "auto", precision: str = "auto"
) -> dict[int, np.ndarray]:
    """Return each image's loss by a probe of a sample, float64 (n,), at each side of LARGER_SIZES.

    Unreadable images are skipped. The network is the recipe's, with its weights; heads are fitted on three
    quarters of the sample and judged on the last one, in turn.
    """
    task = sample.task
    chosen = choose_limited(task.strata(sample.targets), SAMPLE, derive_seed(recipe.seed, "sizes"))
    decoded, used = [], []
    for index in chosen.tolist():
        try:
            path = sample.root / sample.images[index]
            decoded.append(decode_image(path, channels=max(3, recipe.channels)))
            used.append(index)
        except ValueError:  # prepare counts and names them
            continue
    targets = sample.targets[used]
    own = [sample.groups[index] or f"\0{index}" for index in used]
    groups = np.unique(own, return_inverse=True)[1]
    parts = assign_folds(task.strata(targets), groups, PARTS, recipe.seed)
    start = Start(recipe.pretrained, recipe.weights)
    losses = {}
    for size in LARGER_SIZES:
        extractor = build_extractor(recipe.model.removeprefix(TIMM), size, recipe.channels, start).eval()
        if len(losses) and not takes_any_size(extractor.backbone):
            break
        mean, std = normalisation(extractor.backbone, start.is_trained, recipe.channels)
        mean, std = recipe.mean or mean, recipe.std or std
        compute = build_compute(device, precision, mean, std)
        pixels = np.stack([resize_image(image, size) for image in decoded])
        data = ProbeData(features_of(extractor, pixels, compute)[None], targets, task, recipe)
        losses[size] = judged(extractor, data, parts)
    return losses


@torch.inference_mode()
def features_of(extractor: FeatureExtractor, pixels: np.ndarray, compute: Compute) -> np.ndarray:
    """Return the features of images uint8 (n, H, W, C), float16 (n, D)."""
    extractor.to(compute.device, memory_format=torch.channels_last)
    features = []
    for batch in torch.from_numpy(pixels).split(BATCH):
        with compute.autocast():
            features.append(as_stored(extractor(compute.normalise(batch))).cpu())
    return torch.cat(features).numpy()


def judged(extractor: FeatureExtractor, data: ProbeData, parts: np.ndarray) -> np.ndarray:
    """Return the loss of each image by the head that was fitted without its part, float64 (n,)."""
    losses = np.zeros(len(data))
    with one_thread():
        for part in range(PARTS):
            head = fit_head(extractor, data[np.flatnonzero(parts != part)], CHOICE)
            held_out = data[np.flatnonzero(parts == part)]
            losses[parts == part] = data.task.losses_of(held_out.labels, predict_head(head, held_out))
    return losses


def best_size(losses: dict[int, np.ndarray]) -> int:
    """Return the smallest side, or a larger one whose loss is lower by more than a paired standard error."""
    best, *larger = sorted(losses)
    for size in larger:
        gains = losses[best] - losses[size]
        if gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)):
            best = size
    return best
