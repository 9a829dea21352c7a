"""One step: micro-batches, out of memory and compilation give the results of the whole batch."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from foldsmith.data.loader import EpochBatches
from foldsmith.inference.compute import Compute, build_compute
from foldsmith.recipes import RECIPES
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.losses import ClassificationLoss
from foldsmith.training.epoch import train_one_epoch
from foldsmith.training.gradients import Gradients, count_micro_batches
from foldsmith.training.objective import Classification, Objective
from foldsmith.training.processes import ALONE
from foldsmith.training.state import TrainingState, build_state
from foldsmith.training.step import Step, build_step

SIZE, CLASSES = 8, 4
CROSS_ENTROPY = Classification(nn.CrossEntropyLoss(), SingleLabel(CLASSES))
RECIPE = replace(RECIPES["quick"], optimizer="sgd", momentum=0.9, weight_decay=0.0, ema_decay=0.0)


def make_compute() -> Compute:
    return build_compute("cpu", "fp32", (0.5,) * 3, (0.25,) * 3)


class Toy(nn.Module):
    """Batch norm and dropout, both sensitive to micro-batches; runs out of memory above `most` images."""

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
        if len(images) > self.most:  # late: batch statistics and random state have changed by then
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return logits


def make_batch(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    images = torch.randn((count, 3, SIZE, SIZE), generator=draws)
    return images, torch.randint(0, CLASSES, (count,), generator=draws)


def make_state(**words: object) -> TrainingState:
    return build_state(Toy(**words), RECIPE, make_compute())


def make_step(
    state: TrainingState, objective: Objective = CROSS_ENTROPY, micro_batch: int = 0, **fields: float
) -> Step:
    return Step(Gradients(state, objective, make_compute(), micro_batch), **fields)


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

    loss, rightly = make_step(state, micro_batch=size)(images, labels)
    assert float(loss) == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
    assert int(rightly) == int((logits.argmax(dim=1) == labels).sum())
    assert not loss.requires_grad
    for ours, theirs in zip(gradients(state), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-6)
    assert max(state.model.seen) <= size and sum(state.model.seen) == 12


@pytest.mark.parametrize("soft", [False, True])
def test_with_class_weights_too_micro_batches_give_the_mean_of_the_whole_batch(soft: bool) -> None:
    images, labels = make_batch()
    if soft:
        labels = 0.7 * functional.one_hot(labels, CLASSES) + 0.3 * functional.one_hot(labels.flip(0), CLASSES)
    weights = torch.tensor([0.5, 1.0, 1.5, 3.0])
    objective = Classification(ClassificationLoss("ce", weights), SingleLabel(CLASSES))
    losses, grads = [], []
    for size in (0, 5):
        state = make_state(plain=True)
        losses.append(float(make_step(state, objective, size)(images, labels)[0]))
        grads.append(gradients(state))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_out_of_memory_halves_the_micro_batch_with_one_message_and_discards_the_attempt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = [make_batch(), make_batch()]
    results = []
    for most, micro_batch in ((3, 0), (10**9, 3)):
        state = make_state(most=most)
        step = make_step(state, micro_batch=micro_batch)
        torch.manual_seed(5)
        losses = []
        for images, labels in batches:
            losses.append(float(step(images, labels)[0]))
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
        results.append((losses, state, torch.get_rng_state(), step.gradients.micro_batch))
    (losses, state, random, size), (expected_losses, small, its_random, _) = results
    assert state.model.seen == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]
    assert losses == expected_losses and size == 3
    assert torch.equal(random, its_random)
    for ours, theirs in zip(
        state.model.state_dict().values(), small.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line, size in zip(lines, (6, 3), strict=True):
        assert "CUDA out of memory" in line and f"micro-batches of {size}" in line


def test_one_image_that_does_not_fit_is_an_error() -> None:
    step = make_step(make_state(most=0))
    with pytest.raises(torch.OutOfMemoryError):
        step(*make_batch(5))


def test_other_errors_are_not_retried() -> None:
    state = make_state()
    with pytest.raises(RuntimeError, match="shape|size"):
        make_step(state)(torch.zeros(2, 5, SIZE, SIZE), torch.zeros(2, dtype=torch.long))
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
        step = make_step(state, micro_batch=micro_batch)
        figures.append(train_one_epoch(step, batches, np.full(3, 0.05)))
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)


@pytest.mark.filterwarnings("ignore")  # warnings of the tracer
def test_a_compiled_step_gives_the_same_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_batch()
    whole, compiled, losses, grads = nn.Module.compile, [], [], []

    def trace(module: nn.Module) -> None:
        compiled.append(module)
        whole(module, backend="eager")  # traced but not compiled to machine code, which would take a minute

    monkeypatch.setattr(nn.Module, "compile", trace)
    for with_compile in (False, True):
        state = make_state(plain=True)
        state.model.forward = state.model.layers.forward  # a list that grows cannot be traced
        recipe, batches = replace(RECIPE, compile=with_compile), EpochBatches(len(labels), len(labels), 0, 0)
        step = build_step(state, CROSS_ENTROPY, make_compute(), recipe, batches, ALONE)
        losses.append(float(step(images, labels)[0]))
        grads.append(gradients(state))
    assert compiled == [step.gradients.network]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


# --- micro-batches of several processes


@given(st.integers(1, 200), st.integers(1, 64), st.integers(2, 8), st.integers(0, 40))
def test_every_process_splits_every_batch_into_equally_many_micro_batches_none_empty(
    num_samples: int, batch_size: int, num_processes: int, micro_batch: int
) -> None:
    assume(num_samples >= 2 * num_processes)
    counts, sizes = set(), []
    for rank in range(num_processes):
        batches = EpochBatches(num_samples, batch_size, 0, 0, (rank, num_processes))
        count = count_micro_batches(batches, micro_batch)
        counts.add(count)
        sizes += [len(cut) for key in batches for cut in np.array_split(key.positions, count)]
    assert len(counts) == 1 and min(sizes) >= 1
    if micro_batch == 0:
        assert counts == {1}
    elif max(sizes) > micro_batch:
        # one more image only where another split would leave a process without one
        smallest = num_samples // len(batches) // num_processes
        assert max(sizes) == micro_batch + 1 and counts == {smallest}
    else:
        assert counts == {1} or max(sizes) > micro_batch // 2


# --- clipped gradients


@pytest.mark.parametrize("clip", [0.01, 0.5, 1e6])
def test_gradients_are_clipped_to_a_norm_and_never_lengthened(clip: float) -> None:
    images, labels = make_batch()
    whole, cut = make_state(plain=True), make_state(plain=True)
    make_step(whole)(images, labels)
    make_step(cut, clip_grad=clip)(images, labels)
    length = float(torch.cat([gradient.flatten() for gradient in gradients(whole)]).norm())
    for ours, theirs in zip(gradients(cut), gradients(whole), strict=True):
        torch.testing.assert_close(ours, theirs * min(1, clip / length), rtol=1e-4, atol=1e-7)


def test_gradients_are_unscaled_before_they_are_clipped() -> None:
    images, labels = make_batch()
    plain = make_state(plain=True)
    scaled = replace(plain, model=make_state(plain=True).model, scaler=torch.amp.GradScaler("cpu"))
    scaled = replace(scaled, optimizer=torch.optim.SGD(scaled.model.parameters(), lr=0.1))
    assert scaled.scaler.is_enabled() and scaled.scaler.get_scale() > 1
    for state in (plain, scaled):
        make_step(state, clip_grad=0.1)(images, labels)
    for ours, theirs in zip(gradients(scaled), gradients(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    before = [parameter.detach().clone() for parameter in scaled.model.parameters()]
    scaled.scaler.step(scaled.optimizer)  # must not divide by the scale again
    scaled.scaler.update()
    for start, gradient, parameter in zip(before, gradients(plain), scaled.model.parameters(), strict=True):
        torch.testing.assert_close(parameter.detach(), start - 0.1 * gradient, rtol=1e-4, atol=1e-6)


# --- sharpness-aware minimisation


class Bowl(nn.Module):
    """A network whose loss is x' A x / 2 + b' x, with gradient A x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.register_buffer("a", torch.diag(torch.tensor([1.0, 4.0, 9.0])))
        self.register_buffer("b", torch.tensor([0.1, 0.2, 0.3]))

    def value(self) -> torch.Tensor:
        return self.x @ self.a @ self.x / 2 + self.b @ self.x


