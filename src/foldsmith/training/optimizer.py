"""The optimizer of a recipe."""

import torch
from torch import nn

from foldsmith.errors import unknown_name
from foldsmith.recipes import Recipe

OPTIMIZERS = ("sgd", "adamw")


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over the model's parameters; weight decay only on matrices and filters."""
    # timm's transformers name tensors, such as position embeddings, that must not decay either
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    decayed = {name for name, tensor in trained.items() if tensor.ndim >= 2 and name not in spared}
    groups = [
        {
            "params": [trained[name] for name in trained if name in decayed],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [trained[name] for name in trained if name not in decayed], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
        )
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)
