"""The optimizer of a recipe."""

from typing import Any

import torch
from torch import nn

from foldsmith.errors import unknown_name
from foldsmith.recipes import Recipe

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD, Adam, AdamW or Muon over the model's parameters; weight decay only on matrices and filters.

    Every group has an `lr_scale`, its rate as a multiple of the recipe's; an autoencoder's encoder may have
    another than 1. And it says whether to `use_muon`.
    """
    # timm's transformers name tensors, such as position embeddings, that must not decay either
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    encoder_scale = recipe.encoder_lr / recipe.lr if recipe.encoder_lr else 1.0
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    matrices = {name: tensor for name, tensor in trained.items() if tensor.ndim >= 2 and name not in spared}
    hidden = hidden_matrices(matrices) if recipe.optimizer == "muon" else set()
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, tensor in trained.items():
        decay = recipe.weight_decay if name in matrices else 0.0
        scale = encoder_scale if name.startswith("encoder.") else 1.0
        groups.setdefault((decay, scale, name in hidden), []).append(tensor)
    parameters = [
        {"params": tensors, "weight_decay": decay, "lr_scale": scale, "use_muon": by_muon}
        for (decay, scale, by_muon), tensors in groups.items()
    ]
    if recipe.optimizer == "muon":
        return _build_muon(parameters, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
        )
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, fused=True)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, fused=True)
    raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)


def hidden_matrices(matrices: dict[str, nn.Parameter]) -> set[str]:
    """Names of the trained matrices and filters between the first of them and the last, the head's.

    The first sees the image, or where the layer that does so is frozen, as in a whitened-cnn, what that makes
    of it. Depthwise filters (C, 1, …) are left out: each is a matrix of one row. `matrices` are in the order
    of execution.
    """
    inner = list(matrices.items())[1:-1]
    return {name for name, tensor in inner if min(tensor.shape[:2]) > 1}


def _build_muon(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """Muon (Jordan et al. 2024) on hidden matrices, AdamW on the rest, at one rate.

    Steps of Muon are as long as AdamW's would be (Liu et al., Muon is Scalable for LLM Training, 2025), so
    that one rate suits both. timm's, for torch's takes no filters.
    """
    from timm.optim import Muon

    for group in groups:
        if not group["use_muon"]:  # what torch's AdamW has
            group |= {"nesterov": False, "betas": (0.9, 0.999), "eps": 1e-8}
    return Muon(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        adjust_lr_fn="match_rms_adamw",
    )
