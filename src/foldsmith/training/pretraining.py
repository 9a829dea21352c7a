"""Pretraining without labels: an autoencoder learns to reconstruct images."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from foldsmith.data.cache import PixelCache
from foldsmith.errors import InputError
from foldsmith.inference.compute import Compute, build_compute, set_determinism
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.weights import save_weights
from foldsmith.models import build_model, normalisation
from foldsmith.models.autoencoder import Autoencoder
from foldsmith.process.files import save_png
from foldsmith.recipes import PRETRAINED, Recipe
from foldsmith.run.paths import RunPaths
from foldsmith.seeding import derive_seed
from foldsmith.training.batches import TrainingData
from foldsmith.training.checkpoint import Log
from foldsmith.training.loop import Epochs, TrainingFiles
from foldsmith.training.machine import Machine
from foldsmith.training.objective import Reconstruction
from foldsmith.training.reconstruction import draw_reconstructions, reconstruction_error
from foldsmith.training.state import build_state

MODULES = PRETRAINED["autoencoder"]  # names of the pretrained modules of a network


@dataclass(frozen=True)
class Pretraining:
    """The pretraining of one run: `rows` (n,) of the cache, of which a share is held out to measure the loss.

    `pictured` are the rows of the images in the picture of reconstructions. `provenance_digest` is as in
    TrainingFiles.
    """

    run: RunPaths
    recipe: Recipe
    num_classes: int
    cache: PixelCache
    rows: np.ndarray
    pictured: np.ndarray
    provenance_digest: str
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None

    def train(self) -> dict[str, Any]:
        """Train, resuming from a checkpoint if there is one; write the weights, the log and the picture.

        With early stopping the weights of the epoch with the lowest held-out loss are kept, otherwise the
        last ones. Return facts for run.json. Raise InputError if a loss is not finite.
        """
        started, recipe = time.monotonic(), self.recipe.pretraining
        set_determinism(recipe.deterministic)
        held_out, trained = self._split()
        model, compute = self._build(recipe)
        batch_limit = BatchLimit(recipe.predict_batch_size)
        error_of = partial(
            reconstruction_error,
            images=CachedImages.of(self.cache, held_out),
            compute=compute,
            batch_limit=batch_limit,
        )
        position = Epochs(
            name="pretrain",
            purpose="pretrain",
            recipe=recipe,
            # the loader needs labels; the objective ignores them
            data=TrainingData(self.cache.pixels, trained, np.zeros(len(trained), np.int64)),
            objective=Reconstruction(),
            measure=lambda model: (_finite(error_of(model)), float("nan")),
            files=TrainingFiles(self.run.pretrain_log, self.run.pretrain_checkpoint, self.provenance_digest),
            machine=Machine(self.device, self.precision, self.workers),
            should_continue=partial(self._keep_best, model),
        ).run(build_state(model, recipe, compute), compute)
        load_pretrained(model, self.run)
        picture = draw_reconstructions(
            model, CachedImages.of(self.cache, self.pictured), compute, batch_limit
        )
        save_png(self.run.reconstructions, picture)
        return {
            "parameters": sum(
                tensor.numel() for module in modules_of(model) for tensor in module.parameters()
            ),
            "training_images": len(trained),
            "held_out_images": len(held_out),
            "epochs": len(position.log),
            "held_out_loss": error_of(model),
            "device": str(compute.device),
            "precision": compute.precision,
            "hardware": compute.hardware,
            "micro_batch": position.micro_batch,
            "training_seconds": sum(entry["seconds"] for entry in position.log),
            "seconds": time.monotonic() - started,
        }

    def _build(self, recipe: Recipe) -> tuple[nn.Module, Compute]:
        """Return the network with its initial weights, and its device and precision."""
        torch.manual_seed(derive_seed(recipe.seed, "initial weights", "pretrain"))
        model = build_model(recipe.model, self.num_classes, recipe.image_size, recipe.channels)
        mean, std = normalisation(model, from_pretrained=False, channels=recipe.channels)
        mean, std = recipe.mean or mean, recipe.std or std
        return model, build_compute(self.device, self.precision, mean, std, reconstructs=True)

    def _keep_best(self, model: nn.Module, log: Log) -> bool:
        """Save the weights if the epoch is the best, or without patience; return whether to continue."""
        losses, patience = [entry["val_loss"] for entry in log], self.recipe.pretrain_patience
        best = int(np.argmin(losses)) + 1
        if not patience or best == len(log):
            for name, module in zip(MODULES, modules_of(model), strict=True):
                save_weights(self.run.pretrained(name), module)
        return not patience or len(log) - best < patience

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """Return held-out and training rows, sampled from the seed alone; at least one is held out."""
        count = max(1, round(self.recipe.pretrain_holdout * len(self.rows)))
        if len(self.rows) - count < 2:
            raise InputError(
                f"pretrain: {len(self.rows)} images are too few; choose a recipe without pretraining."
            )
        draws = np.random.default_rng(derive_seed(self.recipe.seed, "pretrain", "held out"))
        shuffled = draws.permutation(len(self.rows))
        return np.sort(self.rows[shuffled[:count]]), np.sort(self.rows[shuffled[count:]])


def _finite(loss: float) -> float:
    """Return the loss. Raise InputError if it is not finite."""
    if not np.isfinite(loss):
        raise InputError("pretrain: the held-out loss is not finite; lower pretrain_lr.")
    return loss


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return the modules of an autoencoder that are pretrained, in the order of MODULES."""
    assert isinstance(model, Autoencoder)  # check_recipe has refused any other network
    return [model.get_submodule(name) for name in MODULES]


def pretrained_paths(run: RunPaths) -> list[Path]:
    """Return the weights files of the pretrained modules, in the order of MODULES."""
    return [run.pretrained(name) for name in MODULES]


def load_pretrained(model: nn.Module, run: RunPaths) -> None:
    """Load the run's pretrained modules into an autoencoder; its head keeps its weights."""
    for path, module in zip(pretrained_paths(run), modules_of(model), strict=True):
        module.load_state_dict(load_file(path))
