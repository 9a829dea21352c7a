"""Template values of the sections on the data and the test images."""

from typing import Any

import numpy as np
import pandas as pd

from foldsmith.evaluation.shift import measure_shift
from foldsmith.evaluation.view_gains import score_views
from foldsmith.report import charts, class_tables, galleries
from foldsmith.report.evidence import Evidence

PROBLEM_ROWS = 200
PROBLEM_KINDS = 20
SIZE_ROWS = 8
MOST_CONFIDENT = 12

Context = dict[str, Any]


def describe_data(evidence: Evidence) -> Context:
    """Return the values of class balance, image sizes, near-duplicates and problems."""
    counts, samples = evidence.class_counts, evidence.samples
    return {
        "balance": charts.draw_class_balance(counts, evidence.class_names) if len(set(counts)) > 1 else "",
        "balance_in_words": balance_in_words(counts),
        "sizes": [] if samples is None else count_sizes(samples).head(SIZE_ROWS).to_dict("records"),
        "num_sizes": 0 if samples is None else len(count_sizes(samples)),
        **({"num_groups": 0} if samples is None else describe_duplicates(samples, evidence)),
        "problem_groups": class_tables.group_problems(evidence.problems).to_dict("records"),
        "problem_kinds": PROBLEM_KINDS,
        "problem_rows": evidence.problems.head(PROBLEM_ROWS).to_dict("records"),
    }


def balance_in_words(counts: np.ndarray) -> str:
    """Return the sizes of the largest and the smallest class (K,) and their ratio, or the one size of all."""
    if not len(counts):  # numbers have no classes
        return ""
    if not np.ptp(counts):
        return f"{counts[0]:,} training images in every class."
    words = f"from {counts.max():,} to {counts.min():,}"
    return f"{words}, {counts.max() / counts.min():.1f} to 1." if counts.min() else f"{words}."


def describe_duplicates(samples: pd.DataFrame, evidence: Evidence) -> Context:
    """Return the number of groups of near-duplicates, of each kind, and the groups that the page shows."""
    copies = galleries.find_copies(samples, evidence.test_samples)
    ranked = galleries.rank_groups(copies)
    return {
        "num_groups": len(ranked),
        "num_across": int(ranked["across"].sum()),
        "num_two_labels": int((ranked["labels"] > 1).sum()),
        "num_over_folds": count_over_folds(copies, evidence),
        "duplicate_groups": galleries.duplicate_groups(copies, ranked, evidence.pictures),
    }


def count_over_folds(copies: pd.DataFrame, evidence: Evidence) -> int:
    """Return the number of near-duplicate groups whose images are held out in more than one fold."""
    held_out = pd.DataFrame({"path": evidence.paths.tolist(), "fold": evidence.folds})
    folds = copies[["path", "group"]].merge(held_out, on="path").groupby("group")["fold"].nunique()
    return int((folds > 1).sum())


def count_sizes(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the image sizes, the most frequent first: width, height, count, share."""
    sizes = samples.groupby(["width", "height"]).size().reset_index(name="count")
    sizes = sizes.sort_values(["count", "width", "height"], ascending=[False, True, True], ignore_index=True)
    return sizes.assign(share=sizes["count"] / len(samples))


def describe_shift(evidence: Evidence) -> Context:
    """Return the values of adversarial validation."""
    features, shift = evidence.features, None
    cards: Context = {"most_confident_test": [], "most_confident_train": []}
    if features is not None:
        is_test, paths = features["is_test"], features["path"]
        shift = measure_shift(features["features"], is_test)
        if shift is not None and shift.is_significant:
            cards = {
                "most_confident_test": most_confident(paths, shift.test_probability, is_test, evidence),
                "most_confident_train": most_confident(paths, 1 - shift.test_probability, ~is_test, evidence),
            }
    return {"shift": shift, "num_compared": 0 if features is None else len(features["path"]), **cards}


def describe_test(evidence: Evidence) -> Context:
    """Return the view gains and the predicted class counts of a task with one class per image."""
    views = []
    if evidence.views is not None:
        aligned = align_views(evidence.views, evidence.paths)
        views = score_views(aligned, evidence.labels, evidence.probabilities, evidence.task).to_dict(
            "records"
        )
    return {
        "view_rows": views if len(views) > 2 else [],
        "test_rows": []
        if evidence.test_probabilities is None
        else compare_counts(evidence, evidence.test_probabilities).to_dict("records"),
    }


def align_views(views: dict[str, np.ndarray], paths: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of views.npz in the order of `paths`. Raise KeyError for a missing path."""
    index = pd.Series(np.arange(len(views["path"])), index=views["path"])
    rows = index.loc[paths].to_numpy()
    return {
        "view": views["view"],
        "prediction": views["prediction"][:, rows],
        "given": views["given"][:, rows],
    }


def most_confident(
    paths: np.ndarray, probability: np.ndarray, mask: np.ndarray, evidence: Evidence
) -> list[dict[str, object]]:
    """Return the cards of the images in `mask` (n,) bool with the highest probability (n,)."""
    rows = np.flatnonzero(mask)
    first = rows[np.argsort(-probability[rows], kind="stable")][:MOST_CONFIDENT]
    return [evidence.pictures.card(str(paths[row]), f"{probability[row]:.1%}") for row in first]


def compare_counts(evidence: Evidence, test_probabilities: np.ndarray) -> pd.DataFrame:
    """Return one row per class, the largest surplus first: name, train, held_out, test, count, z.

    train, held_out and test are shares of the labels, the held-out and the test predictions; count is that of
    the test. z is the share in the test minus that in the held-out images, over the standard error of a
    difference of two proportions.
    """
    num_classes = len(evidence.class_names)
    held_out, test = (
        np.bincount(evidence.decide(probabilities), minlength=num_classes)
        for probabilities in (evidence.probabilities, test_probabilities)
    )
    num_held_out, num_test = len(evidence.labels), len(test_probabilities)
    pooled = (held_out + test) / (num_held_out + num_test)
    error = np.sqrt(pooled * (1 - pooled) * (1 / num_held_out + 1 / num_test))
    difference = test / num_test - held_out / num_held_out
    table = pd.DataFrame(
        {
            "name": evidence.class_names,
            "train": evidence.class_counts / evidence.class_counts.sum(),
            "held_out": held_out / num_held_out,
            "test": test / num_test,
            "count": test,
            "z": np.divide(difference, error, out=np.zeros(num_classes), where=error > 0),
        }
    )
    return table.sort_values("z", ascending=False, kind="stable", ignore_index=True)
