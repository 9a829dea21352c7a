"""The confusion matrix as inline SVG that can be read, cell by cell, at 80 classes."""

import math
from unicodedata import east_asian_width

import numpy as np
from markupsafe import Markup

from foldsmith.report.plots import join

WRONG_IS_FULL_AT = 0.5  # share of a class at which a wrong cell has its full colour, the same in every report
LABEL_LIMIT = 24  # letters of a class name on the axes
LETTER = 6.4  # pixels, a generous mean of the page's fonts at 11 pixels


GROUP = 12  # classes of the most confused group
GROUP_FROM = 16  # classes from which on the group is worth a figure of its own


def find_confused_group(counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The GROUP neighbours in the order of similarity that are most often taken for each other, (GROUP,).

    counts is (K, K); empty under GROUP_FROM classes, where the whole matrix can be read.
    """
    if len(order) < GROUP_FROM:
        return order[:0]
    wrong = (counts - np.diag(np.diag(counts)))[np.ix_(order, order)]
    inside = [wrong[at : at + GROUP, at : at + GROUP].sum() for at in range(len(order) - GROUP + 1)]
    start = int(np.argmax(inside))
    return order[start : start + GROUP]


def draw_confusion_matrix(
    counts: np.ndarray, class_names: list[str], order: np.ndarray, with_counts: bool = False
) -> Markup:
    """Row names and matrix as two figures side by side, so that the names can stay while the matrix scrolls.

    counts is (K, K), true classes as rows; order gives the classes from the top and from the left, all or
    some. Only non-zero cells are drawn; a cell's strength is the root of its share of the true class.
    `with_counts` writes the number of images into each.
    """
    names = [class_names[label] for label in order]
    shortened = [_shorten(name) for name in names]
    labels = [label for label, _ in shortened]
    edge = max(82, round(LETTER * max(width for _, width in shortened)) + 12)
    cell = int(np.clip(640 // len(names), 13, 40))
    side = cell * len(names)
    twice = len(names) > 30  # a tall matrix names its columns below as well
    columns = _draw_column_names(labels, cell, edge - 6, "start")
    columns += _draw_column_names(labels, cell, edge + side + 6, "end") if twice else []
    frame = (
        '<svg class="rows" width="{edge}" height="{height}" aria-hidden="true">\n{rows}\n</svg>\n'
        '<svg class="cells" width="{width}" height="{height}" role="img" aria-label="{label}">\n'
        "{columns}\n{guides}\n{cells}\n</svg>"
    )
    return Markup(frame).format(
        edge=edge,
        width=side + 4,
        height=edge + side + (edge if twice else 6),
        label=f"Confusion matrix of {len(names)} classes; its largest mistakes are in the table above",
        rows=join(_draw_row_names(labels, cell, edge)),
        columns=join(columns),
        guides=_draw_guides(len(names), cell, edge),
        cells=join(_draw_cells(counts, order, names, cell, edge, with_counts)),
    )


def _shorten(name: str) -> tuple[str, int]:
    """The name cut to LABEL_LIMIT letters, and its width in letters; a Chinese character counts two."""
    widths = np.cumsum([2 if east_asian_width(letter) in "WF" else 1 for letter in name] or [0])
    if widths[-1] <= LABEL_LIMIT:
        return name, int(widths[-1])
    return name[: int(np.searchsorted(widths, LABEL_LIMIT))] + "…", LABEL_LIMIT


def _draw_row_names(labels: list[str], cell: int, edge: int) -> list[Markup]:
    text = Markup('<text{} x="{}" y="{:.1f}" text-anchor="end">{}</text>')
    axis = Markup(' class="axis"')
    parts = [
        text.format(axis, edge - 6, edge - 22, "predicted →"),
        text.format(axis, edge - 6, edge - 7, "true ↓"),
    ]
    for place, label in enumerate(labels):
        parts.append(text.format("", edge - 6, edge + (place + 0.5) * cell + 3.5, label))
    return parts


def _draw_column_names(labels: list[str], cell: int, y: int, anchor: str) -> list[Markup]:
    text = Markup('<text transform="translate({:.1f},{}) rotate(-90)" text-anchor="{}">{}</text>')
    return [text.format((place + 0.5) * cell + 3.5, y, anchor, label) for place, label in enumerate(labels)]


def _draw_guides(num_classes: int, cell: int, top: int) -> Markup:
    """A line every five classes, and two bars that the page's script lays on the cell pointed at."""
    side = num_classes * cell
    steps = [cell * place for place in (*range(0, num_classes, 5), num_classes)]
    lines = "".join(f"M0 {top + step}H{side}M{step} {top}v{side}" for step in steps)
    guides = '<path class="grid" d="{}"/><rect class="cross"/><rect class="cross"/>'
    return Markup(guides).format(lines)


def _draw_cells(
    counts: np.ndarray, order: np.ndarray, names: list[str], cell: int, top: int, with_counts: bool
) -> list[Markup]:
    square = Markup(
        '<rect class="{}" x="{}" y="{}" width="{size}" height="{size}" fill-opacity="{:.2f}">'
        "<title>true {} · predicted {} · {:,} of {:,} · {:.1%}</title></rect>"
    )
    number = Markup('<text class="count{}" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>')
    support = counts.sum(axis=1)[order]
    counts = counts[np.ix_(order, order)]
    parts = []
    for row, column in np.argwhere(counts):
        kind, full_at = ("right", 1.0) if row == column else ("wrong", WRONG_IS_FULL_AT)
        share = counts[row, column] / support[row]
        strength = 0.2 + 0.8 * math.sqrt(min(1.0, share / full_at))
        place = (column * cell, top + row * cell)
        texts = (names[row], names[column], counts[row, column], support[row], share)
        parts.append(square.format(kind, *place, strength, *texts, size=cell - 1))
        if with_counts:
            middle = place[0] + (cell - 1) / 2, place[1] + cell / 2 + 4
            parts.append(number.format(" on" if strength > 0.6 else "", *middle, counts[row, column]))
    return parts
