"""Labels that a fold's own networks give to test images, for its next round.

n images · K classes.
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
    """The test images that may get a label; none where the recipe has one round.

    They can be read, and none is found to show a training picture, by `near_duplicates`: the fold that holds
    that out would learn from its own prediction of it. Raises InputError if there are none for further
    rounds.
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
            f"rounds={command.recipe.rounds} labels test images, and the competition has none that can be "
            "read and shows no training picture; leave rounds at 1."
        )
    return paths


def show_training_pictures(test: pd.DataFrame, training: pd.DataFrame) -> pd.Series:
    """Which rows of `test` have the pixels, or show the picture, of a training image: bool (n,)."""
    near = test["near"].isin(training["near"]) & (test["near"] != "")
    return near | test["digest"].isin(training["digest"])


def choose_surest(paths: Sequence[str], probabilities: np.ndarray, share: float, task: Task) -> pd.DataFrame:
    """The share of the images (n,) whose most probable class is the most probable, at least one: path, label,
    confidence; the surest first, equals by path.

    A share of probabilities (n, K), not those above a threshold: label smoothing and mixing make networks
    unsure of everything, and a few epochs make them sure of everything, so that a threshold that suits one
    recipe takes no image, or all, in another one.
    """
    confidence = task.confidence(probabilities)
    count = max(1, round(share * len(paths)))
    chosen = np.lexsort((np.array(paths, dtype=np.str_), -confidence))[:count]
    return pd.DataFrame(
        {
            "path": [paths[place] for place in chosen],
            "label": task.decide(probabilities)[chosen],
            "confidence": confidence[chosen],
        }
    )
