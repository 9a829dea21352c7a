"""Suspected label errors, on out-of-fold predictions: label_issues.csv.

Classes and sets are judged by confident learning: cleanlab (Apache-2.0; Northcutt et al. 2021) estimates how
many images of each class are labelled as each other class. It suspects that many images, those with the least
probable labels. Every label of a set is judged by itself, as present or absent (Thyagarajan et al. 2022).

Numbers are judged by their residuals: the modified z-score, (residual - median) / (1.4826 * median absolute
deviation), whose median and deviation wrong labels hardly change (Iglewicz and Hoaglin 1993).

N images · K classes · M numbers.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldsmith.tasks import TASKS, Task
from foldsmith.tasks.metrics import decide
from foldsmith.tasks.value_scores import as_columns

MIN_ACCURACY = 0.5  # out-of-fold; a weaker network knows too little to judge labels: none is suspected
MAX_SUSPECTED = 0.1  # a larger share of suspects says more about the network than about the labels
LISTED_Z, SUSPECTED_Z = 2.0, 3.5  # of a residual; 3.5 is the limit of Iglewicz and Hoaglin
MAD_TO_DEVIATION = 1.4826  # standard deviations in a median absolute deviation, of normal residuals
COLUMNS = (
    "rank",
    "path",
    "given",
    "proposed",
    "probability_given",
    "probability_proposed",
    "quality",
    "suspected",
)


def rank_issues_of(
    task: Task, paths: np.ndarray, targets: np.ndarray, predictions: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Return the table of label issues of any task: COLUMNS, the most suspicious label first."""
    if task.predictions_key == "values":
        return rank_value_issues(paths, targets, predictions, names)
    rank = rank_label_issues if task.single_label else rank_set_issues
    return rank(paths, targets, predictions, names)


