"""The optimizer of a recipe."""

from typing import Any

import torch
from torch import nn

from foldsmith.errors import InputError, unknown_name
from foldsmith.inference.compute import has_bf16
from foldsmith.models.probe import ProbedNetwork
from foldsmith.recipes import Recipe

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")

Groups = list[dict[str, Any]]


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return SGD, Adam, AdamW or Muon over the model's parameters, in the groups of `parameter_groups`."""
    groups = parameter_groups(model, recipe)
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
            )
        case "adam":
            return torch.optim.Adam(groups, lr=recipe.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
        case "muon":
            return _build_muon(groups, recipe)
    raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)


def parameter_groups(model: nn.Module, recipe: Recipe) -> Groups:
    """Return the trained parameters in groups with the same weight decay, learning rate and optimizer.

    Only matrices and filters have weight decay. `lr_scale` is the rate of a group as a multiple of the
    recipe's, 1 except for an autoencoder's encoder, and for the layers of `layer_decay`. `use_muon`: the
    group is updated by Muon.
    """
    encoder_scale = recipe.encoder_lr / recipe.lr if recipe.encoder_lr else 1.0
    layer_scales = scales_of_layers(model, recipe)
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    matrices = decaying_matrices(model, trained)
    hidden = hidden_matrices(matrices) if recipe.optimizer == "muon" else set()
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, tensor in trained.items():
        decay = recipe.weight_decay if name in matrices else 0.0
        scale = encoder_scale if name.startswith("encoder.") else layer_scales.get(name, 1.0)
        groups.setdefault((decay, scale, name in hidden), []).append(tensor)
    return [
        {"params": tensors, "weight_decay": decay, "lr_scale": scale, "use_muon": by_muon}
        for (decay, scale, by_muon), tensors in groups.items()
    ]


def scales_of_layers(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """Return the learning rate of a timm network's parameters as multiples of the recipe's, by name.

    The classifier has 1, the group of layers below it the recipe's `layer_decay`, the next one its square
    (Clark et al., ELECTRA, 2020); groups are timm's. It is empty with a decay of 1. Raise InputError for a
    network without groups.
    """
    decay = recipe.layer_decay
    if decay == 1:
        return {}
    backbone = model.backbone if isinstance(model, ProbedNetwork) else model
    if not hasattr(backbone, "group_matcher"):
        raise InputError(
            f"layer_decay={decay:g} needs timm's groups of layers, which model {recipe.model} lacks: --set "
            "layer_decay=1."
        )
    from timm.models._manipulate import group_with_matcher  # importing timm takes seconds

    groups = group_with_matcher(
        backbone.named_parameters(), backbone.group_matcher(coarse=False), reverse=True
    )
    head = {id(parameter) for parameter in backbone.get_classifier().parameters()}
    own = {name: id(parameter) in head for name, parameter in backbone.named_parameters()}
    last = max(groups.values()) + isinstance(model, ProbedNetwork)  # whose head is a group of its own
    prefix = "extractor.backbone." if isinstance(model, ProbedNetwork) else ""
    return {prefix + name: 1.0 if own[name] else decay ** (last - group) for name, group in groups.items()}


def decaying_matrices(model: nn.Module, trained: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return the matrices and filters with weight decay, without those that the model excludes.

    timm's transformers list tensors that must not decay, such as position embeddings.
    """
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    return {name: tensor for name, tensor in trained.items() if tensor.ndim >= 2 and name not in spared}


def hidden_matrices(matrices: dict[str, nn.Parameter]) -> set[str]:
    """Return the names of all trained matrices and filters except the first and the last, the head's.

    The first has the image as its input, or the output of a frozen layer, as in whitened-cnn. Depthwise
    filters (C, 1, …) are excluded, because they are matrices of one row. `matrices` are in the order of
    execution.
    """
    inner = list(matrices.items())[1:-1]
    return {name for name, tensor in inner if min(tensor.shape[:2]) > 1}


def _build_muon(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Return Muon for hidden matrices and AdamW for the rest, at one learning rate: steps have equal lengths.

    timm's Muon is used, because torch's does not accept filters. It computes in bfloat16 if the hardware
    does, whatever the `--precision` of the network.
    """
    from foldsmith.training.muon import TypedMuon

    for group in groups:
        if not group["use_muon"]:  # the defaults of torch's AdamW
            group |= {"nesterov": False, "betas": (0.9, 0.999), "eps": 1e-8}
    device = groups[0]["params"][0].device
    compute_type = torch.bfloat16 if has_bf16(device) else torch.float32
    return TypedMuon(groups, recipe.lr, recipe.momentum, recipe.nesterov, compute_type)
