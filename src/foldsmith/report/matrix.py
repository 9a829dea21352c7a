"""The confusion matrix as inline SVG, legible cell by cell at 80 classes."""

import math
from unicodedata import east_asian_width

import numpy as np
from markupsafe import Markup

from foldsmith.report.plots import join

# the share of a class at which a wrong cell has its full colour; fixed, so that reports can be compared
WRONG_IS_FULL_AT = 0.5
LABEL_LIMIT = 24  # letters of a class name on the axes
LETTER = 6.4  # pixels: the mean width of a letter at a font size of 11 pixels, rounded up
GROUP = 12  # classes of the most confused group
GROUP_FROM = 16  # with fewer classes the whole matrix shows the group


def find_confused_group(counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the GROUP neighbours in `order` with the most confusions among them, (GROUP,).

    counts is (K, K). With fewer than GROUP_FROM classes the group is empty.
    """
    if len(order) < GROUP_FROM:
        return order[:0]
    wrong = (counts - np.diag(np.diag(counts)))[np.ix_(order, order)]
    starts = range(len(order) - GROUP + 1)
    confusions = [wrong[start : start + GROUP, start : start + GROUP].sum() for start in starts]
    start = int(np.argmax(confusions))
    return order[start : start + GROUP]


def draw_confusion_matrix(
    counts: np.ndarray, class_names: list[str], order: np.ndarray, with_counts: bool = False
) -> Markup:
    """Return the row names and the matrix, two figures: the names stay while the matrix scrolls.

    counts is (K, K), true classes as rows. `order` lists all or some classes, from the top and from the left.
    Only non-zero cells are drawn; their opacity grows with the square root of the share of the true class.
    `with_counts` writes the number of images into the cells.
    """
    names = [class_names[label] for label in order]
    shortened = [_shorten(name) for name in names]
    labels = [label for label, _ in shortened]
    edge = max(82, round(LETTER * max(width for _, width in shortened)) + 12)
    cell = int(np.clip(640 // len(names), 13, 40))
    side = cell * len(names)
    named_below = len(names) > 30  # a tall matrix repeats the column names below
    columns = _draw_column_names(labels, cell, edge - 6, "start")
    columns += _draw_column_names(labels, cell, edge + side + 6, "end") if named_below else []
    frame = (
        '<svg class="rows" width="{edge}" height="{height}" aria-hidden="true">\n{rows}\n</svg>\n'
        '<svg class="cells" width="{width}" height="{height}" role="img" aria-label="{label}">\n'
        "{columns}\n{guides}\n{cells}\n</svg>"
    )
    return Markup(frame).format(
        edge=edge,
        width=side + 4,
        height=edge + side + (edge if named_below else 6),
        label=f"Confusion matrix of {len(names)} classes; the table above lists its largest confusions",
        rows=join(_draw_row_names(labels, cell, edge)),
        columns=join(columns),
        guides=_draw_guides(len(names), cell, edge),
        cells=join(_draw_cells(counts, order, names, cell, edge, with_counts)),
    )


def _shorten(name: str) -> tuple[str, int]:
    """Return the name cut to LABEL_LIMIT letters, and its width; a wide (East Asian) letter counts as two."""
    widths = np.cumsum([2 if east_asian_width(letter) in "WF" else 1 for letter in name] or [0])
    if widths[-1] <= LABEL_LIMIT:
        return name, int(widths[-1])
    return name[: int(np.searchsorted(widths, LABEL_LIMIT))] + "…", LABEL_LIMIT


def _draw_row_names(labels: list[str], cell: int, edge: int) -> list[Markup]:
    text = Markup('<text{} x="{}" y="{:.1f}" text-anchor="end">{}</text>')
    axis = Markup(' class="axis"')
    elements = [
        text.format(axis, edge - 6, edge - 22, "predicted →"),
        text.format(axis, edge - 6, edge - 7, "true ↓"),
    ]
    for row, label in enumerate(labels):
        elements.append(text.format("", edge - 6, edge + (row + 0.5) * cell + 3.5, label))
    return elements


def _draw_column_names(labels: list[str], cell: int, y: int, anchor: str) -> list[Markup]:
    text = Markup('<text transform="translate({:.1f},{}) rotate(-90)" text-anchor="{}">{}</text>')
    return [text.format((column + 0.5) * cell + 3.5, y, anchor, label) for column, label in enumerate(labels)]


def _draw_guides(num_classes: int, cell: int, top: int) -> Markup:
    """Return a line every five classes, and two bars: script.js moves them to the cell under the pointer."""
    side = num_classes * cell
    steps = [cell * index for index in (*range(0, num_classes, 5), num_classes)]
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
    elements = []
    for row, column in np.argwhere(counts):
        kind, full_at = ("right", 1.0) if row == column else ("wrong", WRONG_IS_FULL_AT)
        share = counts[row, column] / support[row]
        opacity = 0.2 + 0.8 * math.sqrt(min(1.0, share / full_at))
        x, y = column * cell, top + row * cell
        texts = (names[row], names[column], counts[row, column], support[row], share)
        elements.append(square.format(kind, x, y, opacity, *texts, size=cell - 1))
        if with_counts:
            middle = x + (cell - 1) / 2, y + cell / 2 + 4
            elements.append(number.format(" on" if opacity > 0.6 else "", *middle, counts[row, column]))
    return elements
