"""Recalibrated batch statistics, against a plain pass in double precision."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from foldsmith.inference.compute import build_compute
from foldsmith.training.processes import Processes
from foldsmith.training.recalibration import recalibrate

COMPUTE = build_compute("cpu", "fp32", (0.5,) * 3, (0.25,) * 3)


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(24, 5), nn.BatchNorm1d(5),
    )  # fmt: skip


def make_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    draws = torch.Generator().manual_seed(1)
    return [
        (torch.randint(0, 256, (count, 9, 9, 3), generator=draws, dtype=torch.uint8), torch.zeros(count))
        for count in (7, 6, 6)
    ]


def test_statistics_are_those_of_a_plain_pass_without_dropout() -> None:
    model, batches = make_model(), make_batches()
    expected: dict[str, list[np.ndarray]] = {"means": [], "variances": []}
    layers = copy.deepcopy(model).double()
    for images, _ in batches:
        pictures = ((images.double() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
        with torch.no_grad():
            filtered = layers[0](pictures)
        expected["means"].append(filtered.mean(dim=(0, 2, 3)).numpy())
        expected["variances"].append(filtered.numpy().var(axis=(0, 2, 3), ddof=1))
    before = copy.deepcopy(model.state_dict())
    recalibrate(model, batches, COMPUTE)
    np.testing.assert_allclose(
        model[1].running_mean, np.mean(expected["means"], axis=0), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(model[1].running_var, np.mean(expected["variances"], axis=0), rtol=1e-3)
    assert not torch.equal(model[7].running_mean, before["7.running_mean"])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    assert model[1].momentum == 0.1 and not any(module.training for module in model.modules())
    again = make_model()
    torch.manual_seed(4)  # other random numbers than those of the initial weights
    recalibrate(again, batches, COMPUTE)
    assert torch.equal(again[7].running_var, model[7].running_var), "dropout drew"


def test_a_network_without_batch_norm_is_unchanged() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    before = copy.deepcopy(model.state_dict())
    recalibrate(model, make_batches(), COMPUTE)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_several_processes_have_the_mean_of_their_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    recalibrate(model, make_batches(), COMPUTE)
    other = make_model()
    monkeypatch.setattr(Processes, "sum", lambda self, tensor: tensor.add_(3.0))
    recalibrate(other, make_batches(), COMPUTE, Processes(0, 2))
    torch.testing.assert_close(other[1].running_mean, (model[1].running_mean + 3) / 2)
