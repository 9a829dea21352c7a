"""The optimizer of a recipe."""

import torch
from torch import nn

from foldsmith.errors import unknown_name
from foldsmith.recipes import Recipe

OPTIMIZERS = ("sgd", "adamw")


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over the model's parameters; weight decay only on matrices and filters."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
        )
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)
