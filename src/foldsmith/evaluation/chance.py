"""What chance alone does to scores: between folds, and between two runs on the same images.

N images · F folds. Images are taken as independent; near-duplicates make every error here a little
small.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, chi2

ROUNDING = 1e-6  # scores that differ by less are the same


@dataclass(frozen=True)
class FoldSpread:
    """How far the folds' accuracies lie apart: `seen` and `by_chance` are standard deviations over folds.

    `p` is the probability of at least this spread if every fold were equally hard.
    """

    seen: float
    by_chance: float
    p: float


@dataclass(frozen=True)
class PairedDifference:
    """Run B less run A on the same images: mean and standard error of what each image contributes."""

    difference: float
    standard_error: float

    @property
    def exceeds_error(self) -> bool:
        """Whether it is more than one standard error from zero, and more than float32 rounds."""
        return abs(self.difference) > max(self.standard_error, ROUNDING)


@dataclass(frozen=True)
class McNemar:
    """Images that only A and only B has right, and the exact two-sided p of such an unequal split."""

    only_a: int
    only_b: int
    p: float


def spread_of_folds(right: np.ndarray, folds: np.ndarray) -> FoldSpread | None:
    """From right (N,) bool and folds (N,) int; None for a single fold, or where all or none are right.

    Chance is the binomial variance at the common accuracy; p is of the chi-square test of equal shares.
    """
    numbers, sizes = np.unique(folds, return_counts=True)
    share = right.mean()
    if len(numbers) < 2 or share in (0.0, 1.0):
        return None
    accuracies = np.array([right[folds == fold].mean() for fold in numbers])
    variances = share * (1 - share) / sizes
    statistic = ((accuracies - share) ** 2 / variances).sum()
    p = float(chi2.sf(statistic, len(numbers) - 1))
    return FoldSpread(float(accuracies.std(ddof=1)), float(np.sqrt(variances.mean())), p)


def compare_paired(one: np.ndarray, other: np.ndarray) -> PairedDifference:
    """Mean of `other` - `one`, both (N,) values of the same images, with its standard error (NaN for one)."""
    differences = other.astype(np.float64) - one.astype(np.float64)
    count = len(differences)
    error = differences.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return PairedDifference(float(differences.mean()), float(error))


def mcnemar_exact(right_a: np.ndarray, right_b: np.ndarray) -> McNemar:
    """McNemar's exact test (McNemar 1947, by the binomial distribution) of two runs on the same images."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    unequal = only_a + only_b
    return McNemar(only_a, only_b, float(binomtest(only_a, unequal).pvalue) if unequal else 1.0)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Each p adjusted for all that are looked at together (Holm 1979), (M,): none exceeds 1."""
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
