"""The sections of a task of sets: scores by label, labels that occur together, and the surest mistakes.

N images · K labels. Targets and decisions are 0 and 1, (N, K).
"""

from typing import Any

import numpy as np
import pandas as pd

from foldsmith.report.evidence import Evidence
from foldsmith.tasks.multilabel import THRESHOLD

PAIRS = 20
MISTAKES = 24  # pictures of either kind

Context = dict[str, Any]


def describe_labels(evidence: Evidence) -> Context:
    """Return the table of labels, the pairs that occur together most often, and the surest mistakes."""
    false, missed = surest_mistakes(evidence.labels, evidence.decided, evidence.probabilities)
    return {
        "label_rows": score_labels(evidence).to_dict("records"),
        "decision_in_words": "" if evidence.decision is None else evidence.decision.sentence,
        "label_pairs": count_pairs(evidence.labels, evidence.decided, evidence.class_names).to_dict(
            "records"
        ),
        "false_cards": [_card(evidence, row, label) for row, label in false],
        "missed_cards": [_card(evidence, row, label) for row, label in missed],
    }


def thresholds_of(evidence: Evidence) -> np.ndarray:
    """Return the probability from which each label is decided, (K,)."""
    decision, num_labels = evidence.decision, len(evidence.class_names)
    if decision is None or decision.kind not in ("threshold", "class_thresholds"):
        return np.full(num_labels, THRESHOLD)
    return np.broadcast_to(decision.values, num_labels)


def score_labels(evidence: Evidence) -> pd.DataFrame:
    """Return one row per label, the worst F1 first; a figure that is not defined is NaN.

    Columns: name, images (with the label, held out), share, auc, average_precision, f1, precision, recall (of
    the decisions in use), threshold.
    """
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

    labels, probabilities = evidence.labels, evidence.probabilities
    precision, recall, f1, _ = precision_recall_fscore_support(labels, evidence.decided, zero_division=np.nan)
    images = labels.sum(axis=0, dtype=np.int64)
    columns = range(len(images))
    both = (images > 0) & (images < len(labels))
    table = pd.DataFrame(
        {
            "name": evidence.class_names,
            "images": images,
            "share": images / len(labels),
            "auc": [roc_auc_score(labels[:, k], probabilities[:, k]) if both[k] else np.nan for k in columns],
            "average_precision": [
                average_precision_score(labels[:, k], probabilities[:, k]) if images[k] else np.nan
                for k in columns
            ],
            "f1": f1,
            "precision": precision,
            "recall": recall,
            "threshold": thresholds_of(evidence),
        }
    )
    return table.sort_values("f1", kind="stable", na_position="last", ignore_index=True)


def count_pairs(
    labels: np.ndarray, decided: np.ndarray, names: list[str], limit: int = PAIRS
) -> pd.DataFrame:
    """Return the pairs of labels with the most common images, at most `limit` rows.

    Columns: first, second, observed (images with both), expected (if the labels were independent), lift
    (their ratio), predicted (images of which both are predicted).
    """
    own, total = labels.astype(np.float64), len(labels)
    together = own.T @ own
    first, second = np.nonzero(np.triu(together, k=1))
    observed = together[first, second]
    rows = np.lexsort((second, first, -observed))[:limit]
    first, second, observed = first[rows], second[rows], observed[rows]
    images = own.sum(axis=0)
    expected = images[first] * images[second] / total
    return pd.DataFrame(
        {
            "first": [names[label] for label in first],
            "second": [names[label] for label in second],
            "observed": observed.astype(np.int64),
            "expected": expected,
            "lift": observed / expected,
            "predicted": [
                int((decided[:, a] & decided[:, b]).sum()) for a, b in zip(first, second, strict=True)
            ],
        }
    )


def surest_mistakes(
    targets: np.ndarray, decided: np.ndarray, probabilities: np.ndarray
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (row, label) of wrongly predicted labels, and of missed ones; the surest first."""
    sides = []
    for wrong, sureness in (
        ((decided == 1) & (targets == 0), probabilities),
        ((decided == 0) & (targets == 1), 1 - probabilities),
    ):
        rows, labels = np.nonzero(wrong)
        first = np.argsort(-sureness[rows, labels], kind="stable")[:MISTAKES]
        sides.append(list(zip(rows[first].tolist(), labels[first].tolist(), strict=True)))
    return sides[0], sides[1]


def _card(evidence: Evidence, row: int, label: int) -> dict[str, object]:
    name = evidence.class_names[label]
    return evidence.pictures.card(
        str(evidence.paths[row]),
        f"{name} {evidence.probabilities[row, label]:.1%}",
        f"label {evidence.words_of(evidence.labels[row])}",
        proposal=f"not {name}" if evidence.labels[row, label] else name,
    )
