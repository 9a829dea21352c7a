"""Calibration and class balance as inline SVG, coloured by classes of the page's style sheet."""

import math

import numpy as np
import pandas as pd
from markupsafe import Markup

from foldsmith.report.plots import join

SIDE, LEFT, BOTTOM, TOP = 300, 44, 36, 10  # of the reliability diagram, in CSS pixels
HISTOGRAM = 46
BALANCE_HEIGHT = 150


def draw_reliability(bins: pd.DataFrame) -> Markup:
    """Accuracy against confidence, a bar a bin, beside the diagonal of perfect calibration; counts below.

    `bins` is `bin_confidences`' table.
    """
    plot = SIDE - LEFT - TOP
    bottom = TOP + plot
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, x = bottom - share * plot, LEFT + share * plot
        tick = (
            '<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{:g}</text>'
            '<text x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>'
        )
        below = bottom + HISTOGRAM + 16
        parts.append(Markup(tick).format(LEFT, y, SIDE - TOP, LEFT - 6, y + 4, share, x, below, share))
    most = max(1, int(bins["count"].max()))
    for row in bins[bins["count"] > 0].itertuples():
        x, width = LEFT + row.low * plot, (row.high - row.low) * plot - 1
        height, many = row.accuracy * plot, (HISTOGRAM - 8) * math.sqrt(row.count / most)
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
        numbers = (x, bottom - height, width, height, *dot, x, bottom + 4, width, many)
        parts.append(Markup(bar).format(title, *numbers))
    diagonal = (
        '<path class="diagonal" d="M{} {}L{} {}"/><text x="{}" y="{}" text-anchor="middle">confidence</text>'
    )
    name = bottom + HISTOGRAM + 32
    parts.append(Markup(diagonal).format(LEFT, bottom, SIDE - TOP, TOP, LEFT + plot / 2, name))
    frame = '<svg class="reliability" viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n</svg>'
    label = "Accuracy of the images against the confidence they were predicted with, in bins of confidence"
    return Markup(frame).format(SIDE, name + 6, label, join(parts))


def draw_class_balance(counts: np.ndarray, names: list[str]) -> Markup:
    """Images of every class as bars, the largest class first; counts is (K,)."""
    order = np.argsort(-counts, kind="stable")
    width = max(4.0, min(28.0, 1000 / max(1, len(counts))))
    most = max(1, int(counts.max()))
    parts = []
    for place, label in enumerate(order):
        height = BALANCE_HEIGHT * counts[label] / most
        bar = (
            '<rect class="fill held" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
            "<title>{}: {:,}</title></rect>"
        )
        y = BALANCE_HEIGHT - height
        parts.append(
            Markup(bar).format(place * width, y, width - 1, max(height, 0.5), names[label], counts[label])
        )
    frame = (
        '<svg class="balance" viewBox="0 0 {:.0f} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">\n{}\n</svg>'
    )
    label = f"Training images a class, from {counts.max():,} to {counts.min():,}"
    return Markup(frame).format(width * len(counts), BALANCE_HEIGHT, label, join(parts))
