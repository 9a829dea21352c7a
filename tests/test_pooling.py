"""Global max pooling and its gradient."""

import os
import shutil

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from foldsmith.models.pooling import global_max


def test_it_is_the_largest_value_of_each_channel() -> None:
    features = torch.randn(5, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(global_max(features), torch.stack([image.flatten(1).max(1)[0] for image in features]))


def test_its_gradient_goes_to_one_of_the_largest_values_alone() -> None:
    features = torch.zeros(2, 3, 2, 2, requires_grad=True)  # all equal
    global_max(features).sum().backward()
    assert features.grad.flatten(2).sum(dim=2).eq(1).all() and features.grad.count_nonzero() == 6


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler on a CPU"
)
@pytest.mark.filterwarnings("ignore")  # warnings of the compiler
def test_compiled_in_bf16_its_gradients_are_finite() -> None:
    torch.manual_seed(0)
    conv, images = nn.Conv2d(3, 8, 1), torch.randn(4, 3, 4, 4)

    def loss(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return global_max(gelu(conv(images))).float().square().sum()

    loss(images).backward()
    expected, conv.weight.grad = conv.weight.grad, None
    torch.compile(loss)(images).backward()
    torch.testing.assert_close(conv.weight.grad, expected, rtol=0.05, atol=0.05)
