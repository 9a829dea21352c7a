"""Pseudo-labels: labels of test images, predicted by a fold's own networks for its next round.

n images · K outputs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldsmith.data.cache import open_run_cache
from foldsmith.errors import InputError
from foldsmith.run.command import Command
from foldsmith.run.tables import load_samples
from foldsmith.tasks import Task


def images_to_label(command: Command) -> list[str]:
    """Return the test images that may be pseudo-labelled; none if the recipe has one round.

    They are readable, and not duplicates or near-duplicates of a training image: the fold that holds that
    image out would learn from its own prediction of it. Raise InputError if there are no such images.
    """
    if command.recipe.rounds == 1:
        return []
    cache, test = (
        open_run_cache(command.run, command.folder, command.recipe.image_size),
        load_samples(command.run.test_samples),
    )
    readable = cache.index["problem"].to_numpy()[cache.rows(list(test["path"]))] == ""
    paths = list(test["path"][readable & ~show_training_pictures(test, load_samples(command.run.samples))])
    if not paths:
        raise InputError(
            f"rounds={command.recipe.rounds} pseudo-labels test images, but every test image is unreadable "
            "or shows the picture of a training image; set rounds=1."
        )
    return paths


def show_training_pictures(test: pd.DataFrame, training: pd.DataFrame) -> pd.Series:
    """Return which rows of `test` are duplicates or near-duplicates of a training image, bool (n,)."""
    near = test["near"].isin(training["near"]) & (test["near"] != "")
    return near | test["digest"].isin(training["digest"])


def choose_most_confident(
    paths: Sequence[str], predictions: np.ndarray, share: float, task: Task
) -> pd.DataFrame:
    """Return path, label and confidence of the share of images with the highest confidence, at least one.

    `paths` are (n,), `predictions` (n, K). The highest confidence comes first; ties are sorted by path.

    A share, not a threshold: label smoothing and mixing lower the confidence of all images, and a few epochs
    raise it, so that one threshold would select no image with one recipe and all images with another.
    """
    confidence = task.confidence(predictions)
    count = max(1, round(share * len(paths)))
    chosen = np.lexsort((np.array(paths, dtype=np.str_), -confidence))[:count]
    return pd.DataFrame(
        {
            "path": [paths[index] for index in chosen],
            "label": task.label_column(task.decide(predictions)[chosen]),
            "confidence": confidence[chosen],
        }
    )
