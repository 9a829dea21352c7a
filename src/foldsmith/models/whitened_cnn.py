"""A network for small images that learns in few epochs; its first layer is computed from the images.

After Page (How to train your ResNet, 2018) and Jordan (94 % on CIFAR-10 in 3.29 seconds, 2024). The first
layer whitens patches and is not trained. The convolutions are initialised as the identity. Layers of small
resolution are wide.

B batch · K classes · C channels · S side. Shapes are those of whitened-cnn for 32 x 32. The stride of the
first layer reduces larger images to about that size. whitened-cnn-tall is designed for 64 x 64.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from foldsmith.models.pooling import global_max

SCALE = 0.125  # of the logits: softer predictions at the start, which high learning rates need
MAX_COMPONENTS = 32  # principal components kept of a patch, those of largest variance
VARIANCE_FLOOR = 1e-4  # added to every component's variance, so that whitening does not amplify noise


@dataclass(frozen=True)
class WhitenedPlan:
    """The hyperparameters in which the variants differ. Groups of three convolutions have a shortcut."""

    widths: tuple[int, ...]  # channels of the groups
    convolutions: int = 2  # of each group
    side: int = 32  # pixels, to about which the first layer's stride reduces larger images


WHITENED_PLANS = {
    "whitened-cnn": WhitenedPlan((64, 128, 256)),
    "whitened-cnn-wide": WhitenedPlan((64, 256, 256)),
    "whitened-cnn-deep": WhitenedPlan((128, 384, 512), convolutions=3),
    # for images of 64 pixels: the first layer has stride 1, and there is one more group
    "whitened-cnn-tall": WhitenedPlan((64, 128, 256, 256), side=64),
}


class Whitening(nn.Conv2d):
    """Map images (B, C, S, S) to the whitened components of their patches and the negated components.

    The bias is trained, the filters are not. `fit` computes the filters from images; until then they are
    random.
    """

    def __init__(self, channels: int, stride: int) -> None:
        # patches overlap by half; one channel has too few components in patches of 2 x 2
        kernel = 2 * stride if channels > 1 or stride > 1 else 3
        components = min(channels * kernel**2, MAX_COMPONENTS)
        super().__init__(channels, 2 * components, kernel, stride)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> None:
        """Compute the filters from normalised images (n, C, S, S), n of at least 1."""
        side, step = self.kernel_size[0], self.stride[0]
        patches = images.double().unfold(2, side, step).unfold(3, side, step)  # (n, C, h, w, side, side)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)  # (n * h * w, C * side * side)
        variances, components = torch.linalg.eigh(patches.T.cov())
        kept = self.out_channels // 2
        filters = (components / (variances.clamp(min=0) + VARIANCE_FLOOR).sqrt()).T.flip(0)[:kept]
        # an eigenvector's sign is arbitrary: both signs become filters, the one with a positive sum first
        filters = filters * torch.where(filters.sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))


class Group(nn.Module):
    """Conv, max-pool 2x2, norm and GELU, then one or two more convs with norm and GELU."""

    def __init__(self, channels: int, out: int, convolutions: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(conv(channels, out), nn.MaxPool2d(2), nn.BatchNorm2d(out), nn.GELU())
        layers: list[nn.Module] = []
        for _ in range(convolutions - 1):
            layers += [conv(out, out), nn.BatchNorm2d(out), nn.GELU()]
        self.convs = nn.Sequential(*layers[:-1])
        self.activation, self.shortcut = nn.GELU(), convolutions > 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.pooled(images)
        features = self.convs(pooled)
        return self.activation(features + pooled if self.shortcut else features)


class WhitenedCNN(nn.Module):
    """Map images (B, C, S, S) of at least 20 x 20 to logits (B, K). Accepts other sizes than image_size."""

    any_size = True

    def __init__(self, plan: WhitenedPlan, num_classes: int, image_size: int, channels: int) -> None:
        super().__init__()
        stem = Whitening(channels, stride=max(1, image_size // plan.side))
        groups = OrderedDict[str, nn.Module](stem=nn.Sequential(stem, nn.GELU()))
        in_channels = stem.out_channels  # (B, 24, 31, 31)
        for index, out in enumerate(plan.widths):
            groups[f"group{index + 1}"] = Group(in_channels, out, plan.convolutions)
            in_channels = out  # (B, 64, 15, 15), (B, 128, 7, 7), (B, 256, 3, 3)
        self.features = nn.Sequential(groups)
        self.head = nn.Linear(in_channels, num_classes, bias=False)

    def fit_first_layer(self, images: torch.Tensor) -> None:
        """Compute the first layer's filters from normalised images (n, C, S, S)."""
        self.features.stem[0].fit(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images)  # (B, 256, 3, 3)
        return SCALE * self.head(global_max(features))


def conv(channels: int, out: int) -> nn.Conv2d:
    """Return a conv 3x3 whose first `channels` outputs start as the identity; the others as usual."""
    layer = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:channels])
    return layer
