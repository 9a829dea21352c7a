"""Predicting new images as a run's submission is predicted: a run's networks, or those of all members.

n images · C channels · K outputs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foldsmith.comparison.members import digests_of
from foldsmith.deployment.combination import Combination, read_combination
from foldsmith.errors import InputError
from foldsmith.inference.predictor import Network, RunPredictor
from foldsmith.process.files import load_json
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, require_from, require_trained, trained_folds


@dataclass(frozen=True)
class Chunk:
    """Some images: their predictions float32 (n, K), and why each has none; empty for an image that has.

    `pixels` uint8 (n, size, size, C) are those of the member with the largest weight.
    """

    predictions: np.ndarray
    problems: list[str]
    pixels: np.ndarray


@dataclass(frozen=True)
class ImagePredictor:
    """The predictors of a combination's members, in their order."""

    combination: Combination
    predictors: Sequence[RunPredictor]

    @classmethod
    def of_run(cls, run: RunPaths, device: str, precision: str) -> "ImagePredictor":
        """Return the predictor of a run, a blend or an average.

        Raise InputError if a member is not trained, or was predicted again since the runs were combined, and
        if the labels of the run are decided by a fit to other weights.
        """
        combination = read_combination(run)
        require_current(run, combination)
        fold_runs = [require_trained(member, folds_of(member)) for member in combination.members]
        predictors = [
            RunPredictor.of_run(member, facts, device, precision)
            for member, facts in zip(combination.members, fold_runs, strict=True)
        ]
        return cls(combination, predictors)

    def in_fp32(self) -> "ImagePredictor":
        """Return the same predictor in fp32."""

        def exact(network: Network) -> Network:
            return replace(network, compute=replace(network.compute, precision="fp32"))

        predictors = [one.limited([*map(exact, one.networks)], one.views) for one in self.predictors]
        return replace(self, predictors=predictors)

    @property
    def main(self) -> int:
        """Return the index of the member with the largest weight."""
        return int(self.combination.weights.argmax())

    def chunks(
        self, files: Sequence[Path], advance: Callable[[int], None] = lambda count: None
    ) -> Iterator[Chunk]:
        """Yield the predictions of image files in chunks; `advance` is called with each chunk's length."""
        forms = list(dict.fromkeys(predictor.form for predictor in self.predictors))
        reading = {predictor.form: predictor for predictor in self.predictors}
        readers = [reading[form].read_chunks(files) for form in forms]
        for chunks in zip(*readers, strict=True):  # members of one form share the decoded images
            images = {form: pixels for form, (pixels, _) in zip(forms, chunks, strict=True)}
            reasons = zip(*(said for _, said in chunks), strict=True)
            problems = [next(filter(None, by_form), "") for by_form in reasons]
            predictions = self.combination.combine(
                [predictor.mean(images[predictor.form]) for predictor in self.predictors]
            )
            for row in np.flatnonzero(~np.isfinite(predictions).all(axis=1)):
                problems[row] = problems[row] or "its prediction is not finite; use --precision fp32"
            yield Chunk(predictions, problems, images[self.predictors[self.main].form])
            advance(len(problems))


def require_current(run: RunPaths, combination: Combination) -> None:
    """Raise InputError if members or weights changed since a run was combined, or its decision fitted."""
    if run.blend.is_file():
        require_unchanged(run, combination.members)
    elif combination.decision is not None:
        require_from(run.stamp("validate"), "validate", digests_of_trained(run, folds_of(run)))


def require_unchanged(run: RunPaths, members: Sequence[RunPaths]) -> None:
    """Raise InputError if a member has other predictions than those that were combined."""
    combined = [entry["digests"] for entry in load_json(run.blend)["runs"] if "digests" in entry]
    for member, digests in zip(members, digests_of(members), strict=True):
        if combined and digests not in combined:
            raise InputError(
                f"{member.root} was predicted again after {run.root} combined it; combine the runs again."
            )


def folds_of(run: RunPaths) -> list[int]:
    """Return the trained folds of a run. Raise InputError if there are none."""
    folds = trained_folds(run)
    if not folds:
        raise InputError(
            f"{run.root} holds no trained fold; name a run's folder, output/<competition>/<run>."
        )
    return folds
