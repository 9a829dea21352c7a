"""Assembles everything the report shows from the evidence of a run, and writes it as one HTML file."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from foldsmith.evaluation.chance import spread_of_folds
from foldsmith.evaluation.report import answer, plots, sections
from foldsmith.evaluation.report.pictures import Pictures
from foldsmith.files import written_whole
from foldsmith.terminal import progress

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "top5_accuracy": "Top-5 accuracy",
    "log_loss": "Log loss",
    "expected_calibration_error": "Expected calibration error",
}
SECTIONS = (
    ("Folds", "folds.html"),
    ("Learning curves", "learning-curves.html"),
    ("Classes", "classes.html"),
    ("Most confused pairs", "confused-pairs.html"),
    ("Confusion matrix", "confusion-matrix.html"),
    ("Suspected labels", "suspected-labels.html"),
    ("Mistakes and doubts", "mistakes.html"),
    ("Calibration", "calibration.html"),
    ("Data", "data.html"),
    ("Equal pictures", "equal-pictures.html"),
    ("Problems in the data", "problems.html"),
    ("Training against test", "training-against-test.html"),
    ("Test predictions", "test-predictions.html"),
)


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
    paths: np.ndarray  # (N,) str, as in samples.csv
    pictures: Pictures = field(default_factory=Pictures)
    issues: pd.DataFrame | None = None  # label_issues.csv
    samples: pd.DataFrame | None = None  # samples.csv, and
    test_samples: pd.DataFrame | None = None  # test_samples.csv
    views: dict[str, np.ndarray] | None = None  # views.npz
    features: dict[str, np.ndarray] | None = None  # features.npz
    test_probabilities: np.ndarray | None = None  # (M, K) float32
    leak: dict | None = None  # leak.json

    @property
    def has_pictures(self) -> bool:
        return self.pictures.cache is not None


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the report to `path`, whole or not at all; the same evidence gives the same bytes.

    Raises ValueError where the parts of the evidence do not belong together.
    """
    _check(evidence)
    page = build_environment().get_template("page.html").render(_context(evidence))
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def build_environment() -> jinja2.Environment:
    """The templates, with the filters that write figures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("template")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": _figure,
        "percent": _percent,
        "signed": "{:+.4f}".format,
        "metric": _metric_name,
    }
    return environment


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
        "paths": (np.shape(evidence.paths), (num_images,)),
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
    fold_numbers = np.unique(evidence.folds).tolist()
    right = evidence.probabilities.argmax(axis=1) == evidence.labels
    spread = spread_of_folds(right, evidence.folds)
    context = {
        "evidence": evidence,
        "cv": evidence.cv,
        "sections": SECTIONS,
        "fold_numbers": fold_numbers,
        "spread_in_words": answer.spread_in_words(spread),
        "most_suspected": answer.MOST_SUSPECTED,
        "made_in_short": _made_in_short(evidence.facts),
        "panels": plots.draw_learning_curves(evidence.logs) if evidence.logs else {},
        **sections.describe_folds(evidence.cv, fold_numbers),
    }
    parts = (
        sections.describe_classes,
        sections.describe_images,
        sections.describe_calibration,
        sections.describe_data,
        sections.describe_test,
    )
    with progress("report", len(parts), "parts") as advance:
        for describe in parts:
            context |= describe(evidence)
            advance(1)
    context["findings"] = [
        *answer.find_folds_apart(context["far_off_folds"], evidence.cv["metric"], spread),
        *answer.find_lost_classes(context["class_table"]),
        *answer.find_label_trouble(context["num_suspected"], len(evidence.labels), context["same_pictures"]),
        *answer.find_shift(context["shift"]),
        *answer.find_miscalibration(context["calibration"]),
        *answer.find_training_advice(evidence.logs),
    ]
    return context


def _made_in_short(facts: dict[str, str]) -> str:
    """The facts that most often decide, in one line."""
    chosen = [facts[name] for name in ("training", "hardware") if name in facts]
    chosen += [f"seed {facts['seed']}"] if "seed" in facts else []
    return "How it was made" + (": " if chosen else "") + ", ".join(chosen)


def _figure(value: float | None) -> str:
    """Four decimals, as leaderboards show them; a dash where there is no value."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def _metric_name(name: str) -> str:
    return METRIC_NAMES.get(name, name.replace("_", " ").capitalize())
