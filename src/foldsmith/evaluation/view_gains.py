"""What each test-time view, and their mean, is worth on held-out images.

N images · V views.
"""

import numpy as np
import pandas as pd

from foldsmith.evaluation.chance import compare_paired
from foldsmith.tasks.metrics import decide
from foldsmith.tasks.probabilities import logarithms

MEAN = "mean of all views"


def score_views(views: dict[str, np.ndarray], labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """One row a view and one for their mean: view, accuracy, log_loss, gain and gain_error.

    `views` is views.npz: view (V,), prediction (V, N), given (V, N) the probability of each image's label;
    labels (N,) and probabilities (N, K) are out-of-fold in the same order. A gain is in accuracy over the
    first view, paired image by image, with its standard error.
    """
    rows = np.arange(len(labels))
    predictions = [*views["prediction"], decide(probabilities)]
    given = [*views["given"], probabilities[rows, labels]]
    names = [*views["view"].tolist(), MEAN]
    first = predictions[0] == labels
    table = []
    for name, predicted, probability in zip(names, predictions, given, strict=True):
        right = predicted == labels
        paired = compare_paired(first, right)
        loss = -logarithms(probability).mean()
        table.append((name, right.mean(), loss, paired.difference, paired.standard_error))
    return pd.DataFrame(table, columns=["view", "accuracy", "log_loss", "gain", "gain_error"])
