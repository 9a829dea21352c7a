"""Flip labels at random, measure how many of the flipped ones the report suspects, and correct the suspects.

.venv/bin/python tests/benchmarks/label_noise.py flip input/tiny80 input/tiny80-noisy --limit 8000
./run.sh input/tiny80-noisy --recipe quick --image-size 48 --folds 3 --epochs 12
.venv/bin/python tests/benchmarks/label_noise.py measure input/tiny80-noisy output/tiny80-noisy/quick
.venv/bin/python tests/benchmarks/label_noise.py correct input/tiny80-noisy output/tiny80-noisy/quick
./run.sh output/tiny80-noisy/quick --corrections input/tiny80-noisy-corrections.csv
.venv/bin/python src/compare.py output/tiny80-noisy
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
    parser.add_argument("what", choices=["flip", "measure", "correct"])
    parser.add_argument(
        "folder", type=Path, help="flip: a competition folder with answer.json; measure: the noisy folder"
    )
    parser.add_argument("target", type=Path, help="flip: the noisy folder to write; else the run on it")
    parser.add_argument("--limit", type=int, default=8000, help="labels to keep (8000)")
    parser.add_argument("--share", type=float, default=0.02, help="share of labels to flip (0.02)")
    parser.add_argument("--classes", type=int, help="flip: keep only the first classes (all)")
    parser.add_argument("--top", type=int, default=200, help="correct: suspects to correct (200)")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    if words.what == "flip":
        flip(words)
    elif words.what == "measure":
        measure(words.folder, words.target)
    else:
        correct(words.folder, words.target, words.top)


def flip(words: argparse.Namespace) -> None:
    """Write `target` with links to the images and `limit` labels, and a CSV of the flipped ones beside it."""
    sys.path.insert(0, str(SRC))
    from foldsmith.data.folds import choose_limited

    folder, target, share, seed = words.folder, words.target, words.share, words.seed
    document = json.loads((folder / "answer.json").read_text())
    annotations = sorted(document["annotations"], key=lambda entry: entry["file_name"])
    classes = np.unique([int(entry["category"]) for entry in annotations])[: words.classes]
    annotations = [entry for entry in annotations if int(entry["category"]) in classes]
    labels = np.array([int(entry["category"]) for entry in annotations])
    annotations = [annotations[row] for row in choose_limited(labels, words.limit, 0)]
    draws = np.random.default_rng(seed)
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
    categories = [entry for entry in document["categories"] if int(entry["id"]) in classes]
    document |= {"annotations": annotations, "categories": categories}
    (target / "answer.json").write_text(json.dumps(document))
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


def correct(folder: Path, run: Path, top: int) -> None:
    """Write the top suspects of a run with their true labels as corrections, beside the folder."""
    sys.path.insert(0, str(SRC))
    from foldsmith.run.paths import RunPaths
    from foldsmith.run.tables import load_classes, load_samples, save_table

    flipped = pd.read_csv(folder.parent / f"{folder.name}-flipped.csv", dtype=str).set_index("path")["true"]
    names = load_classes(RunPaths(run).classes).set_index("category")["class_name"]
    samples = load_samples(RunPaths(run).samples).set_index("path")
    paths = pd.read_csv(RunPaths(run).label_issues)["path"].head(top)
    rows = samples.loc[paths, ["digest", "class_name"]].reset_index()
    rows.columns = ["path", "digest", "old"]
    true = [names[flipped[path]] if path in flipped else samples["class_name"][path] for path in paths]
    file = folder.parent / f"{folder.name}-corrections.csv"
    save_table(file, rows.assign(new=true))
    print(f"{file}: {paths.isin(flipped.index).sum()} of {len(paths)} suspects were flipped")


if __name__ == "__main__":
    main()
