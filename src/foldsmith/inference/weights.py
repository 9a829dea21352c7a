"""Weights to predict with, and the network they belong to."""

import copy
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from foldsmith.inference.compute import Compute, build_compute, choose_device, set_determinism
from foldsmith.models import build_model
from foldsmith.process.files import written_whole
from foldsmith.recipes import Recipe
from foldsmith.tasks import Task, build_task


def save_weights(path: Path, model: nn.Module) -> None:
    """Saves a model's weights as safetensors, which knows no channels-last memory."""
    plain = copy.deepcopy(model).to("cpu", memory_format=torch.contiguous_format)
    with written_whole(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_model(plain, str(temporary))
        temporary.chmod(mode)  # safetensors makes files that only their owner may read


def load_weights(path: Path, facts: dict[str, Any]) -> nn.Module:
    """The trained network, on the CPU, built from the facts (run.json) that lie beside its weights."""
    recipe = facts["recipe"]
    model = build_model(recipe["model"], facts["num_classes"], recipe["image_size"], recipe["channels"])
    load_model(model, str(path))
    return model.eval()


def load_trained(
    path: Path, facts: dict[str, Any], device: str, precision: str
) -> tuple[nn.Module, Recipe, Compute]:
    """The trained network, ready to predict, with its recipe and where it computes. Raises InputError."""
    recipe, normalisation = recipe_of(facts), facts["normalisation"]
    set_determinism(recipe.deterministic)
    trained_on = facts["device"].partition(":")[0]
    if precision == "auto" and choose_device(device).type == trained_on:
        precision = facts["precision"]
    compute = build_compute(device, precision, normalisation["mean"], normalisation["std"])
    model = load_weights(path, facts).to(compute.device, memory_format=torch.channels_last)
    return model, recipe, compute


def task_of(facts: dict[str, Any]) -> Task:
    """Return the task that weights were trained for, from the facts (run.json) that lie beside them."""
    return build_task(facts.get("task", "multiclass"), facts["num_classes"], facts["recipe"]["loss"])


def recipe_of(facts: dict[str, Any]) -> Recipe:
    """Return the recipe that weights were trained with; JSON's lists become tuples again.

    Fields that a recipe no longer has are left out: they were for training, which is done.
    """
    known = {field.name for field in fields(Recipe)}
    values = {name: value for name, value in facts["recipe"].items() if name in known}
    return Recipe(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
