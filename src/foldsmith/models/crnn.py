"""The CRNN of study 4 and its variants: three convolutions, then an LSTM over their features.

B batch · K classes · T steps. Shapes are for 28 x 28.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from foldsmith.errors import InputError

STEP = 64  # features of one LSTM step


@dataclass(frozen=True)
class CRNNPlan:
    """The hyperparameters in which the variants differ."""

    kernels: tuple[int, int, int] = (3, 3, 2)  # kernel size of each block
    pools: int = 3  # how many blocks are max-pooled: 2 or 3
    hidden: int = 128  # width of the LSTM
    dropouts: tuple[float, float, float] = (0.25, 0.25, 0.25)  # of each block


CRNN_PLANS = {
    "crnn": CRNNPlan(),
    "crnn-kernels333": CRNNPlan(kernels=(3, 3, 3)),
    "crnn-kernels222": CRNNPlan(kernels=(2, 2, 2)),
    "crnn-kernels555": CRNNPlan(kernels=(5, 5, 5)),
    "crnn-pools2": CRNNPlan(pools=2),
    "crnn-hidden256": CRNNPlan(hidden=256),
    "crnn-dropout10": CRNNPlan(dropouts=(0.1, 0.1, 0.1)),
    "crnn-dropout10-once": CRNNPlan(dropouts=(0.0, 0.0, 0.1)),
    "crnn-hidden256-dropout10": CRNNPlan(hidden=256, dropouts=(0.1, 0.1, 0.1)),
}


def block(
    channels: int, out: int, kernel: int, stride: int, dropout: float, pool: nn.Module
) -> nn.Sequential:
    """Return convolution, batch norm, ReLU, dropout and pooling."""
    return nn.Sequential(
        # the study pads by 1 throughout, which leaves the third block nothing to convolve with a kernel of 5
        nn.Conv2d(channels, out, kernel, stride, padding=2 if kernel == 5 else 1),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        pool,
    )


class CRNN(nn.Module):
    """Map images (B, channels, H, W) of image_size to logits (B, K).

    Raise InputError for images too small for the poolings.
    """

    any_size = False

    def __init__(self, plan: CRNNPlan, num_classes: int, image_size: int, channels: int) -> None:
        super().__init__()
        first, second, third = plan.kernels
        drop = plan.dropouts
        last_pool = nn.MaxPool2d(2, stride=1) if plan.pools == 3 else nn.Identity()
        self.features = nn.Sequential(
            OrderedDict(
                block1=block(channels, 32, first, 2, drop[0], nn.MaxPool2d(2)),  # (B, 32, 7, 7)
                block2=block(32, 64, second, 1, drop[1], nn.MaxPool2d(2)),  # (B, 64, 3, 3)
                block3=block(64, 128, third, 1, drop[2], last_pool),  # (B, 128, 3, 3)
            )
        )
        steps = self._count_steps(image_size, channels)
        self.lstm = nn.LSTM(STEP, plan.hidden, num_layers=3, batch_first=True)
        self.head = nn.Sequential(
            nn.Flatten(),  # (B, T, 128) -> (B, 2304)
            nn.Linear(steps * plan.hidden, 128),
            nn.ReLU(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, num_classes),
        )

    def _count_steps(self, image_size: int, channels: int) -> int:
        """Return T for images of this size: 18 for 28 x 28."""
        training = self.features.training
        try:
            with torch.no_grad():
                features = self.features.eval()(torch.zeros(1, channels, image_size, image_size))
        except RuntimeError as error:
            raise InputError(
                f"images of {image_size} x {image_size} are too small for a CRNN; use a larger --image-size."
            ) from error
        self.features.train(training)
        return features.numel() // STEP

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images)
        steps = features.flatten(1).unflatten(1, (-1, STEP))  # (B, 128, 3, 3) -> (B, T, 64), T = 18
        return self.head(self._run_lstm(steps))

    def _run_lstm(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the LSTM's outputs for steps (B, T, 64): (B, T, 128)."""
        if not steps.is_cuda:
            return self.lstm(steps)[0]
        # on a GPU autocast would run it in fp16 even if bf16 is selected
        with torch.autocast("cuda", enabled=False):
            return self.lstm(steps.float())[0]
