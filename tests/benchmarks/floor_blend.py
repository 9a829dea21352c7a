"""What the floor of peers.py adds to a run: both predict fold 0, and a weighted mean of them is judged.

.venv/bin/python src/run.py input/tiny80 --recipe quick --limit 8000 --fold 0 --until validate
.venv/bin/python tests/benchmarks/floor_blend.py input/tiny80 output/tiny80/quick

The floor is fitted on the images that the fold's network was trained on. The weight is chosen on one half of
the held-out images and judged on the other, in turn; the gain is over the run alone, ± its standard error.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from peers_floor import build_floor, features_of

from foldsmith.evaluation.chance import compare_paired
from foldsmith.process.files import load_npz
from foldsmith.process.terminal import with_error
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_folds

WEIGHTS = np.linspace(0, 0.6, 13)  # of the floor


def main() -> None:
    folder, run = Path(sys.argv[1]), RunPaths(Path(sys.argv[2]))
    folds, held_out = load_folds(run.folds), load_npz(run.heldout(0))
    features = np.stack([features_of(folder / path) for path in folds["path"]])
    labels, inside = folds["label"].to_numpy(), folds["fold"].to_numpy() == 0
    floor = build_floor().fit(features[~inside], labels[~inside]).predict_proba(features[inside])
    rows = {path: row for row, path in enumerate(held_out["path"].tolist())}
    own = held_out["probabilities"][[rows[path] for path in folds["path"][inside]]]
    right = np.stack([(w * floor + (1 - w) * own).argmax(axis=1) == labels[inside] for w in WEIGHTS])
    half, blend = np.arange(right.shape[1]) % 2, np.empty(right.shape[1], bool)
    for part in (0, 1):
        chosen = right[:, half == part].mean(axis=1).argmax()
        blend[half != part] = right[chosen, half != part]
    alone = own.argmax(axis=1) == labels[inside]
    gain = compare_paired(alone, blend)
    of_floor = (floor.argmax(axis=1) == labels[inside]).mean()
    difference = with_error(f"{gain.difference:+.4f}", gain.standard_error)
    print(f"floor {of_floor:.4f}, run {alone.mean():.4f}, both {blend.mean():.4f}, gain {difference}")


if __name__ == "__main__":
    main()
