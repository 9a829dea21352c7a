"""A network's features: the input of its last layer.

B batch · D features · K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from foldsmith.models import last_layer
from foldsmith.models.probe import ProbedNetwork


@contextmanager
def capture_features(model: nn.Module, num_classes: int) -> Iterator[list[np.ndarray]]:
    """Append the features float32 (B, D) of every batch that passes the model within the block to a list.

    Features are the input of the last linear layer with K outputs, or the logits (B, K) of a network without
    one. A batch whose forward pass fails, because memory ran out, adds none.
    """
    captured: list[np.ndarray] = []
    head_inputs: list[torch.Tensor] = []  # of the current batch

    def save_input(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        head_inputs[:] = [inputs[0].detach()]

    def append_features(module: nn.Module, inputs: tuple[torch.Tensor, ...], logits: torch.Tensor) -> None:
        features = head_inputs.pop() if head else logits.detach()
        flat = features.float().flatten(2).mean(dim=2) if features.ndim > 2 else features
        captured.append(flat.float().cpu().numpy())

    head = last_layer(model, num_classes)
    # stored features pass through the head of a probed network alone
    whole = model.head if isinstance(model, ProbedNetwork) else model
    handles = [whole.register_forward_hook(append_features)]
    if head:
        handles.append(head[1].register_forward_pre_hook(save_input))
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
