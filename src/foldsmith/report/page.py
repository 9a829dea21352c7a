"""Assembles everything the report shows from the evidence of a run, and writes it as one HTML file."""

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

# the sections by name: their title and template; which of them a page has is its task's to say
SECTIONS = {
    "folds": ("Folds", "folds.html"),
    "learning-curves": ("Learning curves", "learning-curves.html"),
    "classes": ("Classes", "classes.html"),
    "confused-pairs": ("Most confused pairs", "confused-pairs.html"),
    "confusion-matrix": ("Confusion matrix", "confusion-matrix.html"),
    "suspected-labels": ("Suspected labels", "suspected-labels.html"),
    "mistakes": ("Mistakes and doubts", "mistakes.html"),
    "calibration": ("Calibration", "calibration.html"),
    "data": ("Data", "data.html"),
    "equal-pictures": ("Equal pictures", "equal-pictures.html"),
    "problems": ("Problems in the data", "problems.html"),
    "training-against-test": ("Training against test", "training-against-test.html"),
    "test-predictions": ("Test predictions", "test-predictions.html"),
}


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the report to `path`, whole or not at all; the same evidence gives the same bytes.

    Raises ValueError where the parts of the evidence do not belong together.
    """
    check_evidence(evidence)
    page = build_environment().get_template("page.html").render(_context(evidence))
    with atomic_write(path) as temporary:
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
        "figure": format_score,
        "percent": _percent,
        "signed": "{:+.4f}".format,
        "metric": _metric_name,
    }
    return environment


def _context(evidence: Evidence) -> dict:
    fold_numbers = np.unique(evidence.folds).tolist()
    right = evidence.task.correct(evidence.labels, evidence.probabilities)
    spread = spread_of_folds(right, evidence.folds)
    context = {
        "evidence": evidence,
        "cv": evidence.cv,
        "sections": [SECTIONS[name] for name in evidence.task.report_sections],
        "fold_numbers": fold_numbers,
        "spread_in_words": findings.spread_in_words(spread),
        "most_suspected": findings.MOST_SUSPECTED,
        "made_in_short": _made_in_short(evidence.facts),
        "panels": plots.draw_learning_curves(evidence.logs) if evidence.logs else {},
        **sections.describe_folds(evidence.cv, fold_numbers),
    }
    parts = (
        sections.describe_classes,
        sections.describe_images,
        sections.describe_calibration,
        dataset.describe_data,
        dataset.describe_test,
    )
    with progress("report", len(parts), "parts") as advance:
        for describe in parts:
            context |= describe(evidence)
            advance(1)
    context["findings"] = [
        *findings.find_folds_apart(context["far_off_folds"], evidence.cv["metric"], spread),
        *findings.find_lost_classes(context["class_table"]),
        *findings.find_label_trouble(
            context["num_suspected"], len(evidence.labels), context["same_pictures"]
        ),
        *findings.find_shift(context["shift"]),
        *findings.find_miscalibration(context["calibration"]),
        *findings.find_training_advice(evidence.logs),
    ]
    return context


def _made_in_short(facts: dict[str, str]) -> str:
    """The facts that most often decide, in one line."""
    chosen = [facts[name] for name in ("training", "hardware") if name in facts]
    chosen += [f"seed {facts['seed']}"] if "seed" in facts else []
    return "How it was made" + (": " if chosen else "") + ", ".join(chosen)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def _metric_name(name: str) -> str:
    return METRICS[name].title
