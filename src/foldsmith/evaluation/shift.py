"""Whether training and test images can be told apart, by a classifier on the network's features.

n images of both parts · D features.
"""

from dataclasses import dataclass

import numpy as np

COMPONENTS = 64
PARTS = 5


@dataclass(frozen=True)
class Shift:
    """`auc` is .5 where the parts cannot be told apart and 1 where they always can.

    `test` (n,) is each image's probability of being a test image, by a classifier that did not see it.
    """

    auc: float
    standard_error: float
    test: np.ndarray

    @property
    def is_told_apart(self) -> bool:
        """Whether the parts differ surely (three standard errors) and by enough to matter (AUC over .6)."""
        return self.auc > max(0.6, 0.5 + 3 * self.standard_error)


def tell_apart(features: np.ndarray, is_test: np.ndarray) -> Shift | None:
    """Cross-fitted logistic regression of is_test (n,) bool on features (n, D); None with too few of a part.

    Both parts must be images the network was not trained on: what it has learnt by heart looks different.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    num_test = int(is_test.sum())
    num_train = len(is_test) - num_test
    if min(num_test, num_train) < 2 * PARTS:
        return None
    fitted_on = len(is_test) - len(is_test) // PARTS - 1
    components = PCA(min(COMPONENTS, features.shape[1], fitted_on), svd_solver="full")
    classifier = make_pipeline(StandardScaler(), components, LogisticRegression(C=0.1, max_iter=1000))
    parts = StratifiedKFold(PARTS, shuffle=True, random_state=0)
    told = cross_val_predict(
        classifier, features.astype(np.float64), is_test, cv=parts, method="predict_proba"
    )
    auc = float(roc_auc_score(is_test, told[:, 1]))
    return Shift(auc, auc_error(auc, num_test, num_train), told[:, 1])


def auc_error(auc: float, num_positive: int, num_negative: int) -> float:
    """Standard error of an area under the curve (Hanley and McNeil 1982)."""
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (num_positive - 1) * (both_positive - auc**2)
    variance += (num_negative - 1) * (both_negative - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (num_positive * num_negative)))
