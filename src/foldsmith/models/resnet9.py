"""A small residual network for images of 32 pixels and short training runs.

After David Page's network, which trains on CIFAR-10 in a minute (How to train your ResNet, 2018).
B batch · K classes. Shapes are for 32 x 32.
"""

from collections import OrderedDict

import torch
from torch import nn

from foldsmith.models.pooling import global_max

SCALE = 0.125  # of the logits: softer predictions at the start, which high learning rates need


def conv(channels: int, out: int, pool: bool = False) -> nn.Sequential:
    """Return conv 3x3, batch norm and CELU, with `pool` a max-pool 2x2 before the norm."""
    layers: list[nn.Module] = [nn.Conv2d(channels, out, 3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*layers, nn.BatchNorm2d(out), nn.CELU(0.3))


class Residual(nn.Module):
    """Two convolutions with an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv(channels, channels), conv(channels, channels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.convs(images)


class ResNet9(nn.Module):
    """Map images (B, channels, H, W) of at least 8 x 8 to logits (B, K)."""

    any_size = True

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                stem=conv(channels, 64),  # (B, 64, 32, 32)
                block1=nn.Sequential(conv(64, 128, pool=True), Residual(128)),  # (B, 128, 16, 16)
                block2=conv(128, 256, pool=True),  # (B, 256, 8, 8)
                block3=nn.Sequential(conv(256, 512, pool=True), Residual(512)),  # (B, 512, 4, 4)
            )
        )
        self.head = nn.Linear(512, num_classes, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images)  # (B, 512, 4, 4)
        return SCALE * self.head(global_max(features))
