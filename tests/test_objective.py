"""Training objectives against plain formulas, and the encoder's own learning rate."""

import copy
import math
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from foldsmith.inference.compute import Compute, build_compute
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.tasks import SingleLabel
from foldsmith.training.epoch import train_one_epoch
from foldsmith.training.gradients import Gradients
from foldsmith.training.objective import (
    Classification,
    ClassificationAndReconstruction,
    Objective,
    Reconstruction,
    build_objective,
)
from foldsmith.training.optimizer import build_optimizer
from foldsmith.training.state import build_state
from foldsmith.training.step import Step

SIZE, CLASSES = 6, 4
TASK = SingleLabel(CLASSES)
CROSS_ENTROPY = nn.CrossEntropyLoss(label_smoothing=0.1)

each_objective = pytest.mark.parametrize(
    "objective",
    [
        Classification(CROSS_ENTROPY, TASK),
        Reconstruction(),
        ClassificationAndReconstruction(CROSS_ENTROPY, TASK, 0.5),
    ],
    ids=["classification", "reconstruction", "both"],
)


class Toy(nn.Module):
    """A small deterministic encoder, decoder and head that counts the encoder's calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 5, 3, padding=1)
        self.decoder = nn.Conv2d(5, 3, 3, padding=1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(5 * SIZE * SIZE, CLASSES))
        self.encoder_runs = 0
        self.encoder.register_forward_hook(self._count)

    def _count(self, *words: object) -> None:
        self.encoder_runs += 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images).relu())

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(images).relu())

    def classify_and_reconstruct(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.encoder(images).relu()
        return self.head(code), self.decoder(code)


class Untouchable:
    """Labels that must not be read."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise AssertionError(f"the labels were used: {name}")

    __eq__ = __len__ = __iter__ = __getitem__ = lambda self, *words: self.touched


def make_compute(precision: str = "fp32") -> Compute:
    return build_compute("cpu", precision, (0.5,) * 3, (0.5,) * 3)


