"""Fit logistic regression on histograms of oriented gradients and 8 x 8 pixels of images by class.

.venv/bin/python tests/benchmarks/peers_floor.py FOLDER

FOLDER has train/CLASS and validation/CLASS. The held-out accuracy is printed. peers.py starts it.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

SIDE, CELL, BINS = 32, 4, 9  # pixels of an image and of a cell; orientations
_y, _x = np.indices((SIDE, SIDE)) // CELL
CELLS = (_y * (SIDE // CELL) + _x) * BINS  # (SIDE, SIDE), the first bin of a pixel's cell


def features_of(path: Path) -> np.ndarray:
    """Return cells' histograms of gradients (Dalal and Triggs, 2005; without blocks), and 8 x 8 pixels."""
    image = cv2.resize(cv2.imread(str(path)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    dy, dx = np.gradient(image.mean(axis=2))
    bins = np.minimum((np.arctan2(dy, dx) % np.pi) * BINS / np.pi, BINS - 1).astype(int)
    histograms = np.bincount((CELLS + bins).ravel(), np.hypot(dy, dx).ravel(), CELLS.max() + BINS)
    colours = cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() / 255
    return np.concatenate([np.sqrt(histograms), colours])


def load(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Return the features and classes of the images below `folder`."""
    paths = sorted(folder.glob("*/*"))
    return np.stack([features_of(path) for path in paths]), [path.parent.name for path in paths]


def build_floor() -> Pipeline:
    """Return the classifier of such features, not fitted."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))


def main() -> None:
    folder, model = Path(sys.argv[1]), build_floor()
    model.fit(*load(folder / "train"))
    print(f"held out {model.score(*load(folder / 'validation')):.5f}", flush=True)


if __name__ == "__main__":
    main()
