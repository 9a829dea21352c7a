"""Labels that a fold's own networks give to test images, for its next round.

n images · K classes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldsmith.command import Command
from foldsmith.data.cache import open_cache_of
from foldsmith.errors import InputError
from foldsmith.tables import load_samples


def images_to_label(command: Command) -> list[str]:
    """The test images that may get a label, those that can be read; none where the recipe has one round.

    Raises InputError if there are none for its further rounds.
    """
    if command.recipe.rounds == 1:
        return []
    cache, test_paths = open_cache_of(command), list(load_samples(command.run.test_samples)["path"])
    readable = cache.index["problem"].to_numpy()[cache.rows(test_paths)] == ""
    paths = [path for path, fine in zip(test_paths, readable, strict=True) if fine]
    if not paths:
        raise InputError(
            f"rounds={command.recipe.rounds} labels test images, and the competition has none that can be "
            "read; leave rounds at 1."
        )
    return paths


def choose_surest(paths: Sequence[str], probabilities: np.ndarray, share: float) -> pd.DataFrame:
    """The share of the images (n,) whose most probable class is the most probable, at least one: path, label,
    confidence; the surest first, equals by path.

    A share of probabilities (n, K), not those above a threshold: label smoothing and mixing make networks
    unsure of everything, and a few epochs make them sure of everything, so that a threshold that suits one
    recipe takes no image, or all, in another one.
    """
    confidence = probabilities.max(axis=1)
    count = max(1, round(share * len(paths)))
    chosen = np.lexsort((np.array(paths, dtype=np.str_), -confidence))[:count]
    return pd.DataFrame(
        {
            "path": [paths[place] for place in chosen],
            "label": probabilities.argmax(axis=1)[chosen],
            "confidence": confidence[chosen],
        }
    )
