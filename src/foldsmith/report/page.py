"""Build the report page from the evidence of a run, and write it as one HTML file."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from foldsmith.evaluation.baseline import describe_baseline
from foldsmith.process.files import atomic_write
from foldsmith.process.terminal import format_error, format_score, progress
from foldsmith.report import binary, dataset, findings, multilabel, ordinal, regression, sections
from foldsmith.report.evidence import Evidence, check_evidence
from foldsmith.report.mending import describe_mending
from foldsmith.tasks.metrics import title_of


@dataclass(frozen=True)
class Section:
    """A section of the page: its title, whose slug is the anchor, its template, and what fills it.

    `describe` returns names for the template, and for the findings; sections may share one.
    """

    title: str
    template: str
    describe: Callable[[Evidence], dict[str, Any]]


# the task lists the sections of its page
SECTIONS = {
    "compared": Section("Compared with the last run", "compared.html", sections.describe_comparison),
    "subsets": Section("Parts of the images", "subsets.html", sections.describe_subsets),
    "folds": Section("Folds", "folds.html", sections.describe_folds),
    "learning-curves": Section("Learning curves", "learning-curves.html", sections.describe_curves),
    "classes": Section("Classes", "classes.html", sections.describe_classes),
    "confused-pairs": Section("Most confused pairs", "confused-pairs.html", sections.describe_classes),
    "confusion-matrix": Section("Confusion matrix", "confusion-matrix.html", sections.describe_classes),
    "suspected-labels": Section("Suspected labels", "suspected-labels.html", sections.describe_suspected),
    "mistakes": Section("Confident mistakes and close calls", "mistakes.html", sections.describe_mistakes),
    "calibration": Section("Calibration", "calibration.html", sections.describe_calibration),
    "data": Section("Data", "data.html", dataset.describe_data),
    "near-duplicates": Section("Near-duplicates", "near-duplicates.html", dataset.describe_data),
    "problems": Section("Problems in the data", "problems.html", dataset.describe_data),
    "training-against-test": Section(
        "Training against test", "training-against-test.html", dataset.describe_shift
    ),
    "test-predictions": Section("Test predictions", "test-predictions.html", dataset.describe_test),
    "roc-curve": Section("ROC curve", "roc-curve.html", binary.describe_roc),
    "distance-of-errors": Section(
        "Distance of errors", "distance-of-errors.html", ordinal.describe_distances
    ),
    "farthest-mistakes": Section("Farthest mistakes", "farthest-mistakes.html", ordinal.describe_distances),
    "labels": Section("Labels", "labels.html", multilabel.describe_labels),
    "co-occurrence": Section("Labels that occur together", "co-occurrence.html", multilabel.describe_labels),
    "surest-mistakes": Section("Surest mistakes", "surest-mistakes.html", multilabel.describe_labels),
    "predicted-against-true": Section(
        "Predicted against true", "predicted-against-true.html", regression.describe_numbers
    ),
    "residuals": Section("Residuals", "residuals.html", regression.describe_numbers),
    "worst-images": Section("Worst images", "worst-images.html", regression.describe_numbers),
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
        "error": format_error,
        "figure": format_score,
        "percent": _percent,
        "signed": "{:+.4f}".format,
        "metric": title_of,
        "inside": _inside_a_sentence,
    }
    return environment


def _context(evidence: Evidence) -> dict[str, Any]:
    """Return the names of all templates: those of the sections that the task's page has, and the findings."""
    names = evidence.task.report_sections
    # a probe is fitted in no epoch
    shown = [SECTIONS[name] for name in names if evidence.logs or name != "learning-curves"]
    context = {
        "evidence": evidence,
        "cv": evidence.cv,
        "sections": [(section.title, section.template) for section in shown],
        "provenance": _provenance_line(evidence.facts),
        "baseline_in_words": describe_baseline(evidence.cv),
        **sections.describe_folds(evidence),  # the head of the page needs them too
    }
    describers = list(dict.fromkeys(section.describe for section in shown))
    with progress("report", len(describers), "sections") as advance:
        for describe in describers:
            context |= describe(evidence)
            advance(1)
    context |= describe_mending(evidence.mendable, evidence.task, context)
    context["findings"] = findings.find_all(findings.figures_of(context))
    return context


def _provenance_line(facts: dict[str, str]) -> str:
    """Return training time, hardware and seed in one line."""
    values = [facts[name] for name in ("training", "hardware") if name in facts]
    values += [f"seed {facts['seed']}"] if "seed" in facts else []
    return "Provenance" + (": " if values else "") + ", ".join(values)


def _inside_a_sentence(title: str) -> str:
    """Return a title that begins in lower case, unless it begins with an abbreviation."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"
