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

    They enter the last linear layer with K outputs; of a network without one the logits (B, K) are taken.
    """
    captured: list[np.ndarray] = []

    def keep(features: torch.Tensor) -> None:
        flat = features.detach().float().flatten(2).mean(dim=2) if features.ndim > 2 else features.detach()
        captured.append(flat.float().cpu().numpy())

    head = last_layer(model, num_classes)
    if head:
        handle = head[1].register_forward_pre_hook(lambda module, inputs: keep(inputs[0]))
    else:
        handle = model.register_forward_hook(lambda module, inputs, logits: keep(logits))
    try:
        yield captured
    finally:
        handle.remove()
