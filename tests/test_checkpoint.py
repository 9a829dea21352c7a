"""A checkpoint restores exactly what was saved, and only into the training it belongs to."""

import hashlib
import io
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import naming
from torch import nn

from foldsmith.inference.compute import build_compute
from foldsmith.process.files import remove_checkpoints
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.tasks import SingleLabel
from foldsmith.training.checkpoint import Position, load_checkpoint, save_checkpoint
from foldsmith.training.epoch import Tally, train_one_epoch
from foldsmith.training.gradients import Gradients
from foldsmith.training.objective import Classification
from foldsmith.training.state import TrainingState, build_state
from foldsmith.training.step import Step

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
    step = Step(Gradients(state, Classification(nn.CrossEntropyLoss(), SingleLabel(3)), COMPUTE))
    train_one_epoch(step, batches, np.full(steps, 0.05))


def tensors_of(state: TrainingState) -> list[torch.Tensor]:
    moments = [
        value
        for group in state.optimizer.state.values()
        for value in group.values()
        if torch.is_tensor(value)
    ]
    return [*state.model.state_dict().values(), *state.ema.model.state_dict().values(), *moments]


RECIPES_TO_SAVE = {
    "adamw and an average": RECIPE,
    "sgd and no average": replace(RECIPE, optimizer="sgd", ema_decay=0.0),
    "nesterov and an average": replace(RECIPE, optimizer="sgd", nesterov=True),
}


@pytest.mark.parametrize("recipe", RECIPES_TO_SAVE.values(), ids=RECIPES_TO_SAVE.keys())
def test_a_restored_state_is_equal_and_trains_on_identically(recipe: Recipe, tmp_path: Path) -> None:
    state, other = make_state(recipe, 0), make_state(recipe, 1)
    train(state)
    save_checkpoint(tmp_path / "checkpoint.pt", state, Position(LOG), "a digest")
    assert load_checkpoint(tmp_path / "checkpoint.pt", other, "a digest") == Position(LOG, None)
    for _ in range(2):
        assert other.ema.step == state.ema.step
        assert len(tensors_of(state)) == len(tensors_of(other)) > 10
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(state), tensors_of(other), strict=True))
        train(state, seed=1)
        train(other, seed=1)


def test_the_step_within_an_epoch_and_the_random_state_are_restored(tmp_path: Path) -> None:
    state = make_state(RECIPE, 0)
    tally = Tally(2, torch.tensor([0.5, 0.25, 0.0]), [6, 5], torch.tensor(7.0, dtype=torch.float64), 1.5)
    torch.manual_seed(3)
    torch.rand(5)
    save_checkpoint(tmp_path / "checkpoint.pt", state, Position(LOG[:1], tally), "a digest")
    expected = torch.rand(4)
    torch.manual_seed(99)
    position = load_checkpoint(tmp_path / "checkpoint.pt", state, "a digest")
    assert torch.equal(torch.rand(4), expected)
    assert position.log == LOG[:1] and torch.equal(position.tally.losses, tally.losses)
    assert (position.tally.step, position.tally.counts, position.tally.seconds) == (2, [6, 5], 1.5)
    assert position.tally.correct == 7 and position.tally.correct.dtype == torch.float64


def test_a_checkpoint_of_another_training_is_reported_and_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    state = make_state(RECIPE, 0)
    train(state)
    save_checkpoint(tmp_path / "checkpoint.pt", state, Position(LOG), "a digest")
    other, untouched = make_state(RECIPE, 1), make_state(RECIPE, 1)
    assert load_checkpoint(tmp_path / "checkpoint.pt", other, "another digest") == Position()
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(other), tensors_of(untouched), strict=True))
    assert other.ema.step == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "checkpoint.pt") in printed and "damaged" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt.aside"]


def test_without_a_checkpoint_there_is_an_empty_log(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.pt", make_state(RECIPE, 0), "a digest") == Position()


def save_two(path: Path) -> TrainingState:
    """Save two checkpoints of one training, an epoch apart; return the state at the first."""
    state = make_state(RECIPE, 0)
    train(state)
    save_checkpoint(path, state, Position(LOG[:1]), "a digest")
    first = make_state(RECIPE, 1)
    load_checkpoint(path, first, "a digest")
    train(state, seed=1)
    save_checkpoint(path, state, Position(LOG), "a digest")
    return first


def test_a_checkpoint_replaces_the_previous_one_which_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    first = save_two(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.pt", "checkpoint.pt.previous"]
    assert load_checkpoint(path, make_state(RECIPE, 1), "a digest") == Position(LOG)
    path.unlink()
    state = make_state(RECIPE, 1)
    assert load_checkpoint(path, state, "a digest") == Position(LOG[:1])
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(first), tensors_of(state), strict=True))


DAMAGES = {
    "empty": lambda data: b"",
    "cut within its digest": lambda data: data[:20],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "one bit of a weight": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1])
    + data[len(data) // 2 + 1 :],
    "text": lambda data: b"not a checkpoint at all, and longer than a digest is",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_set_aside_and_the_previous_one_used(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    first = save_two(path)
    path.write_bytes(damage(path.read_bytes()))
    state = make_state(RECIPE, 1)
    assert load_checkpoint(path, state, "a digest") == Position(LOG[:1])
    assert re.search(naming(path, "damaged", "checkpoint.pt.aside"), capsys.readouterr().out)
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(first), tensors_of(state), strict=True))


def test_loading_a_checkpoint_executes_no_code(tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "it ran",))

    content = io.BytesIO()
    torch.save({"made_from": "a digest", "log": Program()}, content)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(path, make_state(RECIPE, 0), "a digest")
    assert not (tmp_path / "it ran").exists()


def test_removing_deletes_the_checkpoints_of_that_training_only(tmp_path: Path) -> None:
    save_two(tmp_path / "checkpoint.pt")
    (tmp_path / "checkpoint.pt.aside").touch()
    (tmp_path / "weights.safetensors").touch()
    remove_checkpoints(tmp_path / "checkpoint.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
