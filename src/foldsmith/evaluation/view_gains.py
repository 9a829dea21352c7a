"""The gain of each test-time view, and of their mean, on held-out images.

N images · V views.
"""

import numpy as np
import pandas as pd

from foldsmith.evaluation.chance import compare_paired
from foldsmith.tasks import Task
from foldsmith.tasks.probabilities import logarithms

MEAN = "mean of all views"


def score_views(
    views: dict[str, np.ndarray], labels: np.ndarray, probabilities: np.ndarray, task: Task
) -> pd.DataFrame:
    """Return one row per view, and one for their mean: view, accuracy, log_loss, gain, gain_error.

    `views` are the arrays of views.npz: view (V,), prediction (V, N), and given (V, N), the probability of
    each image's label. labels (N,) and probabilities (N, K) are out-of-fold, in the same order of images. A
    gain is in accuracy over the first view, paired by image; gain_error is its standard error.
    """
    rows = np.arange(len(labels))
    predictions = [*views["prediction"], task.decide(probabilities)]
    label_probabilities = [*views["given"], probabilities[rows, labels]]
    names = [*views["view"].tolist(), MEAN]
    first = predictions[0] == labels
    table = []
    for name, predicted, probability in zip(names, predictions, label_probabilities, strict=True):
        correct = predicted == labels
        paired = compare_paired(first, correct)
        loss = -logarithms(probability).mean()
        table.append((name, correct.mean(), loss, paired.difference, paired.standard_error))
    return pd.DataFrame(table, columns=["view", "accuracy", "log_loss", "gain", "gain_error"])
