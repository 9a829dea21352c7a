"""Trained weights: saving them, and loading them as a network that is ready to predict."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_model
from torch import nn

from foldsmith.inference.compute import Compute, build_compute, choose_device, set_determinism
from foldsmith.models import build_model, build_probed
from foldsmith.models.probe import Extractor, HeadForm, JoinedExtractor, ProbeHead
from foldsmith.process.files import atomic_write
from foldsmith.recipes import Recipe, recipe_of
from foldsmith.tasks import Task, build_task


def save_weights(path: Path, model: nn.Module) -> None:
    """Save a model's weights as safetensors, which has no channels-last memory format."""
    plain = copy.deepcopy(model).to("cpu", memory_format=torch.contiguous_format)
    with atomic_write(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_model(plain, str(temporary))
        temporary.chmod(mode)  # safetensors creates files that only their owner may read


def load_weights(path: Path, provenance: dict[str, Any]) -> nn.Module:
    """Return the trained network, on the CPU, built from the run.json beside its weights."""
    recipe, num_classes = provenance["recipe"], provenance["num_classes"]
    model: nn.Module
    if "probe" in provenance:
        model = build_probed(recipe_of(recipe), num_classes)
        probe = provenance["probe"]
        model.extractor = join_extractors(model.extractor, provenance["normalisation"], probe["joined"])
        model.head = ProbeHead(HeadForm(**probe["form"]), num_classes)
    else:
        model = build_model(recipe["model"], num_classes, recipe["image_size"], recipe["channels"])
    _fill(model, path)
    return model.eval()


def _fill(model: nn.Module, path: Path) -> None:
    """Copy a file's tensors into a network, in the network's types: a bundle may hold float16.

    safetensors saves tensors that share memory once. Raise RuntimeError if others are absent.
    """
    own = model.state_dict()
    tensors = {
        name: tensor.to(own[name].dtype) if name in own else tensor
        for name, tensor in load_file(str(path)).items()
    }
    absent = model.load_state_dict(tensors, strict=False)
    stored = {own[name].data_ptr() for name in tensors if name in own}
    lost = [name for name in absent.missing_keys if own[name].data_ptr() not in stored]
    if lost or absent.unexpected_keys:
        raise RuntimeError(f"{path} is of another network: {(lost + absent.unexpected_keys)[0]}")


def join_extractors(
    own: Extractor, normalisation: Mapping[str, Any], joined: Sequence[Mapping[str, Any]]
) -> Extractor:
    """Return an extractor of a network's features and those of `joined`, which are run.json of probes.

    `normalisation` is that of `own`. The joined networks have random weights.
    """
    if not joined:
        return own
    others = [build_probed(recipe_of(facts["recipe"]), facts["num_classes"]).extractor for facts in joined]
    normalisations = [
        (tuple(entry["mean"]), tuple(entry["std"]))
        for entry in (normalisation, *(facts["normalisation"] for facts in joined))
    ]
    return JoinedExtractor([own, *others], normalisations)


def load_trained(
    path: Path, provenance: dict[str, Any], device: str, precision: str
) -> tuple[nn.Module, Recipe, Compute]:
    """Return the trained network on its device, with its recipe and Compute; `provenance` is its run.json.

    auto is the precision of the training where the device is of the same type. Raise InputError for a device
    or precision that this machine lacks.
    """
    recipe, normalisation = recipe_of(provenance["recipe"]), provenance["normalisation"]
    set_determinism(recipe.deterministic)
    trained_on = provenance["device"].partition(":")[0]
    if precision == "auto" and choose_device(device).type == trained_on:
        precision = provenance["precision"]
    compute = build_compute(device, precision, normalisation["mean"], normalisation["std"])
    model = load_weights(path, provenance).to(compute.device, memory_format=torch.channels_last)
    return model, recipe, compute


def task_of(provenance: dict[str, Any]) -> Task:
    """Return the task that weights were trained for, from the run.json beside them."""
    name, scaling = provenance.get("task", "multiclass"), provenance.get("scaling", [])
    loss = provenance["recipe"]["loss"]
    return build_task(name, provenance["num_classes"], loss, tuple(map(tuple, scaling)))
