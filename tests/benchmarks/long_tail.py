"""Thins a competition to a long tail, and measures what each remedy for rare classes gains over none.

.venv/bin/python tests/benchmarks/long_tail.py thin input/tiny80 input/tiny80-tailed --factor 50 --held-out 50
WORDS="input/tiny80-tailed --recipe resnet64 --holdout 0.1"
./run.sh $WORDS --name plain
./run.sh $WORDS --name weights --set class_weights=auto
./run.sh $WORDS --name sampling --set sampling=balanced
./run.sh $WORDS --name adjusted --set logit_adjustment=1
.venv/bin/python tests/benchmarks/long_tail.py measure input/tiny80-tailed output/tiny80-tailed \\
    plain weights sampling adjusted

First as many images of every class as --held-out says are set aside: they are the test, with their labels in
<target>-truth.csv. Of the rest the most frequent class keeps as many as the smallest class has, the rarest
that divided by the factor, with an exponential between them (Cui et al., Class-Balanced Loss, 2019); which
class is how frequent is drawn. So the test is balanced and none of its images was trained on; out-of-fold, a
rare class would be judged by the few images that it kept. On a balanced test the mean recall is the accuracy.

Gains are paired, over the first run named, on the same test images; their standard error is a bootstrap's
over these images. It knows nothing of another seed, or of another choice of rare classes: repeat with --seed.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

SRC = Path(__file__).parents[2] / "src"
METRICS = ("balanced_accuracy", "macro_f1")
PARTS = ("frequent", "middle", "rare")  # a third of the classes each


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="what", required=True)
    words = actions.add_parser("thin", help="writes a folder with a long tail")
    words.add_argument("folder", type=Path, help="a competition folder")
    words.add_argument("target", type=Path, help="the folder to write, of links to its images")
    words.add_argument("--factor", type=float, default=50, help="times that the rarest class is rarer")
    words.add_argument("--held-out", type=int, default=50, help="test images of every class")
    words.add_argument("--seed", type=int, default=0)
    words = actions.add_parser("measure", help="compares runs on its test images")
    words.add_argument("folder", type=Path, help="the folder with a long tail")
    words.add_argument("output", type=Path, help="what holds its runs")
    words.add_argument("runs", nargs="+", help="names of runs; the first is what others are compared with")
    typed = parser.parse_args()
    sys.path.insert(0, str(SRC))
    if typed.what == "thin":
        thin(typed.folder, typed.target, typed.factor, typed.held_out, typed.seed)
    else:
        measure(typed.folder, typed.output, typed.runs)


def tail_counts(num_classes: int, largest: int, factor: float) -> np.ndarray:
    """Images of every class, the most frequent first: from `largest` to `largest / factor`, at least 1."""
    shares = factor ** -np.linspace(0, 1, num_classes)
    return np.maximum(np.round(largest * shares), 1).astype(np.int64)


def choose(labels: np.ndarray, factor: float, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images are trained on and which held out, as sorted indices of labels (N,)."""
    draws = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() <= held_out:
        sys.exit(f"a class has {sizes.min()} images, and {held_out} are to be held out: hold out fewer.")
    frequent_first = draws.permutation(classes)
    counts = tail_counts(len(classes), sizes.min() - held_out, factor)
    train, test = [], []
    for label, count in zip(frequent_first, counts, strict=True):
        images = draws.permutation(np.flatnonzero(labels == label))
        test.append(images[:held_out])
        train.append(images[held_out : held_out + count])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def thin(folder: Path, target: Path, factor: float, held_out: int, seed: int) -> None:
    """Writes `target` with links to the images, answer.json and competition.toml, and the test's truth."""
    from foldsmith.competition.folder import read_competition
    from foldsmith.competition.labels import read_metadata

    metadata = read_metadata(read_competition(folder))
    train, test = choose(metadata.samples["label"].to_numpy(), factor, held_out, seed)
    rows = {
        part: link(folder, target / part, metadata.samples.iloc[chosen])
        for part, chosen in (("train", train), ("test", test))
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


def link(folder: Path, part: Path, samples: pd.DataFrame) -> list[tuple[str, int]]:
    """Links to the images, numbered; name and label of each."""
    part.mkdir(parents=True)
    rows = []
    for number, sample in enumerate(samples.itertuples()):
        source = (folder / sample.path).resolve()
        name = f"{number}{Path(sample.path).suffix}"
        (part / name).symlink_to(source)
        rows.append((name, int(sample.label)))
    return rows


def measure(folder: Path, output: Path, names: list[str]) -> None:
    """Prints the scores of runs on the test images, by how frequent the classes are, and paired gains."""
    from foldsmith.evaluation.resampling import bootstrap_gain
    from foldsmith.tasks.metrics import METRICS as SCORES

    truth = pd.read_csv(folder.parent / f"{folder.name}-truth.csv")
    predicted = {name: read_predictions(output / name, truth) for name in names}
    labels, first = predicted[names[0]]
    parts = parts_of(pd.read_csv(output / names[0] / "folds.csv")["label"].to_numpy())
    print(f"{len(labels):,} test images; {METRICS[0]}, {METRICS[1]}; recall of {', '.join(PARTS)} classes")
    for name, (_, probabilities) in predicted.items():
        right = probabilities.argmax(axis=1) == labels
        recall = [right[np.isin(labels, classes)].mean() for classes in parts]
        scores = [SCORES[metric].score(labels, probabilities) for metric in METRICS]
        print(f"{name}: " + ", ".join(f"{score:.4f}" for score in [*scores, *recall]))
        if name != names[0]:
            for metric in METRICS:
                gain = bootstrap_gain(labels, first, probabilities, metric, seed=0)
                print(f"  {metric} {gain.difference:+.4f} ± {gain.standard_error:.4f}")


def parts_of(training: np.ndarray) -> list[np.ndarray]:
    """The classes in thirds by how many training labels (N,) they have, the most frequent first."""
    classes, counts = np.unique(training, return_counts=True)
    parts = np.array_split(classes[np.argsort(-counts, kind="stable")], len(PARTS))
    return [part for part in parts if len(part)]


def read_predictions(run: Path, truth: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """True labels (N,) and probabilities (N, K) of the test images, in the order of the truth."""
    from foldsmith.process.files import load_npz
    from foldsmith.run.tables import load_classes

    test, classes = load_npz(run / "test.npz"), load_classes(run / "classes.csv")
    label = dict(zip(classes["category"], classes["label"], strict=True))
    row = {path: number for number, path in enumerate(test["path"].tolist())}
    rows = [row[f"test/{name}"] for name in truth["filename"]]
    return np.array([label[str(each)] for each in truth["class"]]), test["probabilities"][rows]


if __name__ == "__main__":
    main()
