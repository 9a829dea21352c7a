"""Sharpness-aware minimisation: gradients where the loss is highest nearby (Foret et al. 2021)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def at_the_worst_nearby(parameters: Iterable[nn.Parameter], radius: float) -> Iterator[None]:
    """Moves the weights by `radius` along their gradient, which is used up; afterwards they are back.

    To first order that is where the loss is highest within `radius`. A gradient that is scaled moves them as
    far, for its length is divided out.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    weights = [parameter.detach() for parameter in moved]
    gradients = [parameter.grad for parameter in moved]
    kept = [weight.clone() for weight in weights]
    length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    # a gradient of zero moves nothing
    torch._foreach_add_(weights, torch._foreach_mul(gradients, radius / length.clamp(min=1e-12)))
    for parameter in moved:
        parameter.grad = None
    try:
        yield
    finally:
        torch._foreach_copy_(weights, kept)
