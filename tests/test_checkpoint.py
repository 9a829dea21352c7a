"""A checkpoint gives back exactly what was saved, and only to what it belongs to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from foldsmith.recipes import RECIPES, Recipe
from foldsmith.training.checkpoint import load_checkpoint, save_checkpoint
from foldsmith.training.compute import build_compute
from foldsmith.training.engine import train_one_epoch
from foldsmith.training.objective import Classification
from foldsmith.training.state import TrainingState, build_state

LOG = [{"epoch": 1, "lr": 0.1, "val_loss": float("inf")}, {"epoch": 2, "lr": 0.05, "val_loss": 1.5}]
COMPUTE = build_compute("cpu", "fp32", (0.5,) * 3, (0.5,) * 3)
RECIPE = replace(RECIPES["quick"], optimizer="adamw", ema_decay=0.9)


def make_state(recipe: Recipe, seed: int) -> TrainingState:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return build_state(nn.Sequential(*layers), recipe, COMPUTE)


def train(state: TrainingState, steps: int = 4, seed: int = 0) -> None:
    draws = torch.Generator().manual_seed(seed)
    batches = [
        (
            torch.randint(0, 256, (6, 8, 8, 3), generator=draws, dtype=torch.uint8),
            torch.arange(6) % 3,
        )
        for _ in range(steps)
    ]
    train_one_epoch(state, batches, np.full(steps, 0.05), Classification(nn.CrossEntropyLoss()), COMPUTE)


def tensors_of(state: TrainingState) -> list[torch.Tensor]:
    moments = [
        value for each in state.optimizer.state.values() for value in each.values() if torch.is_tensor(value)
    ]
    return [*state.model.state_dict().values(), *state.ema.model.state_dict().values(), *moments]


RECIPES_TO_SAVE = {
    "adamw and an average": RECIPE,
    "sgd and no average": replace(RECIPE, optimizer="sgd", ema_decay=0.0),
    "nesterov and an average": replace(RECIPE, optimizer="sgd", nesterov=True),
}


@pytest.mark.parametrize("recipe", RECIPES_TO_SAVE.values(), ids=RECIPES_TO_SAVE.keys())
def test_a_restored_state_is_the_same_and_goes_on_in_the_same_way(recipe: Recipe, tmp_path: Path) -> None:
    state, other = make_state(recipe, 0), make_state(recipe, 1)
    train(state)
    save_checkpoint(tmp_path / "checkpoint.pt", state, LOG, "a digest")
    assert load_checkpoint(tmp_path / "checkpoint.pt", other, "a digest") == LOG
    for _ in range(2):
        assert other.ema.step == state.ema.step
        assert len(tensors_of(state)) == len(tensors_of(other)) > 10
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(state), tensors_of(other), strict=True))
        train(state, seed=1)
        train(other, seed=1)


def test_a_checkpoint_of_something_else_is_not_used(tmp_path: Path) -> None:
    state = make_state(RECIPE, 0)
    train(state)
    save_checkpoint(tmp_path / "checkpoint.pt", state, LOG, "a digest")
    other, untouched = make_state(RECIPE, 1), make_state(RECIPE, 1)
    assert load_checkpoint(tmp_path / "checkpoint.pt", other, "another digest") == []
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(other), tensors_of(untouched), strict=True))
    assert other.ema.step == 0


def test_without_a_checkpoint_there_is_an_empty_log(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.pt", make_state(RECIPE, 0), "a digest") == []


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    state = make_state(RECIPE, 0)
    save_checkpoint(tmp_path / "checkpoint.pt", state, LOG[:1], "a digest")
    save_checkpoint(tmp_path / "checkpoint.pt", state, LOG, "a digest")
    assert load_checkpoint(tmp_path / "checkpoint.pt", state, "a digest") == LOG
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
