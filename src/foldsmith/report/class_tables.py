"""The report's tables of classes, folds and problems, as pure functions: no file, no HTML.

K classes, F folds. A confusion matrix `counts` is (K, K), true classes as rows, predicted ones as columns.
"""

import numpy as np
import pandas as pd
from scipy.special import stdtrit


def count_confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the confusion matrix, (K, K) int."""
    cells = np.bincount(labels.astype(np.int64) * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the elementwise ratio as float64, NaN where the denominator is zero."""
    above, below = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def score_classes(counts: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """Return one row per class, the worst F1 first; classes without image and prediction come last.

    Columns: label (class index), name, support (held-out images), predicted (images predicted as the class),
    precision, recall, f1 (NaN where undefined), confused_with (the class its images are most often predicted
    as, "" without a mistake) and confusions (the number of those images).
    """
    correct, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    wrong = counts - np.diag(correct)
    others, confusions = wrong.argmax(axis=1), wrong.max(axis=1)
    confused_with = [
        class_names[other] if count else "" for other, count in zip(others, confusions, strict=True)
    ]
    table = pd.DataFrame(
        {
            "label": np.arange(len(counts)),
            "name": class_names,
            "support": support,
            "predicted": predicted,
            "precision": ratio(correct, predicted),
            "recall": ratio(correct, support),
            "f1": ratio(2 * correct, support + predicted),
            "confused_with": confused_with,
            "confusions": confusions,
        }
    )
    return table.sort_values("f1", kind="stable", na_position="last", ignore_index=True)


def list_confused_pairs(counts: np.ndarray, class_names: list[str], limit: int = 20) -> pd.DataFrame:
    """Return the most frequent confusions, at most `limit` rows.

    Columns: true and predicted (names), count, share (of the true class), true_label and predicted_label (two
    classes may share a name). Rows are sorted by falling count, then falling share, then class index.
    """
    true, predicted = np.nonzero(counts - np.diag(np.diag(counts)))
    count = counts[true, predicted]
    share = count / counts.sum(axis=1)[true]
    first = np.lexsort((predicted, true, -share, -count))[:limit]
    return pd.DataFrame(
        {
            "true": [class_names[label] for label in true[first]],
            "predicted": [class_names[label] for label in predicted[first]],
            "count": count[first],
            "share": share[first],
            "true_label": true[first],
            "predicted_label": predicted[first],
        }
    )


def order_similar_classes(counts: np.ndarray) -> np.ndarray:
    """Return the class indices, (K,), in an order that puts confused classes side by side.

    It is the order of the leaves of an average-linkage clustering. The distance of two classes is 1 minus the
    mean of the two shares by which they are confused.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(counts) < 3:
        return np.arange(len(counts))
    shares = np.nan_to_num(ratio(counts, counts.sum(axis=1, keepdims=True)))
    distance = 1.0 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0.0)
    # the optimal order of leaves reads better, but costs about K ** 3
    tree = linkage(squareform(distance), method="average", optimal_ordering=len(counts) <= 300)
    return leaves_list(tree)


def mark_outliers(scores: np.ndarray) -> np.ndarray:
    """Return which folds are outliers by Grubbs' test at 5 % (Grubbs 1969), (F,) bool.

    A limit of two standard deviations would never mark one of five folds: no value of five is farther than
    1.79 of their standard deviations from their mean. With fewer than four folds none is marked.
    """
    num_folds = len(scores)
    spread = np.std(scores, ddof=1) if num_folds >= 4 else 0.0
    if not spread > 1e-12:  # also where a score is NaN
        return np.zeros(num_folds, bool)
    t = stdtrit(num_folds - 2, 1 - 0.05 / (2 * num_folds))
    limit = (num_folds - 1) / np.sqrt(num_folds) * np.sqrt(t**2 / (num_folds - 2 + t**2))
    return np.abs(scores - np.mean(scores)) > limit * spread


def group_problems(problems: pd.DataFrame) -> pd.DataFrame:
    """Return one row per kind of problem, the most frequent first: problem, count of files, actions taken."""
    groups = problems.groupby("problem", sort=True)["action"]
    joined = groups.agg(lambda actions: ", ".join(sorted(set(actions.dropna().astype(str)))))
    table = pd.DataFrame({"count": groups.size(), "action": joined})
    return table.sort_values("count", ascending=False, kind="stable").reset_index()
