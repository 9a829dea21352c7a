"""The CNNs A to G and GAP of study 5, one row of CNN_PLANS each.

B batch · K classes. Shapes are for 32 x 32.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from foldsmith.errors import InputError


@dataclass(frozen=True)
class CNNPlan:
    """The hyperparameters in which the CNNs differ.

    With `global_pool` the last block ends in global average pooling instead of max-pooling, so that the
    network accepts images of any size.
    """

    widths: tuple[int, ...]  # channels of the blocks
    activation: type[nn.Module] = nn.ReLU
    norm: bool = False
    dropouts: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # after each block
    pool: int = 2  # kernel size and stride of the max-pooling
    global_pool: bool = False


CNN_PLANS = {
    "cnn-a": CNNPlan((5,), nn.Sigmoid, pool=8),
    "cnn-b": CNNPlan((20,), nn.Sigmoid, pool=8),
    "cnn-c": CNNPlan((20, 40), nn.Sigmoid),
    "cnn-d": CNNPlan((20, 40)),
    "cnn-e": CNNPlan((20, 40, 80, 160)),
    "cnn-f": CNNPlan((20, 40, 80, 160), norm=True),
    "cnn-g": CNNPlan((20, 40, 80, 160), norm=True, dropouts=(0.1, 0.2, 0.3, 0.4)),
    "cnn-gap": CNNPlan((20, 40, 80, 160), norm=True, dropouts=(0.1, 0.2, 0.3, 0.4), global_pool=True),
}


def block(channels: int, out: int, plan: CNNPlan, pool: nn.Module, dropout: float) -> nn.Sequential:
    """Return two 3x3 convolutions, each with activation and norm, then pooling and dropout."""
    layers: list[nn.Module] = []
    for in_channels in (channels, out):
        layers += [nn.Conv2d(in_channels, out, 3, padding="same"), plan.activation()]
        layers += [nn.BatchNorm2d(out)] if plan.norm else []
    layers += [pool]
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)


class PlainCNN(nn.Module):
    """Map images (B, channels, H, W) of image_size to logits (B, K); GAP accepts any size from 8 x 8.

    Raise InputError for images too small for the poolings.
    """

    def __init__(self, plan: CNNPlan, num_classes: int, image_size: int, channels: int) -> None:
        super().__init__()
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        side = image_size
        for index, out in enumerate(plan.widths):
            averaged = plan.global_pool and out == plan.widths[-1]
            pool = nn.AdaptiveAvgPool2d(1) if averaged else nn.MaxPool2d(plan.pool)
            blocks[f"block{index + 1}"] = block(channels, out, plan, pool, plan.dropouts[index])
            channels, side = out, side if averaged else side // plan.pool
        if side == 0:
            raise InputError(
                f"images of {image_size} x {image_size} are too small for this network; "
                "use a larger --image-size."
            )
        side = 1 if plan.global_pool else side
        self.any_size = plan.global_pool
        self.features = nn.Sequential(blocks)  # 16x16x20, 8x8x40, 4x4x80, 2x2x160 (GAP: 1x1x160)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))
