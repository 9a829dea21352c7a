"""The autoencoders of studies 2 and 3, each with a classifier head on its code, one row of a table each.

B batch · K classes. Shapes are for 100 x 100, the size of both studies.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from foldsmith.errors import InputError


@dataclass(frozen=True)
class PaddedPlan:
    """Study 2: a decoder whose zero padding enlarges the maps, and a head of sigmoid layers."""

    depth: int = 2  # down blocks of the encoder, and as many up blocks of the decoder
    activation: Callable[[], nn.Module] = nn.ReLU
    dropout: float = 0.0  # of encoder and decoder
    hidden: tuple[int, ...] = (4096, 1024, 256)  # widths of the head's hidden layers
    head_dropout: float = 0.1


@dataclass(frozen=True)
class LeNetPlan:
    """Study 3: an encoder after LeNet-5, a padded or upsampling decoder, and a convolutional head."""

    norm: bool = False  # batch norm after every convolution
    dropout: bool = False  # dropout in the head, and batch norm of its hidden layer
    upsampled: bool = False  # the decoder upsamples instead of padding


def leaky_relu() -> nn.Module:
    """Return study 2's leaky ReLU."""
    return nn.LeakyReLU(0.01)


AUTOENCODER_PLANS: dict[str, PaddedPlan | LeNetPlan] = {
    "autoencoder-padded-1": PaddedPlan(),
    "autoencoder-padded-2": PaddedPlan(depth=3),
    "autoencoder-padded-4": PaddedPlan(3, leaky_relu, dropout=0.3, head_dropout=0.5),
    "autoencoder-padded-5": PaddedPlan(3, leaky_relu, dropout=0.3, hidden=(1024,), head_dropout=0.5),
    "autoencoder-lenet": LeNetPlan(),
    "autoencoder-lenet-bn": LeNetPlan(norm=True),
    "autoencoder-lenet-bn-dropout": LeNetPlan(norm=True, dropout=True),
    "autoencoder-lenet-upsampled": LeNetPlan(norm=True, dropout=True, upsampled=True),
}


class Autoencoder(nn.Module):
    """Map images (B, channels, H, W) of image_size to logits (B, K), or to their reconstruction.

    Raise InputError if the decoder's output is not of image_size.
    """

    any_size = False

    def __init__(
        self, plan: PaddedPlan | LeNetPlan, num_classes: int, image_size: int, channels: int
    ) -> None:
        super().__init__()
        if isinstance(plan, PaddedPlan):
            self.encoder, side = build_down_blocks(plan, channels, image_size)
            self.decoder, end = build_up_blocks(plan, channels, side)
        else:
            self.encoder, side = build_lenet_encoder(plan, channels, image_size)
            decode = build_upsampled_decoder if plan.upsampled else build_padded_decoder
            self.decoder, end = decode(plan, channels, side)
        if end != image_size:
            raise InputError(
                f"its decoder makes {end} x {end} images out of {image_size} x {image_size}; "
                "the studies' size is 100: use --image-size 100."
            )
        build_head = build_sigmoid_head if isinstance(plan, PaddedPlan) else build_conv_head
        self.head = build_head(plan, side, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images))

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Return the decoded code of images (B, channels, H, W), in the same shape."""
        return self.decoder(self.encoder(images))

    def classify_and_reconstruct(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and reconstruction from one encoder pass."""
        code = self.encoder(images)
        return self.head(code), self.decoder(code)


def name_blocks(name: str, blocks: Sequence[nn.Module]) -> nn.Sequential:
    """Return the blocks in sequence, called `<name>1`, `<name>2`, …"""
    return nn.Sequential(OrderedDict((f"{name}{index + 1}", block) for index, block in enumerate(blocks)))


def optional_dropout(rate: float) -> list[nn.Module]:
    """Return a dropout layer in a list, or an empty list for rate 0."""
    return [nn.Dropout(rate)] if rate else []


# study 2


def build_down_blocks(plan: PaddedPlan, channels: int, side: int) -> tuple[nn.Sequential, int]:
    """Return the encoder and its output side: 3 -> 16 -> 32 (-> 64) channels, 100 -> 50 -> 25 (-> 12)."""
    blocks = []
    for out in (16, 32, 64)[: plan.depth]:
        blocks.append(
            nn.Sequential(
                nn.Conv2d(channels, out, 3, padding=1, bias=False),
                plan.activation(),
                *optional_dropout(plan.dropout),
                nn.MaxPool2d(2),
            )
        )
        channels, side = out, side // 2
    return name_blocks("down", blocks), side


