"""How far a new image is from the images of a run, by the features of one of its networks.

n new images · N held-out images · D features.

An image's distance is that to its k-th nearest held-out image: one minus the cosine of their features (Sun et
al., Out-of-distribution detection with deep nearest neighbors, 2022). `unknown` is the share of the held-out
images that are less far from the other held-out ones: .99 means farther than 99 % of them. RESULTS.md has
what this distance and others separate.
"""

from dataclasses import dataclass

import numpy as np

from foldsmith.inference.features import capture_features
from foldsmith.inference.images import CachedImages
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.inference.predictor import Network, RunPredictor
from foldsmith.process.files import load_json, load_npz
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, is_from, trained_folds

FEWEST_CLASSES = 10  # of so many equal classes the neighbours are of one class


@dataclass(frozen=True)
class KnownImages:
    """The features of held-out images, float32 (N, D), rows of length 1, and their sorted distances (N,).

    Distances are to the k-th nearest, `neighbour`.
    """

    features: np.ndarray
    neighbour: int
    distances: np.ndarray

    @classmethod
    def of_features(cls, features: np.ndarray, num_outputs: int) -> "KnownImages":
        """Return the known images of features (N, D), N of at least 2.

        k is a quarter of the images of a class: with a larger one an image of a known class is far too, with
        a smaller one a single odd image makes others like it known.
        """
        neighbour = max(1, len(features) // (4 * max(num_outputs, FEWEST_CLASSES)))
        directions = directions_of(features)
        cosines = directions @ directions.T
        np.fill_diagonal(cosines, -np.inf)  # an image is not its own neighbour
        return cls(directions, neighbour, np.sort(distances_of(cosines, neighbour)))

    def unknown(self, features: np.ndarray) -> np.ndarray:
        """Return the share of held-out images that are less far than images with features (n, D), (n,)."""
        distances = distances_of(directions_of(features) @ self.features.T, self.neighbour)
        return np.searchsorted(self.distances, distances, side="left") / len(self.distances)


@dataclass(frozen=True)
class UnknownMeasure:
    """The known images of a run, and the network whose features they are compared by."""

    known: KnownImages
    network: Network
    predictor: RunPredictor

    @classmethod
    def of_run(cls, run: RunPaths, predictor: RunPredictor) -> "UnknownMeasure | None":
        """Return the measure of a run with its predictor; None without features of its present weights."""
        stamp = run.stamp("examine")
        if not stamp.is_file():
            return None
        folds = sorted(map(int, load_json(stamp)["trained"]))
        if not is_from(stamp, digests_of_trained(run, folds)):
            return None
        stored = load_npz(run.features)
        features = stored["features"][~stored["is_test"]]
        if len(features) < 2:
            return None
        fold = trained_folds(run).index(folds[0])  # features.npz is of the first fold's first network
        seeds = len(predictor.networks) // len(trained_folds(run))
        return cls(
            KnownImages.of_features(features, predictor.task.num_outputs),
            predictor.networks[fold * seeds],
            predictor,
        )

    def unknown(self, pixels: np.ndarray) -> np.ndarray:
        """Return how unknown images uint8 (n, size, size, C) are, float64 (n,) in 0 … 1.

        They pass through the network once more, in one view.
        """
        model, task, images = (
            self.network.model,
            self.predictor.task,
            CachedImages(pixels, np.arange(len(pixels))),
        )
        with capture_features(model, task.num_outputs) as features:
            predict(model, images, ViewAverage(task), self.network.compute, self.predictor.batch_limit)
        return self.known.unknown(np.concatenate(features))


def distances_of(cosines: np.ndarray, neighbour: int) -> np.ndarray:
    """Return one minus the k-th largest of each row of cosines (n, N), (n,)."""
    kept = cosines.shape[1] - neighbour
    return 1 - np.partition(cosines, kept, axis=1)[:, kept]


def directions_of(features: np.ndarray) -> np.ndarray:
    """Return features (N, D) as float32 rows of length 1; rows of zeros stay."""
    lengths = np.linalg.norm(features.astype(np.float32), axis=1, keepdims=True)
    return features.astype(np.float32) / np.where(lengths > 0, lengths, 1)
