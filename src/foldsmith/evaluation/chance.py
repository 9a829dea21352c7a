"""The variation of scores by chance: between folds, and between two runs on the same images.

N images · F folds. Images count as independent. Near-duplicates are not, so that these errors are slightly
too small where there are any.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

ROUNDING = 1e-6  # a smaller difference of scores is float32 rounding
NO_VARIATION = 1e-12  # a smaller deviation is float64 rounding


@dataclass(frozen=True)
class FoldSpread:
    """Standard deviations of accuracy over folds: `observed`, and `expected` by chance.

    `p` is the probability of at least the observed spread if all folds were equally hard.
    """

    observed: float
    expected: float
    p: float


@dataclass(frozen=True)
class PairedDifference:
    """Run B minus run A on the same images: the mean difference, and its standard error.

    The error is infinite where the images cannot give one.
    """

    difference: float
    standard_error: float

    @property
    def known_error(self) -> float | None:
        """Return the standard error for a JSON file: None where it is infinite."""
        return self.standard_error if np.isfinite(self.standard_error) else None

    @property
    def exceeds_error(self) -> bool:
        """Return whether the difference exceeds one standard error, and float32 rounding."""
        return abs(self.difference) > max(self.standard_error, ROUNDING)


@dataclass(frozen=True)
class PairedTest:
    """Images to which only A or only B gives more credit, and the two-sided p of the difference."""

    only_a: int
    only_b: int
    p: float


def spread_of_folds(correct: np.ndarray, folds: np.ndarray) -> FoldSpread | None:
    """Return the spread of accuracy over folds, from correct (N,) bool and folds (N,) int.

    Return None for a single fold, where all or no images are correct, and for credit that is not bool. The
    expected spread is binomial, at the accuracy of all images; p is that of the chi-square test of equal
    shares.
    """
    numbers, sizes = np.unique(folds, return_counts=True)
    share = correct.mean()
    if len(numbers) < 2 or share in (0.0, 1.0) or correct.dtype != bool:
        return None
    accuracies = np.array([correct[folds == fold].mean() for fold in numbers])
    variances = share * (1 - share) / sizes
    statistic = ((accuracies - share) ** 2 / variances).sum()
    p = float(chdtrc(len(numbers) - 1, statistic))  # of the chi-squared distribution
    return FoldSpread(float(accuracies.std(ddof=1)), float(np.sqrt(variances.mean())), p)


def compare_paired(baseline: np.ndarray, candidate: np.ndarray) -> PairedDifference:
    """Return the mean of `candidate` - `baseline` and its standard error.

    Both are credits (N,) from 0 to 1 of the same images. Where all differences are equal the error is that of
    `least_paired_error`.
    """
    differences = candidate.astype(np.float64) - baseline.astype(np.float64)
    count, mean = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    return PairedDifference(mean, error if error > NO_VARIATION else least_paired_error(mean, count))


def least_paired_error(difference: float, count: int) -> float:
    """Return the standard error of a difference of two shares of the same images, none on the other side.

    `difference` is that of the shares. Half an image more in every cell (Agresti & Min 2005) makes the error
    positive although no image contradicts the difference.
    """
    cells = abs(difference) * count + 1, abs(difference) * count
    return float(np.sqrt(cells[0] - cells[1] ** 2 / (count + 2)) / (count + 2))


def mcnemar_exact(correct_a: np.ndarray, correct_b: np.ndarray) -> PairedTest:
    """Return McNemar's exact (binomial) test of two runs on the same images (McNemar 1947).

    Both are (N,) bool: whether the run predicts the image correctly.
    """
    from scipy.stats import binomtest  # a second, which a stage that compares nothing should not pay

    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    unequal = only_a + only_b
    return PairedTest(only_a, only_b, float(binomtest(only_a, unequal).pvalue) if unequal else 1.0)


def paired_t_test(credit_a: np.ndarray, credit_b: np.ndarray) -> PairedTest:
    """Return the paired t test of two runs' credit (N,) on the same images; p is 1 for a single image."""
    from scipy.stats import ttest_rel

    better_a, better_b = int((credit_a > credit_b).sum()), int((credit_b > credit_a).sum())
    differs = len(credit_a) > 1 and better_a + better_b > 0
    return PairedTest(better_a, better_b, float(ttest_rel(credit_b, credit_a).pvalue) if differs else 1.0)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p values (M,) adjusted for M tests (Holm 1979), at most 1."""
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
