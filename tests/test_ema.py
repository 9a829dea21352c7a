"""The exponential moving average of weights, against a plain loop over every tensor."""

import pytest
import torch
from torch import nn

from foldsmith.training.ema import EMA


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def train_steps(model: nn.Module, ema: EMA, count: int) -> list[dict[str, torch.Tensor]]:
    """Return every state of the model, the first included; update the average after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    states = [{key: tensor.clone() for key, tensor in model.state_dict().items()}]
    for step in range(count):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        model.train()(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        states.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
    return states


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_average_follows_the_plain_recursion_for_weights_and_batch_statistics(decay: float) -> None:
    model = make_model()
    ema = EMA(model, decay)
    states = train_steps(model, ema, 12)
    for key, tensor in ema.model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        mean = states[0][key].double()
        for step, state in enumerate(states[1:], start=1):
            now = min(decay, (1 + step) / (10 + step))
            mean = now * mean + (1 - now) * state[key].double()
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-4, atol=1e-6)


def test_counters_are_copied() -> None:
    model = make_model()
    ema = EMA(model, 0.9)
    train_steps(model, ema, 5)
    assert ema.model.state_dict()["1.num_batches_tracked"] == 5


def test_layers_that_share_a_weight_are_averaged_once() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    ema, start = EMA(model, 0.9), shared.weight.detach().clone()
    with torch.no_grad():
        shared.weight += 1
    ema.update()
    torch.testing.assert_close(ema.model[0].weight, 2 / 11 * start + 9 / 11 * shared.weight)
    assert ema.model[0].weight is ema.model[2].weight


def test_averaging_leaves_the_trained_model_alone() -> None:
    with_average, without = make_model(), make_model()
    first = train_steps(with_average, EMA(with_average, 0.9), 4)[-1]
    second = train_steps(without, EMA(without, 0.0), 4)[-1]
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_decay_of_zero_means_the_last_weights() -> None:
    model = make_model()
    ema = EMA(model, 0.0)
    train_steps(model, ema, 2)
    assert ema.model is model


def test_the_average_is_ready_to_predict_and_takes_no_gradient() -> None:
    ema = EMA(make_model(), 0.9)
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())


def test_loading_states_keeps_the_average_tied_to_the_model() -> None:
    model = make_model()
    ema = EMA(model, 0.9)
    saved = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    train_steps(model, ema, 3)
    model.load_state_dict(saved)
    ema.model.load_state_dict(saved)
    ema.step = 0
    train_steps(model, ema, 3)

    other = make_model()
    again = EMA(other, 0.9)
    train_steps(other, again, 3)
    assert all(
        torch.equal(tensor, again.model.state_dict()[key]) for key, tensor in ema.model.state_dict().items()
    )
