"""Assembles everything the report shows from the evidence of a run, and writes it as one HTML file."""

import math
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from foldsmith.evaluation.report import matrix, plots, tables
from foldsmith.files import written_whole

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "top5_accuracy": "Top-5 accuracy",
    "log_loss": "Log loss",
    "expected_calibration_error": "Expected calibration error",
}
PROBLEM_ROWS = 200
PROBLEM_KINDS = 20


@dataclass(frozen=True)
class Evidence:
    """Everything the page is made from: N held-out images, K classes, F folds."""

    competition: str
    run: str
    cv: dict  # the content of cv.json
    labels: np.ndarray  # (N,) int class index
    folds: np.ndarray  # (N,) int, the fold in which the image was held out
    probabilities: np.ndarray  # (N, K) float32, out-of-fold
    class_names: list[str]  # K
    class_counts: np.ndarray  # (K,) training images a class, over all folds
    logs: dict[int, pd.DataFrame]  # fold -> log.csv; val_* are NaN on epochs that were not validated
    problems: pd.DataFrame  # path, problem, detail, action
    notes: list[str]  # sentences shown at the top
    facts: dict[str, str]  # how the run was made, in the order shown


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the report to `path`, whole or not at all; the same evidence gives the same bytes.

    Raises ValueError where the parts of the evidence do not belong together.
    """
    _check(evidence)
    template = Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": _figure, "percent": _percent, "metric": _metric_name}
    page = environment.from_string(template).render(_context(evidence))
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _check(evidence: Evidence) -> None:
    num_images, num_classes = len(evidence.labels), len(evidence.class_names)
    outside = np.flatnonzero((np.asarray(evidence.labels) < 0) | (np.asarray(evidence.labels) >= num_classes))
    if len(outside):
        raise ValueError(
            f"{len(outside)} labels are outside 0..{num_classes - 1}, the first is "
            f"{evidence.labels[outside[0]]} in row {outside[0]}"
        )
    found = {
        "folds": (np.shape(evidence.folds), (num_images,)),
        "probabilities": (np.shape(evidence.probabilities), (num_images, num_classes)),
        "class_counts": (np.shape(evidence.class_counts), (num_classes,)),
        "cv['folds']": (np.shape(evidence.cv["folds"]), np.shape(np.unique(evidence.folds))),
    }
    for name, (shape, expected) in found.items():
        if shape != expected:
            raise ValueError(
                f"{name} has shape {shape}, but {num_images} labels in {num_classes} classes need {expected}"
            )
    if not np.isfinite(evidence.probabilities).all():
        rows = np.flatnonzero(~np.isfinite(evidence.probabilities).all(axis=1))
        raise ValueError(f"{len(rows)} images have no finite probabilities, the first is in row {rows[0]}")


def _context(evidence: Evidence) -> dict:
    names = [str(name) for name in evidence.class_names]
    predictions = np.argmax(evidence.probabilities, axis=1)
    counts = tables.count_confusions(np.asarray(evidence.labels), predictions, len(names))
    classes = tables.score_classes(counts, names)
    images = np.asarray(evidence.class_counts)[classes["label"]]
    fold_numbers = np.unique(evidence.folds).tolist()
    metric_rows = _metric_rows(evidence.cv, fold_numbers)
    far_off_folds = {
        fold: [row["name"] for row in metric_rows if row["scores"][place][1]]
        for place, fold in enumerate(fold_numbers)
    }
    return {
        "evidence": evidence,
        "cv": evidence.cv,
        "fold_numbers": fold_numbers,
        "metric_rows": metric_rows,
        "far_off_folds": {fold: metrics for fold, metrics in far_off_folds.items() if metrics},
        "lower_is_better": tables.LOWER_IS_BETTER,
        "panels": plots.draw_learning_curves(evidence.logs) if evidence.logs else {},
        "classes": classes.assign(images=images).to_dict("records"),
        "all_held_out": bool((images == classes["support"]).all()),
        "num_never_predicted": int((classes["predicted"] == 0).sum()),
        "pairs": tables.list_confused_pairs(counts, names).to_dict("records"),
        "num_wrong": int(counts.sum() - np.trace(counts)),
        "num_pairs": int(np.count_nonzero(counts) - np.count_nonzero(np.diag(counts))),
        "matrix": matrix.draw_confusion_matrix(counts, names, tables.order_similar_classes(counts)),
        "wrong_is_full_at": matrix.WRONG_IS_FULL_AT,
        "problem_groups": tables.group_problems(evidence.problems).to_dict("records"),
        "problem_kinds": PROBLEM_KINDS,
        "problem_rows": evidence.problems.head(PROBLEM_ROWS).to_dict("records"),
    }


def _metric_rows(cv: dict, fold_numbers: list[int]) -> list[dict]:
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


def _figure(value: float | None) -> str:
    """Four decimals, as leaderboards show them; a dash where there is no value."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def _metric_name(name: str) -> str:
    return METRIC_NAMES.get(name, name.replace("_", " ").capitalize())
