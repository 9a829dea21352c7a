"""What the page's sections on the data and on the test are made from: names for the templates."""

from typing import Any

import numpy as np
import pandas as pd

from foldsmith.evaluation.shift import measure_shift
from foldsmith.evaluation.view_gains import score_views
from foldsmith.report import charts, class_tables, galleries
from foldsmith.report.evidence import Evidence
from foldsmith.tasks.metrics import decide

PROBLEM_ROWS = 200
PROBLEM_KINDS = 20
SIZE_ROWS = 8
SUREST = 12

Context = dict[str, Any]


def describe_data(evidence: Evidence) -> Context:
    """Class balance, sizes, equal pictures and problems."""
    counts, samples = evidence.class_counts, evidence.samples
    rare = np.maximum(counts.min(), 1)
    same = (
        [] if samples is None else galleries.same_pictures(samples, evidence.test_samples, evidence.pictures)
    )
    return {
        "balance": charts.draw_class_balance(counts, evidence.class_names),
        "balance_in_words": f"from {counts.max():,} to {counts.min():,}, {counts.max() / rare:.1f} to 1.",
        "sizes": [] if samples is None else count_sizes(samples).head(SIZE_ROWS).to_dict("records"),
        "num_sizes": 0 if samples is None else len(count_sizes(samples)),
        "same_pictures": same,
        "same_pictures_shown": galleries.SAME_PICTURES,
        "num_across": sum(group["across"] for group in same),
        "num_two_labels": sum(len(group["labels"]) > 1 for group in same),
        "problem_groups": class_tables.group_problems(evidence.problems).to_dict("records"),
        "problem_kinds": PROBLEM_KINDS,
        "problem_rows": evidence.problems.head(PROBLEM_ROWS).to_dict("records"),
    }


def count_sizes(samples: pd.DataFrame) -> pd.DataFrame:
    """Images by size, the most frequent first: width, height, count, share."""
    sizes = samples.groupby(["width", "height"]).size().reset_index(name="count")
    sizes = sizes.sort_values(["count", "width", "height"], ascending=[False, True, True], ignore_index=True)
    return sizes.assign(share=sizes["count"] / len(samples))


def describe_test(evidence: Evidence) -> Context:
    """Training against test, the views' gains, and how often each class is predicted."""
    features, shift, surest = evidence.features, None, {"surest_test": [], "surest_train": []}
    if features is not None:
        is_test, paths = features["is_test"], features["path"]
        shift = measure_shift(features["features"], is_test)
        if shift is not None:
            surest = {
                "surest_test": surest_of(paths, shift.test_probability, is_test, evidence),
                "surest_train": surest_of(paths, 1 - shift.test_probability, ~is_test, evidence),
            }
    views = []
    if evidence.views is not None:
        aligned = align_views(evidence.views, evidence.paths)
        views = score_views(aligned, evidence.labels, evidence.probabilities).to_dict("records")
    return {
        "shift": shift,
        "num_compared": 0 if features is None else len(features["path"]),
        **surest,
        "view_rows": views if len(views) > 2 else [],
        "test_rows": []
        if evidence.test_probabilities is None
        else compare_counts(evidence, evidence.test_probabilities).to_dict("records"),
    }


def align_views(views: dict[str, np.ndarray], paths: np.ndarray) -> dict[str, np.ndarray]:
    """views.npz with its images in the order of `paths`. Raises KeyError if one is not there."""
    place = pd.Series(np.arange(len(views["path"])), index=views["path"])
    rows = place.loc[paths].to_numpy()
    return {
        "view": views["view"],
        "prediction": views["prediction"][:, rows],
        "given": views["given"][:, rows],
    }


def surest_of(
    paths: np.ndarray, probability: np.ndarray, among: np.ndarray, evidence: Evidence
) -> list[dict[str, object]]:
    rows = np.flatnonzero(among)
    first = rows[np.argsort(-probability[rows], kind="stable")][:SUREST]
    return [evidence.pictures.card(str(paths[row]), f"{probability[row]:.1%} sure") for row in first]


def compare_counts(evidence: Evidence, test_probabilities: np.ndarray) -> pd.DataFrame:
    """One row a class: name, shares of train, held_out and test, count and z, the largest surplus first.

    z is the difference of test's and held-out predictions' shares over its standard error (two proportions).
    """
    num_classes = len(evidence.class_names)
    held_out, test = (
        np.bincount(decide(each), minlength=num_classes)
        for each in (evidence.probabilities, test_probabilities)
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
