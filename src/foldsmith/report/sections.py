"""Template values of the sections on scores and held-out images."""

import math
from typing import Any

import numpy as np

from foldsmith.evaluation import label_issues
from foldsmith.evaluation.calibration import bin_confidences, calibrate
from foldsmith.evaluation.chance import spread_of_folds
from foldsmith.evaluation.subsets import image_attributes, scores_by, surest_shares
from foldsmith.evaluation.uncertainty import class_recalls
from foldsmith.report import charts, class_tables, findings, galleries, matrix, plots
from foldsmith.report.evidence import Evidence

CHANGED = 12  # pictures of either side that changed since the last run

Context = dict[str, Any]


def describe_folds(evidence: Evidence) -> Context:
    """Return the metrics by fold, the folds that are outliers, and how their spread compares with chance."""
    fold_numbers = np.unique(evidence.folds).tolist()
    rows = metric_rows(evidence.cv, fold_numbers, len(evidence.class_names))
    outliers = {
        fold: [row["name"] for row in rows if row["scores"][index][1]]
        for index, fold in enumerate(fold_numbers)
    }
    correct = evidence.task.correct(evidence.labels, evidence.probabilities)
    spread = spread_of_folds(correct, evidence.folds)
    return {
        "fold_numbers": fold_numbers,
        "metric_rows": rows,
        "score_strip": rows[0]["strip"],
        "outlier_folds": {fold: metrics for fold, metrics in outliers.items() if metrics},
        "lower_is_better": lower_is_better(evidence),
        "spread": spread,
        "spread_in_words": findings.spread_in_words(spread, evidence.task.credit_name),
    }


def describe_comparison(evidence: Evidence) -> Context:
    """Return the paired comparison with the run before this one, its classes, and pictures that changed."""
    comparison = evidence.comparison
    if comparison is None:
        return {"comparison": None}
    now_right = comparison.changed["now_right"]
    paths = {"now_right": comparison.changed[now_right], "now_wrong": comparison.changed[~now_right]}
    label_of = dict(zip(evidence.paths.tolist(), evidence.labels, strict=True))
    names, task = evidence.class_names, evidence.task
    classes = comparison.classes.dropna()
    beyond = classes[classes["difference"].abs() > 2 * classes["error"]]
    return {
        "comparison": comparison,
        "has_sides": task.predictions_key == "probabilities",  # a number is never exactly right
        "is_better": abs(comparison.gain.difference) > 2 * comparison.gain.standard_error,
        "changed_classes": beyond.assign(name=[names[label] for label in beyond["label"]])
        .sort_values("difference", kind="stable")
        .to_dict("records"),
        "changed_pictures": {
            side: [
                evidence.pictures.card(path, evidence.words_of(label_of[path]))
                for path in rows["path"].head(CHANGED)
            ]
            for side, rows in paths.items()
        },
    }


def describe_subsets(evidence: Evidence) -> Context:
    """Return the scores by group, source folder and image size, and the credit of the surest images.

    A predicted number has no confidence: no number is among the surest.
    """
    task, metric = evidence.task, evidence.cv["metric"]
    figures = evidence.labels, evidence.probabilities
    attributes = {} if evidence.samples is None else image_attributes(evidence.samples, evidence.paths)
    return {
        "subsets": {
            name: scores_by(values, *figures, metric, task).to_dict("records")
            for name, values in attributes.items()
        },
        "surest": []
        if task.predictions_key == "values"
        else surest_shares(
            task.confidence(evidence.probabilities), task.correct(*figures).astype(np.float64)
        ).to_dict("records"),
    }


def lower_is_better(evidence: Evidence) -> set[str]:
    """Return the names of the page's metrics of which a lower score is better."""
    metrics, cv = evidence.task.metrics, evidence.cv
    own = set() if cv.get("higher_is_better", True) else {cv["metric"]}
    return own | {name for name, metric in metrics.items() if not metric.higher_is_better}


def describe_curves(evidence: Evidence) -> Context:
    """Return the learning curves of all folds."""
    credit = evidence.task.credit_name
    return {"panels": plots.draw_learning_curves(evidence.logs, credit) if evidence.logs else {}}


