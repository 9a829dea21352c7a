"""The report's figures as pure functions of counts and scores: no file, no HTML.

K classes, F folds; a confusion table `counts` is (K, K) with true classes as rows, predicted ones as columns.
"""

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.special import stdtrit


def count_confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) int: how many images of the row's class were predicted as the column's class."""
    cells = np.bincount(labels.astype(np.int64) * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole elementwise as float64, NaN where whole is zero: undefined is not the same as zero."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def score_classes(counts: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """One row a class, worst F1 first, classes with no image and no prediction last.

    Columns: label (class index), name, support (images held out), predicted (times predicted), precision,
    recall, f1 (shares, NaN where undefined: precision of a class never predicted, recall of one without
    images), taken_for (name of the class its images are most often taken for, "" where none is) and
    taken_count (in how many images).
    """
    correct, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    wrong = counts - np.diag(correct)
    taken_for, taken_count = wrong.argmax(axis=1), wrong.max(axis=1)
    names = [class_names[other] if count else "" for other, count in zip(taken_for, taken_count, strict=True)]
    table = pd.DataFrame(
        {
            "label": np.arange(len(counts)),
            "name": class_names,
            "support": support,
            "predicted": predicted,
            "precision": ratio(correct, predicted),
            "recall": ratio(correct, support),
            "f1": ratio(2 * correct, support + predicted),
            "taken_for": names,
            "taken_count": taken_count,
        }
    )
    return table.sort_values("f1", kind="stable", na_position="last", ignore_index=True)


def list_confused_pairs(counts: np.ndarray, class_names: list[str], limit: int = 20) -> pd.DataFrame:
    """The most frequent mistakes, at most `limit`: true, predicted (names), count, share of the true
    class, and true_label, predicted_label, as two classes may have one name.

    Sorted by count, then share, both falling, then by class index.
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
    """(K,) class indices in which classes that are mistaken for each other stand together.

    Average-linkage clustering of 1 - the mean of the two shares by which a pair is confused.
    """
    if len(counts) < 3:
        return np.arange(len(counts))
    shares = np.nan_to_num(ratio(counts, counts.sum(axis=1, keepdims=True)))
    distance = 1.0 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0.0)
    # The optimal order of the leaves reads better, but its cost grows about as the cube of K.
    tree = linkage(squareform(distance), method="average", optimal_ordering=len(counts) <= 300)
    return leaves_list(tree)


def mark_far_off(scores: np.ndarray) -> np.ndarray:
    """(F,) bool: the folds that stand apart from the others by Grubbs' test at 5 % (Grubbs 1969).

    A plain limit of two standard deviations would never mark anything here: among five values none can lie
    more than 1.79 of their standard deviations from their mean. Under four folds nothing is marked.
    """
    num_folds = len(scores)
    spread = np.std(scores, ddof=1) if num_folds >= 4 else 0.0
    if not spread > 1e-12:  # also where a score is NaN
        return np.zeros(num_folds, bool)
    t = stdtrit(num_folds - 2, 1 - 0.05 / (2 * num_folds))
    limit = (num_folds - 1) / np.sqrt(num_folds) * np.sqrt(t**2 / (num_folds - 2 + t**2))
    return np.abs(scores - np.mean(scores)) > limit * spread


def group_problems(problems: pd.DataFrame) -> pd.DataFrame:
    """One row a kind of problem, the most frequent first: problem, count (files), action (all taken)."""
    groups = problems.groupby("problem", sort=True)["action"]
    joined = groups.agg(lambda actions: ", ".join(sorted(set(actions.dropna().astype(str)))))
    table = pd.DataFrame({"count": groups.size(), "action": joined})
    return table.sort_values("count", ascending=False, kind="stable").reset_index()
