"""Which images the page shows: of classes, mistakes, doubts, suspected labels, and equal pictures."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldsmith.report.pictures import Pictures
from foldsmith.tasks.metrics import decide

MISTAKES, DOUBTS, SUSPECTS = 24, 24, 48
PAIRS, EXAMPLES = 10, 3  # confused pairs with pictures, and pictures of each side
MOST_CLASSES = 300  # with a picture each; a page with more would be heavy
SAME_PICTURES = 24  # groups of near-duplicates that are shown
SAME_SHOWN = 6  # pictures of a group


def class_examples(
    paths: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, pictures: Pictures
) -> dict[int, str]:
    """Class index -> the picture that its own network finds most typical, for the first MOST_CLASSES."""
    given = probabilities[np.arange(len(labels)), labels]
    order = np.lexsort((-given, labels))  # by class, the most probable first
    first = order[np.unique(labels[order], return_index=True)[1]][:MOST_CLASSES]
    return {int(labels[row]): pictures.uri(str(paths[row])) for row in first}


def confident_mistakes(
    paths: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], pictures: Pictures
) -> list[dict[str, object]]:
    """The wrong predictions with the most probability."""
    wrong = np.flatnonzero(decide(probabilities) != labels)
    first = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:MISTAKES]
    return [_card(row, paths, labels, probabilities, names, pictures) for row in first]


def least_certain(
    paths: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], pictures: Pictures
) -> list[dict[str, object]]:
    """The images whose two most probable classes are closest to each other, none where there is one class."""
    if probabilities.shape[1] < 2:
        return []
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    first = np.argsort(two[:, 1] - two[:, 0], kind="stable")[:DOUBTS]
    return [_card(row, paths, labels, probabilities, names, pictures) for row in first]


def suspected_labels(issues: pd.DataFrame, pictures: Pictures) -> list[dict[str, object]]:
    """The first rows of label_issues.csv that are suspected."""
    rows = issues[issues["suspected"]].head(SUSPECTS)
    return [
        pictures.card(
            row.path,
            f"given {row.given} {row.probability_given:.0%}",
            f"proposed {row.proposed} {row.probability_proposed:.0%}",
        )
        for row in rows.itertuples()
    ]


def pair_examples(
    pairs: pd.DataFrame,
    paths: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    pictures: Pictures,
) -> list[dict[str, object]]:
    """For the first PAIRS of true and predicted class: images taken for the other, and typical ones of it."""
    predicted = decide(probabilities)
    examples = []
    for pair in pairs.head(PAIRS).itertuples():
        true, other = pair.true_label, pair.predicted_label
        taken = np.flatnonzero((labels == true) & (predicted == other))
        right = np.flatnonzero((labels == other) & (predicted == other))
        shown = []
        for rows in (taken, right):
            first = rows[np.argsort(-probabilities[rows, other], kind="stable")][:EXAMPLES]
            shown.append([_card(row, paths, labels, probabilities, names, pictures) for row in first])
        examples.append(
            {"true": pair.true, "predicted": pair.predicted, "taken": shown[0], "right": shown[1]}
        )
    return examples


def same_pictures(
    samples: pd.DataFrame, test_samples: pd.DataFrame | None, pictures: Pictures
) -> list[dict[str, object]]:
    """Groups of images that show one picture: those with two labels first, then those across train and test.

    Both tables have path, near and digest; samples a class_name besides. A group has cards, and words that
    say what is wrong with it.
    """
    train = samples.assign(part="train")
    parts = [train] if test_samples is None else [train, test_samples.assign(part="test", class_name="")]
    images = pd.concat(parts, ignore_index=True)
    # exact copies of a picture without contrast have no hash, and are known by their digest
    copies = images["digest"].duplicated(keep=False) & (images["digest"] != "")
    key = images["near"].where(images["near"] != "", images["digest"].where(copies, ""))
    groups = []
    for _, group in images[key != ""].groupby(key[key != ""], sort=False):
        if len(group) < 2:
            continue
        labels = sorted(set(group["class_name"]) - {""})
        across = group["part"].nunique() > 1
        cards = [
            pictures.card(row.path, row.class_name or "test image")
            for row in group.head(SAME_SHOWN).itertuples()
        ]
        exact = group["digest"].nunique() == 1
        words = ["the same pixels" if exact else "the same picture"]
        words += [f"{len(labels)} labels"] if len(labels) > 1 else []
        words += ["across training and test"] if across else []
        groups.append({"cards": cards, "count": len(group), "words": ", ".join(words), "labels": labels,
                       "across": across, "exact": exact})  # fmt: skip
    return sorted(groups, key=lambda group: (-(len(group["labels"]) > 1), -group["across"], group["exact"]))


def _card(
    row: int,
    paths: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    pictures: Pictures,
) -> dict[str, object]:
    given, predicted = int(labels[row]), int(decide(probabilities[row : row + 1])[0])
    if given == predicted:
        order = np.argsort(-probabilities[row], kind="stable")
        other = int(order[1]) if len(order) > 1 else predicted
        told = (
            f"{names[given]} {probabilities[row, given]:.0%}, right",
            f"or {names[other]} {probabilities[row, other]:.0%}",
        )
    else:
        told = (
            f"given {names[given]} {probabilities[row, given]:.0%}",
            f"predicted {names[predicted]} {probabilities[row, predicted]:.0%}",
        )
    return pictures.card(str(paths[row]), *told)
