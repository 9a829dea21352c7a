"""The optimizer of a recipe: what decays, and one step of each by its formula."""

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from foldsmith.errors import InputError
from foldsmith.models import build_model
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.training.optimizer import build_optimizer


def make_recipe(**fields: object) -> Recipe:
    return replace(RECIPES["quick"], **fields)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
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
    """The values of one weight that starts at 1 and is given these gradients."""
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


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'adam'"):
        build_optimizer(nn.Linear(1, 1), make_recipe(optimizer="adamv"))


def test_nesterov_without_momentum_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match="nesterov"):
        build_optimizer(nn.Linear(1, 1), make_recipe(optimizer="sgd", nesterov=True, momentum=0.0))


def test_the_transformers_position_embedding_and_class_token_are_trained() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, depth=1)
    chosen = {id(p) for group in build_optimizer(model, make_recipe()).param_groups for p in group["params"]}
    assert {id(model.pos_embed), id(model.cls_token)} <= chosen
