"""A network's features: what enters its last layer.

B batch · D features · K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from foldsmith.models import last_layer


@contextmanager
def captured_features(model: nn.Module, num_classes: int) -> Iterator[list[np.ndarray]]:
    """Within the block, features float32 (B, D) of every batch that goes through the model are appended.

    They enter the last linear layer with K outputs; of a network without one the logits (B, K) are taken. A
    batch that does not come through, for memory that ran out, leaves none.
    """
    captured: list[np.ndarray] = []
    entered: list[torch.Tensor] = []  # the head, of the batch that is on its way

    def enter(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        entered[:] = [inputs[0].detach()]

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...], logits: torch.Tensor) -> None:
        features = entered.pop() if head else logits.detach()
        flat = features.float().flatten(2).mean(dim=2) if features.ndim > 2 else features
        captured.append(flat.float().cpu().numpy())

    head = last_layer(model, num_classes)
    handles = [model.register_forward_hook(keep)]
    if head:
        handles.append(head[1].register_forward_pre_hook(enter))
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
