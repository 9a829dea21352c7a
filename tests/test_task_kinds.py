"""The tasks beside multiclass: encoding, targets, losses, decisions, sampling, blends and comparisons."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import naming
from scipy.stats import ttest_rel
from sklearn.metrics import cohen_kappa_score
from sklearn.utils.class_weight import compute_class_weight
from timm.loss import AsymmetricLossMultiLabel
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, smooth_l1_loss

from foldsmith.comparison.ensemble import build_ensemble
from foldsmith.data.sampling import balanced_order
from foldsmith.errors import InputError
from foldsmith.evaluation.chance import paired_t_test
from foldsmith.run.tables import load_folds, save_table
from foldsmith.tasks import Binary, Multilabel, Ordinal, Regression, build_task
from foldsmith.tasks.set_losses import balanced_weights
from foldsmith.training.pseudo_labels import choose_most_confident

LABELS = Path("labels.csv")


def rows_of(*categories: object) -> pd.DataFrame:
    paths = [f"train/{index}.png" for index in range(len(categories))]
    return pd.DataFrame({"path": paths, "category": list(categories), "group": ""})


# --- from the label file to targets and back


def test_binary_puts_the_positive_class_last() -> None:
    rows = rows_of("yes", "no", "yes")
    assert list(Binary.encode(rows, {}, LABELS).classes["category"]) == ["no", "yes"]
    encoded = Binary.encode(rows, {"yes": "Yes", "no": "No"}, LABELS)
    assert list(encoded.classes["class_name"]) == ["Yes", "No"]
    assert encoded.samples["label"].tolist() == [0, 1, 0]
    with pytest.raises(InputError, match=naming("labels.csv", 3, "multiclass")):
        Binary.encode(rows_of("a", "b", "c"), {}, LABELS)


def test_grades_keep_their_distances_and_words_need_an_order() -> None:
    encoded = Ordinal.encode(rows_of("4", "0", "1", "2", "4"), {}, LABELS)
    assert list(encoded.classes["category"]) == ["0", "1", "2", "3", "4"]
    assert encoded.samples.set_index("path")["label"].tolist() == [4, 0, 1, 2, 4]
    # quadratic weighted kappa of the labels is that of the numbers
    decided = np.array([2, 0, 1, 4, 4])
    expected = cohen_kappa_score([4, 0, 1, 2, 4], decided, labels=range(5), weights="quadratic")
    targets = encoded.samples["label"].to_numpy()
    kappa = build_task("ordinal", 5).metric("quadratic_weighted_kappa")
    assert kappa.evaluate(targets, np.eye(5)[decided]) == pytest.approx(expected)
    names = {"low": "Low", "middle": "Middle", "high": "High"}
    assert list(Ordinal.encode(rows_of("high", "low", "low"), names, LABELS).classes["category"]) == list(
        names
    )
    for grades in (["low", "high", "middle"], ["1", "2", "1000"]):
        with pytest.raises(InputError, match=naming("grades")):
            Ordinal.encode(rows_of(*grades), {}, LABELS)


def test_sets_become_indices_and_come_back_from_a_table(tmp_path: Path) -> None:
    encoded = Multilabel.encode(rows_of(("b", "a"), (), ("c",), ("a", "b")), {}, LABELS)
    assert encoded.samples["label"].tolist() == ["0 1", "", "2", "0 1"]
    assert encoded.samples["class_name"].tolist() == ["a b", "", "c", "a b"]
    task, expected = Multilabel(3), [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 1, 0]]
    save_table(tmp_path / "folds.csv", encoded.samples)
    for samples in (encoded.samples, load_folds(tmp_path / "folds.csv")):
        targets = task.targets(samples)
        assert targets.tolist() == expected and targets.dtype == np.uint8
    assert task.label_column(targets) == encoded.samples["label"].tolist()
    assert task.class_counts(targets).tolist() == [2, 2, 1]
    only_one = pd.DataFrame({"label": [0, 2]})  # as pandas reads a column of single labels
    assert task.targets(only_one).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_the_classes_of_sets_are_those_of_names_in_their_order() -> None:
    encoded = Multilabel.encode(rows_of(("b",), ("a",)), {"b": "bee", "z": "zebra fish", "a": "ant"}, LABELS)
    assert list(encoded.classes["class_name"]) == ["bee", "zebra fish", "ant"]
    assert encoded.samples["label"].tolist() == ["0", "2"]
    with pytest.raises(InputError, match=naming("labels.csv", "q")):
        Multilabel.encode(rows_of(("q",), ("a",)), {"a": "a"}, LABELS)
    with pytest.raises(InputError, match=naming("labels.csv")):
        Multilabel.encode(rows_of((), ()), {}, LABELS)


def test_numbers_keep_every_digit_and_have_a_scale(tmp_path: Path) -> None:
    numbers = [(-1.1, 1e-7), (0.1 + 0.2, 5.0), (7.0, -3.25)]
    encoded = Regression.encode(rows_of(*numbers), {"x": "x", "y": "y"}, LABELS)
    save_table(tmp_path / "folds.csv", encoded.samples)
    task = Regression(2, "ce", tuple(zip(encoded.classes["offset"], encoded.classes["scale"], strict=True)))
    for samples in (encoded.samples, load_folds(tmp_path / "folds.csv")):
        assert task.targets(samples).tolist() == [list(row) for row in numbers]
    np.testing.assert_allclose(np.array(task.scaling)[:, 0], np.mean(numbers, axis=0))
    np.testing.assert_allclose(np.array(task.scaling)[:, 1], np.std(numbers, axis=0))
    assert list(encoded.classes["category"]) == ["x", "y"]
    single = Regression.encode(rows_of((3.0,), (4.5,)), {}, LABELS)
    assert Regression(1).targets(single.samples).tolist() == [3.0, 4.5]


@pytest.mark.parametrize("numbers", [[(1.0,), (float("nan"),)], [(1.0,), (float("inf"),)], [(2.0,), (2.0,)]])
def test_numbers_that_cannot_be_learned_are_refused(numbers: list) -> None:
    with pytest.raises(InputError, match="labels"):
        Regression.encode(rows_of(*numbers), {}, LABELS)


@pytest.mark.parametrize(("kind", "values"), [(Multilabel, (("a",), ("b",))), (Regression, ((1.0,), (2.0,)))])
def test_an_image_with_two_targets_is_refused(kind: type, values: tuple) -> None:
    rows = rows_of(*values).assign(path="train/0.png")
    with pytest.raises(InputError, match=naming("labels.csv", "train/0.png")):
        kind.encode(rows, {}, LABELS)


# --- decisions, confidence and credit


def test_a_grade_is_decided_by_the_expected_grade() -> None:
    task = Ordinal(4)
    predictions = np.array([[0.4, 0.1, 0.3, 0.2], [0, 0.5, 0.5, 0], [0.9, 0.1, 0, 0]], dtype=np.float32)
    assert task.decide(predictions).tolist() == [1, 2, 0]  # expected 1.3, 1.5, 0.1
    logits = torch.log(torch.from_numpy(predictions[[0, 2]]) + 1e-9)
    assert int(task.count_correct(logits, torch.tensor([1, 1]))) == 1
    soft = task.soft_targets(torch.tensor([1, 1]))
    assert int(task.count_correct(logits, soft)) == 1


def test_the_credit_of_a_set_is_its_f1() -> None:
    task = Multilabel(3)
    targets = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=np.uint8)
    predictions = np.array([[0.9, 0.2, 0.1], [0.1, 0.2, 0.3], [0.5, 0.6, 0.1]], dtype=np.float32)
    assert task.decide(predictions).tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert task.correct(targets, predictions).tolist() == pytest.approx([2 / 3, 1, 0])
    logits = torch.logit(torch.from_numpy(predictions))
    assert float(task.count_correct(logits, torch.from_numpy(targets))) == pytest.approx(5 / 3)
    expected = np.prod(np.maximum(predictions, 1 - predictions), axis=1) ** (1 / 3)
    np.testing.assert_allclose(task.confidence(predictions), expected, rtol=1e-6)
    chosen = choose_most_confident(["x", "y", "z"], predictions, 0.34, task)
    assert chosen["label"].tolist() == ["0"] and chosen["path"].tolist() == ["x"]
    lost = -np.log(np.where(targets, predictions, 1 - predictions)).sum(axis=1)
    np.testing.assert_allclose(task.losses_of(targets, predictions), lost, rtol=1e-5)


def test_a_number_is_activated_by_its_scale() -> None:
    task = Regression(2, "ce", ((10.0, 2.0), (0.0, 5.0)))
    assert task.activate(torch.tensor([[1.0, -1.0]])).tolist() == [[12.0, -5.0]]
    targets, values = np.array([[12.0, 0.0]]), np.array([[10.0, 5.0]], dtype=np.float32)
    assert task.correct(targets, values).tolist() == [0.0]
    assert task.losses_of(targets, values).tolist() == [1.0]


# --- losses


def test_the_loss_of_sets_is_the_sum_of_binary_cross_entropies() -> None:
    draws = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(20, 4, generator=draws), torch.rand(20, 4, generator=draws) < 0.3
    targets[:2, :] = torch.tensor([[True], [False]])
    numpy_targets = targets.numpy().astype(np.uint8)
    loss = Multilabel(4).build_loss(numpy_targets, "none", 0.0, 0.0)
    expected = 4 * binary_cross_entropy_with_logits(logits, targets.float())
    torch.testing.assert_close(loss(logits, torch.from_numpy(numpy_targets)), expected)
    asymmetric = Multilabel(4, "asymmetric").build_loss(numpy_targets, "none", 0.0, 0.0)
    torch.testing.assert_close(
        asymmetric(logits, targets), AsymmetricLossMultiLabel()(logits, targets.float()) / 20
    )
    weights = balanced_weights(numpy_targets)
    for column in range(4):
        sides = compute_class_weight("balanced", classes=np.array([0, 1]), y=numpy_targets[:, column])
        np.testing.assert_allclose(weights[:, column], sides, rtol=1e-6)
    smooth = Multilabel(4).build_loss(numpy_targets, "none", 0.2, 0.0).smooth(targets.float())
    torch.testing.assert_close(smooth.mean(dim=0), targets.float().mean(dim=0))


def test_with_adjusted_logits_the_prior_alone_is_the_best_constant() -> None:
    targets = np.array([[1, 0]] * 9 + [[0, 1]], dtype=np.uint8)
    loss = Multilabel(2).build_loss(targets, "none", 0.0, 1.0)
    logits = torch.zeros(10, 2, requires_grad=True)
    loss(logits, torch.from_numpy(targets)).backward()
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("loss", "theirs"), [("ce", smooth_l1_loss), ("mse", mse_loss)])
def test_the_loss_of_numbers_is_in_standard_deviations(loss: str, theirs: object) -> None:
    task = Regression(1, loss, ((50.0, 20.0),))
    targets, scores = torch.tensor([10.0, 60.0, 50.0]), torch.tensor([[0.0], [0.5], [3.0]])
    expected = theirs(scores, torch.tensor([[-2.0], [0.5], [0.0]]))
    built = task.build_loss(targets.numpy(), "none", 0.0, 0.0)
    torch.testing.assert_close(built(scores, targets), expected)
    torch.testing.assert_close(built(scores, task.soft_targets(targets)), expected)


# --- sampling, blends, comparisons


def test_balanced_sampling_draws_every_label_of_sets_equally_often() -> None:
    sets = np.zeros((100, 3), np.uint8)
    sets[:90, 0], sets[90:95, 1], sets[95:98, 2] = 1, 1, 1
    order = balanced_order(sets, np.random.default_rng(0))
    assert len(order) == 100
    drawn = sets[order].sum(axis=0)
    assert drawn.tolist() == [25, 25, 25] and (sets[order].sum(axis=1) == 0).sum() == 25


@pytest.mark.parametrize("name", ["multilabel", "regression"])
def test_a_blend_of_independent_errors_is_a_gain(name: str) -> None:
    draws = np.random.default_rng(0)
    if name == "regression":
        task, targets = Regression(1, "ce", ((0.0, 1.0),)), draws.normal(size=300)
        runs = np.stack([(targets + draws.normal(0, 0.5, 300))[:, None] for _ in range(2)]).astype(np.float32)
    else:
        task, targets = Multilabel(3), (draws.random((300, 3)) < 0.4).astype(np.uint8)
        noisy = [2 * targets - 1 + draws.normal(0, 1.2, targets.shape) for _ in range(2)]
        runs = np.stack([task.finish(1 / (1 + np.exp(-scores))) for scores in noisy])
    metric = task.metric(task.default_metric)
    ensemble = build_ensemble(task, targets, np.arange(300) % 3, runs, metric, seed=0)
    assert ensemble.blended and ensemble.adjustment is None
    np.testing.assert_allclose(ensemble.blend.weights, 0.5, atol=0.2)
    mean = task.finish(np.tensordot(ensemble.blend.weights, runs, axes=1))
    np.testing.assert_allclose(ensemble.predict(runs), mean, rtol=1e-5)


def test_credit_between_right_and_wrong_is_compared_by_the_paired_t_test() -> None:
    draws = np.random.default_rng(0)
    a = draws.random(50)
    b = a + draws.normal(0.05, 0.1, 50)
    test = paired_t_test(a, b)
    assert test.p == pytest.approx(ttest_rel(a, b).pvalue)
    assert (test.only_a, test.only_b) == ((a > b).sum(), (b > a).sum())
    assert paired_t_test(a, a).p == paired_t_test(a[:1], b[:1]).p == 1.0
