"""Any network of timm, with a new head for the competition's classes."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foldsmith.errors import InputError, message_of
from foldsmith.models.weight_sources import WeightsSource, find_weights
from foldsmith.recipes.weight_names import TIMM


def check_backbone(name: str) -> None:
    """Raise InputError, with the nearest names, if timm has no such network."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise InputError(
            f"unknown timm model '{name}'{hint}; --set model={TIMM}NAME names one (timm.list_models() lists "
            "all)."
        )


def check_named(settings: Mapping[str, Any]) -> None:
    """Raise InputError if the network that the weights of a recipe's `settings` name is none of timm's."""
    import timm

    name = settings["model"].removeprefix(TIMM)
    if not timm.is_model(name):
        raise InputError(
            f"weights={settings['weights']} names no network of timm ('{name}'); add --set model={TIMM}NAME "
            "for the network that the weights are of."
        )


@dataclass(frozen=True)
class Start:
    """The initial weights of a network: those that a recipe's `weights` names, or timm's, or random ones.

    `file` is the field's value; `pretrained` are timm's if it is empty.
    """

    pretrained: bool = False
    file: str = ""

    @property
    def is_trained(self) -> bool:
        return self.pretrained or bool(self.file)


FROM_SCRATCH = Start()
STATISTICS = ("running_mean", "running_var")  # buffers that are learned; other ones are constants


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
    source = find_weights(name, start.file) if start.is_trained else None
    import timm

    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        model = _create(name, image_size, source, options)
    except InputError:
        raise
    # torch.load, safetensors and timm each have errors of their own
    except Exception as error:
        raise _cannot_build(name, source, drop_path, error) from error
    dropped = [module for module in model.modules() if isinstance(module, timm.layers.DropPath)]
    if drop_path and not any(module.drop_prob for module in dropped):  # some ignore the option
        raise no_drop_path(name, drop_path)
    return model


def _create(name: str, image_size: int, source: WeightsSource | None, options: dict[str, Any]) -> nn.Module:
    import timm

    configuration = timm.get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        options = {**options, "img_size": image_size}
    if source is None:
        return timm.create_model(name, **options)
    return _load(name, options, source)


