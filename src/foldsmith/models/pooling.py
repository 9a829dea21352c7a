"""Global pooling of feature maps."""

import torch
from torch.nn.functional import max_pool2d


def global_max(features: torch.Tensor) -> torch.Tensor:
    """Return the maximum of each channel, (B, C, H, W) -> (B, C).

    `amax` is no substitute. Its backward pass compares the values with the maximum again. Under torch.compile
    the maximum is kept in bf16 and the values are recomputed in fp32, so that none is equal and the gradient
    is 0 / 0. `max_pool2d` stores the index of the maximum.
    """
    return max_pool2d(features, features.shape[2:]).flatten(1)
