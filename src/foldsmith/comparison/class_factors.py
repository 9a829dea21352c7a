"""Factors that multiply the probabilities of the classes before the largest one is predicted.

N images · K classes. Macro F1 weighs all classes equally, so that it pays to predict a rare class before it
is the most probable one. The factors correspond to thresholds (Lipton et al. 2014).
"""

import numpy as np

from foldsmith.tasks.class_scores import decide, weighted_macro_f1_of_classes

FACTORS = np.geomspace(1 / 8, 8, 25)  # the middle one is 1
NUM_ROUNDS = 3


def apply_class_factors(probabilities: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return probabilities (N, K) times factors (K,), scaled to sum to 1, float64."""
    raised = probabilities.astype(np.float64) * factors
    return raised / raised.sum(axis=1, keepdims=True)


def fit_class_factors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return factors (K,) that raise the macro F1, by coordinate ascent over FACTORS.

    A factor changes only if the score rises, so that all are 1 where nothing can be gained.
    """
    num_classes = probabilities.shape[1]
    factors, counts = np.ones(num_classes), np.ones(len(labels))
    values = probabilities.astype(np.float64)
    best = weighted_macro_f1_of_classes(labels, decide(values), num_classes)(counts)
    for _ in range(NUM_ROUNDS if num_classes > 1 else 0):
        before = best
        for label in range(num_classes):
            others = values * factors
            others[:, label] = -1.0
            rival = others.argmax(axis=1)  # the prediction without this class
            rival_value = others.max(axis=1)
            for factor in FACTORS:
                raised = values[:, label] * factor
                # of equal values the first class is predicted, as in `decide`
                wins = (raised > rival_value) | ((raised == rival_value) & (label < rival))
                predicted = np.where(wins, label, rival)
                score = weighted_macro_f1_of_classes(labels, predicted, num_classes)(counts)
                if score > best + 1e-12:
                    best, factors[label] = score, factor
        if best == before:
            break
    return factors
