"""One batch: in micro-batches, after memory ran out, and compiled, it gives what the whole batch gives."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from foldsmith.recipes import RECIPES
from foldsmith.training.compute import Compute, build_compute
from foldsmith.training.engine import train_one_epoch
from foldsmith.training.objective import Classification
from foldsmith.training.state import TrainingState, build_state
from foldsmith.training.step import Step

SIZE, CLASSES = 8, 4
CROSS_ENTROPY = Classification(nn.CrossEntropyLoss())
RECIPE = replace(RECIPES["quick"], optimizer="sgd", momentum=0.9, weight_decay=0.0, ema_decay=0.0)


def make_compute() -> Compute:
    return build_compute("cpu", "fp32", (0.5,) * 3, (0.25,) * 3)


class Toy(nn.Module):
    """Batch norm and dropout: both notice how a batch is cut. Memory runs out above `most` images."""

    def __init__(self, most: int = 10**9, plain: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        middle = [nn.Identity()] if plain else [nn.BatchNorm2d(6), nn.Dropout(0.3)]
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Linear(216, CLASSES)
        )
        self.most, self.seen = most, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        logits = self.layers(images)
        if len(images) > self.most:  # late: batch statistics and random numbers are used up by then
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return logits


def make_batch(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    images = torch.randn((count, 3, SIZE, SIZE), generator=draws)
    return images, torch.randint(0, CLASSES, (count,), generator=draws)


def make_state(**words: object) -> TrainingState:
    return build_state(Toy(**words), RECIPE, make_compute())


def gradients(state: TrainingState) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in state.model.parameters()]


@pytest.mark.parametrize("size", [1, 4, 5, 12, 100])
def test_micro_batches_give_the_loss_and_the_gradients_of_the_whole_batch(size: int) -> None:
    images, labels = make_batch()
    state = make_state(plain=True)
    expected = copy.deepcopy(state.model)
    functional.cross_entropy(expected(images), labels).backward()
    with torch.no_grad():
        logits = expected(images)

    loss, rightly = Step(state, CROSS_ENTROPY, make_compute(), micro_batch=size)(images, labels)
    assert float(loss) == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
    assert int(rightly) == int((logits.argmax(dim=1) == labels).sum())
    assert not loss.requires_grad
    for ours, theirs in zip(gradients(state), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-6)
    assert max(state.model.seen) <= size and sum(state.model.seen) == 12


def test_out_of_memory_halves_the_micro_batch_says_so_once_and_forgets_the_attempt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = [make_batch(), make_batch()]
    results = []
    for most, micro_batch in ((3, 0), (10**9, 3)):
        state = make_state(most=most)
        step = Step(state, CROSS_ENTROPY, make_compute(), micro_batch)
        torch.manual_seed(5)
        losses = []
        for images, labels in batches:
            losses.append(float(step(images, labels)[0]))
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
        results.append((losses, state, torch.get_rng_state(), step.micro_batch))
    (losses, state, random, size), (wanted, small, its_random, _) = results
    assert state.model.seen == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]
    assert losses == wanted and size == 3
    assert torch.equal(random, its_random)
    for ours, theirs in zip(
        state.model.state_dict().values(), small.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"CUDA out of memory: from here on in micro-batches of {size}; batches stay as large"
        for size in (6, 3)
    ]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    step = Step(make_state(most=0), CROSS_ENTROPY, make_compute())
    with pytest.raises(torch.OutOfMemoryError):
        step(*make_batch(5))


def test_other_errors_are_no_reason_to_try_again() -> None:
    state = make_state()
    with pytest.raises(RuntimeError, match="shape|size"):
        Step(state, CROSS_ENTROPY, make_compute())(
            torch.zeros(2, 5, SIZE, SIZE), torch.zeros(2, dtype=torch.long)
        )
    assert state.model.seen == [2]


def test_an_epoch_in_micro_batches_counts_every_image_once() -> None:
    draws = torch.Generator().manual_seed(2)
    batches = [
        (
            torch.randint(0, 256, (count, SIZE, SIZE, 3), generator=draws, dtype=torch.uint8),
            torch.randint(0, CLASSES, (count,), generator=draws),
        )
        for count in (7, 7, 6)
    ]
    figures = []
    for micro_batch in (0, 4):
        state = make_state(plain=True)
        step = Step(state, CROSS_ENTROPY, make_compute(), micro_batch)
        figures.append(train_one_epoch(state, batches, np.full(3, 0.05), step))
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)


@pytest.mark.filterwarnings("ignore")  # the tracer's own
def test_compiled_it_gives_the_same_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_batch()
    whole, compiled, losses, grads = nn.Module.compile, [], [], []

    def trace(module: nn.Module) -> None:
        compiled.append(module)
        whole(module, backend="eager")  # traced and run by what compiles: machine code would take a minute

    monkeypatch.setattr(nn.Module, "compile", trace)
    for wanted in (False, True):
        state = make_state(plain=True)
        state.model.forward = state.model.layers.forward  # a list that grows cannot be traced
        step = Step(state, CROSS_ENTROPY, make_compute(), compiled=wanted)
        losses.append(float(step(images, labels)[0]))
        grads.append(gradients(state))
    assert compiled == [step.loss]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
