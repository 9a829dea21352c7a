"""The sections of a task of grades: how far decisions are from the label, and the farthest mistakes."""

from typing import Any

import numpy as np
import pandas as pd

from foldsmith.report.evidence import Evidence
from foldsmith.report.galleries import MISTAKES
from foldsmith.report.sections import held_out

Context = dict[str, Any]


def describe_distances(evidence: Evidence) -> Context:
    """Return the shares of images by distance, the mean distance and bias, and the farthest mistakes."""
    difference = evidence.decided - evidence.labels
    images = held_out(evidence)
    return {
        "distance_rows": count_distances(difference, len(evidence.class_names)).to_dict("records"),
        "mean_distance": np.abs(difference).mean(),
        "mean_difference": difference.mean(),
        "decision_in_words": "" if evidence.decision is None else evidence.decision.sentence,
        "far_cards": [images.card(row) for row in farthest_mistakes(difference, images.confidence)],
    }


def count_distances(difference: np.ndarray, num_grades: int) -> pd.DataFrame:
    """Return one row per distance up to the largest that occurs: distance, images, share, within, low, high.

    `difference` (N,) is decision minus label; `within` is the share of images at most so far off, `low` and
    `high` count the images decided below and above their label.
    """
    distance = np.abs(difference)
    counts = np.bincount(distance, minlength=min(2, num_grades))
    steps = np.arange(len(counts))
    return pd.DataFrame(
        {
            "distance": steps,
            "images": counts,
            "share": counts / len(distance),
            "within": counts.cumsum() / len(distance),
            "low": [int((difference == -step).sum()) if step else 0 for step in steps],
            "high": [int((difference == step).sum()) if step else 0 for step in steps],
        }
    )


def farthest_mistakes(difference: np.ndarray, confidence: np.ndarray) -> list[int]:
    """Return the rows of the wrong decisions: the farthest first, of equal ones the most confident."""
    wrong = np.flatnonzero(difference)
    return wrong[np.lexsort((-confidence[wrong], -np.abs(difference[wrong])))][:MISTAKES].tolist()
