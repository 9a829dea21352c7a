"""The findings at the top of the page: what is wrong, and what to try next.

Each one is a function of figures alone, so that no sentence says more than they do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.errors import first_of
from foldsmith.evaluation.baseline import CAUSES, warn_of_baseline
from foldsmith.evaluation.calibration import Calibration
from foldsmith.evaluation.chance import FoldSpread
from foldsmith.evaluation.decisions import Decision
from foldsmith.evaluation.label_issues import MAX_SUSPECTED
from foldsmith.evaluation.shift import Shift

SIGNIFICANCE = 0.01  # folds differ by more than chance below this p
OVERFITTED = 0.15  # training accuracy above held-out accuracy
IMBALANCED = 5  # times as many images in the largest class as in the smallest
RARE_LOSS = 0.2  # recall of the commonest quarter of the classes above that of the rarest
PERFECT_IMAGES = 50  # so many images, all predicted correctly, are worth a look for a leak


@dataclass(frozen=True)
class Finding:
    """One sentence, the id of the section that shows it, and whether it is a warning or advice."""

    text: str
    section: str
    warns: bool = True


@dataclass(frozen=True)
class Figures:
    """The figures that findings follow from; one that is unknown is at its default.

    `baseline_warning` is the sentence of a score that is no better than its baseline, "" for a better one.
    `outliers` lists, by fold, the metrics in which it is an outlier. `classes` is the table of
    `score_classes`, `class_counts` (K,) the training images of its rows. `num_over_folds` counts pictures
    with copies in several folds, `num_two_labels` those with two labels, `num_across` those that are in the
    test as well. `known_images` is the sentence on images that the pretraining may have seen, "" without any.
    """

    metric: str
    num_images: int
    num_labels: int = 0  # judged ones; 0: one per image
    credit_name: str = "accuracy"  # of the logs' columns of accuracy
    accuracy: float | None = None  # out-of-fold
    baseline_warning: str = ""
    outliers: Mapping[int, Sequence[str]] = field(default_factory=dict)
    spread: FoldSpread | None = None
    classes: pd.DataFrame | None = None
    class_counts: np.ndarray | None = None
    num_suspected: int = 0
    num_over_folds: int = 0
    num_two_labels: int = 0
    num_across: int = 0
    known_images: str = ""
    shift: Shift | None = None
    calibration: Calibration | None = None
    decision: Decision | None = None  # that the submission is written with
    logs: Mapping[int, pd.DataFrame] = field(default_factory=dict)


def figures_of(context: Mapping[str, Any]) -> Figures:
    """Return the figures of a page, from the names of its sections; those of absent sections are unknown."""
    cv, evidence, classes = context["cv"], context["evidence"], context.get("class_table")
    return Figures(
        metric=cv["metric"],
        num_images=len(evidence.labels),
        num_labels=context.get("num_labels", 0),
        credit_name=evidence.task.credit_name,
        accuracy=cv["metrics"].get("accuracy"),
        baseline_warning=warn_of_baseline(cv),
        outliers=context["outlier_folds"],
        decision=evidence.decision,
        spread=context["spread"],
        classes=classes,
        class_counts=None if classes is None else evidence.class_counts[classes["label"]],
        num_suspected=context.get("num_suspected", 0),
        num_over_folds=context.get("num_over_folds", 0),
        num_two_labels=context.get("num_two_labels", 0),
        num_across=context.get("num_across", 0),
        known_images=evidence.known_images,
        shift=context.get("shift"),
        calibration=context.get("calibration"),
        logs=evidence.logs,
    )


def find_all(figures: Figures) -> list[Finding]:
    """Return all findings, those that put the score in doubt first."""
    return [
        *find_no_better_than_baseline(figures.baseline_warning),
        *find_leaks(figures),
        *find_pretrained_images(figures.known_images),
        *find_outlier_folds(figures.outliers, figures.metric, figures.spread),
        *find_unpredicted_classes(figures.classes),
        *find_imbalance(figures.classes, figures.class_counts),
        *find_label_problems(figures),
        *find_shift(figures.shift),
        *find_miscalibration(figures.calibration),
        *find_decision(figures.decision),
        *find_training_advice(figures.logs, figures.credit_name),
    ]


def find_no_better_than_baseline(warning: str) -> list[Finding]:
    """Return the warning of a score that predictions without the images reach, with the likely causes."""
    return [Finding(f"{warning} Likely causes: {'; '.join(CAUSES)}.", "folds")] if warning else []


def find_leaks(figures: Figures) -> list[Finding]:
    """Return copies on both sides of a split, and a score that is too good not to be looked at."""
    findings = []
    if figures.num_over_folds:
        count = _count(figures.num_over_folds, "picture has", "pictures have")
        text = f"{count} copies in different folds: the score is too high for them."
        findings.append(Finding(text, "near-duplicates"))
    if figures.accuracy == 1 and figures.num_images >= PERFECT_IMAGES:
        text = (
            f"All {figures.num_images:,} held-out images are predicted correctly: check that no copy, "
            "border, size or camera gives the class away (group_column keeps related images in one fold)."
        )
        findings.append(Finding(text, "folds", warns=False))
    return findings


def find_pretrained_images(known_images: str) -> list[Finding]:
    """Return the warning that the network of the pretrained weights may have seen the images."""
    return [Finding(known_images, "data")] if known_images else []


def spread_in_words(spread: FoldSpread | None, credit: str = "accuracy") -> str:
    """Return a sentence that compares the spread over folds of accuracy, or other `credit`, with chance."""
    if spread is None:
        return ""
    figures = (
        f"The standard deviation of {credit} over folds is {spread.observed:.4f}; a random split would give "
        f"{spread.expected:.4f} (p = {spread.p:.2g})"
    )
    significant = spread.p < SIGNIFICANCE
    verdict = "the folds differ by more than chance" if significant else "no sure sign that the folds differ"
    return f"{figures}: {verdict} (a sign is p below {SIGNIFICANCE})."


def find_outlier_folds(
    outliers: Mapping[int, Sequence[str]], metric: str, spread: FoldSpread | None
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


def find_unpredicted_classes(classes: pd.DataFrame | None) -> list[Finding]:
    """Return the classes that are never predicted; `classes` is the table of `score_classes`."""
    if classes is None:
        return []
    unpredicted = classes[(classes["predicted"] == 0) & (classes["support"] > 0)]
    if unpredicted.empty:
        return []
    verb = "is" if len(unpredicted) == 1 else "are"
    names = first_of(unpredicted["name"], 5)
    text = f"{len(unpredicted)} of {len(classes)} classes {verb} never predicted: {names}."
    return [Finding(text, "classes")]


def find_imbalance(classes: pd.DataFrame | None, counts: np.ndarray | None) -> list[Finding]:
    """Return a finding where the rarest quarter of the classes is recognised far less than the commonest."""
    if classes is None or counts is None or len(counts) < 2 or counts.max() < IMBALANCED * counts.min():
        return []
    order, quarter = np.argsort(counts, kind="stable"), max(1, len(counts) // 4)
    recalls = [classes["recall"].iloc[rows].dropna() for rows in (order[:quarter], order[-quarter:])]
    if any(recall.empty for recall in recalls):
        return []
    rare, common = (recall.mean() for recall in recalls)
    if common - rare <= RARE_LOSS:
        return []
    text = (
        f"The rarest classes ({counts[order[0]]:,} to {counts[order[quarter - 1]]:,} images) have a recall "
        f"of {rare:.0%}, the commonest {common:.0%}: try --set logit_adjustment=1 or "
        "--set class_weights=auto, or add images."
    )
    return [Finding(text, "classes", warns=False)]


def find_label_problems(figures: Figures) -> list[Finding]:
    """Return suspected labels, and near-duplicates with two labels or in training and test."""
    findings, suspected = [], figures.num_suspected
    if 0 < suspected <= MAX_SUSPECTED * (figures.num_labels or figures.num_images):
        text = f"{_count(suspected, 'label is', 'labels are')} probably wrong: see label_issues.csv."
        findings.append(Finding(text, "suspected-labels"))
    if figures.num_two_labels:
        text = f"{_count(figures.num_two_labels, 'picture has', 'pictures have')} two labels."
        findings.append(Finding(text, "near-duplicates"))
    if figures.num_across:
        text = f"{_count(figures.num_across, 'picture is', 'pictures are')} in training and test."
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


def find_miscalibration(calibration: Calibration | None) -> list[Finding]:
    """Return a finding where a temperature would halve a calibration error of at least 0.02.

    It must lower the log loss as well, on other folds than it was fitted on. Of one that is applied to the
    submission nothing is to be done.
    """
    if calibration is None or calibration.error < 0.02 or not calibration.improves or calibration.is_applied:
        return []
    if calibration.error_after > calibration.error / 2:
        return []
    kind = "overconfident" if calibration.temperature > 1 else "underconfident"
    text = (
        f"The probabilities are {kind}: a temperature of {calibration.temperature:.2f} would lower the "
        f"calibration error from {calibration.error:.3f} to {calibration.error_after:.3f}."
    )
    return [Finding(text, "calibration", warns=False)]


def find_decision(decision: Decision | None) -> list[Finding]:
    """Return what the submission scores, where a fitted decision changes it: the page tells another score."""
    return [Finding(decision.effect, "folds", warns=False)] if decision else []


def find_training_advice(logs: Mapping[int, pd.DataFrame], credit: str = "accuracy") -> list[Finding]:
    """Return advice from the curves, at most one.

    `credit` is what the columns of accuracy hold, in words. An overfitted network needs other images and
    not more epochs, so its gap comes before its loss's trend.
    """
    falling, rising, training, held_out = 0, 0, [], []
    for log in logs.values():
        validated = log[np.isfinite(log["val_loss"])]
        if len(validated) < 5:
            continue
        losses = validated["val_loss"].to_numpy()
        falling += losses[-1] < 0.99 * losses[-1 - len(losses) // 5] and losses[-1] == losses.min()
        rising += losses[-1] > 1.03 * losses.min()
        training.append(validated["train_accuracy"].iloc[-1])
        held_out.append(validated["val_accuracy"].iloc[-1])
    if not training:
        return []
    text, half = "", len(training) / 2
    if np.mean(training) - np.mean(held_out) > OVERFITTED:
        rises = ", and the held-out loss rises again before the end" if rising > half else ""
        text = (
            f"The network overfits: training {credit} is {np.mean(training):.0%}, held-out {credit} "
            f"{np.mean(held_out):.0%}{rises}. Augment or regularise more, start from pretrained weights, or "
            "add images; more epochs will not help."
        )
    elif rising > half:
        text = "The held-out loss rises again before the end: train for fewer epochs, or regularise more."
    elif falling > half:
        text = "The held-out loss still falls in the last fifth of the epochs: train for more epochs."
    return [Finding(text, "learning-curves", warns=False)] if text else []
