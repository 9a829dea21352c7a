"""Class weights and the held-out loss, against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight

from foldsmith.training.loss import class_weights, loss_and_accuracy

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


def test_no_weights_are_none() -> None:
    assert class_weights("none", np.array([0, 1]), 2) is None


@settings(deadline=None, max_examples=60)
@given(labels_of_any_set, st.integers(0, 2**31))
def test_loss_and_accuracy_are_scikit_learns(labels: np.ndarray, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (len(labels), 8))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, accuracy = loss_and_accuracy(probabilities, labels)
    assert loss == pytest.approx(log_loss(labels, probabilities, labels=np.arange(8)))
    assert accuracy == pytest.approx(accuracy_score(labels, probabilities.argmax(axis=1)))


def test_an_impossible_class_that_is_true_costs_much_but_not_infinitely() -> None:
    loss, accuracy = loss_and_accuracy(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert math.isfinite(loss) and loss > 80
    assert accuracy == 0


def test_no_images_have_no_loss() -> None:
    assert all(math.isnan(value) for value in loss_and_accuracy(np.empty((0, 3)), np.empty(0, dtype=int)))
