"""Flip labels at random, and measure how many of the flipped ones the report suspects.

.venv/bin/python tests/benchmarks/label_noise.py flip input/tiny80 input/tiny80-noisy --limit 8000
./run.sh input/tiny80-noisy --recipe quick --image-size 48 --folds 3 --epochs 12
.venv/bin/python tests/benchmarks/label_noise.py measure input/tiny80-noisy output/tiny80-noisy/quick
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

SRC = Path(__file__).parents[2] / "src"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["flip", "measure"])
    parser.add_argument(
        "folder", type=Path, help="flip: a competition folder with answer.json; measure: the noisy folder"
    )
    parser.add_argument("target", type=Path, help="flip: the noisy folder to write; measure: the run on it")
    parser.add_argument("--limit", type=int, default=8000, help="labels to keep (8000)")
    parser.add_argument("--share", type=float, default=0.02, help="share of labels to flip (0.02)")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    if words.what == "flip":
        flip(words.folder, words.target, words.limit, words.share, words.seed)
    else:
        measure(words.folder, words.target)


def flip(folder: Path, target: Path, limit: int, share: float, seed: int) -> None:
    """Write `target` with links to the images and `limit` labels, and a CSV of the flipped ones beside it."""
    sys.path.insert(0, str(SRC))
    from foldsmith.data.folds import choose_limited

    document = json.loads((folder / "answer.json").read_text())
    annotations = sorted(document["annotations"], key=lambda entry: entry["file_name"])
    labels = np.array([int(entry["category"]) for entry in annotations])
    annotations = [annotations[row] for row in choose_limited(labels, limit, 0)]
    classes, draws = np.unique(labels), np.random.default_rng(seed)
    flipped = []
    for row in draws.choice(len(annotations), round(share * len(annotations)), replace=False):
        entry = annotations[row]
        wrong = int(draws.choice(classes[classes != int(entry["category"])]))
        flipped.append({"path": f"train/{entry['file_name']}", "true": entry["category"], "given": wrong})
        annotations[row] = {**entry, "category": wrong}
    (target / "train").mkdir(parents=True)
    for entry in annotations:
        (target / "train" / entry["file_name"]).symlink_to((folder / "train" / entry["file_name"]).resolve())
    (target / "test").symlink_to((folder / "test").resolve())
    for table in folder.glob("*.csv"):
        (target / table.name).symlink_to(table.resolve())
    (target / "answer.json").write_text(json.dumps({**document, "annotations": annotations}))
    pd.DataFrame(flipped).to_csv(target.parent / f"{target.name}-flipped.csv", index=False)
    print(f"{len(flipped)} of {len(annotations)} labels flipped, seed {seed}")


def measure(folder: Path, run: Path) -> None:
    """Print the precision of the top suspects, as many as labels were flipped, and of all suspects."""
    flipped = set(pd.read_csv(folder.parent / f"{folder.name}-flipped.csv")["path"])
    suspects = pd.read_csv(run / "label_issues.csv").sort_values("rank")
    oof, total = pd.read_csv(run / "oof.csv"), len(flipped)
    first, suspected = suspects["path"].head(total), suspects[suspects["suspected"]]["path"]
    print(f"out-of-fold accuracy with the flipped labels {(oof['prediction'] == oof['label']).mean():.4f}")
    print(f"precision at {total}: {first.isin(flipped).mean():.4f}; random {total / len(oof):.4f}")
    print(f"suspected {len(suspected)}, of these flipped {suspected.isin(flipped).sum()}")


if __name__ == "__main__":
    main()
