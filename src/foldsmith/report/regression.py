"""The sections of a task of numbers: predicted against true, residuals, and the worst images.

N images · M numbers. A residual is the predicted number minus the true one.
"""

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from foldsmith.report.charts import LEFT, SIDE, TOP
from foldsmith.report.evidence import Evidence
from foldsmith.report.plots import Scale, join
from foldsmith.tasks.value_scores import as_columns

MAX_POINTS = 2000  # of a scatter plot: more make the page heavy
TENTHS = 10
WORST = 24  # pictures of each number

Context = dict[str, Any]


def describe_numbers(evidence: Evidence) -> Context:
    """Return a block for each number: scatter plot, residuals as a whole and by tenths, and worst images."""
    targets, values = as_columns(evidence.labels), evidence.probabilities.astype(np.float64)
    numbers = []
    for column, name in enumerate(evidence.class_names):
        true, predicted = targets[:, column], values[:, column]
        residuals = predicted - true
        worst = np.argsort(-np.abs(residuals), kind="stable")[:WORST]
        numbers.append(
            {
                "name": name if len(evidence.class_names) > 1 else "",
                "scatter": draw_scatter(true, predicted),
                "all": summarise(residuals),
                "correlation": correlation(true, predicted),
                "tenths": residuals_by_tenths(true, residuals).to_dict("records"),
                "worst": [
                    evidence.pictures.card(
                        str(evidence.paths[row]),
                        f"label {true[row]:.5g}",
                        f"predicted {predicted[row]:.5g}",
                    )
                    for row in worst
                ],
            }
        )
    return {"numbers": numbers, "num_points": min(MAX_POINTS, len(targets))}


def summarise(residuals: np.ndarray) -> dict[str, float]:
    """Return images, mean, median, std (divided by n - 1; NaN for one) and mean absolute residual (mae)."""
    return {
        "images": len(residuals),
        "mean": residuals.mean(),
        "median": np.median(residuals),
        "std": residuals.std(ddof=1) if len(residuals) > 1 else np.nan,
        "mae": np.abs(residuals).mean(),
    }


def correlation(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return Pearson's correlation; NaN where one of both is constant."""
    return float(np.corrcoef(true, predicted)[0, 1]) if np.ptp(true) and np.ptp(predicted) else np.nan


def residuals_by_tenths(true: np.ndarray, residuals: np.ndarray) -> pd.DataFrame:
    """Return `summarise` by tenths of the true number, with its range: low, high.

    Equal numbers share a row, so that numbers with few values have fewer rows.
    """
    cuts = np.unique(np.quantile(true, np.linspace(0, 1, TENTHS + 1)[1:-1]))
    bins = np.searchsorted(cuts, true)
    rows = []
    for index in np.unique(bins):
        inside = bins == index
        ends = {"low": true[inside].min(), "high": true[inside].max()}
        rows.append({**ends, **summarise(residuals[inside])})
    return pd.DataFrame(rows)


def draw_scatter(true: np.ndarray, predicted: np.ndarray) -> Markup:
    """Return predicted against true numbers (N,) on one scale; the diagonal is a perfect prediction.

    Of more than MAX_POINTS images every n-th by the true number is drawn.
    """
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    margin = 0.03 * (high - low)
    bottom = SIDE - LEFT
    x = Scale(low - margin, high + margin, LEFT, SIDE - TOP)
    y = Scale(low - margin, high + margin, bottom, TOP)
    elements = []
    for value in x.ticks(about=4):
        tick = (
            '<path class="grid" d="M{} {}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{:.4g}</text>'
            '<text x="{}" y="{}" text-anchor="middle">{:.4g}</text>'
        )
        numbers = LEFT, y(value), SIDE - TOP, LEFT - 6, y(value) + 4, value, x(value), bottom + 16, value
        elements.append(Markup(tick).format(*numbers))
    order = np.argsort(true, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, MAX_POINTS).round().astype(int))]
    dot = '<circle class="dot" cx="{}" cy="{}" r="2"/>'
    elements += [Markup(dot).format(x(true[row]), y(predicted[row])) for row in rows]
    frame = (
        '<svg class="reliability scatter" viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n'
        '<path class="diagonal" d="M{} {}L{} {}"/>'
        '<text x="{}" y="{}" text-anchor="middle">true (across), predicted (up)</text></svg>'
    )
    label = f"Predicted against true numbers, {len(rows)} images"
    diagonal = LEFT, bottom, SIDE - TOP, TOP
    middle = (LEFT + SIDE - TOP) / 2, bottom + 32
    return Markup(frame).format(SIDE, bottom + 38, label, join(elements), *diagonal, *middle)
