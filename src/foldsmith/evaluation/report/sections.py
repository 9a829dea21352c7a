"""What each section of the page is made from: names for the templates, from the evidence of a run."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foldsmith.evaluation.calibration import bin_confidences, calibrate
from foldsmith.evaluation.report import charts, galleries, matrix, plots, tables
from foldsmith.evaluation.shift import tell_apart
from foldsmith.evaluation.view_gains import score_views

if TYPE_CHECKING:
    from foldsmith.evaluation.report.page import Evidence

PROBLEM_ROWS = 200
PROBLEM_KINDS = 20
SIZE_ROWS = 8
SUREST = 12

Context = dict[str, Any]


def describe_folds(cv: dict, fold_numbers: list[int]) -> Context:
    """Metrics by fold, and the folds that stand apart."""
    rows = metric_rows(cv, fold_numbers)
    far_off = {
        fold: [row["name"] for row in rows if row["scores"][place][1]]
        for place, fold in enumerate(fold_numbers)
    }
    return {
        "metric_rows": rows,
        "answer_strip": rows[0]["strip"],
        "far_off_folds": {fold: metrics for fold, metrics in far_off.items() if metrics},
        "lower_is_better": tables.LOWER_IS_BETTER,
    }


def metric_rows(cv: dict, fold_numbers: list[int]) -> list[dict]:
    """One row a metric, the run's own first: (score, far off) a fold, mean, std, oof and a figure."""
    rows = []
    for name in sorted(cv["metrics"], key=lambda name: name != cv["metric"]):
        scores = np.array(cv["metrics_by_fold"][name], float)
        far_off = tables.mark_far_off(scores)
        drawable = len(scores) > 1 and np.isfinite(scores).all()
        rows.append(
            {
                "name": name,
                "scores": list(zip(scores, far_off, strict=True)),
                "mean": scores.mean(),
                "std": scores.std(ddof=1) if len(scores) > 1 else math.nan,
                "oof": cv["metrics"][name],
                "strip": plots.draw_fold_scores(fold_numbers, scores, far_off) if drawable else "",
            }
        )
    return rows


def describe_classes(evidence: "Evidence") -> Context:
    """Every class, the most confused pairs with pictures, and the matrix with its most confused group."""
    names, probabilities, labels = evidence.class_names, evidence.probabilities, evidence.labels
    counts = tables.count_confusions(labels, probabilities.argmax(axis=1), len(names))
    classes = tables.score_classes(counts, names)
    images = evidence.class_counts[classes["label"]]
    order = tables.order_similar_classes(counts)
    group = matrix.find_confused_group(counts, order)
    pairs = tables.list_confused_pairs(counts, names)
    shown = evidence.paths, labels, probabilities
    examples = galleries.class_examples(*shown, evidence.pictures) if evidence.has_pictures else {}
    pictures = [examples.get(label, "") for label in classes["label"]]
    return {
        "class_table": classes,
        "classes": classes.assign(images=images, picture=pictures).to_dict("records"),
        "all_held_out": bool((images == classes["support"]).all()),
        "num_never_predicted": int((classes["predicted"] == 0).sum()),
        "pairs": pairs.to_dict("records"),
        "pair_examples": galleries.pair_examples(pairs, *shown, names, evidence.pictures)
        if evidence.has_pictures
        else [],
        "num_wrong": int(counts.sum() - np.trace(counts)),
        "num_pairs": int(np.count_nonzero(counts) - np.count_nonzero(np.diag(counts))),
        "matrix": matrix.draw_confusion_matrix(counts, names, order),
        "group_matrix": matrix.draw_confusion_matrix(counts, names, group, with_counts=True)
        if len(group)
        else "",
        "wrong_is_full_at": matrix.WRONG_IS_FULL_AT,
    }


def describe_images(evidence: "Evidence") -> Context:
    """The galleries of suspected labels, mistakes and doubts."""
    shown = evidence.paths, evidence.labels, evidence.probabilities, evidence.class_names, evidence.pictures
    issues = evidence.issues
    return {
        "num_suspected": 0 if issues is None else int(issues["suspected"].sum()),
        "suspects": [] if issues is None else galleries.suspected_labels(issues, evidence.pictures),
        "mistakes": galleries.confident_mistakes(*shown),
        "doubts": galleries.least_certain(*shown),
    }


def describe_calibration(evidence: "Evidence") -> Context:
    labels, probabilities = evidence.labels, evidence.probabilities
    return {
        "calibration": calibrate(labels, evidence.folds, probabilities),
        "reliability": charts.draw_reliability(bin_confidences(labels, probabilities)),
    }


def describe_data(evidence: "Evidence") -> Context:
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
        "problem_groups": tables.group_problems(evidence.problems).to_dict("records"),
        "problem_kinds": PROBLEM_KINDS,
        "problem_rows": evidence.problems.head(PROBLEM_ROWS).to_dict("records"),
    }


def count_sizes(samples: pd.DataFrame) -> pd.DataFrame:
    """Images by size, the most frequent first: width, height, count, share."""
    sizes = samples.groupby(["width", "height"]).size().reset_index(name="count")
    sizes = sizes.sort_values(["count", "width", "height"], ascending=[False, True, True], ignore_index=True)
    return sizes.assign(share=sizes["count"] / len(samples))


def describe_test(evidence: "Evidence") -> Context:
    """Training against test, the views' gains, and how often each class is predicted."""
    features, shift, surest = evidence.features, None, {"surest_test": [], "surest_train": []}
    if features is not None:
        is_test, paths = features["is_test"], features["path"]
        shift = tell_apart(features["features"], is_test)
        if shift is not None:
            surest = {
                "surest_test": surest_of(paths, shift.test, is_test, evidence),
                "surest_train": surest_of(paths, 1 - shift.test, ~is_test, evidence),
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
    paths: np.ndarray, probability: np.ndarray, among: np.ndarray, evidence: "Evidence"
) -> list[dict[str, object]]:
    rows = np.flatnonzero(among)
    first: Sequence[int] = rows[np.argsort(-probability[rows], kind="stable")][:SUREST]
    return [evidence.pictures.card(str(paths[row]), f"{probability[row]:.1%} sure") for row in first]


def compare_counts(evidence: "Evidence", test_probabilities: np.ndarray) -> pd.DataFrame:
    """One row a class: name, shares of train, held_out and test, count and z, the largest surplus first.

    z is the difference of test's and held-out predictions' shares over its standard error (two proportions).
    """
    num_classes = len(evidence.class_names)
    held_out, test = (
        np.bincount(each.argmax(axis=1), minlength=num_classes)
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