def _load(name: str, options: dict[str, Any], source: WeightsSource) -> nn.Module:
    """Return timm's network with the weights of a file and a new head.

    Raise InputError if the file cannot be read, or lacks a tensor.
    """
    import timm

    state = _read(source)
    with torch.random.fork_rng(devices=[]):
        fresh = timm.create_model(name, **options)
    state = _without_prefix(state, list(fresh.state_dict()), source)
    # timm drops the head of a file with another number of classes than the network's
    trained = source.pretrained_cfg()
    heads = (trained.classifier,) if isinstance(trained.classifier, str) else tuple(trained.classifier or ())
    overlay = {**source.configuration, "state_dict": state}
    described = trained.num_classes + (trained.label_offset or 0)
    if any(len(state.get(f"{head}.weight", ())) != described for head in heads):
        overlay["num_classes"] = -1  # the head is not the one that timm describes, so it is never kept
    if _has_first_layer_of(fresh, state, source, trained.first_conv):
        overlay["first_conv"] = None  # which timm would adapt from three channels
    model = timm.create_model(source.model, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    del model.pretrained_cfg["state_dict"]  # a copy of all weights
    _check_arrived(model, fresh, state, source, heads)
    return model


def _has_first_layer_of(
    fresh: nn.Module, state: dict[str, torch.Tensor], source: WeightsSource, layers: str | tuple | None
) -> bool:
    """Return whether a file's first layers are for another number of channels than three, that of `fresh`.

    timm adapts those for three channels. Others that do not fit it would leave out, so InputError is raised.
    """
    names = [f"{layer}.weight" for layer in ((layers,) if isinstance(layers, str) else layers or ())]
    held = {name: state[name].shape[1] for name in names if name in state and state[name].ndim == 4}
    wanted = {name: fresh.state_dict()[name].shape[1] for name in held}
    if held != wanted and any(width != 3 for width in held.values()):
        (width, *_), (channels, *_) = held.values(), wanted.values()
        raise InputError(
            f"{source.in_words} takes images of {width} channels, and the recipe has channels={channels}: "
            f"--set channels={width}, or name weights for three channels."
        )
    return bool(held) and held == wanted and set(held.values()) != {3}


def _read(source: WeightsSource) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file by name. Raise InputError for a pickle of more than tensors."""
    from timm.models import load_state_dict

    try:
        return load_state_dict(str(source.file))
    except RuntimeError as error:
        if "weights_only" not in str(error):
            raise
        raise InputError(
            f"{source.in_words} cannot be loaded into {source.model}: {source.file.name} is damaged, or a "
            "pickle of more than tensors, which could run any program. Where you trust it, save its tensors "
            "alone: safetensors.torch.save_file(model.state_dict(), 'FILE.safetensors')."
        ) from error


def _without_prefix(
    state: dict[str, torch.Tensor], names: list[str], source: WeightsSource
) -> dict[str, torch.Tensor]:
    """Return the tensors without the prefix that wrappers write before a network's `names`, if there is one.

    Tensors beside the network's, such as those of another head, are left out with it. Raise InputError if
    several networks are in the file.
    """
    if any(name in state for name in names):
        return state
    first = names[0]
    prefixes = [key.removesuffix(first) for key in state if key.endswith(f".{first}")]
    counts = {prefix: sum(prefix + name in state for name in names) for prefix in prefixes}
    most = [prefix for prefix, count in counts.items() if count == max(counts.values())]
    if len(most) > 1:
        raise InputError(
            f"{source.in_words} cannot be loaded into {source.model}: it holds several networks, "
            f"{' and '.join(most)}; save the tensors of one of them as a file."
        )
    if not most:
        return state
    return {key.removeprefix(most[0]): tensor for key, tensor in state.items() if key.startswith(most[0])}


def _cannot_build(name: str, source: WeightsSource | None, drop_path: float, error: Exception) -> InputError:
    """Return the sentence for what timm raised while it built a network."""
    if isinstance(error, TypeError) and "drop_path_rate" in str(error):
        return no_drop_path(name, drop_path)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if source is None:
        return InputError(f"timm cannot build {name}: {reason}")
    remedy = "; remove the file to fetch it again, or write --set weights=FILE."
    if source.typed:
        remedy = f"; it is cut off, or of another network: copy it again, or --set model={TIMM}NAME."
    return InputError(f"{source.in_words} cannot be loaded into {name}: {reason}{remedy}")


def fetch_weights(name: str) -> str:
    """Fetch timm's weights of a network into the hub's cache, unless they are on this machine.

    Return why they cannot be had, or nothing.
    """
    try:
        find_weights(name)
    except InputError as error:
        return f"as {message_of(error)}".rstrip(".")
    return ""


def _check_arrived(
    model: nn.Module,
    fresh: nn.Module,
    state: Collection[str],
    source: WeightsSource,
    heads: tuple[str, ...],
) -> None:
    """Raise InputError if a tensor still has the value of `fresh`: timm skips tensors that a file lacks.

    `state` are the names in the file. Of networks whose names timm translates, only matrices are checked: the
    initial values of norms and biases may be those of the file.
    """
    learned = {key for key, _ in model.named_parameters()}
    translated = sum(key in state for key in fresh.state_dict()) < len(fresh.state_dict()) / 2
    initial = fresh.state_dict()
    absent = [
        key
        for key, tensor in model.state_dict().items()
        if key not in state
        and (key in learned or key.endswith(STATISTICS))
        and not key.startswith(tuple(f"{head}." for head in heads))
        and (tensor.ndim >= 2 or (tensor.ndim == 1 and not translated))
        and torch.equal(tensor, initial[key])
    ]
    if absent:
        raise InputError(
            f"{source.in_words} cannot be loaded into {source.model}: it has none of {len(absent)} tensors "
            f"(first: {absent[0]}), so it belongs to another network."
        )


def no_drop_path(name: str, drop_path: float) -> InputError:
    return InputError(f"drop_path={drop_path}: model {name} has no residual branch that could be left out.")


def pretrained_normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation, on a scale of 0 to 1, that a timm model was trained with."""
    configuration = model.pretrained_cfg
    return tuple(configuration["mean"]), tuple(configuration["std"])