def build_up_blocks(plan: PaddedPlan, channels: int, side: int) -> tuple[nn.Sequential, int]:
    """Return the decoder and its output side; padding enlarges the maps: (12 ->) 25 -> 50 -> 100."""
    # input channels, output channels, kernel, padding
    steps = [(64, 32, 4, 8), (32, 16, 4, 14), (16, channels, 3, 26)][3 - plan.depth :]
    blocks = []
    for in_channels, out, kernel, padding in steps:
        block = [nn.Conv2d(in_channels, out, kernel, padding=padding, bias=False), plan.activation()]
        block += optional_dropout(plan.dropout) if out != channels else []
        blocks.append(nn.Sequential(*block))
        side += 2 * padding - kernel + 1
    return name_blocks("up", blocks), side


def build_sigmoid_head(plan: PaddedPlan, side: int, num_classes: int) -> nn.Sequential:
    """Return the head: flatten, hidden layers of linear, batch norm, sigmoid and dropout, then logits."""
    layers: list[nn.Module] = [nn.Flatten()]
    features = 16 * 2 ** (plan.depth - 1) * side * side
    for width in plan.hidden:
        layers += [nn.Linear(features, width), nn.BatchNorm1d(width), nn.Sigmoid()]
        layers += optional_dropout(plan.head_dropout)
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes))


# study 3


def conv_norm(
    plan: LeNetPlan, channels: int, out: int, kernel: int, padding: int, activation: nn.Module
) -> list[nn.Module]:
    """Return a convolution, its batch norm if the plan has norms, and the activation."""
    convolution = nn.Conv2d(channels, out, kernel, padding=padding)
    return [convolution, *([nn.BatchNorm2d(out)] if plan.norm else []), activation]


def build_lenet_encoder(plan: LeNetPlan, channels: int, side: int) -> tuple[nn.Sequential, int]:
    """Return the encoder and its output side: 3 -> 6 -> 16 channels, 100 -> 48 -> 22."""
    blocks = []
    for out in (6, 16):
        blocks.append(nn.Sequential(*conv_norm(plan, channels, out, 5, 0, nn.ReLU()), nn.MaxPool2d(2)))
        channels, side = out, (side - 4) // 2
    return name_blocks("down", blocks), side


def build_padded_decoder(plan: LeNetPlan, channels: int, side: int) -> tuple[nn.Sequential, int]:
    """Return the decoder and its output side.

    Padding enlarges the maps: 22 -> 34 -> 46 -> 58 -> 70 -> 82 -> 100.
    """
    widths = [16, 16, 16, 6, 6, 6]
    blocks = [
        nn.Sequential(*conv_norm(plan, in_channels, out, 13, 12, nn.ReLU()))
        for in_channels, out in zip(widths, widths[1:], strict=False)
    ]
    blocks.append(nn.Sequential(*conv_norm(plan, 6, channels, 19, 18, nn.Tanh())))
    return name_blocks("up", blocks), side + 12 * 5 + 18


def build_upsampled_decoder(plan: LeNetPlan, channels: int, side: int) -> tuple[nn.Sequential, int]:
    """Return the decoder and its output side: 22 -> 44 -> 48 -> 96 -> 100, by upsampling and convolution."""
    blocks = []
    for in_channels, out, activation in ((16, 6, nn.ReLU()), (6, channels, nn.Tanh())):
        # nearest upsampling repeats pixels, as the study's Kronecker product did, and is differentiable
        blocks.append(
            nn.Sequential(nn.Upsample(scale_factor=2), *conv_norm(plan, in_channels, out, 5, 4, activation))
        )
        side = 2 * side + 4
    return name_blocks("up", blocks), side


def build_conv_head(plan: LeNetPlan, side: int, num_classes: int) -> nn.Sequential:
    """Return the head: code (B, 16, 22, 22) -> (B, 32, 10, 10) -> (B, 64, 4, 4) -> 512 -> logits.

    Raise InputError for images too small for its poolings.
    """
    for _ in range(2):
        side = (side - 2) // 2
    if side < 1:
        raise InputError(
            "its images are too small for the head's poolings; "
            "the studies' size is 100: use --image-size 100."
        )
    drop = plan.dropout
    return nn.Sequential(
        *conv_norm(plan, 16, 32, 3, 0, nn.ReLU()),
        nn.MaxPool2d(2),
        *([nn.Dropout2d(0.2)] if drop else []),
        *conv_norm(plan, 32, 64, 3, 0, nn.ReLU()),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *([nn.Dropout(0.5)] if drop else []),
        nn.Linear(64 * side * side, 512),
        *([nn.BatchNorm1d(512)] if drop else []),
        nn.ReLU(),
        *([nn.Dropout(0.25)] if drop else []),
        nn.Linear(512, num_classes),
    )
