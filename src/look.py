"""Predict single images as a run predicts its test images, and draw why: class heat maps, outputs of blocks.

.venv/bin/python src/look.py output/cifar10/cnn-gap cat.jpg frog.png

The images are decoded, resized and predicted exactly as the run's submission is: all networks, all views. A
heat map shows which places speak for a class: mean over the networks, in the image's own view.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foldsmith.data.cache import channels_of, depth_of, run_cache_path
from foldsmith.data.images import decode_image
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.faults import machine_fault
from foldsmith.process.files import load_json, save_png
from foldsmith.process.terminal import say
from foldsmith.run.command import WordParser, add_prediction_words
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, require_from, require_trained, trained_folds
from foldsmith.run.tables import load_classes, load_task

if TYPE_CHECKING:
    import torch

    from foldsmith.inference.predictor import Network

TOP = 5
EXPLAINED = 3  # most probable classes with a heat map
LARGEST = 1_000_000  # pixels of an image at its native size


def main(argv: list[str] | None = None) -> int:
    typed = read_words(argv)
    run = RunPaths(typed.run)
    folds = trained_folds(run)
    if run.blend.is_file():
        raise InputError(f"{run.root} combines other runs; look at one of those, or use src/predict.py.")
    if not folds:
        raise InputError(
            f"{run.root} holds no trained fold; name a run's folder, output/<competition>/<run>."
        )
    fold_runs = require_trained(run, folds)
    describe = describer(run)
    look = look_at_native_size if typed.native_size else look_as_submitted
    for index, (path, looked) in enumerate(zip(typed.images, look(run, fold_runs, typed), strict=True)):
        same_name = sum(other.name == path.name for other in typed.images[:index])
        target = run.look(f"{path.name}-{same_name + 1}" if same_name else path.name)
        save_png(target, looked.picture)
        say(f"{path}  ({looked.method})")
        for line in describe(looked.predictions):
            say(f"  {line}")
        say(f"  {target}")
    if not typed.native_size:
        say("heat maps: yellow places raise the probability or number most; places without colour do not")
    return 0


def read_words(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line. Raise InputError for wrong words."""
    parser = WordParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder, output/<competition>/<run>")
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="image files of any size")
    parser.add_argument(
        "--native-size",
        action="store_true",
        help="feed each image at its own size, in one view, to the first network of each fold; only networks "
        "with global pooling take it, and the answer is not the submission's",
    )
    add_prediction_words(parser)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Looked:
    """An image's predictions (K,), how they were computed, and the picture of the first network's blocks."""

    predictions: np.ndarray
    method: str
    picture: np.ndarray


def look_as_submitted(run: RunPaths, fold_runs: list[dict], typed: argparse.Namespace) -> Iterator[Looked]:
    """Yield each image's predictions as src/infer.py computes them for test images."""
    from foldsmith.evaluation.feature_maps import draw_feature_maps, draw_reasons, record_blocks
    from foldsmith.inference.predictor import RunPredictor

    predictor = RunPredictor.of_run(run, fold_runs, typed.device, typed.precision)
    names = list(load_classes(run.classes)["class_name"])
    size, networks = predictor.form.size, predictor.networks
    pixels = np.stack([refusing(predictor.form.read, path) for path in typed.images])
    method = (
        f"{len(networks)} networks of {len(fold_runs)} folds, views {', '.join(predictor.views)}, "
        f"{size} x {size} pixels"
    )
    first = networks[0]
    for image, mean in zip(pixels, predictor.mean(pixels), strict=True):
        maps = record_blocks(first.model, first.compute.normalise(as_batch(image)))
        reasons = draw_reasons(image, list(find_reasons(networks, image, mean, names)))
        yield Looked(mean, method, np.concatenate([reasons, draw_feature_maps(image, maps)]))


