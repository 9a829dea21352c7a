"""Calibration and class balance as inline SVG; the page's style sheet sets the colours."""

import math

import numpy as np
import pandas as pd
from markupsafe import Markup

from foldsmith.report.plots import join

# CSS pixels: the reliability diagram with its margins, its histogram, and the bars of the class balance
SIDE, LEFT, TOP = 300, 44, 10
HISTOGRAM = 46
BALANCE_HEIGHT = 150


def draw_reliability(bins: pd.DataFrame) -> Markup:
    """Return the reliability diagram, with a histogram of the confidences below it.

    Each bin has a bar; the diagonal is perfect calibration. `bins` is the table of `bin_confidences`.
    """
    plot = SIDE - LEFT - TOP
    bottom = TOP + plot
    elements = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, x = bottom - share * plot, LEFT + share * plot
        tick = (
            '<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{:g}</text>'
            '<text x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>'
        )
        below = bottom + HISTOGRAM + 16
        elements.append(Markup(tick).format(LEFT, y, SIDE - TOP, LEFT - 6, y + 4, share, x, below, share))
    largest = max(1, int(bins["count"].max()))
    for row in bins[bins["count"] > 0].itertuples():
        x, width = LEFT + row.low * plot, (row.high - row.low) * plot - 1
        height, depth = row.accuracy * plot, (HISTOGRAM - 8) * math.sqrt(row.count / largest)
        title = (
            f"confidence {row.low:.2f} to {row.high:.2f}: {row.count:,} images, mean confidence "
            f"{row.confidence:.3f}, accuracy {row.accuracy:.3f}"
        )
        bar = (
            "<g><title>{}</title>"
            '<rect class="fill held" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
            '<circle class="fill wrong" cx="{:.1f}" cy="{:.1f}" r="3"/>'
            '<rect class="fill train" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></g>'
        )
        dot = LEFT + row.confidence * plot, bottom - row.accuracy * plot
        numbers = (x, bottom - height, width, height, *dot, x, bottom + 4, width, depth)
        elements.append(Markup(bar).format(title, *numbers))
    diagonal = (
        '<path class="diagonal" d="M{} {}L{} {}"/><text x="{}" y="{}" text-anchor="middle">confidence</text>'
    )
    axis_name = bottom + HISTOGRAM + 32
    elements.append(Markup(diagonal).format(LEFT, bottom, SIDE - TOP, TOP, LEFT + plot / 2, axis_name))
    frame = '<svg class="reliability" viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n</svg>'
    label = "Reliability diagram: accuracy against confidence, in bins of confidence"
    return Markup(frame).format(SIDE, axis_name + 6, label, join(elements))


def draw_class_balance(counts: np.ndarray, names: list[str]) -> Markup:
    """Return a bar chart of counts (K,), images per class, the largest class first."""
    order = np.argsort(-counts, kind="stable")
    width = max(4.0, min(28.0, 1000 / max(1, len(counts))))
    largest = max(1, int(counts.max()))
    elements = []
    for index, label in enumerate(order):
        height = BALANCE_HEIGHT * counts[label] / largest
        bar = (
            '<rect class="fill held" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
            "<title>{}: {:,}</title></rect>"
        )
        y = BALANCE_HEIGHT - height
        elements.append(
            Markup(bar).format(index * width, y, width - 1, max(height, 0.5), names[label], counts[label])
        )
    frame = (
        '<svg class="balance" viewBox="0 0 {:.0f} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">\n{}\n</svg>'
    )
    label = f"Training images per class, from {counts.max():,} to {counts.min():,}"
    return Markup(frame).format(width * len(counts), BALANCE_HEIGHT, label, join(elements))