def make_batch(count: int = 7, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return (
        2 * torch.rand(count, 3, SIZE, SIZE, generator=draws) - 1,
        torch.randint(0, CLASSES, (count,), generator=draws),
    )


def cross_entropy(model: Toy, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy with label smoothing of 0.1."""
    logarithms = model(images).log_softmax(dim=1)
    return -(0.9 * logarithms.gather(1, labels[:, None]) + 0.1 * logarithms.mean(dim=1, keepdim=True)).mean()


def squared_error(model: Toy, images: torch.Tensor) -> torch.Tensor:
    return ((model.decoder(model.encoder(images).relu()) - images) ** 2).sum() / images.numel()


def gradients(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (Classification(CROSS_ENTROPY, TASK), (1.0, 0.0)),
        (Reconstruction(), (0.0, 1.0)),
        (ClassificationAndReconstruction(CROSS_ENTROPY, TASK, 0.3), (1.0, 0.3)),
        (ClassificationAndReconstruction(CROSS_ENTROPY, TASK, 25.0), (1.0, 25.0)),
    ],
    ids=["classification", "reconstruction", "both", "both, the second heavily"],
)
def test_an_objective_has_the_value_and_gradient_of_its_formula(
    objective: Objective, weights: tuple[float, float]
) -> None:
    model, (images, labels) = Toy(), make_batch()
    loss, _ = objective(model, images, labels, make_compute())
    expected = sum(
        weight * term
        for weight, term in zip(
            weights, (cross_entropy(model, images, labels), squared_error(model, images)), strict=True
        )
        if weight
    )
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(model, loss), gradients(model, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "objective",
    [Classification(CROSS_ENTROPY, TASK), ClassificationAndReconstruction(CROSS_ENTROPY, TASK, 0.5)],
    ids=["classification", "both"],
)
def test_correctly_classified_images_are_counted(objective: Objective) -> None:
    model, (images, _) = Toy(), make_batch(8)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    labels[:3] = (labels[:3] + 1) % CLASSES
    _, rightly = objective(model, images, labels, make_compute())
    assert rightly == 5 and not rightly.requires_grad


def test_with_mixed_targets_the_class_of_the_largest_share_counts_as_correct() -> None:
    model, (images, _) = Toy(), make_batch(8)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    hot = functional.one_hot(labels, CLASSES).float()
    kept = torch.tensor([0.9, 0.6, 0.51, 0.4, 0.1, 0.7, 0.2, 1.0])[:, None]
    targets = kept * hot + (1 - kept) * hot.roll(1, dims=1)
    assert Classification(CROSS_ENTROPY, TASK)(model, images, targets, make_compute())[1] == 5


@each_objective
def test_the_encoder_runs_once_a_step(objective: Objective) -> None:
    model = Toy()
    objective(model, *make_batch(), make_compute())
    assert model.encoder_runs == 1


def test_a_reconstruction_has_no_accuracy_and_ignores_labels() -> None:
    model, (images, _) = Toy(), make_batch()
    loss, rightly = Reconstruction()(model, images, Untouchable(), make_compute())
    assert torch.isfinite(loss) and torch.isnan(rightly)


def test_an_epoch_of_reconstruction_has_a_loss_and_nan_for_accuracy_whatever_the_labels() -> None:
    images = torch.randint(0, 256, (12, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(2))
    halves, figures, states = images.to(torch.uint8).split([8, 4]), [], []
    for label in (0, CLASSES - 1):
        state = build_state(Toy(), make_recipe(), make_compute())
        batches = [(half, torch.full((len(half),), label)) for half in halves]
        step = Step(Gradients(state, Reconstruction(), make_compute()))
        figures.append(train_one_epoch(step, batches, np.array([0.1, 0.1])))
        states.append(state.model.state_dict())
    assert math.isfinite(figures[0][0]) and math.isnan(figures[0][1])
    assert figures[0][0] == figures[1][0]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(states[0]["head.1.weight"], Toy().state_dict()["head.1.weight"])


@each_objective
def test_a_loss_is_computed_in_fp32_whatever_the_precision_of_the_network(objective: Objective) -> None:
    model, batch = Toy(), make_batch()
    loss, _ = objective(model, *batch, make_compute("bf16"))
    exact, _ = objective(model, *batch, make_compute())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    assert loss != exact, "nothing was computed in bf16"


def test_a_weight_of_zero_skips_the_reconstruction() -> None:
    assert build_objective(CROSS_ENTROPY, TASK, 0.0) == Classification(CROSS_ENTROPY, TASK)
    assert build_objective(CROSS_ENTROPY, TASK, 0.2) == ClassificationAndReconstruction(
        CROSS_ENTROPY, TASK, 0.2
    )


# the encoder's rate


def make_recipe(**fields: object) -> Recipe:
    fields = {"weight_decay": 0.0, "momentum": 0.0, "lr": 0.1, "optimizer": "sgd", "ema_decay": 0.0, **fields}
    return replace(RECIPES["quick"], **fields)


def scales_of(recipe: Recipe) -> dict[str, float]:
    """Return lr_scale of every parameter by name."""
    model = Toy()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group["lr_scale"]
        for group in build_optimizer(model, recipe).param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_encoder_lr_scales_the_encoders_parameters_and_no_others(optimizer: str, weight_decay: float) -> None:
    recipe = make_recipe(optimizer=optimizer, weight_decay=weight_decay, lr=0.1, encoder_lr=0.02)
    scales = scales_of(recipe)
    assert set(scales) == {name for name, _ in Toy().named_parameters()}
    for name, scale in scales.items():
        assert scale == pytest.approx(0.2 if name.startswith("encoder.") else 1.0)


def test_without_encoder_lr_all_have_one_rate() -> None:
    assert set(scales_of(make_recipe()).values()) == {1.0}


def test_the_encoders_matrices_decay_and_its_biases_do_not() -> None:
    model = Toy()
    groups = build_optimizer(model, make_recipe(weight_decay=0.05, encoder_lr=0.02)).param_groups
    for group in groups:
        assert {parameter.ndim >= 2 for parameter in group["params"]} == {group["weight_decay"] == 0.05}


@pytest.mark.parametrize("encoder_lr", [0.0, 0.01, 0.4])
def test_a_step_moves_the_encoder_by_its_own_rate(encoder_lr: float) -> None:
    recipe, rates = make_recipe(encoder_lr=encoder_lr), np.array([0.1, 0.03])
    state = build_state(Toy(), recipe, make_compute())
    expected = copy.deepcopy(state.model)
    draws = torch.Generator().manual_seed(4)
    batches = [
        (
            torch.randint(0, 256, (5, SIZE, SIZE, 3), generator=draws).to(torch.uint8),
            torch.randint(0, CLASSES, (5,), generator=draws),
        )
        for _ in rates
    ]
    for rate, (images, labels) in zip(rates, batches, strict=True):
        normalised = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        loss = functional.cross_entropy(expected(normalised), labels)
        loss += 2.0 * functional.mse_loss(expected.reconstruct(normalised), normalised)
        changes = gradients(expected, loss)
        for (name, parameter), change in zip(expected.named_parameters(), changes, strict=True):
            scale = encoder_lr / 0.1 if encoder_lr and name.startswith("encoder.") else 1.0
            parameter.data -= rate * scale * change

    objective = ClassificationAndReconstruction(nn.CrossEntropyLoss(), TASK, 2.0)
    train_one_epoch(Step(Gradients(state, objective, make_compute())), batches, rates)
    for (name, ours), theirs in zip(state.model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)
    ends = {group["lr_scale"]: group["lr"] for group in state.optimizer.param_groups}
    assert ends == {scale: pytest.approx(0.03 * scale) for scale in ends}
