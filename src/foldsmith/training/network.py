"""Train one network of a fold on all other folds, and predict the held-out images."""

import time
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from foldsmith.errors import InputError
from foldsmith.evaluation.predictions import save_held_out
from foldsmith.inference.compute import Compute, choose_precision, set_determinism
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.inference.views import check_views
from foldsmith.inference.weights import join_extractors, load_weights, save_weights
from foldsmith.models import Start, build_model, build_probed, normalisation
from foldsmith.models.probe import Extractor, ProbedNetwork, recompute_activations
from foldsmith.process.files import load_json
from foldsmith.process.terminal import say
from foldsmith.recipes import Recipe
from foldsmith.run.paths import RunPaths
from foldsmith.seeding import derive_seed
from foldsmith.training.batches import TrainingData
from foldsmith.training.epoch import Tally, train_one_epoch
from foldsmith.training.loop import Epochs, TrainingFiles
from foldsmith.training.machine import Machine
from foldsmith.training.mixing import build_mixing
from foldsmith.training.names import NetworkName
from foldsmith.training.objective import build_objective
from foldsmith.training.pretraining import load_pretrained
from foldsmith.training.probe import fit_probe
from foldsmith.training.recalibration import recalibrate
from foldsmith.training.samples import Fold
from foldsmith.training.sizes import training_sizes
from foldsmith.training.state import build_state
from foldsmith.training.step import build_step
from foldsmith.training.whitening import fit_first_layer

REHEARSED_STEPS = 3


def trains_in_fp32(recipe: Recipe, model: nn.Module) -> bool:
    """Return whether `--precision auto` trains in fp32 on a CPU with bfloat16, as that is faster there.

    So it is for an autoencoder's decoder, and for depthwise convolutions: EfficientNet-Lite0 takes a step of
    32 images in 1.1 s instead of 2.0. Of the latter only those that start from a probe are trained so: the
    numbers of other recipes stay as they were.
    """
    if recipe.reconstruction_weight > 0:
        return True
    depthwise = (module for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups > 1)
    return recipe.head == "probe" and recipe.epochs > 0 and any(depthwise)


def joined_facts(run: RunPaths, recipe: Recipe) -> list[dict[str, Any]]:
    """Return what the networks of the runs that a recipe joins are built from."""
    facts = [load_json(RunPaths(run.root.parent / name).fold_run(0)) for name in recipe.join]
    return [{key: entry[key] for key in ("recipe", "num_classes", "normalisation")} for entry in facts]


def load_joined(own: Extractor, normalisation: dict[str, Any], run: RunPaths, recipe: Recipe) -> Extractor:
    """Return an extractor of a network's own features and those of the runs that the recipe joins."""
    extractor = join_extractors(own, normalisation, joined_facts(run, recipe))
    for part, name in zip(extractor.parts[1:], recipe.join, strict=True):
        other = RunPaths(run.root.parent / name)
        trained = load_weights(other.weights(0), load_json(other.fold_run(0)))
        part.load_state_dict(trained.extractor.state_dict())
    return extractor


@dataclass(frozen=True)
class Rehearsal:
    """Measured speeds of a network: seconds per step, steps per epoch, and seconds per predicted image."""

    step_seconds: float
    num_steps: int
    image_seconds: float


