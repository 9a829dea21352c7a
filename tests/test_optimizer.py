"""The optimizer of a recipe: weight decay groups, and one step of each against its formula."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from conftest import naming
from timm.optim.muon import _COEFFICIENTS as muon_coefficients
from torch import nn

from foldsmith.errors import InputError
from foldsmith.inference import compute
from foldsmith.models import build_model
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.training.optimizer import build_optimizer, parameter_groups


def make_recipe(**fields: object) -> Recipe:
    return replace(RECIPES["quick"], **fields)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("name", ["bottleneck-resnet", "quick-cnn", "timm:convnext_atto"])
def test_weights_of_layers_decay_and_biases_and_norms_do_not(name: str, optimizer: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 5, 32)
    recipe = make_recipe(optimizer=optimizer, weight_decay=0.07)
    layers = {id(module.weight) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(model, recipe).param_groups
        for parameter in group["params"]
    }
    assert set(decays) == {id(parameter) for parameter in model.parameters()}
    for parameter in model.parameters():
        assert decays[id(parameter)] == (0.07 if id(parameter) in layers else 0.0)


def test_a_frozen_parameter_is_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    chosen = [
        parameter
        for group in build_optimizer(model, make_recipe()).param_groups
        for parameter in group["params"]
    ]
    assert {id(parameter) for parameter in chosen} == {id(model[1].weight), id(model[1].bias)}


def steps_of(recipe: Recipe, gradients: list[float]) -> list[float]:
    """Return the values of one weight that starts at 1, for these gradients."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = build_optimizer(layer, recipe)
    values = []
    for gradient in gradients:
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        optimizer.step()
        values.append(layer.weight.item())
    return values


GRADIENTS = [0.5, -0.2, 0.9, 0.1]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_formula(nesterov: bool) -> None:
    recipe = make_recipe(optimizer="sgd", lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    weight, velocity, expected = 1.0, None, []
    for gradient in GRADIENTS:
        gradient += 0.01 * weight
        velocity = gradient if velocity is None else 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
        expected.append(weight)
    assert steps_of(recipe, GRADIENTS) == pytest.approx(expected, rel=1e-5)


def test_adamw_follows_its_formula() -> None:
    recipe = make_recipe(optimizer="adamw", lr=0.1, weight_decay=0.05)
    weight, mean, square, expected = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS, start=1):
        weight *= 1 - 0.1 * 0.05
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weight -= 0.1 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
        expected.append(weight)
    assert steps_of(recipe, GRADIENTS) == pytest.approx(expected, rel=1e-4)


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 12, 3, groups=12),
        nn.Flatten(), nn.Linear(12, 24), nn.Linear(24, 5),
    )  # fmt: skip


def step_with_equal_gradients(
    models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer], num_steps: int
) -> None:
    """Step every model's optimizer with the same random gradients."""
    for step in range(num_steps):
        for model, optimizer in zip(models, optimizers, strict=True):
            draws = torch.Generator().manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draws)
            optimizer.step()


def test_muon_takes_the_hidden_filters_and_matrices_and_adamw_the_rest() -> None:
    model = make_network()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_muon = {
        names[id(parameter)]
        for group in build_optimizer(model, make_recipe(optimizer="muon")).param_groups
        for parameter in group["params"]
        if group["use_muon"]
    }
    assert by_muon == {"2.weight", "5.weight"}


def test_a_step_of_muon_is_orthogonal_and_as_long_as_adamws_and_follows_the_rate() -> None:
    model = make_network()
    optimizer = build_optimizer(model, make_recipe(optimizer="muon", lr=0.3, momentum=0.0, weight_decay=0.05))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    for group in optimizer.param_groups:
        group["lr"] = 0.02  # as the schedule sets it
    optimizer.step()
    for name in ("2.weight", "5.weight"):
        parameter = model.get_parameter(name)
        moved = (before[name] * (1 - 0.02 * 0.05) - parameter.detach()).flatten(1)
        left, _, right = torch.linalg.svd(parameter.grad.flatten(1), full_matrices=False)
        expected = 0.02 * 0.2 * max(moved.shape) ** 0.5 * left @ right
        assert torch.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.98
        lengths = torch.linalg.svdvals(moved) / (0.02 * 0.2 * max(moved.shape) ** 0.5)
        assert lengths.min() > 0.6 and lengths.max() < 1.4


def newton_schulz(gradient: np.ndarray) -> np.ndarray:
    """Return the Newton-Schulz iteration in float64 with timm's coefficients."""
    matrix = gradient / np.linalg.norm(gradient)
    for a, b, c in muon_coefficients["quintic"]:
        square = matrix @ matrix.T
        matrix = a * matrix + (b * square + c * square @ square) @ matrix
    return matrix


@pytest.mark.parametrize("fast", [False, True])
def test_muon_computes_in_the_type_that_the_processor_supports(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float32 differs from float64 in the seventh digit, bfloat16 in the third."""
    monkeypatch.setattr(compute, "has_fast_bf16", lambda: fast)
    model = make_network()
    recipe = make_recipe(optimizer="muon", lr=0.1, momentum=0.0, weight_decay=0.0)
    optimizer, layer = build_optimizer(model, recipe), model[5]
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    moved = (before - layer.weight.detach()).double().numpy()
    expected = 0.1 * 0.2 * max(moved.shape) ** 0.5 * newton_schulz(layer.weight.grad.double().numpy().T).T
    error = np.abs(moved - expected).max() / np.abs(expected).max()
    assert 1e-3 < error < 0.1 if fast else error < 1e-4


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_in_bfloat16_is_timms_to_the_last_bit(nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "has_fast_bf16", lambda: True)
    recipe = make_recipe(optimizer="muon", lr=0.01, momentum=0.9, weight_decay=0.05, nesterov=nesterov)
    ours, theirs = make_network(), make_network()
    rest = {"nesterov": False, "betas": (0.9, 0.999), "eps": 1e-8}
    groups = parameter_groups(theirs, recipe)
    groups = [group if group["use_muon"] else {**group, **rest} for group in groups]
    optimizers = build_optimizer(ours, recipe), timm.optim.Muon(groups, 0.01, 0, 0.9, nesterov)
    step_with_equal_gradients((ours, theirs), optimizers, 3)
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_parameters_outside_muon_are_trained_as_by_adamw() -> None:
    ours, theirs = make_network(), make_network()
    optimizers = [
        build_optimizer(
            model, make_recipe(optimizer=name, lr=0.01, weight_decay=0.05, nesterov=name == "muon")
        )
        for model, name in ((ours, "muon"), (theirs, "adamw"))
    ]
    step_with_equal_gradients((ours, theirs), optimizers, 4)
    for name, parameter in ours.named_parameters():
        if name not in ("2.weight", "5.weight"):
            torch.testing.assert_close(parameter, theirs.get_parameter(name), msg=name)


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(InputError, match=naming("'adamv'", "'adam'")):
        build_optimizer(nn.Linear(1, 1), make_recipe(optimizer="adamv"))


def test_nesterov_without_momentum_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match="nesterov"):
        build_optimizer(nn.Linear(1, 1), make_recipe(optimizer="sgd", nesterov=True, momentum=0.0))


def test_the_transformers_position_embedding_and_class_token_are_trained() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, depth=1)
    chosen = {id(p) for group in build_optimizer(model, make_recipe()).param_groups for p in group["params"]}
    assert {id(model.pos_embed), id(model.cls_token)} <= chosen
