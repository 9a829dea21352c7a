"""Suspected label errors, by confident learning on out-of-fold probabilities: label_issues.csv.

cleanlab (Apache-2.0; Northcutt et al. 2021) estimates how many images of each class are labelled as each
other class. It suspects that many images, those with the least probable labels.
"""

import numpy as np
import pandas as pd

from foldsmith.tasks.metrics import decide

MIN_ACCURACY = 0.5  # out-of-fold; a weaker network knows too little to judge labels: none is suspected
MAX_SUSPECTED = 0.1  # a larger share of suspects says more about the network than about the labels
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


def no_label_issues() -> pd.DataFrame:
    """Return a table without a row, for tasks of which no label is suspected."""
    return pd.DataFrame(columns=list(COLUMNS)).astype({"suspected": bool})


def rank_label_issues(
    paths: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return the images whose label is not the predicted class, the most suspicious first: COLUMNS.

    Probabilities (N, K) are out-of-fold. `quality`, from 0 to 1, is low where the label is improbable.
    `suspected` marks as many images as confident learning estimates to be mislabelled; none where the
    accuracy is below MIN_ACCURACY.
    """
    # cleanlab takes seconds to import
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    predicted = decide(probabilities)
    present = np.unique(labels)  # cleanlab requires an image of each class
    quality, suspected = np.ones(len(labels)), np.zeros(len(labels), bool)
    if len(present) > 1:
        judges = np.mean(predicted == labels) >= MIN_ACCURACY
        columns = probabilities[:, present].astype(np.float64)
        columns /= columns.sum(axis=1, keepdims=True)
        codes = np.searchsorted(present, labels)
        quality = get_label_quality_scores(codes, columns, method="self_confidence")
        if judges:
            suspected = find_label_issues(codes, columns, min_examples_per_class=0, n_jobs=1)
    rows = np.flatnonzero(predicted != labels)
    rows = rows[np.lexsort((paths[rows], quality[rows], ~suspected[rows]))]
    names = np.array(class_names, dtype=object)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "path": paths[rows],
            "given": names[labels[rows]],
            "proposed": names[predicted[rows]],
            "probability_given": probabilities[rows, labels[rows]],
            "probability_proposed": probabilities[rows, predicted[rows]],
            "quality": quality[rows].astype(np.float32),
            "suspected": suspected[rows],
        },
        columns=list(COLUMNS),
    )


def describe_suspects(num_suspected: int, num_images: int, accuracy: float) -> str:
    """Return how many labels are suspected, and what that is worth, in words."""
    if accuracy < MIN_ACCURACY:
        return (
            f"labels not judged: the out-of-fold accuracy of {accuracy:.1%} is below {MIN_ACCURACY:.0%}, too "
            "low to tell a wrong label from a wrong prediction"
        )
    suspects = f"{num_suspected:,} of {num_images:,} labels suspected"
    if num_suspected > MAX_SUSPECTED * num_images:
        return f"{suspects}, more than {MAX_SUSPECTED:.0%}: the network may be wrong rather than the labels"
    return suspects
