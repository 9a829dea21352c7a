"""Build the report page from the evidence of a run, and write it as one HTML file."""

import math
from pathlib import Path

import jinja2
import numpy as np

from foldsmith.evaluation.chance import spread_of_folds
from foldsmith.process.files import atomic_write
from foldsmith.process.terminal import format_score, progress
from foldsmith.report import dataset, findings, plots, sections
from foldsmith.report.evidence import Evidence, check_evidence
from foldsmith.tasks.metrics import METRICS

# section -> title and template; the task lists the sections of its page, and anchors are slugs of titles
SECTIONS = {
    "folds": ("Folds", "folds.html"),
    "learning-curves": ("Learning curves", "learning-curves.html"),
    "classes": ("Classes", "classes.html"),
    "confused-pairs": ("Most confused pairs", "confused-pairs.html"),
    "confusion-matrix": ("Confusion matrix", "confusion-matrix.html"),
    "suspected-labels": ("Suspected labels", "suspected-labels.html"),
    "mistakes": ("Confident mistakes and close calls", "mistakes.html"),
    "calibration": ("Calibration", "calibration.html"),
    "data": ("Data", "data.html"),
    "equal-pictures": ("Near-duplicates", "equal-pictures.html"),
    "problems": ("Problems in the data", "problems.html"),
    "training-against-test": ("Training against test", "training-against-test.html"),
    "test-predictions": ("Test predictions", "test-predictions.html"),
}


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the report to `path`, whole or not at all; the same evidence gives the same bytes.

    Raise ValueError where the evidence does not belong to the same images and classes.
    """
    check_evidence(evidence)
    page = build_environment().get_template("page.html").render(_context(evidence))
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def build_environment() -> jinja2.Environment:
    """Return the environment of the templates, with filters that format figures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("template")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": format_score,
        "percent": _percent,
        "signed": "{:+.4f}".format,
        "metric": _metric_name,
    }
    return environment


def _context(evidence: Evidence) -> dict:
    fold_numbers = np.unique(evidence.folds).tolist()
    correct = evidence.task.correct(evidence.labels, evidence.probabilities)
    spread = spread_of_folds(correct, evidence.folds)
    context = {
        "evidence": evidence,
        "cv": evidence.cv,
        "sections": [SECTIONS[name] for name in evidence.task.report_sections],
        "fold_numbers": fold_numbers,
        "spread_in_words": findings.spread_in_words(spread),
        "max_suspected": findings.MAX_SUSPECTED,
        "provenance": _provenance_line(evidence.facts),
        "panels": plots.draw_learning_curves(evidence.logs) if evidence.logs else {},
        **sections.describe_folds(evidence.cv, fold_numbers),
    }
    describers = (
        sections.describe_classes,
        sections.describe_images,
        sections.describe_calibration,
        dataset.describe_data,
        dataset.describe_test,
    )
    with progress("report", len(describers), "sections") as advance:
        for describe in describers:
            context |= describe(evidence)
            advance(1)
    context["findings"] = [
        *findings.find_outlier_folds(context["outlier_folds"], evidence.cv["metric"], spread),
        *findings.find_unpredicted_classes(context["class_table"]),
        *findings.find_label_problems(
            context["num_suspected"], len(evidence.labels), context["duplicate_groups"]
        ),
        *findings.find_shift(context["shift"]),
        *findings.find_miscalibration(context["calibration"]),
        *findings.find_training_advice(evidence.logs),
    ]
    return context


def _provenance_line(facts: dict[str, str]) -> str:
    """Return training time, hardware and seed in one line."""
    values = [facts[name] for name in ("training", "hardware") if name in facts]
    values += [f"seed {facts['seed']}"] if "seed" in facts else []
    return "Provenance" + (": " if values else "") + ", ".join(values)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def _metric_name(name: str) -> str:
    return METRICS[name].title
