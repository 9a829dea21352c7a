"""The images of the page: of classes, confused pairs, mistakes, close calls, suspected labels, duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.report.pictures import Pictures

MISTAKES, CLOSE_CALLS, SUSPECTS = 24, 24, 48
PAIRS, EXAMPLES = 10, 3  # confused pairs with pictures, and pictures of each of their two rows
MAX_CLASSES = 300  # classes with a picture; more would make the page heavy
DUPLICATE_GROUPS = 24  # groups of near-duplicates on the page
DUPLICATES = 6  # pictures of a group


@dataclass(frozen=True)
class HeldOut:
    """Held-out images of one class each: N images, K classes.

    `labels` and `decided` are class indices (N,), `probabilities` (N, K); `names` has a name per class.
    """

    paths: np.ndarray
    labels: np.ndarray
    decided: np.ndarray
    probabilities: np.ndarray
    names: Sequence[str]
    pictures: Pictures

    @property
    def confidence(self) -> np.ndarray:
        """The probability of each decision, (N,)."""
        return self.probabilities[np.arange(len(self.labels)), self.decided]

    def card(self, row: int) -> dict[str, object]:
        """Return the card of an image: label and decision, or if they agree the most probable other class."""
        label, decided, names = int(self.labels[row]), int(self.decided[row]), self.names
        own, proposal = self.probabilities[row], ""
        if label == decided:
            others = [other for other in np.argsort(-own, kind="stable") if other != label]
            second = int(others[0]) if others else label
            lines = f"{names[label]} {own[label]:.0%}, correct", f"or {names[second]} {own[second]:.0%}"
        else:
            lines = f"label {names[label]} {own[label]:.0%}", f"predicted {names[decided]} {own[decided]:.0%}"
            proposal = names[decided]
        return self.pictures.card(str(self.paths[row]), *lines, proposal=proposal)


def class_examples(held_out: HeldOut) -> dict[int, str]:
    """Return the picture with the highest probability of its class, for the first MAX_CLASSES classes."""
    labels = held_out.labels
    label_probabilities = held_out.probabilities[np.arange(len(labels)), labels]
    order = np.lexsort((-label_probabilities, labels))
    first = order[np.unique(labels[order], return_index=True)[1]][:MAX_CLASSES]
    return {int(labels[row]): held_out.pictures.uri(str(held_out.paths[row])) for row in first}


def confident_mistakes(held_out: HeldOut) -> list[dict[str, object]]:
    """Return the wrong decisions with the highest probability."""
    wrong = np.flatnonzero(held_out.decided != held_out.labels)
    first = wrong[np.argsort(-held_out.confidence[wrong], kind="stable")][:MISTAKES]
    return [held_out.card(row) for row in first]


def close_calls(held_out: HeldOut) -> list[dict[str, object]]:
    """Return the images with the smallest margin between their two most probable classes; none for K = 1."""
    if held_out.probabilities.shape[1] < 2:
        return []
    top_two = np.partition(held_out.probabilities, -2, axis=1)[:, -2:]
    first = np.argsort(top_two[:, 1] - top_two[:, 0], kind="stable")[:CLOSE_CALLS]
    return [held_out.card(row) for row in first]


def suspected_labels(issues: pd.DataFrame, pictures: Pictures) -> list[dict[str, object]]:
    """Return the first suspected rows of label_issues.csv."""

    def words(value: object, probability: float) -> str:
        name = f"{value:.5g}" if isinstance(value, float) else value
        return f"{name}" if np.isnan(probability) else f"{name} {probability:.0%}"

    return [
        pictures.card(
            row.path,
            f"label {words(row.given, row.probability_given)}",
            f"proposed {words(row.proposed, row.probability_proposed)}",
            proposal="" if isinstance(row.proposed, float) else row.proposed,
        )
        for row in issues[issues["suspected"]].head(SUSPECTS).itertuples()
    ]


def pair_examples(pairs: pd.DataFrame, held_out: HeldOut) -> list[dict[str, object]]:
    """Return images of the first PAIRS of true and predicted class.

    A pair has `confused` images, of the true class predicted as the other one, and `correct` images of that
    other class. Both have the highest probability of the predicted class.
    """
    labels, predicted, probabilities = held_out.labels, held_out.decided, held_out.probabilities
    examples = []
    for pair in pairs.head(PAIRS).itertuples():
        true, other = pair.true_label, pair.predicted_label
        confused = np.flatnonzero((labels == true) & (predicted == other))
        correct = np.flatnonzero((labels == other) & (predicted == other))
        cards = []
        for rows in (confused, correct):
            first = rows[np.argsort(-probabilities[rows, other], kind="stable")][:EXAMPLES]
            cards.append([held_out.card(row) for row in first])
        examples.append(
            {"true": pair.true, "predicted": pair.predicted, "confused": cards[0], "correct": cards[1]}
        )
    return examples


def other_of(labels: Sequence[str], label: str) -> str:
    """Return the other one of two labels; "" for more or fewer."""
    others = [other for other in labels if other != label]
    return others[0] if len(labels) == 2 and len(others) == 1 else ""


def find_copies(samples: pd.DataFrame, test_samples: pd.DataFrame | None) -> pd.DataFrame:
    """Return the images that are one picture with another: path, class_name, digest, split, and group.

    Both tables have path, near and digest; `samples` has class_name too. `class_name` is empty for test
    images, `split` is train or test, and `group` is equal for the same picture.
    """
    train = samples.assign(split="train")
    tables = [train] if test_samples is None else [train, test_samples.assign(split="test", class_name="")]
    images = pd.concat(tables, ignore_index=True)
    # images without contrast have no hash: their copies are found by the digest
    copies = images["digest"].duplicated(keep=False) & (images["digest"] != "")
    images["group"] = images["near"].where(images["near"] != "", images["digest"].where(copies, ""))
    images = images.loc[images["group"] != "", ["path", "class_name", "digest", "split", "group"]]
    return images[images["group"].duplicated(keep=False)]


def rank_groups(copies: pd.DataFrame) -> pd.DataFrame:
    """Return one row per group of `find_copies`: count, labels, across, exact; indexed by group.

    Those with two labels are first, then those in training and test, then those of different pixels. `labels`
    is the number of class names, `across` whether the group is in training and test, `exact` whether all
    pixels are equal.
    """
    groups = copies.groupby("group", sort=False)
    labelled = copies[copies["class_name"] != ""].groupby("group")["class_name"].nunique()
    table = pd.DataFrame({"count": groups.size(), "across": groups["split"].nunique() > 1,
                          "exact": groups["digest"].nunique() == 1})  # fmt: skip
    table["labels"] = labelled.reindex(table.index, fill_value=0)
    order = np.lexsort((table["exact"], ~table["across"], table["labels"] < 2))
    return table.iloc[order]


def duplicate_groups(
    copies: pd.DataFrame, ranked: pd.DataFrame, pictures: Pictures
) -> list[dict[str, object]]:
    """Return the first groups of near-duplicates: cards, count, labels, and words that describe each."""
    shown = ranked.head(DUPLICATE_GROUPS)
    members = dict(list(copies[copies["group"].isin(shown.index)].groupby("group", sort=False)))
    groups = []
    for facts in shown.itertuples():
        group = members[facts.Index]
        labels = sorted(set(group["class_name"]) - {""})
        cards = [
            pictures.card(row.path, row.class_name or "test image", proposal=other_of(labels, row.class_name))
            for row in group.head(DUPLICATES).itertuples()
        ]
        words = ["the same pixels" if facts.exact else "the same picture"]
        words += [f"{len(labels)} labels"] if len(labels) > 1 else []
        words += ["in training and test"] if facts.across else []
        groups.append({"cards": cards, "count": len(group), "words": ", ".join(words), "labels": labels})
    return groups