def find_reasons(
    networks: Sequence["Network"], image: np.ndarray, mean: np.ndarray, names: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the highest predictions (K,) of an image uint8 (H, W, C): titles and heat maps (H, W)."""
    from foldsmith.inference.heat_maps import heat_maps

    for output in np.argsort(-mean, kind="stable")[:EXPLAINED].tolist():
        maps = [
            heat_maps(network.model, network.compute, image[None], np.array([output]))[0]
            for network in networks
        ]
        yield f"for {names[output]}", np.mean(maps, axis=0)


def look_at_native_size(run: RunPaths, fold_runs: list[dict], typed: argparse.Namespace) -> Iterator[Looked]:
    """Yield each image's predictions at its own size, means over the first network of each fold.

    Raise InputError if the network has no global pooling, or an image is too small for it.
    """
    import torch

    from foldsmith.evaluation.feature_maps import draw_feature_maps, record_blocks
    from foldsmith.inference.networks import FoldNetworks
    from foldsmith.inference.predict import ViewAverage
    from foldsmith.models import takes_any_size

    folds = [FoldNetworks.of_run(run, facts, typed.device, typed.precision) for facts in fold_runs]
    cache = run_cache_path(run)
    decode = partial(decode_image, depth=depth_of(cache), channels=channels_of(cache))
    for path in typed.images:
        image = shrink(refusing(decode, path), path)
        height, width = image.shape[:2]
        predictions, maps, name = [], {}, fold_runs[0]["recipe"]["model"]
        for networks in folds:
            model, compute = next(networks.load())
            if not takes_any_size(model):
                raise InputError(f"--native-size: {name} has no global pooling, so it takes one size alone.")
            images, average = compute.normalise(as_batch(image)), ViewAverage(networks.task)
            try:
                with torch.inference_mode():
                    mean = average.mean(average.logits(model, images, compute))
                    predictions.append(mean[0].cpu().numpy())
                maps = maps or record_blocks(model, images)
            except RuntimeError as error:
                if machine_fault(error):
                    raise
                raise InputError(f"{path}: {width} x {height} pixels do not fit {name}: {error}") from error
        method = f"the first network of {len(folds)} folds, at its native size of {width} x {height} pixels"
        yield Looked(np.mean(predictions, axis=0), method, draw_feature_maps(image, maps))


def refusing(read: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    """Return `read(path)`, the pixels of an image. Raise InputError if it cannot be decoded."""
    try:
        return read(path)
    except ValueError as error:
        raise InputError(f"{path}: {error}.") from error


def as_batch(image: np.ndarray) -> "torch.Tensor":
    """Return an image uint8 (H, W, C) as a batch of one."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image))[None]


def shrink(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Return the image (H, W, C), shrunk to at most LARGEST pixels: memory grows with them."""
    import cv2

    height, width = pixels.shape[:2]
    scale = (LARGEST / (height * width)) ** 0.5
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    say(f"{path}: {width} x {height} pixels are shrunk to {size[0]} x {size[1]}")
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def describer(run: RunPaths) -> Callable[[np.ndarray], list[str]]:
    """Return the function from an image's predictions (K,) to lines: the submission's answer, probabilities.

    The answer is that of the decision in cv.json, if the run is validated; else of the task's own. Raise
    InputError if the decision is of other weights.
    """
    from foldsmith.evaluation.decisions import decider, decision_of  # scipy takes a second

    task, names = load_task(run), list(load_classes(run.classes)["class_name"])
    decision = decision_of(load_json(run.cv)) if run.cv.is_file() else None
    if decision is not None:
        require_from(run.stamp("validate"), "validate", digests_of_trained(run, trained_folds(run)))
    decide = decider(decision, task)

    def describe(predictions: np.ndarray) -> list[str]:
        finished, decided = (rows[0] for rows in decide(predictions[None]))
        if task.predictions_key == "values":
            width = max(map(len, names))
            values = np.atleast_1d(decided)
            if len(names) == 1:
                return [f"{values[0]:.6g}"]
            return [f"{name:{width}}  {value:.6g}" for name, value in zip(names, values, strict=True)]
        if task.name == "multilabel":
            answer = ", ".join(names[label] for label in np.flatnonzero(decided)) or "no label"
        else:
            answer = names[int(decided)]
        lines = [f"{probability:7.2%}  {label}" for label, probability in top(finished, names, task.name)]
        return [f"answer: {answer}", *lines]

    return describe


def top(probabilities: np.ndarray, names: list[str], task: str) -> list[tuple[str, float]]:
    """Return the TOP most probable classes; all grades in their order, of two classes the positive one.

    Of equally probable classes the first comes first.
    """
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    if task in ("binary", "ordinal"):
        order = np.arange(len(names)) if task == "ordinal" else [1]
    return [(names[label], float(probabilities[label])) for label in order]


if __name__ == "__main__":
    run_main(main)
