"""Sharpness-aware minimisation (SAM, Foret et al. 2021): gradients at the highest loss within a radius."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def at_the_worst_nearby(parameters: Iterable[nn.Parameter], radius: float) -> Iterator[None]:
    """Move the weights by `radius` along their gradient and clear it; restore the weights after the block.

    To first order the loss is highest there within `radius`. The scale of the gradient does not matter: it is
    divided by its norm.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    weights = [parameter.detach() for parameter in moved]
    gradients = [parameter.grad for parameter in moved]
    kept = [weight.clone() for weight in weights]
    length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    # the clamp avoids a division by zero; a zero gradient does not move the weights
    torch._foreach_add_(weights, torch._foreach_mul(gradients, radius / length.clamp(min=1e-12)))
    for parameter in moved:
        parameter.grad = None
    try:
        yield
    finally:
        torch._foreach_copy_(weights, kept)