def rank_label_issues(
    paths: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> pd.DataFrame:
    """Return the images whose label is not the most probable class, the most suspicious first: COLUMNS.

    Probabilities (N, K) are out-of-fold. `quality`, from 0 to 1, is low where the label is improbable.
    `suspected` marks as many images as confident learning estimates to be mislabelled; none where the
    accuracy is below MIN_ACCURACY.
    """
    predicted = decide(probabilities)
    present = np.unique(labels)  # cleanlab requires an image of each class
    columns = probabilities[:, present].astype(np.float64)
    columns /= columns.sum(axis=1, keepdims=True)
    judges = float(np.mean(predicted == labels)) >= MIN_ACCURACY
    quality, suspected = _learn_confidently(np.searchsorted(present, labels), columns, judges)
    rows = np.flatnonzero(predicted != labels)
    names = np.array(class_names, dtype=object)
    table = pd.DataFrame(
        {
            "path": paths[rows],
            "given": names[labels[rows]],
            "proposed": names[predicted[rows]],
            "probability_given": probabilities[rows, labels[rows]],
            "probability_proposed": probabilities[rows, predicted[rows]],
            "quality": quality[rows].astype(np.float32),
            "suspected": suspected[rows],
        }
    )
    return _ranked(table, quality[rows])


def rank_set_issues(
    paths: np.ndarray, targets: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Return the improbable labels of sets, the most suspicious first: COLUMNS, a row per image and label.

    Targets and probabilities are (N, K). A label that is given and improbable is proposed to be absent
    (`not NAME`); one that is not given and probable to be present.
    """
    quality = np.empty(targets.shape)
    suspected = np.zeros(targets.shape, bool)
    for label in range(targets.shape[1]):
        both = np.stack([1 - probabilities[:, label].astype(np.float64), probabilities[:, label]], axis=1)
        own = targets[:, label].astype(np.int64)
        quality[:, label], suspected[:, label] = _learn_confidently(own, both, len(np.unique(own)) == 2)
    given = targets.astype(bool)
    rows, labels = np.nonzero((probabilities >= 0.5) != given)
    words = np.array([[f"not {name}" for name in names], list(names)], dtype=object)  # (2, K)
    is_given, chosen = given[rows, labels].astype(int), probabilities[rows, labels]
    table = pd.DataFrame(
        {
            "path": paths[rows],
            "given": words[is_given, labels],
            "proposed": words[1 - is_given, labels],
            "probability_given": np.where(is_given, chosen, 1 - chosen),
            "probability_proposed": np.where(is_given, 1 - chosen, chosen),
            "quality": quality[rows, labels].astype(np.float32),
            "suspected": suspected[rows, labels],
        }
    )
    return _ranked(table, quality[rows, labels])


def rank_value_issues(
    paths: np.ndarray, targets: np.ndarray, values: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Return the numbers far from their prediction, the farthest first: COLUMNS, a row per image and number.

    Targets are (N,) or (N, M), values (N, M). Rows have a modified z-score above LISTED_Z; `suspected` are
    those above SUSPECTED_Z. `quality` is the probability of a residual as large, of a normal distribution.
    """
    from scipy.special import erfc

    columns = as_columns(targets)
    scores = np.abs(modified_z_scores(columns - values))
    rows, numbers = np.nonzero(scores > LISTED_Z)
    cells = {
        "given": columns[rows, numbers],
        "proposed": np.round(values[rows, numbers].astype(np.float64), 6),
    }
    if len(names) > 1:
        cells = {
            column: [f"{names[number]} {cell:.6g}" for number, cell in zip(numbers, own, strict=True)]
            for column, own in cells.items()
        }
    score = scores[rows, numbers]
    table = pd.DataFrame(
        {
            "path": paths[rows],
            **cells,
            "probability_given": np.nan,
            "probability_proposed": np.nan,
            "quality": erfc(score / np.sqrt(2)).astype(np.float32),
            "suspected": score > SUSPECTED_Z,
        }
    )
    return _ranked(table, -score)


def modified_z_scores(residuals: np.ndarray) -> np.ndarray:
    """Return (residual - median) / (1.4826 * median absolute deviation) by column, (N, M).

    They are 0 where the deviation is 0: at least half of the residuals are then equal.
    """
    deviations = residuals - np.median(residuals, axis=0)
    scale = MAD_TO_DEVIATION * np.median(np.abs(deviations), axis=0)
    return np.divide(deviations, scale, out=np.zeros(residuals.shape), where=scale > 0)


def _learn_confidently(
    labels: np.ndarray, probabilities: np.ndarray, judges: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the quality of each label (N,), and whether it is suspected; none is unless `judges`."""
    # cleanlab takes seconds to import
    from cleanlab.filter import find_label_issues

    quality = probabilities[np.arange(len(labels)), labels]  # what cleanlab calls self-confidence
    if not judges or probabilities.shape[1] < 2:
        return quality, np.zeros(len(labels), bool)
    return quality, find_label_issues(labels, probabilities, min_examples_per_class=0, n_jobs=1)


def _ranked(table: pd.DataFrame, order: np.ndarray) -> pd.DataFrame:
    """Return the rows with COLUMNS: suspected ones first, then by rising `order`, then by path."""
    rows = np.lexsort((table["path"].to_numpy(str), order, ~table["suspected"].to_numpy(bool)))
    table = table.iloc[rows].reset_index(drop=True)
    return table.assign(rank=np.arange(1, len(table) + 1))[list(COLUMNS)]


def hold_back(issues: pd.DataFrame, cv: dict) -> pd.DataFrame:
    """Return the table with no label suspected where the network cannot judge labels."""
    return issues.assign(suspected=False) if why_not_judged(cv) else issues


def why_not_judged(cv: dict) -> str:
    """Return why the network of these scores, cv.json, cannot judge labels, in words; "" if it can."""
    accuracy = cv["metrics"].get("accuracy")
    if _task_of(cv).single_label and accuracy is not None and accuracy < MIN_ACCURACY:
        return (
            f"the out-of-fold accuracy of {accuracy:.1%} is below {MIN_ACCURACY:.0%}, too low to tell a "
            "wrong label from a wrong prediction"
        )
    if cv.get("beats_baseline") is False:
        return "the score is no better than that of predictions that ignore the images"
    return ""


def count_labels(cv: dict) -> int:
    """Return how many labels are judged: one per image, or one per image and output of sets and numbers."""
    return cv["num_images"] * (1 if _task_of(cv).single_label else cv["num_classes"])


def _task_of(cv: dict) -> type[Task]:
    return TASKS[cv.get("task", "multiclass")]  # an older cv.json names no task


def describe_suspects(num_suspected: int, cv: dict) -> str:
    """Return how many labels are suspected, and what that is worth, in words."""
    if reason := why_not_judged(cv):
        return f"labels not judged: {reason}"
    num_labels = count_labels(cv)
    suspects = f"{num_suspected:,} of {num_labels:,} labels suspected"
    if num_suspected > MAX_SUSPECTED * num_labels:
        return f"{suspects}, more than {MAX_SUSPECTED:.0%}: the network may be wrong rather than the labels"
    return suspects
