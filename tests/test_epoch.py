"""One epoch and prediction, against plain loops."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import naming
from torch import nn
from torch.nn import functional

from foldsmith.errors import InputError
from foldsmith.inference.compute import Compute, build_compute
from foldsmith.inference.features import capture_features
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import ViewAverage, predict, reconstruct
from foldsmith.inference.views import VIEWS, check_views, with_shifted
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.losses import ClassificationLoss
from foldsmith.training.epoch import train_one_epoch
from foldsmith.training.gradients import Gradients
from foldsmith.training.objective import Classification
from foldsmith.training.state import TrainingState, build_state
from foldsmith.training.step import Step

Batch = tuple[torch.Tensor, torch.Tensor]
SIZE, CLASSES = 8, 4
TASK = SingleLabel(CLASSES)
CROSS_ENTROPY = Classification(nn.CrossEntropyLoss(), SingleLabel(CLASSES))


def make_compute() -> Compute:
    return build_compute("cpu", "fp32", (0.5,) * 3, (0.25,) * 3)


def make_recipe(**fields: object) -> Recipe:
    return replace(RECIPES["quick"], optimizer="sgd", momentum=0.9, weight_decay=0.0, ema_decay=0.0, **fields)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, CLASSES),
    )  # fmt: skip


def make_step(state: TrainingState) -> Step:
    return Step(Gradients(state, CROSS_ENTROPY, make_compute()))


def make_batches(lengths: list[int]) -> list[Batch]:
    draws = torch.Generator().manual_seed(1)
    return [
        (
            torch.randint(0, 256, (length, SIZE, SIZE, 3), generator=draws, dtype=torch.uint8),
            torch.randint(0, CLASSES, (length,), generator=draws),
        )
        for length in lengths
    ]


def normalised(images: torch.Tensor) -> torch.Tensor:
    return ((images.double() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).float()


def test_an_epoch_equals_a_plain_loop_and_its_figures_are_means_over_images() -> None:
    batches, rates = make_batches([7, 7, 6, 2]), np.array([0.1, 0.2, 0.05, 0.01])
    state = build_state(make_model(), make_recipe(), make_compute())
    model = copy.deepcopy(state.model)

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    losses, right = [], []
    model.train()
    for rate, (images, labels) in zip(rates, batches, strict=True):
        logits = model(normalised(images))
        image_losses = functional.cross_entropy(logits, labels, reduction="none")
        losses += image_losses.tolist()
        right += (logits.argmax(dim=1) == labels).tolist()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        image_losses.mean().backward()
        optimizer.step()

    images_counted: list[int] = []
    loss, accuracy = train_one_epoch(
        make_step(state), batches, rates, after_step=lambda tally: images_counted.append(tally.counts[-1])
    )
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert accuracy == pytest.approx(np.mean(right))
    assert images_counted == [7, 7, 6, 2]
    for ours, theirs in zip(state.model.state_dict().values(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_an_epoch_leaves_no_gradient_behind_and_trains_in_training_mode() -> None:
    state = build_state(make_model().eval(), make_recipe(), make_compute())
    train_one_epoch(make_step(state), make_batches([4]), np.array([0.1]))
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert state.model[1].num_batches_tracked == 1


def test_the_average_is_updated_after_every_step() -> None:
    state = build_state(make_model(), replace(make_recipe(), ema_decay=0.9), make_compute())
    train_one_epoch(make_step(state), make_batches([4] * 3), np.full(3, 0.1))
    assert state.ema.step == 3


@pytest.mark.parametrize(("broken", "step"), [(0, 2), (2, 4)])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(broken: int, step: int) -> None:
    rates = np.full(4, 1e-3)
    rates[broken] = 1e38  # the next step has weights that overflow
    state = build_state(make_model(), make_recipe(), make_compute())
    with pytest.raises(InputError, match=naming("finite", step, 4, "lr")):
        train_one_epoch(make_step(state), make_batches([4] * 4), rates)


@pytest.mark.parametrize("lengths", [[4, 4], [4, 4, 4, 4]])
def test_more_or_fewer_batches_than_rates_are_an_error(lengths: list[int]) -> None:
    state = build_state(make_model(), make_recipe(), make_compute())
    with pytest.raises(ValueError, match="shorter|longer"):
        train_one_epoch(make_step(state), make_batches(lengths), np.full(3, 0.1))


def make_pixels(count: int = 23) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def predicted(rows: np.ndarray, views: tuple[str, ...] = ("identity",), batch_size: int = 8) -> np.ndarray:
    return predict(
        make_model(),
        CachedImages(make_pixels(), rows),
        ViewAverage(TASK, views),
        make_compute(),
        BatchLimit(batch_size),
    )


def moved(image: np.ndarray, start: int) -> np.ndarray:
    """Return an image (H, W, 3) cut from itself with a reflected border, from `start` borders on."""
    down, right = (max(1, side // 32) for side in image.shape[:2])
    around = np.pad(image, ((down, down), (right, right), (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    return around[start * down : start * down + height, start * right : start * right + width]


FLIPS = {
    "identity": lambda image: image,
    "hflip": lambda image: image[:, ::-1],
    "vflip": lambda image: image[::-1],
    "rot90": lambda image: np.rot90(image, 1),
    "rot180": lambda image: np.rot90(image, 2),
    "rot270": lambda image: np.rot90(image, 3),
    "transpose": lambda image: image.swapaxes(0, 1),
    "antitranspose": lambda image: np.rot90(image, 2).swapaxes(0, 1),
    "up-left": lambda image: moved(image, 2),
    "down-right": lambda image: moved(image, 0),
    "hflip-up-left": lambda image: moved(image[:, ::-1], 2),
    "hflip-down-right": lambda image: moved(image[:, ::-1], 0),
}


def by_hand(image: np.ndarray, views: tuple[str, ...]) -> np.ndarray:
    """Return the mean over views of the softmax of one image alone."""
    model, probabilities = make_model().eval(), []
    for view in views:
        turned = torch.from_numpy(FLIPS[view](image).copy())[None]
        with torch.no_grad():
            logits = model(normalised(turned))[0].double().numpy()
        probabilities.append(np.exp(logits) / np.exp(logits).sum())
    return np.mean(probabilities, axis=0)


@pytest.mark.parametrize("views", [("identity",), ("identity", "hflip"), tuple(FLIPS)])
def test_probabilities_are_the_mean_over_views_of_each_image_in_the_order_of_the_rows(
    views: tuple[str, ...],
) -> None:
    rows = np.array([3, 20, 0, 3, 11, 22, 7])
    expected = [by_hand(make_pixels()[row], views) for row in rows]
    probabilities = predicted(rows, views, batch_size=3)
    assert probabilities.shape == (7, CLASSES) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_the_batch_size_changes_nothing_beyond_rounding(batch_size: int) -> None:
    rows = np.arange(23)
    np.testing.assert_allclose(
        predicted(rows, batch_size=batch_size), predicted(rows, batch_size=23), rtol=1e-4, atol=1e-6
    )


def test_sigmoids_are_divided_by_their_sum_and_softmaxes_are_torchs() -> None:
    logits = 4 * torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    sigmoids = 1 / (1 + np.exp(-logits.double().numpy()))
    np.testing.assert_allclose(
        SingleLabel(3, "bce").activate(logits), sigmoids / sigmoids.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert torch.equal(SingleLabel(3).activate(logits), logits.softmax(dim=1))


def test_binary_cross_entropy_and_its_probabilities_find_how_often_each_class_occurs() -> None:
    shares = torch.tensor([0.8, 0.15, 0.05])
    labels = torch.arange(3).repeat_interleave((200 * shares).long())
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, tolerance_change=0, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = ClassificationLoss("bce")(logits.expand(200, 3), labels)
        loss.backward()
        return loss

    optimizer.step(step)
    found = SingleLabel(3, "bce").activate(logits.detach()[None])[0]
    np.testing.assert_allclose(found, shares, atol=1e-3)


def test_predicting_changes_no_weight_and_no_batch_statistic() -> None:
    model = make_model().train()
    before = copy.deepcopy(model.state_dict())
    predict(
        model, CachedImages(make_pixels(), np.arange(9)), ViewAverage(TASK), make_compute(), BatchLimit(4)
    )
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_progress_counts_every_image_once() -> None:
    counts: list[int] = []
    rows, views = np.arange(23), ("identity", "hflip")
    predict(
        make_model(),
        CachedImages(make_pixels(), rows),
        ViewAverage(TASK, views),
        make_compute(),
        BatchLimit(8),
        counts.append,
    )
    assert counts == [8, 8, 7]


BACK = {
    "identity": "identity",
    "hflip": "hflip",
    "vflip": "vflip",
    "rot90": "rot270",
    "rot180": "rot180",
    "rot270": "rot90",
    "transpose": "transpose",
    "antitranspose": "antitranspose",
}


@pytest.mark.parametrize("view", BACK)
def test_every_turned_view_has_an_inverse_view(view: str) -> None:
    images = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    assert torch.equal(VIEWS[BACK[view]](VIEWS[view](images)), images)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(4, 6), (64, 96)])
def test_every_view_equals_the_transformation_by_numpy(view: str, size: tuple[int, int]) -> None:
    images = torch.arange(3.0 * size[0] * size[1]).reshape(1, 3, *size)
    turned = VIEWS[view](images)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(turned, FLIPS[view](images[0].permute(1, 2, 0).numpy()))


def test_the_views_of_a_square_are_all_different() -> None:
    images = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert len({str(view(images).tolist()) for view in VIEWS.values()}) == len(VIEWS) == len(FLIPS)


def test_moved_views_stand_beside_the_views_that_they_move() -> None:
    assert with_shifted(("identity",)) == ("identity", "up-left", "down-right")
    both = with_shifted(("identity", "hflip"))
    assert both[:2] == ("identity", "hflip") and len(set(both)) == 6 and set(both) <= set(VIEWS)
    assert with_shifted(("rot90", "identity"))[:2] == ("rot90", "identity")


def test_an_unknown_view_names_the_nearest() -> None:
    with pytest.raises(InputError, match=naming("'hflipp'", "'hflip'")):
        check_views(("identity", "hflipp"))


# --- out of memory


class Short(nn.Module):
    """A network that runs out of memory in its last but one layer above `most` images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.layers, self.most, self.seen = make_model(), most, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        features = self.layers[:-1](images)
        logits = self.layers[-1](features)
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return logits


