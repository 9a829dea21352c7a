"""Tasks: the interface from label file to submission, and single-label classification."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from foldsmith.errors import InputError
from foldsmith.report.page import SECTIONS
from foldsmith.tasks import TASKS, SingleLabel, Task, build_task
from foldsmith.tasks.metrics import METRICS

ROWS = pd.DataFrame(
    [
        ("train/10.png", "7", ""),
        ("train/2.png", "10", "b"),
        ("train/2.png", "10", "b"),
        ("train/3.png", "7", ""),
    ],
    columns=["path", "category", "group"],
)


def test_every_task_has_the_whole_interface_and_names_sections_and_metrics_that_exist() -> None:
    names = [name for name, member in inspect.getmembers(Task) if not name.startswith("_")]
    assert {"encode", "strata", "build_loss", "decide", "correct", "read_cells"} <= set(names)
    for name, kind in TASKS.items():
        assert kind.name == name
        assert [member for member in names if not hasattr(kind(3), member)] == []
        assert set(kind.report_sections) <= set(SECTIONS)
        assert set(kind(3).metrics) <= set(METRICS) and kind(3).metrics


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="multiclas.*multiclass"):
        build_task("multiclas", 3)


def test_classes_are_sorted_as_numbers_samples_by_name_and_repeated_rows_kept_once() -> None:
    encoded = SingleLabel.encode(ROWS, {"10": "ten", "7": "seven"}, Path("labels.csv"))
    assert encoded.classes.to_dict("list") == {
        "label": [0, 1],
        "category": ["7", "10"],
        "class_name": ["seven", "ten"],
    }
    assert list(encoded.samples["path"]) == ["train/2.png", "train/3.png", "train/10.png"]
    assert list(encoded.samples["label"]) == [1, 0, 0]
    assert encoded.repeated == ["train/2.png"]
    assert SingleLabel(2).targets(encoded.samples).dtype == np.int64


@pytest.mark.parametrize(("column", "value"), [("category", "7"), ("group", "c")])
def test_an_image_with_two_labels_or_groups_is_refused_by_name(column: str, value: str) -> None:
    rows = ROWS.copy()
    rows.loc[1, column] = value
    with pytest.raises(InputError, match=r"labels\.csv.*train/2\.png"):
        SingleLabel.encode(rows, {}, Path("labels.csv"))


def test_predictions_become_decisions_credit_and_the_figures_of_views() -> None:
    task, targets = SingleLabel(3), np.array([0, 2, 1])
    predictions = np.array([[0.5, 0.25, 0.25], [0.4, 0.4, 0.2], [0.1, 0.6, 0.3]], dtype=np.float32)
    assert task.decide(predictions).tolist() == [0, 0, 1]  # the first of equal probabilities
    assert task.correct(targets, predictions).tolist() == [True, False, True]
    assert task.confidence(predictions).tolist() == pytest.approx([0.5, 0.4, 0.6])
    figures = task.view_figures(targets, predictions)
    assert figures["prediction"].tolist() == [0, 0, 1] and figures["prediction"].dtype == np.int32
    assert figures["given"].tolist() == pytest.approx([0.5, 0.2, 0.6])
    assert task.prior(targets[:2]).tolist() == [0.5, 0, 0.5]
    logits = torch.from_numpy(predictions)
    assert int(task.count_correct(logits, torch.from_numpy(targets))) == 2
    assert int(task.count_correct(logits, task.soft_targets(torch.from_numpy(targets)))) == 2


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_activation_gives_probabilities_in_the_order_of_the_logits(loss: str) -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    predictions = SingleLabel(5, loss).activate(logits)
    assert torch.allclose(predictions.sum(dim=1), torch.ones(20, dtype=torch.float64))
    assert torch.equal(predictions.argsort(dim=1), logits.argsort(dim=1))
