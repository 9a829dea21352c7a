"""Measure what the column `unknown` of src/predict.py separates from test images, beside other measures.

.venv/bin/python tests/benchmarks/unknown.py output/demo80/quick input/demo80/test input/cifar10/test

The first folder holds the run's test images, the others foreign ones, of which 400 are drawn. Test images are
also corrupted: noise of 50 grey levels, blur of a twelfth of the side, and grey over half of it (a square).
The table is Markdown: areas under the ROC curve of corrupted or foreign images against test images.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from foldsmith.competition.listing import list_folder
from foldsmith.deployment.image_predictor import ImagePredictor
from foldsmith.deployment.unknown import UnknownMeasure, directions_of, distances_of
from foldsmith.inference.features import capture_features
from foldsmith.inference.images import CachedImages
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.models import last_layer
from foldsmith.run.paths import RunPaths

COUNT = 400  # images of each kind
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # features, logits, predictions -> scores


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("foreign", type=Path, nargs="*")
    typed = parser.parse_args(argv)
    predictor = ImagePredictor.of_run(RunPaths(typed.run), "cpu", "auto")
    own = predictor.predictors[predictor.main]
    measure = UnknownMeasure.of_run(predictor.combination.members[predictor.main], own)
    draws = np.random.default_rng(0)

    def read(folder: Path) -> np.ndarray:
        names = list_folder(folder).images
        chosen = np.sort(draws.permutation(len(names))[:COUNT])
        return np.stack([own.form.read(folder / names[index]) for index in chosen])

    test = read(typed.test)
    kinds = {"noise": add_noise(test, draws), "blur": blur(test), "occlusion": cover(test, draws)}
    kinds |= {f"foreign: {folder.parent.name}": read(folder) for folder in typed.foreign}
    scores = scores_of(measure)
    print(f"| {len(measure.known.features)} held-out images |", " | ".join(scores), "|")
    print("| --- " * (len(scores) + 1) + "|")
    known, areas = look_at(measure, test), []
    for kind, images in kinds.items():
        seen, row = look_at(measure, images), []
        for score in scores.values():
            values = np.concatenate([score(*known), score(*seen)])
            row.append(roc_auc_score(np.repeat([0, 1], [len(test), len(images)]), values))
        areas.append(row)
        print(f"| {kind} |", " | ".join(f"{area:.3f}" for area in row), "|", flush=True)
    print("| mean |", " | ".join(f"{area:.3f}" for area in np.mean(areas, axis=0)), "|")
    print(f"test images have a mean of {measure.unknown(test).mean():.2f}, which calibration would make 0.5")


def look_at(measure: UnknownMeasure, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features and logits of the measure's network, and the predictions of the run."""
    model, task = measure.network.model, measure.predictor.task
    cached = CachedImages(images, np.arange(len(images)))
    with capture_features(model, task.num_outputs) as captured:
        predict(model, cached, ViewAverage(task), measure.network.compute, measure.predictor.batch_limit)
    features = np.concatenate(captured)
    _, layer = last_layer(model, task.num_outputs)
    logits = features @ layer.weight.detach().float().numpy().T
    logits += 0 if layer.bias is None else layer.bias.detach().float().numpy()
    return features, logits, measure.predictor.mean(images)


def scores_of(measure: UnknownMeasure) -> dict[str, Score]:
    """Return the measures by name; a larger score is less known."""
    known = measure.known

    def nearest(neighbour: int) -> Score:
        return lambda features, logits, predictions: distances_of(
            directions_of(features) @ known.features.T, neighbour
        )

    largest = {f"k = {neighbour}": nearest(neighbour) for neighbour in (1, 5, 20, 50)}
    return {
        f"unknown (k = {known.neighbour})": nearest(known.neighbour),
        **largest,
        "energy": lambda features, logits, predictions: -np.logaddexp.reduce(logits, axis=1),
        "1 - largest probability": lambda features, logits, predictions: 1 - predictions.max(axis=1),
    }


def add_noise(images: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    return np.clip(images + draws.normal(0, 50, images.shape), 0, 255).astype(np.uint8)


def blur(images: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(image, (0, 0), images.shape[1] / 12) for image in images])


def cover(images: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    covered, side = images.copy(), int(images.shape[1] * 0.7)
    for image in covered:
        top, left = draws.integers(0, images.shape[1] - side + 1, 2)
        image[top : top + side, left : left + side] = 128
    return covered


if __name__ == "__main__":
    main()