@pytest.mark.parametrize("views", [("identity",), ("identity", "hflip")])
def test_out_of_memory_halves_the_batch_and_keeps_the_order_of_rows(
    views: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    rows, model, counted = np.random.default_rng(3).permutation(23), Short(most=3), []
    expected = [by_hand(make_pixels()[row], views) for row in rows]
    batch_limit = BatchLimit(8)
    predicted = predict(
        model,
        CachedImages(make_pixels(), rows),
        ViewAverage(TASK, views),
        make_compute(),
        batch_limit,
        counted.append,
    )
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-6)
    # batches are still read in their original sizes: 8, 8 and 7
    assert counted == [2, 2, 2, 2] * 2 + [2, 2, 2, 1] and batch_limit.size == 2
    assert model.seen[:3] == [8, 4, 2] and set(model.seen[3:]) == {2, 1}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line, size in zip(lines, (4, 2), strict=True):
        assert line.startswith("CUDA out of memory") and f"{size} images" in line
    model.seen.clear()
    again = predict(
        model, CachedImages(make_pixels(), rows), ViewAverage(TASK, views), make_compute(), batch_limit
    )
    assert max(model.seen) == 2 and capsys.readouterr().out == "", "what did not fit is not tried again"
    assert again.tobytes() == predicted.tobytes()