def bowls_value(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute) -> tuple:
    return model.value(), (labels == 0).sum()


bowls_value.weight_of = len


@pytest.mark.parametrize("radius", [0.05, 0.7])
@pytest.mark.parametrize("scale", [1.0, 2.0**12])
def test_sharpness_aware_gradients_are_those_of_the_definition_on_a_quadratic(
    radius: float, scale: float
) -> None:
    state = build_state(Bowl(), RECIPE, make_compute())
    state = replace(state, scaler=torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale > 1))
    start, a, b = (p.detach().double() for p in (state.model.x.clone(), state.model.a, state.model.b))
    loss, _ = make_step(state, bowls_value, sam=radius)(*make_batch(4))
    gradient = a @ start + b
    expected = a @ (start + radius * gradient / gradient.norm()) + b
    torch.testing.assert_close(state.model.x.grad.double() / scale, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(state.model.x.double(), start), "the weights are back where they were"
    assert float(loss) == pytest.approx(float(start @ a @ start / 2 + b @ start), rel=1e-6)


@pytest.mark.parametrize("micro_batch", [0, 5])
def test_both_passes_have_the_same_dropout_and_batch_statistics_count_once(micro_batch: int) -> None:
    images, labels = make_batch()
    state, plain = make_state(), make_state()
    step = make_step(state, micro_batch=micro_batch, sam=0.1)
    torch.manual_seed(5)
    loss, rightly = step(images, labels)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    expected_loss, right = make_step(plain, micro_batch=micro_batch)(images, labels)
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(loss, expected_loss) and torch.equal(rightly, right)
    for ours, theirs in zip(
        state.model.state_dict().values(), plain.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)

    # the second pass in plain code: another dropout mask would give other gradients
    length = torch.cat([gradient.flatten() for gradient in gradients(plain)]).norm()
    moved = make_state()
    with torch.no_grad():
        for parameter, gradient in zip(moved.model.parameters(), gradients(plain), strict=True):
            parameter += 0.1 * gradient / length
    torch.manual_seed(5)
    make_step(moved, micro_batch=micro_batch)(images, labels)
    for ours, theirs in zip(gradients(state), gradients(moved), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_zero_gradient_changes_no_weight() -> None:
    state = build_state(Bowl(), RECIPE, make_compute())
    with torch.no_grad():
        state.model.x.zero_()
        state.model.b.zero_()
    make_step(state, bowls_value, sam=0.1)(*make_batch(4))
    assert torch.equal(state.model.x.grad, torch.zeros(3))
