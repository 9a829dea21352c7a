"""Folders with one network's weights: model.safetensors, and config.json as timm writes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from foldsmith.deployment.local_paths import without_folders
from foldsmith.inference.weights import save_weights
from foldsmith.process.files import save_json
from foldsmith.recipes.weight_names import TIMM

# what foldsmith's load_weights needs of run.json
NEEDED = ("recipe", "num_classes", "normalisation", "task", "scaling", "probe")


def save_network(folder: Path, model: nn.Module, provenance: dict[str, Any], names: Sequence[str]) -> None:
    """Write a trained network into a folder; `provenance` is its run.json, `names` (K,) its outputs.

    A network of timm loads by `timm.create_model("local-dir:FOLDER", pretrained=True)`. The others are
    described by foldsmith's fields alone.
    """
    save_weights(folder / "model.safetensors", model)
    save_json(folder / "config.json", configuration_of(model, provenance, names))


def configuration_of(model: nn.Module, provenance: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the entries of config.json; those under `foldsmith` rebuild any network by load_weights."""
    recipe = provenance["recipe"]
    common = {
        "num_classes": provenance["num_classes"],
        "label_names": list(names),
        "foldsmith": without_folders({key: provenance[key] for key in NEEDED if key in provenance}),
    }
    if not recipe["model"].startswith(TIMM) or "probe" in provenance:
        return {"architecture": recipe["model"], **common}
    size, channels, trained = recipe["image_size"], recipe["channels"], model.pretrained_cfg
    arguments: dict[str, Any] = {"in_chans": channels} if channels != 3 else {}
    if trained.get("fixed_input_size"):
        arguments["img_size"] = size
    pretrained_cfg = {
        "tag": "foldsmith",
        "custom_load": False,
        "input_size": [channels, size, size],
        "fixed_input_size": bool(trained.get("fixed_input_size")),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash",  # the whole image, its aspect ratio not kept
        "mean": list(provenance["normalisation"]["mean"]),
        "std": list(provenance["normalisation"]["std"]),
        "num_classes": provenance["num_classes"],
        "pool_size": trained.get("pool_size"),
        # timm adapts the first layer to other channels; ours has them already
        "first_conv": trained.get("first_conv") if channels == 3 else None,
        "classifier": trained.get("classifier"),
        "license": (provenance.get("weights") or {}).get("licence") or None,
    }
    architecture = recipe["model"].removeprefix(TIMM).partition(".")[0]
    return {"architecture": architecture, "model_args": arguments, "pretrained_cfg": pretrained_cfg, **common}
