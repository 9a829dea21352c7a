"""Numerical consistency: ties are broken the same way, and probabilities are float32 or better everywhere."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from foldsmith.competition.submission import SubmissionForm, fill_submission, write_submission
from foldsmith.evaluation.cross_validation import score
from foldsmith.evaluation.predictions import average_predictions
from foldsmith.inference.compute import build_compute
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.class_cells import LabelCells, ProbabilityCells
from foldsmith.tasks.metrics import METRICS
from foldsmith.tasks.probabilities import floor_probabilities

CLASSES = 7
TASK = SingleLabel(CLASSES)
# few values, so that most rows have ties
TIED = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.just(CLASSES)), elements=st.sampled_from([0.125, 0.25])
)


def form_of(num_images: int, column_labels: list[int]) -> SubmissionForm:
    names = [f"{index}.png" for index in range(num_images)]
    images = [f"test/{name}" for name in names]
    columns = ["id", *(f"c{label}" for label in column_labels)] if column_labels else ["id", "label"]
    labels = LabelCells([f"c{label}" for label in range(CLASSES)])
    return SubmissionForm(
        columns,
        names,
        [(image,) for image in images],
        ProbabilityCells(column_labels) if column_labels else labels,
    )


def filled(probabilities: np.ndarray, column_labels: list[int]) -> pd.DataFrame:
    form = form_of(len(probabilities), column_labels)
    prior = np.full(CLASSES, 1 / CLASSES, np.float32)
    return fill_submission(
        form, dict(zip([image for (image,) in form.images], probabilities, strict=True)), prior
    )


@given(TIED)
def test_of_equal_probabilities_the_first_class_is_predicted_everywhere(probabilities: np.ndarray) -> None:
    first = [row.index(max(row)) for row in probabilities.tolist()]
    assert list(filled(probabilities, [])["label"]) == [f"c{label}" for label in first]
    assert METRICS["accuracy"].score(np.array(first), probabilities) == 1
    # normalising to a sum of 1 must not change the predicted class
    assert floor_probabilities(probabilities).argmax(axis=1).tolist() == first


@settings(max_examples=20)
@given(TIED.map(floor_probabilities), st.randoms(use_true_random=False))
def test_ties_are_broken_the_same_way_in_any_order_of_rows(
    probabilities: np.ndarray, shuffler: object
) -> None:
    labels = np.arange(len(probabilities)) % CLASSES
    order = list(range(len(labels)))
    shuffler.shuffle(order)
    here, there = score(labels, probabilities, TASK), score(labels[order], probabilities[order], TASK)
    assert all(np.isclose(here[name], there[name], rtol=0, atol=1e-6) for name in here)


class Coarse(nn.Module):
    """A network that returns rows of `weights` as logits, in the precision of autocast."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = nn.Linear(len(logits), logits.shape[1], bias=False)
        self.logits.weight = nn.Parameter(torch.from_numpy(logits.T.astype(np.float32)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        number = (images[:, 0, 0, 0] * 255).round().long()
        return self.logits(nn.functional.one_hot(number, self.logits.in_features).float())


@settings(max_examples=20)
@given(
    hnp.arrays(np.float32, (4, 50), elements=st.floats(-40, 40, width=16)),
    st.sampled_from(["fp32", "bf16"]),
)
def test_probabilities_are_the_softmax_in_float32_of_logits_of_any_precision(
    logits: np.ndarray, precision: str
) -> None:
    pixels = np.zeros((4, 1, 1, 3), np.uint8)
    pixels[:, 0, 0, 0] = range(4)
    compute = build_compute("cpu", precision, (0.0,) * 3, (1.0,) * 3)
    images = CachedImages(pixels, np.arange(4))
    probabilities = predict(Coarse(logits), images, ViewAverage(TASK), compute, BatchLimit(3))
    if precision == "bf16":
        logits = torch.from_numpy(logits).bfloat16().float().numpy()
    exact = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    assert probabilities.dtype == np.float32
    # bf16 would be off by 1 in 256
    np.testing.assert_allclose(probabilities, exact, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@settings(max_examples=30)
@given(
    hnp.arrays(np.float32, (3, CLASSES), elements=st.floats(2**-20, 1, width=32)),
    st.permutations(range(CLASSES)),
)
def test_a_written_probability_is_the_one_that_was_predicted(
    tmp_path_factory, probabilities: np.ndarray, column_labels: list[int]
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "submission.csv"
    write_submission(path, filled(probabilities, list(column_labels)))
    written = pd.read_csv(path, index_col="id", dtype=str).map(float)
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(written[[f"c{label}" for label in range(CLASSES)]].to_numpy(), exact)


def test_a_mean_over_many_folds_loses_nothing_to_float32() -> None:
    draws = np.random.default_rng(0).dirichlet(np.ones(CLASSES), size=(40, 9)).astype(np.float32)
    exact = draws.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(average_predictions(list(draws), TASK), exact, atol=1e-6)
    assert (
        average_predictions(list(draws), TASK) == average_predictions(list(draws[::-1]), TASK)
    ).mean() > 0.9