def test_an_image_that_does_not_fit_alone_cannot_be_predicted() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        predict(
            Short(most=0),
            CachedImages(make_pixels(), np.arange(5)),
            ViewAverage(TASK),
            make_compute(),
            BatchLimit(4),
        )


def test_features_of_a_failed_attempt_are_discarded() -> None:
    captured = []
    for most in (100, 3):
        model = Short(most)
        with capture_features(model, CLASSES) as features:
            predict(
                model,
                CachedImages(make_pixels(), np.arange(23)),
                ViewAverage(TASK),
                make_compute(),
                BatchLimit(8),
            )
        captured.append(np.concatenate(features))
    assert captured[0].shape == (23, 24)
    np.testing.assert_allclose(captured[1], captured[0], rtol=1e-4, atol=1e-5)


class Mirror(nn.Module):
    """An autoencoder that returns its input, up to `most` images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return -images


def test_reconstructions_are_computed_in_batches_that_fit() -> None:
    rows = np.array([5, 2, 9, 0, 21, 7, 7])
    pairs = list(
        reconstruct(Mirror(most=2), CachedImages(make_pixels(), rows), make_compute(), BatchLimit(5))
    )
    assert [len(images) for images, _ in pairs] == [2, 2, 1, 2]
    images, reconstructed = (torch.cat(side) for side in zip(*pairs, strict=True))
    torch.testing.assert_close(images, normalised(torch.from_numpy(make_pixels()[rows])), rtol=0, atol=1e-6)
    assert torch.equal(reconstructed, -images)
