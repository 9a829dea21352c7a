"""One network of a fold: trained on all other folds, and its predictions of the held-out images."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from foldsmith.data.cache import PixelCache
from foldsmith.errors import InputError
from foldsmith.evaluation.predictions import save_held_out
from foldsmith.inference.compute import Compute, build_compute, set_determinism
from foldsmith.inference.memory import Portion
from foldsmith.inference.predict import predict
from foldsmith.inference.views import check_views
from foldsmith.inference.weights import save_weights
from foldsmith.models import build_model, normalisation
from foldsmith.recipes import Recipe
from foldsmith.run.paths import FoldPaths, RunPaths
from foldsmith.seeding import derive_seed
from foldsmith.tasks.losses import ClassificationLoss, class_weights, log_priors, loss_and_accuracy
from foldsmith.training.loop import CHECKPOINT_SECONDS, Epochs
from foldsmith.training.mixing import build_mixing
from foldsmith.training.objective import build_objective
from foldsmith.training.pretraining import load_pretrained
from foldsmith.training.processes import ALONE, Processes
from foldsmith.training.recalibration import recalibrate
from foldsmith.training.state import build_state
from foldsmith.training.whitening import fit_first_layer


@dataclass(frozen=True)
class Samples:
    """Images of a fold: `paths`, their `rows` in the cache int64 (n,), and `labels` int64 (n,)."""

    paths: list[str]
    rows: np.ndarray
    labels: np.ndarray


def select_samples(folds: pd.DataFrame, chosen: pd.Series, cache: PixelCache) -> Samples:
    """The samples of folds.csv where `chosen` is true."""
    paths = list(folds.loc[chosen, "path"])
    return Samples(paths, cache.rows(paths), folds.loc[chosen, "label"].to_numpy(np.int64))


@dataclass(frozen=True)
class FoldTraining:
    """One network of one fold of one run, ready to train.

    `made_from` is the digest of all that the result depends on: recipe, fold, data and versions, and never
    `workers`, other folds, or interruptions. `pretrained` is the run whose pretraining it starts from, where
    that is another one. Where a fold has more networks, each has a `name` for its lines, `paths` of its own,
    and `heldout_path` for its own predictions.
    """

    run: RunPaths
    fold: int
    recipe: Recipe
    num_classes: int
    cache: PixelCache
    training: Samples
    held_out: Samples
    made_from: str
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    pretrained: RunPaths | None = None
    processes: Processes = ALONE
    name: str = ""
    paths: FoldPaths | None = None
    heldout_path: Path | None = None

    @property
    def files(self) -> FoldPaths:
        return self.paths or self.run.of_fold(self.fold)

    @property
    def title(self) -> str:
        return self.name or f"fold {self.fold}"

    def train(self) -> dict[str, Any]:
        """Trains, from its checkpoint if there is one; writes weights, log and held-out predictions.

        Of several processes only the first writes. Returns facts for run.json. Raises InputError if a loss is
        not finite.
        """
        started, recipe = time.monotonic(), self.recipe
        check_views(recipe.views)
        set_determinism(recipe.deterministic)
        torch.manual_seed(derive_seed(recipe.seed, "initial weights", self.fold))
        model = build_model(
            recipe.model,
            self.num_classes,
            recipe.image_size,
            recipe.channels,
            recipe.pretrained,
            recipe.weights,
            recipe.drop_path,
        )
        if recipe.pretrain != "none":
            load_pretrained(model, self.pretrained or self.run, recipe.pretrain, self.num_classes)
        mean, std = normalisation(model, recipe.pretrained or bool(recipe.weights), recipe.channels)
        mean, std = recipe.mean or mean, recipe.std or std
        reconstructs = recipe.reconstruction_weight > 0
        compute = build_compute(self.device, self.precision, mean, std, reconstructs)
        if recipe.pretrain == "none":
            fit_first_layer(model, self.cache.pixels, self.training.rows, compute)
        if compute.on_gpu and self.processes.count > 1:
            # torch's own loses the activations of timm's norms; importing timm takes seconds
            from timm.layers import convert_sync_batchnorm

            model = convert_sync_batchnorm(model)
        state = build_state(model, recipe, compute)

        portion = Portion(recipe.predict_batch_size)
        epochs = self._epochs(compute, portion)
        position = epochs.run(state, compute)
        if recipe.recalibrate:
            batches = epochs.plain_batches(compute, recipe.recalibrate)
            recalibrate(state.ema.model, batches, compute, self.processes)

        probabilities = self._predict(state.ema.model, recipe.views, compute, portion)
        if not np.isfinite(probabilities).all():
            raise InputError(f"{self.title}: predictions are not finite after the last epoch; lower lr.")
        if self.processes.is_first:
            path = self.heldout_path or self.files.heldout
            save_held_out(path, self.held_out.paths, self.held_out.labels, probabilities)
            save_weights(self.files.weights, state.ema.model)
        return {
            "num_classes": self.num_classes,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "training_images": len(self.training.labels),
            "held_out_images": len(self.held_out.labels),
            "normalisation": {"mean": list(mean), "std": list(std)},
            "device": str(compute.device),
            "precision": compute.precision,
            "hardware": compute.hardware,
            "processes": self.processes.count,
            # of each process; 0: whole batches. Batch norm saw as many images at a time
            "micro_batch": position.micro_batch,
            "training_seconds": sum(entry["seconds"] for entry in position.log),
            "seconds": time.monotonic() - started,
        }

    def _epochs(self, compute: Compute, portion: Portion) -> Epochs:
        recipe, labels = self.recipe, self.training.labels
        weights = class_weights(recipe.class_weights, labels, self.num_classes)
        adjustment = log_priors(labels, self.num_classes) * recipe.logit_adjustment
        loss_function = ClassificationLoss(
            recipe.loss, weights, recipe.label_smoothing, adjustment if recipe.logit_adjustment else None
        )

        def measure(model: nn.Module) -> tuple[float, float]:
            probabilities = self._predict(model, ("identity",), compute, portion)
            return loss_and_accuracy(probabilities, self.held_out.labels)

        return Epochs(
            name=self.title,
            purpose=self.fold,
            recipe=recipe,
            pixels=self.cache.pixels,
            rows=self.training.rows,
            labels=labels,
            objective=build_objective(loss_function.to(compute.device), recipe.reconstruction_weight),
            measure=measure,
            log_path=self.files.log,
            checkpoint_path=self.files.checkpoint,
            made_from=self.made_from,
            workers=self.workers,
            checkpoint_seconds=self.checkpoint_seconds,
            mixing=build_mixing(recipe, self.fold, self.num_classes),
            processes=self.processes,
        )

    def _predict(
        self, model: nn.Module, views: tuple[str, ...], compute: Compute, portion: Portion
    ) -> np.ndarray:
        batch_size = self.recipe.predict_batch_size
        self.processes.align(model)
        rows = self.processes.my_part(self.held_out.rows)
        mine = predict(
            model, self.cache.pixels, rows, views, batch_size, compute,
            portion=portion, loss=self.recipe.loss,
        )  # fmt: skip
        return self.processes.join_parts(mine)
