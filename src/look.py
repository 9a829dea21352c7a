"""Predict single images with the networks of a run, and draw the outputs of their blocks.

.venv/bin/python src/look.py output/cifar10/cnn-gap cat.jpg frog.png
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.faults import machine_fault
from foldsmith.process.files import save_png
from foldsmith.process.terminal import say
from foldsmith.run.command import WordParser
from foldsmith.run.identity import load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import require_trained, trained_folds
from foldsmith.run.tables import load_classes

TOP = 5
LARGEST = 1_000_000  # pixels of an image; networks with global pooling take it at its own size


def main(argv: list[str] | None = None) -> int:
    parser = WordParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder, output/<competition>/<run>")
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="image files of any size")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (auto)")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    typed = parser.parse_args(argv)
    run = RunPaths(typed.run)
    folds = trained_folds(run)
    if not folds:
        raise InputError(
            f"{run.root} holds no trained fold; name a run's folder, output/<competition>/<run>."
        )
    fold_runs = require_trained(run, folds)
    names = load_classes(run.classes)["class_name"]
    for index, path in enumerate(typed.images):
        same_name = sum(other.name == path.name for other in typed.images[:index])
        target = run.look(f"{path.name}-{same_name + 1}" if same_name else path.name)
        probabilities, picture = look(run, fold_runs, path, typed.device, typed.precision)
        save_png(target, picture)
        several = ", the first network of each" if fold_runs[0].get("seeds", 1) > 1 else ""
        say(f"{path}  ({len(folds)} fold{'s' if len(folds) > 1 else ''}{several})")
        for label, probability in top(probabilities, names).items():
            say(f"  {probability:7.2%}  {label}")
        say(f"  {target}")
    return 0


def look(
    run: RunPaths, fold_runs: list[dict], path: Path, device: str, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (K,), the mean over folds and views, and the picture of the first fold's blocks.

    `fold_runs` are the run.json of the folds. Only the first network of a fold predicts.
    """
    import torch

    from foldsmith.data.images import decode_image, resize_image
    from foldsmith.evaluation.feature_maps import draw_feature_maps, record_blocks
    from foldsmith.inference.predict import ViewAverage
    from foldsmith.inference.weights import load_trained, task_of
    from foldsmith.models import takes_any_size

    try:
        pixels = decode_image(path)
    except ValueError as error:
        raise InputError(f"{path}: {error}.") from error
    pixels = shrink(pixels, path)
    views = load_identity(run)["recipe"]["views"]  # the run's, which may be others than a fold's
    predicted, maps = [], {}
    for facts in fold_runs:
        model, recipe, compute = load_trained(run.weights(facts["fold"]), facts, device, precision)
        # only networks with global pooling take images of any size
        resized = pixels if takes_any_size(model) else resize_image(pixels, recipe.image_size)
        images = compute.normalise(torch.from_numpy(np.ascontiguousarray(resized))[None])
        try:
            with torch.inference_mode():
                average = ViewAverage(task_of(facts), views)
                probabilities = average.mean(average.logits(model, images, compute))
                predicted.append(probabilities[0].cpu().numpy())
            maps = maps or record_blocks(model, images)
        except RuntimeError as error:
            if machine_fault(error):
                raise
            height, width = resized.shape[:2]
            raise InputError(
                f"{path}: {width} x {height} pixels do not fit {recipe.model}: {error}"
            ) from error
    return np.mean(predicted, axis=0), draw_feature_maps(resized, maps)


def shrink(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Return the image (H, W, 3), shrunk to at most LARGEST pixels: memory grows with them."""
    import cv2

    height, width = pixels.shape[:2]
    scale = (LARGEST / (height * width)) ** 0.5
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    say(f"{path}: {width} x {height} pixels are shrunk to {size[0]} x {size[1]}")
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def top(probabilities: np.ndarray, names: pd.Series) -> dict[str, float]:
    """Return the TOP most probable classes; of equal ones the first comes first."""
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    return {names.iloc[label]: float(probabilities[label]) for label in order}


if __name__ == "__main__":
    run_main(main)
