"""Scores of subsets of the images: by an attribute of the image, and of the surest predictions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldsmith.tasks import Task

SHARES = (0.9, 0.75, 0.5)


def image_attributes(samples: pd.DataFrame, paths: Sequence[str]) -> dict[str, pd.Series]:
    """Return the attributes by which images can be divided: name -> value (N,) in the order of `paths`.

    Names are `group` (the label file's), `source folder` and `image size`; `samples` is samples.csv. An
    attribute with one value, or with a value of its own for almost every image, is left out.
    """
    raise NotImplementedError


def scores_by(
    values: pd.Series, targets: np.ndarray, predictions: np.ndarray, metric: str, task: Task
) -> pd.DataFrame:
    """Return one row per value of an attribute (N,): value, images, score, error; the most images first.

    Score and error are NaN where the metric is not defined.
    """
    raise NotImplementedError


def surest_shares(
    confidence: np.ndarray, credit: np.ndarray, shares: Sequence[float] = SHARES
) -> pd.DataFrame:
    """Return one row per share of the surest images: share, images, threshold, accuracy, error.

    The first row is all images. confidence and credit (see Task.correct) are (N,). `threshold` is the lowest
    confidence in the row.
    """
    raise NotImplementedError
