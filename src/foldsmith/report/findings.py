"""The sentences at the top of the page: what is wrong, what to trust, and what to try next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.errors import first_of
from foldsmith.evaluation.calibration import Calibration
from foldsmith.evaluation.chance import FoldSpread
from foldsmith.evaluation.shift import Shift

SURE = 0.01  # p under which folds are said to differ by more than chance
MOST_SUSPECTED = 0.1  # share of the labels; more suspected ones say that the network is weak, not the labels


@dataclass(frozen=True)
class Finding:
    """One sentence, the section that shows it, and whether it is a warning or advice."""

    text: str
    section: str
    warns: bool = True


def spread_in_words(spread: FoldSpread | None) -> str:
    """How the folds' spread compares with chance."""
    if spread is None:
        return ""
    told = (
        f"Accuracy spreads over the folds by {spread.observed:.4f} (standard deviation); images drawn by "
        f"chance would give {spread.expected:.4f}"
    )
    verdict = "the folds differ by more than chance" if spread.p < SURE else "the folds are alike"
    return f"{told} (p = {spread.p:.2g}): {verdict}."


def find_folds_apart(far_off: dict[int, list[str]], metric: str, spread: FoldSpread | None) -> list[Finding]:
    """Folds that stand apart in the run's metric, and folds that differ by more than chance."""
    found = [
        Finding(f"Fold {fold} stands apart: look at its images first.", "folds")
        for fold, metrics in far_off.items()
        if metric in metrics
    ]
    if spread is not None and spread.p < SURE and not found:
        found.append(
            Finding(
                f"The folds differ by more than chance (p = {spread.p:.2g}): images were split that belong "
                "together, or training is unstable.",
                "folds",
            )
        )
    return found


def find_lost_classes(classes: pd.DataFrame) -> list[Finding]:
    """Classes that are never predicted; `classes` is `score_classes`' table."""
    lost = classes[(classes["predicted"] == 0) & (classes["support"] > 0)]
    if lost.empty:
        return []
    verb = "is" if len(lost) == 1 else "are"
    text = f"{len(lost)} of {len(classes)} classes {verb} never predicted: {first_of(lost['name'], 5)}."
    return [Finding(text, "classes")]


def find_label_trouble(num_suspected: int, num_images: int, groups: Sequence[dict]) -> list[Finding]:
    """Suspected labels, where the network can tell, and equal pictures with two labels or in both parts."""
    found = []
    if 0 < num_suspected <= MOST_SUSPECTED * num_images:
        text = f"{_count(num_suspected, 'label is', 'labels are')} probably wrong: see label_issues.csv."
        found.append(Finding(text, "suspected-labels"))
    two = sum(len(group["labels"]) > 1 for group in groups)
    if two:
        text = f"{_count(two, 'picture carries', 'pictures carry')} two labels."
        found.append(Finding(text, "equal-pictures"))
    across = sum(group["across"] for group in groups)
    if across:
        text = f"{_count(across, 'picture is', 'pictures are')} in training and test."
        found.append(Finding(text, "equal-pictures", warns=False))
    return found


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def find_shift(shift: Shift | None) -> list[Finding]:
    """Training and test images that can be told apart."""
    if shift is None or not shift.is_significant:
        return []
    text = f"Training and test images can be told apart (AUC {shift.auc:.2f}): the score may not carry over."
    return [Finding(text, "training-against-test")]


def find_miscalibration(calibration: Calibration) -> list[Finding]:
    """A calibration error that a temperature would halve, where it is more than .02."""
    if calibration.error < 0.02 or calibration.error_after > calibration.error / 2:
        return []
    kind = "too sure" if calibration.temperature > 1 else "too modest"
    return [
        Finding(
            f"The probabilities are {kind}: a temperature of {calibration.temperature:.2f} would lower their "
            f"calibration error from {calibration.error:.3f} to {calibration.error_after:.3f}.",
            "calibration",
            warns=False,
        )
    ]


def find_training_advice(logs: dict[int, pd.DataFrame]) -> list[Finding]:
    """What the curves ask for: more epochs, or more regularisation; nothing where they say neither."""
    falling, turned, gaps = 0, 0, []
    for log in logs.values():
        seen = log[np.isfinite(log["val_loss"])]
        if len(seen) < 5:
            continue
        losses = seen["val_loss"].to_numpy()
        falling += losses[-1] < 0.99 * losses[-1 - len(losses) // 5] and losses[-1] == losses.min()
        turned += losses[-1] > 1.03 * losses.min()
        gaps.append(seen["train_accuracy"].iloc[-1] - seen["val_accuracy"].iloc[-1])
    section, half = "learning-curves", len(logs) / 2
    if turned > half:
        text = "Held-out loss turns up again before the end: fewer epochs, or more regularisation."
        return [Finding(text, section, warns=False)]
    if falling > half:
        text = "Held-out loss still falls in the last fifth of the epochs: train longer."
        return [Finding(text, section, warns=False)]
    if gaps and np.mean(gaps) > 0.15:
        gap = f"Training accuracy is {100 * np.mean(gaps):.0f} points above the held-out one"
        text = f"{gap}: more augmentation, or more images."
        return [Finding(text, section, warns=False)]
    return []
