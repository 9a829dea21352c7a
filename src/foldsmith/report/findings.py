"""The findings at the top of the page: what is wrong, and what to try next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.errors import first_of
from foldsmith.evaluation.calibration import Calibration
from foldsmith.evaluation.chance import FoldSpread
from foldsmith.evaluation.shift import Shift

SIGNIFICANCE = 0.01  # folds differ by more than chance below this p
MAX_SUSPECTED = 0.1  # a larger share of suspected labels means that the network is weak, not the labels


@dataclass(frozen=True)
class Finding:
    """One sentence, the id of the section that shows it, and whether it is a warning or advice."""

    text: str
    section: str
    warns: bool = True


def find_all(context: Mapping[str, Any]) -> list[Finding]:
    """Return all findings of a page, from the names of its sections; a section that is absent has none."""
    cv, evidence = context["cv"], context["evidence"]
    findings = find_outlier_folds(context["outlier_folds"], cv["metric"], context["spread"])
    if "class_table" in context:
        findings += find_unpredicted_classes(context["class_table"])
    if "duplicate_groups" in context:
        suspected = context.get("num_suspected", 0)
        findings += find_label_problems(suspected, len(evidence.labels), context["duplicate_groups"])
    if "shift" in context:
        findings += find_shift(context["shift"])
    if "calibration" in context:
        findings += find_miscalibration(context["calibration"])
    return findings + find_training_advice(evidence.logs)


def spread_in_words(spread: FoldSpread | None) -> str:
    """Return a sentence that compares the spread of accuracy over folds with chance."""
    if spread is None:
        return ""
    figures = (
        f"The standard deviation of accuracy over folds is {spread.observed:.4f}; a random split would give "
        f"{spread.expected:.4f} (p = {spread.p:.2g})"
    )
    significant = spread.p < SIGNIFICANCE
    verdict = "the folds differ by more than chance" if significant else "no sign that the folds differ"
    return f"{figures}: {verdict}."


def find_outlier_folds(
    outliers: dict[int, list[str]], metric: str, spread: FoldSpread | None
) -> list[Finding]:
    """Return the folds that are outliers in the run's metric, else a spread that exceeds chance.

    `outliers` lists, by fold, the metrics in which it is one.
    """
    findings = [
        Finding(f"Fold {fold} is an outlier: look at its images first.", "folds")
        for fold, metrics in outliers.items()
        if metric in metrics
    ]
    if spread is not None and spread.p < SIGNIFICANCE and not findings:
        findings.append(
            Finding(
                f"The folds differ by more than chance (p = {spread.p:.2g}): related images are in different "
                "folds, or training is unstable.",
                "folds",
            )
        )
    return findings


def find_unpredicted_classes(classes: pd.DataFrame) -> list[Finding]:
    """Return the classes that are never predicted; `classes` is the table of `score_classes`."""
    unpredicted = classes[(classes["predicted"] == 0) & (classes["support"] > 0)]
    if unpredicted.empty:
        return []
    verb = "is" if len(unpredicted) == 1 else "are"
    names = first_of(unpredicted["name"], 5)
    text = f"{len(unpredicted)} of {len(classes)} classes {verb} never predicted: {names}."
    return [Finding(text, "classes")]


def find_label_problems(num_suspected: int, num_images: int, groups: Sequence[dict]) -> list[Finding]:
    """Return suspected labels, and near-duplicates with two labels or in training and test.

    `groups` are those of `duplicate_groups`.
    """
    findings = []
    if 0 < num_suspected <= MAX_SUSPECTED * num_images:
        text = f"{_count(num_suspected, 'label is', 'labels are')} probably wrong: see label_issues.csv."
        findings.append(Finding(text, "suspected-labels"))
    two = sum(len(group["labels"]) > 1 for group in groups)
    if two:
        text = f"{_count(two, 'picture has', 'pictures have')} two labels."
        findings.append(Finding(text, "near-duplicates"))
    across = sum(group["across"] for group in groups)
    if across:
        text = f"{_count(across, 'picture is', 'pictures are')} in training and test."
        findings.append(Finding(text, "near-duplicates", warns=False))
    return findings


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number:,} {singular if number == 1 else plural}"


def find_shift(shift: Shift | None) -> list[Finding]:
    """Return a finding where adversarial validation separates training from test images."""
    if shift is None or not shift.is_significant:
        return []
    text = f"Test images differ from training images (AUC {shift.auc:.2f}): the test score may differ too."
    return [Finding(text, "training-against-test")]


def find_miscalibration(calibration: Calibration) -> list[Finding]:
    """Return a finding where the calibration error is at least 0.02 and a temperature would halve it."""
    if calibration.error < 0.02 or calibration.error_after > calibration.error / 2:
        return []
    kind = "overconfident" if calibration.temperature > 1 else "underconfident"
    return [
        Finding(
            f"The probabilities are {kind}: a temperature of {calibration.temperature:.2f} would lower the "
            f"calibration error from {calibration.error:.3f} to {calibration.error_after:.3f}.",
            "calibration",
            warns=False,
        )
    ]


def find_training_advice(logs: dict[int, pd.DataFrame]) -> list[Finding]:
    """Return advice from the curves, at most one: train longer or shorter, regularise or augment more."""
    falling, rising, gaps = 0, 0, []
    for log in logs.values():
        validated = log[np.isfinite(log["val_loss"])]
        if len(validated) < 5:
            continue
        losses = validated["val_loss"].to_numpy()
        falling += losses[-1] < 0.99 * losses[-1 - len(losses) // 5] and losses[-1] == losses.min()
        rising += losses[-1] > 1.03 * losses.min()
        gaps.append(validated["train_accuracy"].iloc[-1] - validated["val_accuracy"].iloc[-1])
    section, half = "learning-curves", len(logs) / 2
    if rising > half:
        text = "The held-out loss rises again before the end: train for fewer epochs, or regularise more."
        return [Finding(text, section, warns=False)]
    if falling > half:
        text = "The held-out loss still falls in the last fifth of the epochs: train for more epochs."
        return [Finding(text, section, warns=False)]
    if gaps and np.mean(gaps) > 0.15:
        gap = f"Training accuracy is {100 * np.mean(gaps):.0f} points above held-out accuracy"
        text = f"{gap}: augment more, or add images."
        return [Finding(text, section, warns=False)]
    return []
