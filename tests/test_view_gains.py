"""The gains of views, against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy.stats import sem
from sklearn.metrics import accuracy_score, log_loss

from foldsmith.evaluation.view_gains import score_views
from foldsmith.report.dataset import align_views
from foldsmith.tasks import SingleLabel


def test_the_views_and_their_mean_are_scored_against_the_first_view() -> None:
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 4, 200)
    stacked = draws.dirichlet(np.ones(4), (3, 200))
    stacked[:, np.arange(200), labels] += draws.random((3, 200))
    stacked /= stacked.sum(axis=2, keepdims=True)
    mean = stacked.mean(axis=0)
    views = {
        "view": np.array(["identity", "hflip", "vflip"]),
        "prediction": stacked.argmax(axis=2),
        "given": stacked[:, np.arange(200), labels],
    }
    table = score_views(views, labels, mean, SingleLabel(4))
    assert table["view"].tolist() == ["identity", "hflip", "vflip", "mean of all views"]
    first = stacked[0].argmax(axis=1) == labels
    for index, (row, probabilities) in enumerate(zip(table.itertuples(), [*stacked, mean], strict=True)):
        correct = probabilities.argmax(axis=1) == labels
        assert row.accuracy == pytest.approx(accuracy_score(labels, probabilities.argmax(axis=1)))
        assert row.log_loss == pytest.approx(log_loss(labels, probabilities))
        assert row.gain == pytest.approx(correct.mean() - first.mean())
        if index:  # two alike have an error too, the least that the images allow
            assert row.gain_error == pytest.approx(sem(correct.astype(float) - first))


def test_views_are_matched_by_path() -> None:
    views = {
        "view": np.array(["identity"]),
        "path": np.array(["b", "a", "c"]),
        "prediction": np.array([[1, 0, 2]]),
        "given": np.array([[0.1, 0.0, 0.2]]),
    }
    aligned = align_views(views, np.array(["c", "a", "b"]))
    assert aligned["prediction"].tolist() == [[2, 0, 1]] and aligned["given"].tolist() == [[0.2, 0.0, 0.1]]
    with pytest.raises(KeyError):
        align_views(views, np.array(["a", "nowhere"]))