@dataclass(frozen=True)
class NetworkTraining:
    """One network of a fold, ready to train.

    `provenance_digest` is the digest of all inputs: recipe, fold, data and versions. It does not depend on
    the number of workers, other folds, or interruptions.
    """

    fold: Fold
    recipe: Recipe
    name: NetworkName
    provenance_digest: str
    machine: Machine

    def train(self) -> dict[str, Any]:
        """Train, resuming from a checkpoint if there is one; write weights, log and held-out predictions.

        Return facts for run.json. Of several processes only the first writes files. Raise InputError if a
        loss or a prediction is not finite.
        """
        started, recipe, fold = time.monotonic(), self.recipe, self.fold
        check_views(recipe.views)
        set_determinism(recipe.deterministic)
        model, compute, normalised = self._build()
        probe = self._fit_probe(model, compute)
        state = build_state(model, recipe, compute)
        batch_limit = BatchLimit(recipe.predict_batch_size)
        epochs = self._epochs(compute, batch_limit)
        position = epochs.run(state, compute) if recipe.epochs else epochs.untrained(state, probe)
        if recipe.recalibrate and recipe.epochs:
            batches = epochs.plain_batches(compute, recipe.recalibrate)
            recalibrate(state.ema.model, batches, compute, self.machine.processes)
        self._save(state.ema.model, self._predict(state.ema.model, recipe.views, compute, batch_limit))
        return {
            "task": fold.task.name,
            "num_classes": fold.task.num_outputs,
            "scaling": fold.task.scaling,  # of a regression: offset and scale of each number
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "training_images": len(fold.training.labels),
            "held_out_images": len(fold.held_out.labels),
            "normalisation": normalised,
            "device": str(compute.device),
            "precision": compute.precision,
            "hardware": compute.hardware,
            "processes": self.machine.processes.count,
            # images per process and pass; 0: whole batches. Batch norm's statistics are of as many images
            "micro_batch": position.micro_batch,
            **({"probe": probe} if probe else {}),
            "training_seconds": sum(entry["seconds"] for entry in position.log)
            + (probe.get("fit_seconds", 0.0) if recipe.epochs else 0.0),
            "seconds": time.monotonic() - started,
        }

    def _fit_probe(self, model: nn.Module, compute: Compute) -> dict[str, Any]:
        """Fit the head of a probed network; return the facts of its choice, or none of another network."""
        if not isinstance(model, ProbedNetwork):
            return {}
        # features in the precision of a probe, with which they are shared
        precision = choose_precision(self.machine.precision, compute.device)
        fitted = fit_probe(model.extractor, self.fold, self.recipe, replace(compute, precision=precision))
        model.head, facts = fitted.head, fitted.facts
        if self.recipe.epochs and self.machine.processes.is_first:
            say(
                f"{self.name.title}  starts from a {facts['kind']} classifier on {facts['form']['inputs']} "
                f"features ({facts['features']}), training {facts['training_accuracy']:.1%}"
            )
        return {**facts, "joined": joined_facts(self.fold.run, self.recipe)}

    def rehearse(self) -> "Rehearsal":
        """Take up to three steps and predict a batch with a network that is thrown away; return the speeds.

        An image size, a batch or a network that this machine cannot train fails here, within seconds. No
        random stream of the training is used.
        """
        recipe, processes = self.recipe, self.machine.processes
        set_determinism(recipe.deterministic)
        model, compute, _ = self._build()
        state, batch_limit = build_state(model, recipe, compute), BatchLimit(recipe.predict_batch_size)
        epochs = self._epochs(compute, batch_limit)
        batches, loader = epochs.build_batches(compute)
        batches.side = training_sizes(recipe)[-1]
        step = build_step(state, epochs.objective, compute, recipe, batches, processes)
        count, times = min(REHEARSED_STEPS, len(batches)), [time.monotonic()]

        def note_time(tally: Tally) -> None:
            compute.synchronize()
            times.append(time.monotonic())

        train_one_epoch(step, islice(loader, count), np.zeros(count), after_step=note_time)
        rows = self.fold.held_out.rows[: recipe.predict_batch_size]
        begun = time.monotonic()
        average = ViewAverage(self.fold.task)
        predict(model, CachedImages.of(self.fold.cache, rows), average, compute, batch_limit)
        # the first step also allocates memory and chooses kernels
        seconds = min(after - before for before, after in pairwise(times))
        return Rehearsal(seconds, len(batches), (time.monotonic() - begun) / len(rows))

    def _build(self) -> tuple[nn.Module, Compute, dict[str, list[float]]]:
        """Return the network with its initial weights, its device, and the mean and std of its images."""
        recipe, fold = self.recipe, self.fold
        # folds share the features of a probed network
        purpose = "probed" if recipe.head == "probe" else fold.number
        torch.manual_seed(derive_seed(recipe.seed, "initial weights", purpose))
        start = Start(recipe.pretrained, recipe.weights)
        model: nn.Module
        if recipe.head == "probe":
            model = build_probed(recipe, fold.task.num_outputs, start, recipe.drop_path)
        else:
            model = build_model(
                recipe.model,
                fold.task.num_outputs,
                recipe.image_size,
                recipe.channels,
                start,
                recipe.drop_path,
            )
        if recipe.grad_checkpointing:
            recompute_activations(model, recipe.model)
        if recipe.pretrain != "none":
            load_pretrained(model, fold.run)
        mean, std = normalisation(model, start.is_trained, recipe.channels)
        mean, std = recipe.mean or mean, recipe.std or std
        compute = self.machine.compute(mean, std, reconstructs=trains_in_fp32(recipe, model))
        if isinstance(model, ProbedNetwork) and recipe.join:
            model.extractor = load_joined(model.extractor, {"mean": mean, "std": std}, fold.run, recipe)
        if recipe.pretrain == "none":
            fit_first_layer(model, fold.cache.pixels, fold.training.rows, compute)
        if compute.on_gpu and self.machine.processes.count > 1:
            # torch's own function loses the activations of timm's norms; importing timm takes seconds
            from timm.layers import convert_sync_batchnorm

            model = convert_sync_batchnorm(model)
        return model, compute, {"mean": list(mean), "std": list(std)}

    def _save(self, model: nn.Module, predictions: np.ndarray) -> None:
        """Write held-out predictions and weights. Raise InputError if a prediction is not finite."""
        if not np.isfinite(predictions).all():
            raise InputError(f"{self.name.title}: predictions are not finite after the last epoch; lower lr.")
        if self.machine.processes.is_first:
            save_held_out(self.name.own.heldout, self.fold.held_out, predictions, self.fold.task)
            save_weights(self.name.files.weights, model)

    def _epochs(self, compute: Compute, batch_limit: BatchLimit) -> Epochs:
        recipe, fold, labels = self.recipe, self.fold, self.fold.training.labels
        loss_function = fold.task.build_loss(
            labels, recipe.class_weights, recipe.label_smoothing, recipe.logit_adjustment
        )

        def measure(model: nn.Module) -> tuple[float, float]:
            predictions = self._predict(model, ("identity",), compute, batch_limit)
            return fold.task.loss_and_credit(predictions, fold.held_out.labels)

        return Epochs(
            name=self.name.title,
            purpose=fold.number,
            recipe=recipe,
            data=TrainingData(fold.cache.pixels, fold.training.rows, labels),
            objective=build_objective(
                loss_function.to(compute.device), fold.task, recipe.reconstruction_weight
            ),
            measure=measure,
            files=TrainingFiles(self.name.files.log, self.name.files.checkpoint, self.provenance_digest),
            machine=self.machine,
            mixing=build_mixing(recipe, fold.number, fold.task),
        )

    def _predict(
        self, model: nn.Module, views: tuple[str, ...], compute: Compute, batch_limit: BatchLimit
    ) -> np.ndarray:
        """Return the predictions of the held-out images, (n, K), in every process."""
        fold, processes = self.fold, self.machine.processes
        processes.align(model)
        images = CachedImages.of(fold.cache, processes.own_rows(fold.held_out.rows))
        own = predict(model, images, ViewAverage(fold.task, views), compute, batch_limit)
        return processes.join_rows(own)
