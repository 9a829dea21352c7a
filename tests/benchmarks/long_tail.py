"""Thin a competition to a long tail, and measure the gain of each remedy for rare classes.

.venv/bin/python tests/benchmarks/long_tail.py thin input/tiny80 input/tiny80-tailed --factor 50 --held-out 50
WORDS="input/tiny80-tailed --recipe resnet64 --holdout 0.1"
./run.sh $WORDS --name plain
./run.sh $WORDS --name weights --set class_weights=auto
./run.sh $WORDS --name sampling --set sampling=balanced
./run.sh $WORDS --name adjusted --set logit_adjustment=1
.venv/bin/python tests/benchmarks/long_tail.py measure input/tiny80-tailed output/tiny80-tailed \\
    plain weights sampling adjusted

`thin` first sets aside --held-out images of every class as test images, with their labels in
<target>-truth.csv. Of the rest, the most frequent class keeps as many as the smallest class has, the rarest
class that number divided by --factor, and the classes between them decay exponentially (Cui et al.,
Class-Balanced Loss, 2019). Which classes are rare is random. So the test set is balanced and held out, and
its mean recall is the accuracy; out-of-fold, a rare class would be judged by the few images that it keeps.

`measure` prints paired gains over the first run, on the same test images, with their bootstrap standard error
over images. It does not include the variance over seeds or over choices of rare classes: repeat with --seed.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

SRC = Path(__file__).parents[2] / "src"
METRICS = ("balanced_accuracy", "macro_f1")
GROUPS = ("frequent", "middle", "rare")  # each is a third of the classes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="what", required=True)
    arguments = actions.add_parser("thin", help="write a folder with a long tail")
    arguments.add_argument("folder", type=Path, help="a competition folder")
    arguments.add_argument("target", type=Path, help="the folder to write, with links to the images")
    arguments.add_argument("--factor", type=float, default=50, help="most frequent / rarest class (50)")
    arguments.add_argument("--held-out", type=int, default=50, help="test images of every class (50)")
    arguments.add_argument("--seed", type=int, default=0)
    arguments = actions.add_parser("measure", help="compare runs on the test images")
    arguments.add_argument("folder", type=Path, help="the folder with a long tail")
    arguments.add_argument("output", type=Path, help="the output folder of its runs")
    arguments.add_argument("runs", nargs="+", help="names of runs; the first is the baseline")
    typed = parser.parse_args()
    sys.path.insert(0, str(SRC))
    if typed.what == "thin":
        thin(typed.folder, typed.target, typed.factor, typed.held_out, typed.seed)
    else:
        measure(typed.folder, typed.output, typed.runs)


def tail_counts(num_classes: int, largest: int, factor: float) -> np.ndarray:
    """Return the images of each class, in descending order: `largest` to `largest / factor`, at least 1."""
    shares = factor ** -np.linspace(0, 1, num_classes)
    return np.maximum(np.round(largest * shares), 1).astype(np.int64)


def choose(labels: np.ndarray, factor: float, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of training images and of held-out images, given labels (N,)."""
    draws = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() <= held_out:
        sys.exit(f"a class has {sizes.min()} images, and --held-out is {held_out}: use a smaller --held-out.")
    frequent_first = draws.permutation(classes)
    counts = tail_counts(len(classes), sizes.min() - held_out, factor)
    train, test = [], []
    for label, count in zip(frequent_first, counts, strict=True):
        images = draws.permutation(np.flatnonzero(labels == label))
        test.append(images[:held_out])
        train.append(images[held_out : held_out + count])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def thin(folder: Path, target: Path, factor: float, held_out: int, seed: int) -> None:
    """Write `target` with links to the images, answer.json and competition.toml, and the true test labels."""
    from foldsmith.competition.folder import read_competition
    from foldsmith.competition.labels import read_metadata

    metadata = read_metadata(read_competition(folder))
    train, test = choose(metadata.samples["label"].to_numpy(), factor, held_out, seed)
    rows = {
        subset: link(folder, target / subset, metadata.samples.iloc[chosen])
        for subset, chosen in (("train", train), ("test", test))
    }
    annotations = [{"file_name": name, "category": label} for name, label in rows["train"]]
    categories = [{"id": row.label, "name": row.class_name} for row in metadata.classes.itertuples()]
    (target / "answer.json").write_text(
        json.dumps({"annotations": annotations, "categories": categories}), encoding="utf-8"
    )
    (target / "competition.toml").write_text('metric = "balanced_accuracy"\n')
    truth = pd.DataFrame(rows["test"], columns=["filename", "class"])
    truth.to_csv(target.parent / f"{target.name}-truth.csv", index=False)
    counts = pd.Series([label for _, label in rows["train"]]).value_counts()
    print(f"{len(train):,} training images of {len(counts)} classes, {counts.max()} to {counts.min()} each; "
          f"{len(test):,} test images, {held_out} of each; seed {seed}")  # fmt: skip


def link(folder: Path, target: Path, samples: pd.DataFrame) -> list[tuple[str, int]]:
    """Write numbered links to the images; return the name and label of each."""
    target.mkdir(parents=True)
    rows = []
    for number, sample in enumerate(samples.itertuples()):
        source = (folder / sample.path).resolve()
        name = f"{number}{Path(sample.path).suffix}"
        (target / name).symlink_to(source)
        rows.append((name, int(sample.label)))
    return rows


def measure(folder: Path, output: Path, names: list[str]) -> None:
    """Print scores of runs on the test images, recall by frequency of classes, and paired gains."""
    from foldsmith.evaluation.resampling import bootstrap_gain
    from foldsmith.tasks.metrics import METRICS as SCORES

    truth = pd.read_csv(folder.parent / f"{folder.name}-truth.csv")
    predicted = {name: read_predictions(output / name, truth) for name in names}
    labels, first = predicted[names[0]]
    groups = frequency_groups(pd.read_csv(output / names[0] / "folds.csv")["label"].to_numpy())
    print(f"{len(labels):,} test images; {METRICS[0]}, {METRICS[1]}; recall of {', '.join(GROUPS)} classes")
    for name, (_, probabilities) in predicted.items():
        right = probabilities.argmax(axis=1) == labels
        recall = [right[np.isin(labels, classes)].mean() for classes in groups]
        scores = [SCORES[metric].score(labels, probabilities) for metric in METRICS]
        print(f"{name}: " + ", ".join(f"{score:.4f}" for score in [*scores, *recall]))
        if name != names[0]:
            for metric in METRICS:
                gain = bootstrap_gain(labels, first, probabilities, SCORES[metric], seed=0)
                print(f"  {metric} {gain.difference:+.4f} ± {gain.standard_error:.4f}")


def frequency_groups(training: np.ndarray) -> list[np.ndarray]:
    """Return the classes in thirds by their number of training labels (N,), the most frequent first."""
    classes, counts = np.unique(training, return_counts=True)
    groups = np.array_split(classes[np.argsort(-counts, kind="stable")], len(GROUPS))
    return [group for group in groups if len(group)]


def read_predictions(run: Path, truth: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return true labels (N,) and probabilities (N, K) of the test images, in the order of the truth."""
    from foldsmith.process.files import load_npz
    from foldsmith.run.tables import load_classes

    test, classes = load_npz(run / "test.npz"), load_classes(run / "classes.csv")
    label = dict(zip(classes["category"], classes["label"], strict=True))
    row = {path: number for number, path in enumerate(test["path"].tolist())}
    rows = [row[f"test/{name}"] for name in truth["filename"]]
    return np.array([label[str(name)] for name in truth["class"]]), test["probabilities"][rows]


if __name__ == "__main__":
    main()
