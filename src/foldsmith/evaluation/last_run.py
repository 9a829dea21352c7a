"""The run before this one, and the paired comparison with it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.evaluation.chance import McNemar, PairedDifference
from foldsmith.run.paths import RunPaths
from foldsmith.tasks import Task


@dataclass(frozen=True)
class LastRun:
    """The run that was validated last before this one.

    `differing` lists what differs: (field of recipe or split, value there, value here).
    """

    run: RunPaths
    differing: list[tuple[str, str, str]]

    @property
    def name(self) -> str:
        return self.run.root.name


@dataclass(frozen=True)
class RunComparison:
    """This run against an earlier one on the images that both held out with the same target.

    `gain` is in the metric, positive if this run is better. `classes` has one row per class: label, support,
    was, now (recall), difference, error. `changed` has the images that changed side: path, was_right,
    now_right. `test` is McNemar's: only_a are the images that only the earlier run predicts correctly.
    """

    metric: str
    images: int
    was: float
    now: float
    gain: PairedDifference
    test: McNemar
    classes: pd.DataFrame
    changed: pd.DataFrame


def find_last_run(run: RunPaths) -> LastRun | None:
    """Return the run of the same competition that was validated last before this one; None without one.

    It has the same task, metric and classes, is not stale and no blend, has all folds of its plan or holds
    out all images of this run, and has the same target for every image that both hold out.
    """
    raise NotImplementedError


def compared_with(
    previous: dict[str, np.ndarray], current: dict[str, np.ndarray], metric: str, task: Task
) -> RunComparison | None:
    """Return the comparison of two oof.npz (path, label, fold, probabilities); None without common images.

    Also None where the metric is not defined on the common images.
    """
    raise NotImplementedError
