"""Any network of timm, with a new head for the competition's classes."""

import difflib
import os
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn

from foldsmith.errors import InputError
from foldsmith.recipes import check_weights_file


def check_backbone(name: str) -> None:
    """Raise InputError, with the nearest names, if timm has no such network."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise InputError(f"unknown timm model '{name}'{hint} (timm.list_models() lists all).")


@dataclass(frozen=True)
class Start:
    """The initial weights of a network: those of `file`, or timm's if `pretrained`, or random ones."""

    pretrained: bool = False
    file: str = ""

    @property
    def is_trained(self) -> bool:
        return self.pretrained or bool(self.file)


FROM_SCRATCH = Start()


def build_backbone(
    name: str,
    num_classes: int,
    image_size: int,
    channels: int,
    start: Start = FROM_SCRATCH,
    drop_path: float = 0.0,
) -> nn.Module:
    """Return timm's network `name`, giving logits (B, num_classes).

    In training a residual branch is left out of up to the share `drop_path` of the images (stochastic depth,
    Huang et al. 2016). Raise InputError for weights that cannot be fetched, or are another network's.
    """
    if start.pretrained and not start.file:
        _give_up_at_once()
    import timm

    check_weights_file(start.file)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        model = _create(name, image_size, start, options)
    except InputError:
        raise
    # the hub, its transport, torch.load and safetensors each have errors of their own
    except Exception as error:
        raise _cannot_build(name, start, drop_path, error) from error
    dropped = [module for module in model.modules() if isinstance(module, timm.layers.DropPath)]
    if drop_path and not any(module.drop_prob for module in dropped):  # some ignore the option
        raise no_drop_path(name, drop_path)
    return model


def _create(name: str, image_size: int, start: Start, options: dict[str, Any]) -> nn.Module:
    import timm

    configuration = timm.get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        options = {**options, "img_size": image_size}
    if start.file:
        return _load_from_file(name, options, start.file)
    return timm.create_model(name, pretrained=start.pretrained, **options)


def _load_from_file(name: str, options: dict[str, Any], file: str) -> nn.Module:
    """Return timm's network with the weights of a local file. Raise InputError if some did not arrive."""
    import timm

    with torch.random.fork_rng(devices=[]):
        fresh = timm.create_model(name, **options)
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": file}, **options)
    _check_arrived(model, fresh, name, file)
    return model


def _cannot_build(name: str, start: Start, drop_path: float, error: Exception) -> InputError:
    """Return the sentence for what timm raised while it built a network."""
    if isinstance(error, TypeError) and "drop_path_rate" in str(error):
        return no_drop_path(name, drop_path)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if start.file:
        return InputError(f"weights={start.file} cannot be loaded into {name}: {reason}")
    if not start.pretrained:
        return InputError(f"timm cannot build {name}: {reason}")
    return InputError(
        f"the pretrained weights of {name} could not be fetched ({reason}). "
        "Without a network, name a local file (--set weights=FILE) or use --set pretrained=false."
    )


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
    """Set the hub's client offline if the hub cannot be reached: it would otherwise retry for a minute.

    Offline it uses its cache. HF_HUB_OFFLINE has no effect here, because albumentations has already imported
    the client, which reads the variable at import.
    """
    if not _hub_answers():
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def _check_arrived(model: nn.Module, fresh: nn.Module, name: str, weights: str) -> None:
    """Raise InputError if a tensor still has the values of `fresh`: timm skips tensors that a file lacks."""
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
    """Return whether the hub with timm's weights can be reached; True behind a proxy, where it is unknown."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        with socket.create_connection((hub.hostname, hub.port or 443), timeout=seconds):
            return True
    except OSError:
        return False


def pretrained_normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation, on a scale of 0 to 1, that a timm model was trained with."""
    configuration = model.pretrained_cfg
    return tuple(configuration["mean"]), tuple(configuration["std"])
