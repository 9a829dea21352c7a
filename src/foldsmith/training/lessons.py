"""What a network can learn of images without labels: to reconstruct them, or to tell them apart."""

import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from foldsmith.augment.host import augment_batch
from foldsmith.augment.rows import build_augmentation
from foldsmith.data.cache import PixelCache
from foldsmith.data.pixels import Pixels
from foldsmith.inference.compute import Compute
from foldsmith.inference.features import capture_features
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import compute_logits, reconstruct
from foldsmith.models import last_layer
from foldsmith.models.autoencoder import Autoencoder
from foldsmith.process.files import save_png
from foldsmith.recipes import Recipe
from foldsmith.run.paths import RunPaths
from foldsmith.seeding import derive_seed
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.losses import ClassificationLoss
from foldsmith.training.objective import Classification, Objective, Reconstruction

PICTURED = 10  # images shown beside what was learned of them
NEIGHBOURS = 4  # shown of each
MOST_MEASURED = 1024  # held-out images that are told apart after every epoch
MOST_COMPARED = 20_000  # images among which the neighbours of the pictured ones are sought
TEMPERATURE = 0.1  # of the similarities when they are measured


class Lesson(Protocol):
    """What a network learns of images without labels, and how well: `num_classes` are those of its head."""

    num_classes: int
    reconstructs: bool

    def labels(self, count: int) -> np.ndarray:
        """What `count` images are told to be, int64 (count,)."""
        ...

    def objective(self, compute: Compute) -> Objective: ...

    def measure(self, model: nn.Module, rows: np.ndarray, compute: Compute) -> tuple[float, float]:
        """Loss and accuracy on images that are not trained on; NaN for what there is none of."""
        ...

    def parts_of(self, model: nn.Module) -> dict[str, nn.Module]:
        """What folds start from, by the names of PRETRAINED."""
        ...

    def write_picture(self, model: nn.Module, rows: np.ndarray, compute: Compute) -> None: ...


@dataclass(frozen=True)
class Reconstructing:
    """An autoencoder learns to give back the images it is shown."""

    run: RunPaths
    recipe: Recipe
    cache: PixelCache
    batch_limit: BatchLimit
    num_classes: int
    reconstructs = True

    def labels(self, count: int) -> np.ndarray:
        return np.zeros(count, np.int64)  # the loader gives labels; the objective looks at none

    def objective(self, compute: Compute) -> Objective:
        return Reconstruction()

    def measure(self, model: nn.Module, rows: np.ndarray, compute: Compute) -> tuple[float, float]:
        """Mean squared error over the images in these rows."""
        total, batch_size = 0.0, self.recipe.predict_batch_size
        pairs = reconstruct(model, self.cache.pixels, rows, batch_size, compute, self.batch_limit)
        for images, made in pairs:
            total += float((made - images).square().mean(dim=(1, 2, 3)).double().sum())
        return total / len(rows), float("nan")

    def parts_of(self, model: nn.Module) -> dict[str, nn.Module]:
        assert isinstance(model, Autoencoder)  # check_recipe has seen that it is
        return {"encoder": model.encoder, "decoder": model.decoder}

    def write_picture(self, model: nn.Module, rows: np.ndarray, compute: Compute) -> None:
        """A row of images above a row of their reconstructions."""
        pairs = list(reconstruct(model, self.cache.pixels, rows, PICTURED, compute, self.batch_limit))
        pictured = [torch.cat([pair[side] for pair in pairs]) for side in (0, 1)]
        pictures = [join_images(compute.to_pixels(images)) for images in pictured]
        save_png(self.run.reconstructions, np.concatenate(pictures))


@dataclass(frozen=True)
class TellingApart:
    """Any network learns to tell every image from all others, as if each were a class of its own.

    Exemplar-CNN (Dosovitskiy et al. 2014), with one row of weights an image as Cao and Wu (Training vision
    transformers with only 2040 images, 2022) found it to suit small sets; labels are smoothed as the recipe
    says.
    """

    run: RunPaths
    recipe: Recipe
    cache: PixelCache
    batch_limit: BatchLimit
    rows: np.ndarray  # (n,) in the cache; what is trained on, each image a class of its own
    reconstructs = False

    @property
    def num_classes(self) -> int:
        return len(self.rows)

    def labels(self, count: int) -> np.ndarray:
        return np.arange(count)

    def objective(self, compute: Compute) -> Objective:
        loss = ClassificationLoss("ce", label_smoothing=self.recipe.label_smoothing)
        return Classification(loss.to(compute.device), SingleLabel(self.num_classes))

    def measure(self, model: nn.Module, rows: np.ndarray, compute: Compute) -> tuple[float, float]:
        """How well images that are augmented in one way are found among those augmented in another: the cross
        entropy of their similarities (InfoNCE; van den Oord et al. 2018), and the share that is nearest."""
        images = self.cache.pixels[rows[:MOST_MEASURED]]
        recipe = self.recipe
        augmentation = build_augmentation(
            recipe.augment, recipe.image_size, recipe.erase, recipe.augment_strength
        )
        seeds = [derive_seed(recipe.seed, "pretrain", "measured", view) for view in range(2)]
        views = [augment_batch(augmentation, images, seed) for seed in seeds]
        one, other = (self._features(model, view, np.arange(len(view)), compute) for view in views)
        logits = one @ other.T / TEMPERATURE
        right = torch.arange(len(logits))
        loss = cross_entropy(logits, right)
        return float(loss), float((logits.argmax(dim=1) == right).double().mean())

    def parts_of(self, model: nn.Module) -> dict[str, nn.Module]:
        """All but the last layer, which knows the images one by one."""
        head = last_layer(model, self.num_classes)
        assert head is not None  # check_recipe has seen that there is one
        encoder = copy.deepcopy(model)
        encoder.set_submodule(head[0], nn.Identity())
        return {"encoder": encoder}

    def write_picture(self, model: nn.Module, rows: np.ndarray, compute: Compute) -> None:
        """A row of images above those of the trained ones that are most like them, the nearest first."""
        others = self.rows[:MOST_COMPARED]
        features = [self._features(model, self.cache.pixels, part, compute) for part in (rows, others)]
        alike = features[0] @ features[1].T
        itself = torch.from_numpy(rows[:, None] == others)
        count = min(NEIGHBOURS, len(others) - 1)
        # (len(rows), count)
        nearest = alike.masked_fill(itself, -torch.inf).topk(count, dim=1).indices.numpy()
        shown = [rows, *(others[nearest[:, place]] for place in range(count))]
        pictures = [join_images(self.cache.pixels[part]) for part in shown]
        save_png(self.run.neighbours, np.concatenate(pictures))

    def _features(self, model: nn.Module, pixels: Pixels, rows: np.ndarray, compute: Compute) -> torch.Tensor:
        """What enters the last layer for these rows (n,) of pixels, each of length 1, float32 (n, D)."""
        with capture_features(model, self.num_classes) as captured:
            size = self.recipe.predict_batch_size
            # logits, one for each image that is trained on, are too many to be kept
            for _ in compute_logits(model, pixels, rows, ("identity",), size, compute, self.batch_limit):
                pass
        return normalize(torch.from_numpy(np.concatenate(captured)), dim=1)


def join_images(images: np.ndarray, gap: int = 4) -> np.ndarray:
    """Images uint8 (n, H, W, 3) beside each other on white, uint8 (H + gap, n * (W + gap), 3)."""
    framed = np.pad(images, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)
