"""Pooling over all places of a map."""

import torch
from torch.nn.functional import max_pool2d


def global_max(features: torch.Tensor) -> torch.Tensor:
    """The largest value of each channel (B, C, H, W) -> (B, C).

    Its gradient goes to the place it came from. `amax` would look for places of that value again, and find
    none where torch.compile keeps the values in bf16 and computes them anew in fp32: its gradient is 0 / 0.
    """
    return max_pool2d(features, features.shape[2:]).flatten(1)
