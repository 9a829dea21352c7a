"""A network for small images that learns in few epochs, its first layer computed from the images.

After those of Page (How to train your ResNet, 2018) and Jordan (94 % on CIFAR-10 in 3.29 seconds, 2024): a
first layer that whitens patches and is not trained, convolutions that begin as the identity, wide layers at
small sides.

B batch · K classes · C channels. Shapes are those of whitened-cnn for 32 x 32, to which the stride brings
larger images; whitened-cnn-tall is made for 64 x 64.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from foldsmith.models.pooling import global_max

SCALE = 0.125  # of the logits: softer at the start, which high rates need
MOST_COMPONENTS = 32  # of a patch's colours and places; what varies least is left out
LEAST_VARIANCE = 1e-4  # added to every component's, so that noise is not made large


@dataclass(frozen=True)
class WhitenedPlan:
    """`widths` are the channels of the groups, of `convolutions` each; groups of three have a shortcut.

    The first layer's stride brings images larger than `side` pixels to about that.
    """

    widths: tuple[int, ...]
    convolutions: int = 2
    side: int = 32


WHITENED_PLANS = {
    "whitened-cnn": WhitenedPlan((64, 128, 256)),
    "whitened-cnn-wide": WhitenedPlan((64, 256, 256)),
    "whitened-cnn-deep": WhitenedPlan((128, 384, 512), convolutions=3),
    # for images of 64 pixels, whose sides the first layer does not halve: a group more
    "whitened-cnn-tall": WhitenedPlan((64, 128, 256, 256), side=64),
}


class Whitening(nn.Conv2d):
    """Patches (B, C, S, S) -> their whitened components and the negatives of these, with a trained bias.

    The filters are not trained: `fit` computes them from images, and until then they are random.
    """

    def __init__(self, channels: int, stride: int) -> None:
        # patches overlap by half; one channel has too few components in patches of 2 x 2
        kernel = 2 * stride if channels > 1 or stride > 1 else 3
        components = min(channels * kernel**2, MOST_COMPONENTS)
        super().__init__(channels, 2 * components, kernel, stride)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> None:
        """Computes the filters from normalised images (n, C, S, S), n of at least 1."""
        side, step = self.kernel_size[0], self.stride[0]
        patches = images.double().unfold(2, side, step).unfold(3, side, step)  # (n, C, h, w, side, side)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)  # (n * h * w, C * side * side)
        variances, components = torch.linalg.eigh(patches.T.cov())
        kept = self.out_channels // 2
        filters = (components / (variances.clamp(min=0) + LEAST_VARIANCE).sqrt()).T.flip(0)[:kept]
        # an eigenvector's sign is arbitrary; both are there, the one with a positive sum first
        filters = filters * torch.where(filters.sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))


class Group(nn.Module):
    """Halves the sides: conv, max-pool, norm, GELU, then one or two more convs with norm and GELU."""

    def __init__(self, channels: int, out: int, convolutions: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(conv(channels, out), nn.MaxPool2d(2), nn.BatchNorm2d(out), nn.GELU())
        layers: list[nn.Module] = []
        for _ in range(convolutions - 1):
            layers += [conv(out, out), nn.BatchNorm2d(out), nn.GELU()]
        self.convs = nn.Sequential(*layers[:-1])
        self.activation, self.shortcut = nn.GELU(), convolutions > 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = self.pooled(images)
        made = self.convs(images)
        return self.activation(made + images if self.shortcut else made)


class WhitenedCNN(nn.Module):
    """Images (B, C, S, S) of at least 20 x 20 -> logits (B, K); of other sizes than it was built for, too."""

    any_size = True

    def __init__(self, plan: WhitenedPlan, num_classes: int, image_size: int, channels: int) -> None:
        super().__init__()
        stem = Whitening(channels, stride=max(1, image_size // plan.side))
        groups = OrderedDict[str, nn.Module](stem=nn.Sequential(stem, nn.GELU()))
        inside = stem.out_channels  # (B, 24, 31, 31)
        for place, out in enumerate(plan.widths):
            groups[f"group{place + 1}"] = Group(inside, out, plan.convolutions)
            inside = out  # (B, 64, 15, 15), (B, 128, 7, 7), (B, 256, 3, 3)
        self.features = nn.Sequential(groups)
        self.head = nn.Linear(inside, num_classes, bias=False)

    def fit_first_layer(self, images: torch.Tensor) -> None:
        """Computes the first layer from normalised images (n, C, S, S)."""
        self.features.stem[0].fit(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images)  # (B, 256, 3, 3)
        return SCALE * self.head(global_max(features))


def conv(channels: int, out: int) -> nn.Conv2d:
    """Conv 3x3 that begins as the identity on as many channels as there are; the others as usual."""
    layer = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:channels])
    return layer
