"""Scores of subsets of the images: by an attribute of the image, and of the surest predictions."""

import math
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from foldsmith.evaluation.uncertainty import least_error, score_and_error
from foldsmith.tasks import Task

SHARES = (0.9, 0.75, 0.5)
MIN_IMAGES = 10  # of a value with a row of its own
MAX_ROWS = 30
REST = "all others"
NO_GROUP = "no group"
MAX_SIZES = 6  # more different image sizes are divided into four ranges


def image_attributes(samples: pd.DataFrame, paths: Sequence[str]) -> dict[str, pd.Series]:
    """Return the attributes by which images can be divided: name -> value (N,) in the order of `paths`.

    Names are `group` (the label file's), `source folder` and `image size`; `samples` is samples.csv. An
    attribute is left out unless two values have MIN_IMAGES images each. So is one that divides the images
    by class, such as the folders of a competition with a folder per class.
    """
    rows = samples.set_index("path").loc[list(paths)]
    folders = [str(PurePosixPath(path).parent) for path in paths]
    attributes = {
        "group": rows["group"].replace("", NO_GROUP).reset_index(drop=True),
        "source folder": pd.Series(folders, dtype=object),
        "image size": _image_sizes(rows["width"].to_numpy(), rows["height"].to_numpy()),
    }
    classes = rows["class_name"].reset_index(drop=True)
    return {
        name: values
        for name, values in attributes.items()
        if (values.value_counts() >= MIN_IMAGES).sum() > 1 and classes.groupby(values).nunique().max() > 1
    }


def _image_sizes(width: np.ndarray, height: np.ndarray) -> pd.Series:
    """Return the size of each image in words: itself if there are few sizes, else a range of its side."""
    exact = pd.Series([f"{w} × {h}" for w, h in zip(width, height, strict=True)], dtype=object)
    if exact.nunique() <= MAX_SIZES:
        return exact
    sides = pd.Series(np.sqrt(width.astype(float) * height))
    quarters = pd.qcut(sides, 4, duplicates="drop")
    ranges = sides.groupby(quarters, observed=True).agg(["min", "max"])
    words = {quarter: f"{row['min']:.0f} to {row['max']:.0f} px" for quarter, row in ranges.iterrows()}
    return quarters.map(words).astype(object)


def scores_by(
    values: pd.Series, targets: np.ndarray, predictions: np.ndarray, metric: str, task: Task
) -> pd.DataFrame:
    """Return one row per value of an attribute (N,): value, images, score, error; the most images first.

    Values of fewer than MIN_IMAGES images, and those after MAX_ROWS, share the last row, `all others`. Score
    and error are NaN where the metric is not defined.
    """
    counts = values.value_counts()
    own = counts.index[counts >= MIN_IMAGES][:MAX_ROWS]
    subsets = [(value, (values == value).to_numpy()) for value in own]
    if len(own) < len(counts):
        subsets.append((REST, ~values.isin(own).to_numpy()))
    rows = []
    for value, inside in subsets:
        score, error = score_and_error(targets[inside], predictions[inside], metric, task)
        rows.append((value, int(inside.sum()), *(math.nan if x is None else x for x in (score, error))))
    return pd.DataFrame(rows, columns=["value", "images", "score", "error"])


def surest_shares(
    confidence: np.ndarray, credit: np.ndarray, shares: Sequence[float] = SHARES
) -> pd.DataFrame:
    """Return one row per share of the surest images: share, images, threshold, accuracy, error.

    The first row is all images. confidence and credit (see Task.correct) are (N,). `threshold` is the lowest
    confidence in the row.
    """
    order = np.argsort(-confidence, kind="stable")
    rows = []
    for share in (1.0, *shares):
        count = max(1, round(share * len(order)))
        kept = credit[order[:count]].astype(np.float64)
        error = float(kept.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
        threshold = float(confidence[order[count - 1]])
        rows.append((share, count, threshold, float(kept.mean()), max(error, least_error(count))))
    return pd.DataFrame(rows, columns=["share", "images", "threshold", "accuracy", "error"])
