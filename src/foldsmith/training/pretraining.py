"""Pretraining without labels: a network learns to reconstruct images, or to tell them apart."""

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
from foldsmith.inference.compute import build_compute, set_determinism
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.weights import save_weights
from foldsmith.models import build_model, last_layer, normalisation
from foldsmith.models.autoencoder import Autoencoder
from foldsmith.recipes import PRETRAINED, Recipe
from foldsmith.run.paths import RunPaths
from foldsmith.seeding import derive_seed
from foldsmith.training.checkpoint import Log
from foldsmith.training.lessons import PICTURED, Lesson, Reconstructing, TellingApart
from foldsmith.training.loop import Epochs
from foldsmith.training.state import build_state
from foldsmith.training.whitening import fit_first_layer


@dataclass(frozen=True)
class Pretraining:
    """The pretraining of one run: `rows` (n,) of the cache, of which a share is held out and only measures.

    `pictured` are the rows of the images that are shown beside what was learned of them. `made_from` is as in
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
        """Trains, from its checkpoint if there is one; writes what folds start from, log and picture.

        The weights of the epoch with the lowest held-out loss are kept where the recipe stops early, else
        the last ones. Returns facts for run.json. Raises InputError if a loss is not finite.
        """
        started, recipe = time.monotonic(), self.recipe.pretraining
        set_determinism(recipe.deterministic)
        held_out, trained = self._split()
        lesson = self._lesson(trained)
        torch.manual_seed(derive_seed(recipe.seed, "initial weights", "pretrain"))
        model = build_model(
            recipe.model,
            lesson.num_classes,
            recipe.image_size,
            recipe.channels,
            drop_path=recipe.drop_path,
        )
        mean, std = normalisation(model, from_pretrained=False, channels=recipe.channels)
        mean, std = recipe.mean or mean, recipe.std or std
        compute = build_compute(self.device, self.precision, mean, std, lesson.reconstructs)
        fit_first_layer(model, self.cache.pixels, trained, compute)
        state = build_state(model, recipe, compute)

        def measure(model: nn.Module) -> tuple[float, float]:
            loss, accuracy = lesson.measure(model, held_out, compute)
            if not np.isfinite(loss):
                raise InputError("pretrain: the held-out loss is not finite; lower pretrain_lr.")
            return loss, accuracy

        def keep_best(log: Log) -> bool:
            """Keeps the weights so far, if they are to be kept; whether there is hope of better ones."""
            losses = [entry["val_loss"] for entry in log]
            best = int(np.argmin(losses)) + 1
            if not recipe.pretrain_patience or best == len(log):
                for part, trained_part in lesson.parts_of(model).items():
                    save_weights(self.run.pretrained(part), trained_part)
            return not recipe.pretrain_patience or len(log) - best < recipe.pretrain_patience

        position = Epochs(
            name="pretrain",
            purpose="pretrain",
            recipe=recipe,
            pixels=self.cache.pixels,
            rows=trained,
            labels=lesson.labels(len(trained)),
            objective=lesson.objective(compute),
            measure=measure,
            log_path=self.run.pretrain_log,
            checkpoint_path=self.run.pretrain_checkpoint,
            made_from=self.made_from,
            workers=self.workers,
            goes_on=keep_best,
        ).run(state, compute)
        load_pretrained(model, self.run, recipe.pretrain, lesson.num_classes)
        lesson.write_picture(model, self.pictured, compute)
        parts = lesson.parts_of(model).values()
        return {
            "parameters": sum(tensor.numel() for part in parts for tensor in part.parameters()),
            "training_images": len(trained),
            "held_out_images": len(held_out),
            "epochs": len(position.log),
            "held_out_loss": lesson.measure(model, held_out, compute)[0],
            "device": str(compute.device),
            "precision": compute.precision,
            "hardware": compute.hardware,
            "micro_batch": position.micro_batch,
            "training_seconds": sum(entry["seconds"] for entry in position.log),
            "seconds": time.monotonic() - started,
        }

    def _lesson(self, trained: np.ndarray) -> Lesson:
        recipe = self.recipe.pretraining
        batch_limit = BatchLimit(recipe.predict_batch_size)
        if recipe.pretrain == "instances":
            return TellingApart(self.run, recipe, self.cache, batch_limit, trained)
        return Reconstructing(self.run, recipe, self.cache, batch_limit, self.num_classes)

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """Held-out and training rows, drawn from the seed alone; at least one is held out, or two where they
        are told apart: one alone is found among itself by any network."""
        least = 2 if self.recipe.pretrain == "instances" else 1
        count = max(least, round(self.recipe.pretrain_holdout * len(self.rows)))
        if len(self.rows) - count < 2:
            raise InputError(f"{len(self.rows)} images are too few to pretrain on.")
        draws = np.random.default_rng(derive_seed(self.recipe.seed, "pretrain", "held out"))
        shuffled = draws.permutation(len(self.rows))
        return np.sort(self.rows[shuffled[:count]]), np.sort(self.rows[shuffled[count:]])


def pretrained_paths(run: RunPaths, kind: str) -> list[Path]:
    return [run.pretrained(part) for part in PRETRAINED[kind]]


def picture_path(run: RunPaths, kind: str) -> Path:
    return run.neighbours if kind == "instances" else run.reconstructions


def load_pretrained(model: nn.Module, run: RunPaths, kind: str, num_classes: int) -> None:
    """Loads what the run's pretraining learned into a network of the same kind, whose head stays as it is."""
    if kind == "autoencoder":
        assert isinstance(model, Autoencoder)  # check_recipe has seen that it is
        for part in PRETRAINED[kind]:
            model.get_submodule(part).load_state_dict(load_file(run.pretrained(part)))
        return
    head = last_layer(model, num_classes)
    assert head is not None  # check_recipe has seen that there is one
    weights = {**load_file(run.pretrained("encoder"))}
    weights |= {f"{head[0]}.{name}": tensor for name, tensor in head[1].state_dict().items()}
    model.load_state_dict(weights)


def choose_pictured(paths: Sequence[str]) -> list[str]:
    """At most PICTURED of these paths, evenly spread."""
    places = np.linspace(0, len(paths) - 1, min(PICTURED, len(paths))).round().astype(int)
    return [paths[place] for place in places]
