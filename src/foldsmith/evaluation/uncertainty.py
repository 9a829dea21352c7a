"""Standard errors and intervals of scores, from the images and from the folds; recall by class.

N images · K outputs · F folds. Targets are (N,) or (N, K). An error covers the sampling of the images, not
the seed of the training.
"""

import numpy as np
import pandas as pd

from foldsmith.tasks import Task

Score = float | None


def score_and_error(
    targets: np.ndarray,
    predictions: np.ndarray,
    metric: str,
    task: Task,
    groups: np.ndarray | None = None,
) -> tuple[Score, Score]:
    """Return the score of these images and its standard error; None where one is not defined.

    `groups` (N,) numbers the images that are resampled together, such as near-duplicates.
    """
    raise NotImplementedError


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` independent images (Wilson 1927)."""
    raise NotImplementedError


def class_recalls(targets: np.ndarray, predictions: np.ndarray, task: Task) -> pd.DataFrame:
    """Return one row per class: label, support, recall, low, high (its 95 % Wilson interval).

    Recall and interval are NaN for a class without an image.
    """
    raise NotImplementedError
