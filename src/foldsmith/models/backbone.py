"""Any network of timm, with a new head for the competition's classes."""

import difflib
import os
import socket
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn

from foldsmith.errors import InputError
from foldsmith.recipes import check_weights_file


def check_backbone(name: str) -> None:
    """Raises InputError, with the nearest names, if timm has no such network."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise InputError(f"unknown timm model '{name}'{hint} (timm.list_models() lists all).")


def build_backbone(
    name: str,
    num_classes: int,
    image_size: int,
    channels: int,
    pretrained: bool,
    weights: str,
    drop_path: float,
) -> nn.Module:
    """timm's network `name`, giving logits (B, num_classes).

    Starts from the local file `weights` where one is named, else from timm's own weights if `pretrained`,
    else from scratch. In training a residual branch is left out of up to the share `drop_path` of the images
    (stochastic depth, Huang et al. 2016). Raises InputError for weights that cannot be fetched, or are
    another network's.
    """
    if pretrained and not weights:
        _give_up_at_once()
    import timm

    check_weights_file(weights)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        configuration = timm.get_pretrained_cfg(name)
        if configuration is not None and configuration.fixed_input_size:
            options["img_size"] = image_size
        if weights:
            with torch.random.fork_rng(devices=[]):
                fresh = timm.create_model(name, **options)
            pretrained, options["pretrained_cfg_overlay"] = True, {"file": weights}
        model = timm.create_model(name, pretrained=pretrained, **options)
    # the hub, its transport, torch.load and safetensors each have errors of their own
    except Exception as error:
        if isinstance(error, TypeError) and "drop_path_rate" in str(error):
            raise no_drop_path(name, drop_path) from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if weights:
            raise InputError(f"weights={weights} cannot be loaded into {name}: {reason}") from error
        if not pretrained:
            raise InputError(f"timm cannot build {name}: {reason}") from error
        raise InputError(
            f"the pretrained weights of {name} could not be fetched ({reason}). "
            "Without a network, name a local file (--set weights=FILE) or use --set pretrained=false."
        ) from error
    dropped = [module for module in model.modules() if isinstance(module, timm.layers.DropPath)]
    if drop_path and not any(module.drop_prob for module in dropped):  # some take the word and do not care
        raise no_drop_path(name, drop_path)
    if weights:
        _check_arrived(model, fresh, name, weights)
    return model


def fetch_weights(name: str) -> str:
    """Fetches timm's weights of a network into the hub's cache, where they may be already.

    Returns why they cannot be had, or nothing.
    """
    _give_up_at_once()
    import timm

    try:
        timm.create_model(name, pretrained=True)
    # the hub, its transport, torch.load and safetensors each have errors of their own
    except Exception as error:
        reason = " ".join(str(error).split())[:120].rstrip(" .")
        return f"as those of {name} could not be fetched ({type(error).__name__}: {reason})"
    return ""


def _give_up_at_once() -> None:
    """Where the hub does not answer its client would try again for a minute; offline it looks into its cache.

    It reads HF_HUB_OFFLINE when it is imported, which albumentations has done long before.
    """
    if not _hub_answers():
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def _check_arrived(model: nn.Module, fresh: nn.Module, name: str, weights: str) -> None:
    """Raises InputError if a tensor is what `fresh` started with: timm leaves out what a file lacks."""
    head = {id(parameter) for parameter in model.get_classifier().parameters()}
    pairs = zip(model.named_parameters(), fresh.parameters(), strict=True)
    absent = [
        key
        for (key, tensor), start in pairs
        if tensor.ndim >= 2 and id(tensor) not in head and torch.equal(tensor, start)
    ]
    if absent:
        raise InputError(
            f"weights={weights} cannot be loaded into {name}: it has none of {len(absent)} tensors "
            f"(first: {absent[0]}), so it belongs to another network."
        )


def no_drop_path(name: str, drop_path: float) -> InputError:
    return InputError(f"drop_path={drop_path}: model {name} has no residual branch that could be left out.")


def _hub_answers(seconds: float = 5.0) -> bool:
    """Whether the hub that keeps timm's weights can be reached; behind a proxy only its client can tell."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        with socket.create_connection((hub.hostname, hub.port or 443), timeout=seconds):
            return True
    except OSError:
        return False


def pretrained_normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (on a scale of 0 to 1) that a timm model's weights were trained with."""
    configuration = model.pretrained_cfg
    return tuple(configuration["mean"]), tuple(configuration["std"])
