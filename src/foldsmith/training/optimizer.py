"""The optimizer of a recipe."""

import torch
from torch import nn

from foldsmith.errors import unknown_name
from foldsmith.recipes import Recipe

OPTIMIZERS = ("sgd", "adam", "adamw")


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the model's parameters; weight decay only on matrices and filters.

    Every group has an `lr_scale`, its rate as a multiple of the recipe's; an autoencoder's encoder may have
    another than 1.
    """
    # timm's transformers name tensors, such as position embeddings, that must not decay either
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    encoder_scale = recipe.encoder_lr / recipe.lr if recipe.encoder_lr else 1.0
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, tensor in model.named_parameters():
        if tensor.requires_grad:
            decay = recipe.weight_decay if tensor.ndim >= 2 and name not in spared else 0.0
            scale = encoder_scale if name.startswith("encoder.") else 1.0
            groups.setdefault((decay, scale), []).append(tensor)
    parameters = [
        {"params": tensors, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), tensors in groups.items()
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
        )
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, fused=True)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, fused=True)
    raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)
