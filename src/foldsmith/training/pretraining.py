"""Pretraining without labels: an autoencoder learns to reconstruct the images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from foldsmith.data.cache import PixelCache
from foldsmith.errors import InputError
from foldsmith.files import save_png
from foldsmith.models import build_model, normalisation
from foldsmith.models.autoencoder import Autoencoder
from foldsmith.paths import RunPaths
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.training.checkpoint import Log
from foldsmith.training.compute import Compute, build_compute, set_determinism
from foldsmith.training.engine import reconstruct
from foldsmith.training.epochs import Epochs
from foldsmith.training.objective import Reconstruction
from foldsmith.training.portions import Portion
from foldsmith.training.state import build_state
from foldsmith.training.weights import save_weights

PICTURED = 10  # images shown beside their reconstructions


@dataclass(frozen=True)
class Pretraining:
    """The pretraining of one run: `rows` (n,) of the cache, of which a share is held out and only measures.

    `pictured` are the rows of the images that are shown beside their reconstructions. `made_from` is as in
    Epochs.
    """

    run: RunPaths
    recipe: Recipe
    num_classes: int
    cache: PixelCache
    rows: np.ndarray
    pictured: np.ndarray
    made_from: str
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None

    def train(self) -> dict[str, Any]:
        """Trains, from its checkpoint if there is one; writes encoder, decoder, log and picture.

        The weights of the epoch with the lowest held-out loss are kept where the recipe stops early, else
        the last ones. Returns facts for run.json. Raises InputError if a loss is not finite.
        """
        started, recipe = time.monotonic(), self.recipe.pretraining
        set_determinism(recipe.deterministic)
        torch.manual_seed(derive_seed(recipe.seed, "initial weights", "pretrain"))
        model = build_model(recipe.model, self.num_classes, recipe.image_size, recipe.channels)
        mean, std = normalisation(model, from_pretrained=False, channels=recipe.channels)
        mean, std = recipe.mean or mean, recipe.std or std
        compute = build_compute(self.device, self.precision, mean, std, reconstructs=True)
        held_out, trained = self._split()
        state = build_state(model, recipe, compute)
        portion = Portion(recipe.predict_batch_size)

        def measure(model: nn.Module) -> tuple[float, float]:
            loss = self._loss(model, held_out, compute, portion)
            if not np.isfinite(loss):
                raise InputError("pretrain: the held-out loss is not finite; lower pretrain_lr.")
            return loss, float("nan")

        def keep_best(log: Log) -> bool:
            """Keeps the weights so far, if they are to be kept; whether there is hope of better ones."""
            losses = [entry["val_loss"] for entry in log]
            best = int(np.argmin(losses)) + 1
            if not recipe.pretrain_patience or best == len(log):
                self._save(model)
            return not recipe.pretrain_patience or len(log) - best < recipe.pretrain_patience

        position = Epochs(
            name="pretrain",
            purpose="pretrain",
            recipe=recipe,
            pixels=self.cache.pixels,
            rows=trained,
            labels=np.zeros(len(trained), np.int64),  # the loader gives labels; the objective looks at none
            objective=Reconstruction(),
            measure=measure,
            log_path=self.run.pretrain_log,
            checkpoint_path=self.run.pretrain_checkpoint,
            made_from=self.made_from,
            workers=self.workers,
            goes_on=keep_best,
        ).run(state, compute)
        load_pretrained(model, self.run)
        self._write_picture(model, compute)
        return {
            "parameters": sum(
                tensor.numel() for part in parts_of(model).values() for tensor in part.parameters()
            ),
            "training_images": len(trained),
            "held_out_images": len(held_out),
            "epochs": len(position.log),
            "held_out_loss": self._loss(model, held_out, compute, portion),
            "device": str(compute.device),
            "precision": compute.precision,
            "hardware": compute.hardware,
            "micro_batch": position.micro_batch,
            "training_seconds": sum(entry["seconds"] for entry in position.log),
            "seconds": time.monotonic() - started,
        }

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """Held-out and training rows, drawn from the seed alone; at least one is held out."""
        count = max(1, round(self.recipe.pretrain_holdout * len(self.rows)))
        if len(self.rows) - count < 2:
            raise InputError(f"{len(self.rows)} images are too few to pretrain on.")
        draws = np.random.default_rng(derive_seed(self.recipe.seed, "pretrain", "held out"))
        shuffled = draws.permutation(len(self.rows))
        return np.sort(self.rows[shuffled[:count]]), np.sort(self.rows[shuffled[count:]])

    def _loss(self, model: nn.Module, rows: np.ndarray, compute: Compute, portion: Portion) -> float:
        """Mean squared error over the images in these rows."""
        total, batch_size = 0.0, self.recipe.pretraining.predict_batch_size
        for images, made in reconstruct(model, self.cache.pixels, rows, batch_size, compute, portion):
            total += float((made - images).square().mean(dim=(1, 2, 3)).double().sum())
        return total / len(rows)

    def _save(self, model: nn.Module) -> None:
        for path, part in zip(pretrained_paths(self.run), parts_of(model).values(), strict=True):
            save_weights(path, part)

    def _write_picture(self, model: nn.Module, compute: Compute) -> None:
        """A row of images above a row of their reconstructions."""
        pairs = list(reconstruct(model, self.cache.pixels, self.pictured, PICTURED, compute))
        rows = [torch.cat([pair[side] for pair in pairs]) for side in (0, 1)]
        save_png(self.run.reconstructions, np.concatenate([join_images(compute.to_pixels(r)) for r in rows]))


def join_images(images: np.ndarray, gap: int = 4) -> np.ndarray:
    """Images uint8 (n, H, W, 3) beside each other on white, uint8 (H + gap, n * (W + gap), 3)."""
    framed = np.pad(images, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """What pretraining trains; check_recipe has seen that it is there."""
    assert isinstance(model, Autoencoder)
    return {"encoder": model.encoder, "decoder": model.decoder}


def pretrained_paths(run: RunPaths) -> tuple[Path, Path]:
    return run.pretrained("encoder"), run.pretrained("decoder")


def load_pretrained(model: nn.Module, run: RunPaths) -> None:
    """Loads encoder and decoder of the run's pretraining into a network of the same kind."""
    for path, part in zip(pretrained_paths(run), parts_of(model).values(), strict=True):
        part.load_state_dict(load_file(path))


def choose_pictured(paths: Sequence[str]) -> list[str]:
    """At most PICTURED of these paths, evenly spread."""
    places = np.linspace(0, len(paths) - 1, min(PICTURED, len(paths))).round().astype(int)
    return [paths[place] for place in places]