def metric_rows(cv: dict, fold_numbers: list[int], num_classes: int) -> list[dict]:
    """Return one row per metric, the run's own first: (score, is outlier) per fold, mean, std, oof, strip.

    The top-5 accuracy of up to five classes is left out: it is 1 whatever is predicted.
    """
    rows = []
    for name in sorted(cv["metrics"], key=lambda name: name != cv["metric"]):
        if name == "top5_accuracy" != cv["metric"] and num_classes <= 5:
            continue
        scores = np.array(cv["metrics_by_fold"][name], float)
        defined = scores[np.isfinite(scores)]
        outliers = class_tables.mark_outliers(scores)
        drawable = len(scores) > 1 and np.isfinite(scores).all()
        rows.append(
            {
                "name": name,
                "scores": list(zip(scores, outliers, strict=True)),
                "mean": defined.mean() if len(defined) else math.nan,
                "std": defined.std(ddof=1) if len(defined) > 1 else math.nan,
                "oof": cv["metrics"][name],
                "strip": plots.draw_fold_scores(fold_numbers, scores, outliers) if drawable else "",
            }
        )
    return rows


def describe_classes(evidence: Evidence) -> Context:
    """Return the table of classes, the most confused pairs, and the confusion matrix."""
    names, labels = evidence.class_names, evidence.labels
    counts = class_tables.count_confusions(labels, evidence.decided, len(names))
    classes = class_tables.score_classes(counts, names)
    images = evidence.class_counts[classes["label"]]
    is_ordered = evidence.task.name == "ordinal"
    order = np.arange(len(names)) if is_ordered else class_tables.order_similar_classes(counts)
    group = matrix.find_confused_group(counts, order)
    pairs = class_tables.list_confused_pairs(counts, names)
    images_held_out = held_out(evidence)
    examples = galleries.class_examples(images_held_out) if evidence.has_pictures else {}
    pictures = [examples.get(label, "") for label in classes["label"]]
    return {
        "class_table": classes,
        "classes": classes.assign(images=images, picture=pictures)
        .merge(class_recalls(labels, evidence.decided, len(names))[["label", "low", "high"]], on="label")
        .to_dict("records"),
        "all_held_out": bool((images == classes["support"]).all()),
        "num_never_predicted": int((classes["predicted"] == 0).sum()),
        "pairs": pairs.to_dict("records"),
        "pair_examples": galleries.pair_examples(pairs, images_held_out) if evidence.has_pictures else [],
        "num_wrong": int(counts.sum() - np.trace(counts)),
        "num_pairs": int(np.count_nonzero(counts) - np.count_nonzero(np.diag(counts))),
        "is_ordered": is_ordered,
        "matrix": matrix.draw_confusion_matrix(
            counts, names, order, with_counts=len(order) < matrix.GROUP_FROM
        ),
        "group_matrix": matrix.draw_confusion_matrix(counts, names, group, with_counts=True)
        if len(group)
        else "",
        "wrong_is_full_at": matrix.WRONG_IS_FULL_AT,
    }


def held_out(evidence: Evidence) -> galleries.HeldOut:
    """Return what the galleries of a task with one class per image need."""
    return galleries.HeldOut(
        paths=evidence.paths,
        labels=evidence.labels,
        decided=evidence.decided,
        probabilities=evidence.probabilities,
        names=evidence.class_names,
        pictures=evidence.pictures,
    )


def describe_suspected(evidence: Evidence) -> Context:
    """Return the gallery of suspected labels, and what the suspicion is worth."""
    issues, cv = evidence.issues, evidence.cv
    num_suspected = 0 if issues is None else int(issues["suspected"].sum())
    return {
        "max_suspected": label_issues.MAX_SUSPECTED,
        "labels_judged": not label_issues.why_not_judged(cv),
        "num_labels": label_issues.count_labels(cv),
        "suspects_in_words": label_issues.describe_suspects(num_suspected, cv),
        "num_suspected": num_suspected,
        "is_number": evidence.task.predictions_key == "values",
        "suspected_z": label_issues.SUSPECTED_Z,
        "suspects": [] if issues is None else galleries.suspected_labels(issues, evidence.pictures),
    }


def describe_mistakes(evidence: Evidence) -> Context:
    """Return the galleries of confident mistakes and close calls."""
    images = held_out(evidence)
    return {"mistakes": galleries.confident_mistakes(images), "close_calls": galleries.close_calls(images)}


def describe_calibration(evidence: Evidence) -> Context:
    """Return the calibration figures and the reliability diagram."""
    labels, probabilities = evidence.labels, evidence.probabilities
    is_applied = evidence.decision is not None and evidence.decision.kind == "temperature"
    return {
        "calibration": calibrate(labels, evidence.folds, probabilities, is_applied),
        "reliability": charts.draw_reliability(bin_confidences(labels, probabilities)),
    }
