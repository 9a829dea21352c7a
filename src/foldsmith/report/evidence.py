"""The inputs of the report, and the check that they belong to the same images and classes."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from foldsmith.evaluation.decisions import Decision, decider, decision_of
from foldsmith.evaluation.last_run import RunComparison
from foldsmith.report.mending import Mendable
from foldsmith.report.pictures import Pictures
from foldsmith.tasks import Task


@dataclass(frozen=True)
class Evidence:
    """The inputs of the report: N held-out images, K classes, F folds."""

    competition: str
    run: str
    task: Task
    cv: dict  # the content of cv.json
    labels: np.ndarray  # (N,) int class index; of other tasks as their targets
    folds: np.ndarray  # (N,) int, the fold in which the image was held out
    probabilities: np.ndarray  # (N, K) float32, out-of-fold; for numbers their values
    class_names: list[str]  # K
    class_counts: np.ndarray  # (K,) training images per class, over all folds; empty for numbers
    logs: dict[int, pd.DataFrame]  # fold -> log.csv; val_* are NaN in epochs without validation
    problems: pd.DataFrame  # path, problem, detail, action
    notes: list[str]  # sentences at the top of the page
    facts: dict[str, str]  # provenance of the run, in the order of display
    paths: np.ndarray  # (N,) str, as in samples.csv
    pictures: Pictures = field(default_factory=Pictures)
    issues: pd.DataFrame | None = None  # label_issues.csv
    samples: pd.DataFrame | None = None  # samples.csv
    test_samples: pd.DataFrame | None = None  # test_samples.csv
    searches_near_duplicates: bool = True
    views: dict[str, np.ndarray] | None = None  # views.npz
    features: dict[str, np.ndarray] | None = None  # features.npz
    test_probabilities: np.ndarray | None = None  # (M, K) float32
    known_images: str = ""  # sentence on images that the pretraining may have seen
    is_limited: bool = False  # whether --limit leaves training images out
    last_run: str = ""  # name of the run that was validated last before this one
    differing: list[tuple[str, str, str]] = field(default_factory=list)  # field, value there, value here
    comparison: RunComparison | None = None  # with the last run
    mendable: Mendable | None = None  # the labels, to correct them on the page

    @property
    def has_pictures(self) -> bool:
        return self.pictures.cache is not None

    @property
    def decision(self) -> Decision | None:
        """The fitted rule of cv.json by which the submission is filled, if one is kept."""
        return decision_of(self.cv)

    @cached_property
    def decided(self) -> np.ndarray:
        """The decisions for the held-out images, by that rule, in the form of targets."""
        return self.decide(self.probabilities)

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """Return the decisions for predictions (n, K), as the submission has them."""
        return decider(self.decision, self.task)(predictions)[1]

    def words_of(self, target: np.ndarray) -> str:
        """Return a target or decision in words: a class name, the names of a set, or its numbers."""
        if self.task.single_label:
            return self.class_names[int(target)]
        if self.task.predictions_key == "values":
            return " ".join(f"{number:.5g}" for number in np.atleast_1d(target))
        return ", ".join(self.class_names[label] for label in np.flatnonzero(target)) or "no label"


def check_evidence(evidence: Evidence) -> None:
    """Raise ValueError where the shapes do not match, a label is no class, or a probability is not finite."""
    num_images, num_classes = len(evidence.labels), len(evidence.class_names)
    labels = np.asarray(evidence.labels)
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if evidence.task.single_label and len(outside):
        raise ValueError(
            f"{len(outside)} labels are outside 0..{num_classes - 1}, the first is "
            f"{evidence.labels[outside[0]]} in row {outside[0]}"
        )
    shapes = {
        "folds": (np.shape(evidence.folds), (num_images,)),
        "probabilities": (np.shape(evidence.probabilities), (num_images, num_classes)),
        "class_counts": (
            np.shape(evidence.class_counts),
            (0 if evidence.task.predictions_key == "values" else num_classes,),
        ),
        "paths": (np.shape(evidence.paths), (num_images,)),
        "cv['folds']": (np.shape(evidence.cv["folds"]), np.shape(np.unique(evidence.folds))),
    }
    for name, (shape, expected) in shapes.items():
        if shape != expected:
            raise ValueError(
                f"{name} has shape {shape}, but {num_images} labels in {num_classes} classes need {expected}"
            )
    if not np.isfinite(evidence.probabilities).all():
        rows = np.flatnonzero(~np.isfinite(evidence.probabilities).all(axis=1))
        raise ValueError(f"{len(rows)} images have no finite probabilities, the first is in row {rows[0]}")
