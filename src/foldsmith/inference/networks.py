"""The trained networks of a fold, one per seed: the only way in which a run predicts images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from foldsmith.inference.compute import Compute
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.inference.threads import take_threads
from foldsmith.inference.weights import load_trained, task_of
from foldsmith.run.paths import RunPaths
from foldsmith.tasks import Task


@dataclass(frozen=True)
class FoldNetworks:
    """The networks of a fold; `provenance` is the fold's run.json.

    `device` and `precision` are those of the command line, such as `auto`.
    """

    provenance: dict[str, Any]
    weights: Sequence[Path]
    device: str = "auto"
    precision: str = "auto"

    @classmethod
    def of_run(cls, run: RunPaths, provenance: dict[str, Any], device: str, precision: str) -> "FoldNetworks":
        """Return the networks of a run's fold; on a CPU, compute on the run's number of threads."""
        take_threads(run, device)
        paths = run.of_fold(provenance["fold"])
        return cls(provenance, paths.all_weights(provenance["seeds"]), device, precision)

    @property
    def task(self) -> Task:
        return task_of(self.provenance)

    def __len__(self) -> int:
        return len(self.weights)

    def load(self) -> Iterator[tuple[nn.Module, Compute]]:
        """Yield every network on its device, one at a time. Raise InputError as load_trained does."""
        for path in self.weights:
            model, _, compute = load_trained(path, self.provenance, self.device, self.precision)
            yield model, compute

    def predict(
        self,
        images: CachedImages,
        views: Sequence[str],
        batch_limit: BatchLimit,
        advance: Callable[[int], None] = lambda count: None,
    ) -> list[np.ndarray]:
        """Return each network's predictions, means over `views`, float32 (n, K).

        `advance` is called with the number of images predicted.
        """
        average = ViewAverage(self.task, views)
        return [
            predict(model, images, average, compute, batch_limit, advance) for model, compute in self.load()
        ]
