"""A small network for a first result on any data, in minutes on a laptop.

B batch · K classes. Shapes are for 32 x 32.
"""

from collections import OrderedDict

import torch
from torch import nn

from foldsmith.models.pooling import global_max


def block(channels: int, out: int) -> nn.Sequential:
    """Return conv 3x3, max-pool 2x2, batch norm and GELU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(out), nn.GELU()
    )


class QuickCNN(nn.Module):
    """Map images (B, channels, H, W) of at least 16 x 16 to logits (B, K)."""

    any_size = True

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                block1=block(channels, 32),  # (B, 32, 16, 16)
                block2=block(32, 64),  # (B, 64, 8, 8)
                block3=block(64, 128),  # (B, 128, 4, 4)
                block4=block(128, 256),  # (B, 256, 2, 2)
            )
        )
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images)  # (B, 256, 2, 2)
        return self.head(global_max(features))
