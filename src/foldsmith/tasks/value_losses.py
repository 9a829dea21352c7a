"""Losses of numbers, in standard deviations of the labels."""

import torch
from torch import nn
from torch.nn.functional import mse_loss, smooth_l1_loss

from foldsmith.tasks.task import Scaling


class ValueLoss(nn.Module):
    """The mean loss of standard scores (B, M) and targets (B,) or (B, M); a scalar.

    `kind` is `mse`, or `smooth_l1`: half the squared error up to one standard deviation, absolute beyond.
    """

    def __init__(self, kind: str, scaling: Scaling) -> None:
        super().__init__()
        self.loss_function = {"mse": mse_loss, "smooth_l1": smooth_l1_loss}[kind]
        self.register_buffer("scaling", torch.tensor(scaling, dtype=torch.float64))  # (M, 2)

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        standard = (targets.reshape(len(targets), -1) - self.scaling[:, 0]) / self.scaling[:, 1]
        return self.loss_function(scores, standard.float())
