"""EMA: an exponential moving average of the weights, which predicts better than those of the last step."""

import copy

import torch
from torch import nn


class EMA:
    """The average of a model's weights and batch statistics over steps; with `decay` 0 it is the model.

    The decay starts at (1 + step) / (10 + step), until that exceeds `decay` (as in TensorFlow's
    ExponentialMovingAverage), so that the average of a short run does not contain its random initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.step = decay, 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False) if decay else model
        # optimizers and batch norm change these tensors in place, so the pairs stay valid
        both = zip(self.model.state_dict().values(), model.state_dict().values(), strict=True)
        # layers that share a tensor have it under two names, and it is averaged once
        pairs = list({(mean.data_ptr(), mean.shape): (mean, now) for mean, now in both}.values())
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Average in the weights of this step."""
        if not self.decay:
            return
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_([mean for mean, _ in self._floats], [now for _, now in self._floats], 1 - decay)
        if self._counters:
            torch._foreach_copy_([mean for mean, _ in self._counters], [now for _, now in self._counters])
