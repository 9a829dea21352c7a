"""Class weights and the held-out loss, against scikit-learn; the loss of a step, against torch and timm."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight
from timm.loss import BinaryCrossEntropy
from torch import nn

from foldsmith.tasks import SingleLabel
from foldsmith.tasks.losses import ClassificationLoss, class_weights, log_priors

labels_of_any_set = st.lists(st.integers(0, 7), min_size=1, max_size=80).map(np.array)


@settings(deadline=None, max_examples=60)
@given(labels_of_any_set)
def test_automatic_weights_are_scikit_learns_balanced_ones(labels: np.ndarray) -> None:
    # every class occurs, so that both count the same number of classes
    labels = np.concatenate([labels, np.arange(8)])
    weights = class_weights("auto", labels, 8)
    expected = compute_class_weight("balanced", classes=np.arange(8), y=labels)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def test_a_class_without_an_image_has_a_weight_of_one() -> None:
    assert class_weights("auto", np.array([0, 0, 2]), 3).tolist() == pytest.approx([0.5, 1.0, 1.0])


def test_class_weights_none_is_none() -> None:
    assert class_weights("none", np.array([0, 1]), 2) is None


@settings(deadline=None, max_examples=60)
@given(labels_of_any_set, st.integers(0, 2**31))
def test_loss_and_accuracy_are_scikit_learns(labels: np.ndarray, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (len(labels), 8))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, accuracy = SingleLabel(probabilities.shape[1]).loss_and_credit(probabilities, labels)
    assert loss == pytest.approx(log_loss(labels, probabilities, labels=np.arange(8)))
    assert accuracy == pytest.approx(accuracy_score(labels, probabilities.argmax(axis=1)))


def test_the_loss_of_a_true_class_of_probability_zero_is_finite() -> None:
    loss, accuracy = SingleLabel(2).loss_and_credit(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert math.isfinite(loss) and loss > 80
    assert accuracy == 0


def test_no_images_have_no_loss() -> None:
    assert all(
        math.isnan(value)
        for value in SingleLabel(3).loss_and_credit(np.empty((0, 3)), np.empty(0, dtype=int))
    )


# --- the loss of logits and targets, against torch's own and against formulas in numpy

K = 4


def make_logits(count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits (B, K), labels (B,) and targets (B, K) that mix two classes."""
    draws = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, K, generator=draws)
    labels = torch.randint(0, K, (count,), generator=draws)
    hot = nn.functional.one_hot(labels, K).float()
    return logits, labels, 0.7 * hot + 0.3 * hot.flip(0)


WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0])
each_kind_of_weights = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
each_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1])


@pytest.mark.parametrize(("weights", "smoothing"), [(None, 0.0), (None, 0.1), (WEIGHTS, 0.0)])
def test_cross_entropy_of_labels_is_torchs_to_the_bit(weights: torch.Tensor | None, smoothing: float) -> None:
    logits, labels, _ = make_logits()
    expected = nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(logits, labels)
    assert torch.equal(ClassificationLoss("ce", weights, smoothing)(logits, labels), expected)


@each_kind_of_weights
@each_smoothing
@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_the_loss_of_one_hot_targets_is_that_of_labels(
    kind: str, weights: torch.Tensor | None, smoothing: float
) -> None:
    logits, labels, _ = make_logits()
    loss = ClassificationLoss(kind, weights, smoothing)
    torch.testing.assert_close(loss(logits, nn.functional.one_hot(labels, K).float()), loss(logits, labels))


@each_smoothing
def test_cross_entropy_of_mixed_targets_is_torchs_own_where_classes_weigh_the_same(smoothing: float) -> None:
    logits, _, targets = make_logits()
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, targets)
    torch.testing.assert_close(ClassificationLoss("ce", None, smoothing)(logits, targets), expected)


