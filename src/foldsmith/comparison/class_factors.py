"""A factor for each class, by which its probabilities are multiplied before the largest one is taken.

N images · K classes. Macro F1 counts every class alike, so that a rare class should be predicted before it is
the most probable one; the factors are thresholds in another form (Lipton et al. 2014).
"""

import numpy as np

from foldsmith.tasks.metrics import decide, weighted_macro_f1_of_classes

FACTORS = np.geomspace(1 / 8, 8, 25)  # the middle one is 1
NUM_ROUNDS = 3


def apply_class_factors(probabilities: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) multiplied by factors (K,) and scaled to sum to 1, float64."""
    raised = probabilities.astype(np.float64) * factors
    return raised / raised.sum(axis=1, keepdims=True)


def fit_class_factors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Factors (K,) for the macro F1, found class by class: each tries all FACTORS while the others stand.

    A factor moves only where that raises the score, so that no change gives ones.
    """
    num_classes = probabilities.shape[1]
    factors, everyone = np.ones(num_classes), np.ones(len(labels))
    values = probabilities.astype(np.float64)
    best = weighted_macro_f1_of_classes(labels, decide(values), num_classes)(everyone)
    for _ in range(NUM_ROUNDS if num_classes > 1 else 0):
        before = best
        for label in range(num_classes):
            others = values * factors
            others[:, label] = -1.0
            rival = others.argmax(axis=1)  # what is predicted where this class is not
            height = others.max(axis=1)
            for factor in FACTORS:
                raised = values[:, label] * factor
                # of equal values the first class is the answer, as everywhere
                wins = (raised > height) | ((raised == height) & (label < rival))
                score = weighted_macro_f1_of_classes(labels, np.where(wins, label, rival), num_classes)(
                    everyone
                )
                if score > best + 1e-12:
                    best, factors[label] = score, factor
        if best == before:
            break
    return factors
