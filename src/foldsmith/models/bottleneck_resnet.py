"""The 80-class bottleneck ResNet of study 1.

B batch · H, W pixels of the input · K classes. Shapes are for 224 x 224.
"""

from collections import OrderedDict

import torch
from torch import nn

# (input channels, channels of the 3x3, stride) of every block; a block outputs twice the channels of its 3x3
STAGES = (
    ((64, 64, 1), (128, 64, 1)),
    ((128, 128, 2), (256, 128, 1), (256, 128, 1)),
    ((256, 256, 2), (512, 256, 1), (512, 256, 1), (512, 256, 1), (512, 256, 1)),
    ((512, 512, 2), (1024, 512, 1), (1024, 512, 1)),
)


def conv_norm(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution without bias and its batch norm."""
    return [nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(out)]


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1, the last to twice the middle channels, added to a shortcut."""

    def __init__(self, channels: int, middle: int, stride: int) -> None:
        super().__init__()
        out = 2 * middle
        self.residual = nn.Sequential(
            *conv_norm(channels, middle, 1),
            nn.ReLU(inplace=True),
            *conv_norm(middle, middle, 3, stride),
            nn.ReLU(inplace=True),
            *conv_norm(middle, out, 1),
        )
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_norm(channels, out, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class BottleneckResNet(nn.Module):
    """Map images (B, channels, H, W) of any size to logits (B, K). 15,699,088 parameters for 80 classes."""

    any_size = True

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                stem=nn.Sequential(
                    *conv_norm(channels, 64, 7, 2), nn.ReLU(inplace=True)
                ),  # (B, 64, 112, 112)
                pool=nn.MaxPool2d(3, 2, padding=1),  # (B, 64, 56, 56)
                stage1=nn.Sequential(*(Bottleneck(*block) for block in STAGES[0])),  # (B, 128, 56, 56)
                stage2=nn.Sequential(*(Bottleneck(*block) for block in STAGES[1])),  # (B, 256, 28, 28)
                stage3=nn.Sequential(*(Bottleneck(*block) for block in STAGES[2])),  # (B, 512, 14, 14)
                stage4=nn.Sequential(*(Bottleneck(*block) for block in STAGES[3])),  # (B, 1024, 7, 7)
            )
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))