def test_weighted_cross_entropy_of_mixed_targets_is_the_mean_over_weighted_shares() -> None:
    logits, _, targets = make_logits()
    total, weight = 0.0, 0.0
    for row, shares in zip(logits.double().numpy(), targets.numpy(), strict=True):
        logarithms = row - np.log(np.exp(row).sum())
        for k in range(K):
            total -= float(WEIGHTS[k]) * shares[k] * logarithms[k]
            weight += float(WEIGHTS[k]) * shares[k]
    assert float(ClassificationLoss("ce", WEIGHTS)(logits, targets)) == pytest.approx(
        total / weight, rel=1e-5
    )


@each_smoothing
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "targets"])
def test_binary_cross_entropy_is_its_formula(soft: bool, smoothing: float) -> None:
    logits, labels, targets = make_logits()
    shares = targets if soft else nn.functional.one_hot(labels, K)
    targets64 = (1 - smoothing) * shares.double() + smoothing / K
    probabilities = 1 / (1 + torch.exp(-logits.double()))
    terms = -(targets64 * probabilities.log() + (1 - targets64) * (1 - probabilities).log())
    loss = ClassificationLoss("bce", None, smoothing)(logits, targets if soft else labels)
    assert float(loss) == pytest.approx(float(terms.mean()), rel=1e-5)


@each_smoothing
def test_binary_cross_entropy_of_labels_is_timms(smoothing: float) -> None:
    logits, labels, _ = make_logits()
    expected = BinaryCrossEntropy(smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(ClassificationLoss("bce", None, smoothing)(logits, labels), expected)


@each_smoothing
@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_weights_of_classes_are_those_of_their_images(kind: str, smoothing: float) -> None:
    logits, labels, _ = make_logits()
    alone = ClassificationLoss(kind, label_smoothing=smoothing)
    image_losses = [float(alone(logits[i : i + 1], labels[i : i + 1])) for i in range(12)]
    expected = np.average(image_losses, weights=WEIGHTS[labels].numpy())
    loss = ClassificationLoss(kind, WEIGHTS, smoothing)(logits, labels)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def best_logits(loss: ClassificationLoss, labels: np.ndarray) -> torch.Tensor:
    """Return the logits (K, K) that minimise the loss of a perfect classifier, one row a class."""
    num_classes, targets = labels.max() + 1, torch.from_numpy(labels)
    logits = torch.zeros(num_classes, num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=300, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits[targets], targets)
        value.backward()
        return value

    optimizer.step(step)
    return logits.detach()


RARE = np.repeat(np.arange(3), [3000, 120, 12])


@pytest.mark.parametrize("remedy", ["weights", "adjustment"])
def test_smoothing_never_makes_a_rare_class_the_prediction_for_another(remedy: str) -> None:
    means = {"weights": class_weights("auto", RARE, 3), "adjustment": log_priors(RARE, 3)}
    logits = best_logits(ClassificationLoss("ce", label_smoothing=0.1, **{remedy: means[remedy]}), RARE)
    assert logits.argmax(dim=1).tolist() == [0, 1, 2]
    # and no wrong class is preferred to another
    for row in range(3):
        others = np.delete(logits[row].numpy(), row)
        assert others[0] == pytest.approx(others[1], abs=0.02)


# --- logit adjustment


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_adjusted_cross_entropy_is_the_formula_of_menon_and_others(tau: float) -> None:
    logits, labels, _ = make_logits()
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    trained_on = np.repeat(np.arange(K), (100 * shares).astype(int))
    loss = ClassificationLoss("ce", adjustment=tau * log_priors(trained_on, K))(logits, labels)
    # log(1 + sum over the other classes of (share / own share)^tau exp(logit - own logit))
    image_losses = []
    for row, own in zip(logits.double().numpy(), labels.tolist(), strict=True):
        others = [k for k in range(K) if k != own]
        image_losses.append(
            np.log1p(sum((shares[k] / shares[own]) ** tau * np.exp(row[k] - row[own]) for k in others))
        )
    assert float(loss) == pytest.approx(np.mean(image_losses), rel=1e-5)


def test_a_class_without_an_image_has_the_share_of_one_image() -> None:
    np.testing.assert_allclose(log_priors(np.array([0, 0, 0, 2]), 3), np.log([0.75, 0.25, 0.25]), rtol=1e-6)
