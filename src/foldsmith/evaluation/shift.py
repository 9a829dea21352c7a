"""Adversarial validation: can a classifier separate training from test images by the network's features?

n images, training and test together · D features.
"""

from dataclasses import dataclass

import numpy as np

COMPONENTS = 64
NUM_FOLDS = 5


@dataclass(frozen=True)
class Shift:
    """The classifier's AUC: 0.5 if training and test images look alike, 1 if it always separates them.

    `test_probability` (n,) is each image's probability of being a test image, cross-fitted.
    """

    auc: float
    standard_error: float
    test_probability: np.ndarray

    @property
    def is_significant(self) -> bool:
        """Return whether the AUC exceeds 0.5 by three standard errors, and 0.6: less hardly matters."""
        return self.auc > max(0.6, 0.5 + 3 * self.standard_error)


def measure_shift(features: np.ndarray, is_test: np.ndarray) -> Shift | None:
    """Return the cross-fitted logistic regression of is_test (n,) bool on features (n, D).

    Return None with fewer than 2 * NUM_FOLDS images of either kind. The network must not have been trained
    on any of the images: features of memorised images differ.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    num_test = int(is_test.sum())
    num_train = len(is_test) - num_test
    if min(num_test, num_train) < 2 * NUM_FOLDS:
        return None
    num_fitted = len(is_test) - len(is_test) // NUM_FOLDS - 1
    components = PCA(min(COMPONENTS, features.shape[1], num_fitted), svd_solver="full")
    classifier = make_pipeline(StandardScaler(), components, LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=0)
    probabilities = cross_val_predict(
        classifier, features.astype(np.float64), is_test, cv=folds, method="predict_proba"
    )
    auc = float(roc_auc_score(is_test, probabilities[:, 1]))
    return Shift(auc, auc_error(auc, num_test, num_train), probabilities[:, 1])


def auc_error(auc: float, num_positive: int, num_negative: int) -> float:
    """Return the standard error of an area under the ROC curve (Hanley and McNeil 1982)."""
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (num_positive - 1) * (both_positive - auc**2)
    variance += (num_negative - 1) * (both_negative - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (num_positive * num_negative)))
