"""The section of a task of two classes: the ROC curve with the decisions in use."""

from typing import Any

import numpy as np
from markupsafe import Markup

from foldsmith.report.charts import LEFT, SIDE, TOP
from foldsmith.report.evidence import Evidence
from foldsmith.report.plots import join

MAX_POINTS = 400  # of the curve; more are not visible at its size

Context = dict[str, Any]


def describe_roc(evidence: Evidence) -> Context:
    """Return area, average precision and curve of the positive class, and where the decisions are on it.

    `roc` is None where all images are of one class.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    positive, scores, decided = evidence.labels == 1, evidence.probabilities[:, 1], evidence.decided == 1
    if positive.all() or not positive.any():
        return {"roc": None}
    false_rate, true_rate = decided[~positive].mean(), decided[positive].mean()
    return {
        "roc": {
            "positive": evidence.class_names[1],
            "images": int(positive.sum()),
            "share": positive.mean(),
            "auc": roc_auc_score(positive, scores),
            "average_precision": average_precision_score(positive, scores),
            "false_rate": false_rate,
            "recall": true_rate,
            "precision": positive[decided].mean() if decided.any() else np.nan,
            "threshold": threshold_of(evidence),
            "decision": "" if evidence.decision is None else evidence.decision.sentence,
            "curve": draw_roc(positive, scores, (false_rate, true_rate)),
        }
    }


def threshold_of(evidence: Evidence) -> float:
    """Return the probability of the positive class from which it is decided."""
    decision = evidence.decision
    return decision.values[0] if decision is not None and "threshold" in decision.kind else 0.5


def draw_roc(positive: np.ndarray, scores: np.ndarray, point: tuple[float, float]) -> Markup:
    """Return the ROC curve of scores (N,), with a dot at `point`, the rates of the decisions in use."""
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(positive, scores)
    rows = np.unique(np.linspace(0, len(false_rate) - 1, MAX_POINTS).round().astype(int))
    plot, bottom = SIDE - LEFT - TOP, SIDE - LEFT
    elements = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = LEFT + share * plot, bottom - share * plot
        tick = (
            '<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{:g}</text>'
            '<text x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>'
        )
        elements.append(
            Markup(tick).format(LEFT, y, SIDE - TOP, LEFT - 6, y + 4, share, x, bottom + 16, share)
        )
    points = " ".join(
        f"{LEFT + x * plot:.1f},{bottom - y * plot:.1f}"
        for x, y in zip(false_rate[rows], true_rate[rows], strict=True)
    )
    body = (
        '<path class="diagonal" d="M{} {}L{} {}"/><g class="line held"><polyline points="{}"/></g>'
        '<circle class="fill wrong" cx="{:.1f}" cy="{:.1f}" r="4"><title>decisions in use: false positive '
        "rate {:.1%}, recall {:.1%}</title></circle>"
        '<text x="{}" y="{}" text-anchor="middle">false positive rate</text>'
    )
    dot = LEFT + point[0] * plot, bottom - point[1] * plot
    elements.append(
        Markup(body).format(
            *(LEFT, bottom, SIDE - TOP, TOP, points, *dot, *point, LEFT + plot / 2, bottom + 32)
        )
    )
    label = "ROC curve: recall against the false positive rate"
    frame = '<svg class="reliability" viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n</svg>'
    return Markup(frame).format(SIDE, bottom + 38, label, join(elements))
