"""Any network of timm, with a new head for the competition's classes."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from torch import nn

from foldsmith.errors import InputError


def build_backbone(name: str, num_classes: int, image_size: int, pretrained: bool, weights: str) -> nn.Module:
    """timm's network `name`, giving logits (B, num_classes).

    Starts from the local file `weights` where one is named, else from timm's own weights if `pretrained`,
    else from scratch. Raises InputError for an unknown name, a weights file that does not fit, and weights
    that cannot be fetched.
    """
    if pretrained and not weights and not _hub_answers():
        # asked now, the hub's client would try again for a minute; offline it looks into its local cache at
        # once
        os.environ["HF_HUB_OFFLINE"] = "1"
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"{name.partition('.')[0][:6]}*")[:10]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise InputError(f"unknown timm model '{name}'{hint} (timm.list_models() lists all).")
    options = {"num_classes": num_classes}
    configuration = timm.get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        options["img_size"] = image_size
    if not weights and not pretrained:
        return timm.create_model(name, **options)
    if weights:
        if not Path(weights).is_file():
            raise InputError(f"weights={weights}: there is no such file.")
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        return timm.create_model(name, pretrained=True, **options)
    except (
        Exception
    ) as error:  # the hub, its transport, torch.load and safetensors each have errors of their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if weights:
            raise InputError(f"weights={weights} cannot be loaded into {name}: {reason}") from error
        raise InputError(
            f"the pretrained weights of {name} could not be fetched ({type(error).__name__}: {reason}). "
            "Without a network, name a local file (--set weights=FILE) or use --set pretrained=false."
        ) from error


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
