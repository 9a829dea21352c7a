"""Learning curves and fold scores as inline SVG; the page's style sheet sets the colours.

SVG by hand instead of matplotlib: the figures are smaller, their bytes are reproducible, and their fonts and
colours follow the page in light, dark and print. Markup.format escapes all text.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

PANELS = {
    "Loss": ("train_loss", "val_loss"),
    "{credit}": ("train_accuracy", "val_accuracy"),
    "Gap: training minus held-out": ("gap",),
    "Learning rate": ("lr",),
    "Seconds per epoch": ("seconds",),
}
LINE_CLASS = {"train": "train", "val": "held", "gap": "gap", "lr": "rate", "seconds": "rate"}
WIDTH, HEIGHT = 380, 250  # CSS pixels of a panel, margins included
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 10, 34


@dataclass(frozen=True)
class Scale:
    """A linear map from values [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, about: int = 5, least: float = 0.0) -> list[float]:
        """Return about `about` round values of the scale, 1, 2 or 5 times a power of ten apart.

        Their distance is at least `least`.
        """
        step = (self.high - self.low) / about
        if step <= 0:
            return [self.low]
        magnitude = 10.0 ** math.floor(math.log10(step))
        step = max(least, next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= step * 0.999))
        first, last = math.ceil(self.low / step - 1e-6), math.floor(self.high / step + 1e-6)
        return [count * step for count in range(first, last + 1)]


@dataclass(frozen=True)
class _Line:
    """A column of one fold's log: its `values` and their `epochs`, both (n,), where there is a value."""

    column: str
    fold: int
    epochs: np.ndarray
    values: np.ndarray


def join(elements: list[Markup]) -> Markup:
    """Return the elements, one per line; they are escaped already."""
    return Markup("\n").join(elements)


def draw_fold_scores(fold_numbers: list[int], scores: np.ndarray, outliers: np.ndarray) -> Markup:
    """Return a strip, 132 pixels wide: a dot per fold, and a band of mean ± 1 standard deviation.

    The scale is that of these scores (F,), two or more; `outliers` (F,) bool marks folds.
    """
    x = Scale(scores.min(), scores.max(), 8, 124)
    mean, spread = scores.mean(), scores.std(ddof=1)
    start, end = max(0.0, x(mean - spread)), min(132.0, x(mean + spread))
    band = '<rect class="band" x="{}" y="4" width="{:.1f}" height="14"/><path class="mean" d="M{} 4v14"/>'
    elements = [Markup(band).format(start, end - start, x(mean))]
    for fold, score, is_outlier in zip(fold_numbers, scores, outliers, strict=True):
        dot = '<circle class="{}" cx="{}" cy="11" r="3.5"><title>fold {}: {:.4f}</title></circle>'
        elements.append(Markup(dot).format("dot far" if is_outlier else "dot", x(score), fold, score))
    frame = '<svg class="strip" width="132" height="22" role="img" aria-label="{}">{}</svg>'
    label = f"from {scores.min():.4f} to {scores.max():.4f} over the folds"
    return Markup(frame).format(label, join(elements))


def draw_learning_curves(logs: dict[int, pd.DataFrame], credit: str = "accuracy") -> dict[str, Markup]:
    """Return a figure for each title of PANELS: its columns against the epoch, one line per fold.

    `credit` is what the columns of accuracy hold, in words (see Task.credit_name).
    """
    logs = {fold: log.assign(gap=log["train_accuracy"] - log["val_accuracy"]) for fold, log in logs.items()}
    panels = {title.format(credit=credit): columns for title, columns in PANELS.items()}
    return {
        (title := words[0].upper() + words[1:]): _draw_panel(title, columns, logs)
        for words, columns in panels.items()
    }


def _draw_panel(title: str, columns: tuple[str, ...], logs: dict[int, pd.DataFrame]) -> Markup:
    lines = _read_lines(columns, logs)
    if not lines:
        return Markup("<p>Nothing was logged.</p>")
    all_epochs = np.concatenate([line.epochs for line in lines])
    all_values = np.concatenate([line.values for line in lines])
    x = Scale(all_epochs.min(), all_epochs.max(), LEFT, WIDTH - RIGHT)
    margin = 0.04 * (all_values.max() - all_values.min())
    y = Scale(all_values.min() - margin, all_values.max() + margin, HEIGHT - BOTTOM, TOP)
    parts = [draw_axes(x, y)]
    parts += [_draw_line(line, x, y) for line in lines]
    held_out = [line for line in lines if line.column.startswith("val_")]
    parts += _draw_fold_numbers({line.fold: y(line.values[-1]) for line in held_out})
    ends = [line.values[-1] for line in held_out or lines]
    label = f"{title} against epoch, {len(logs)} fold(s); at the end from {min(ends):.4g} to {max(ends):.4g}"
    frame = '<svg class="panel" viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n</svg>'
    return Markup(frame).format(WIDTH, HEIGHT, label, join(parts))


def _read_lines(columns: tuple[str, ...], logs: dict[int, pd.DataFrame]) -> list[_Line]:
    """Return a line a column and fold, without those that have no value."""
    lines = []
    for column in columns:
        for fold, log in sorted(logs.items()):
            epochs, values = log["epoch"].to_numpy(float), log[column].to_numpy(float)
            known = np.isfinite(values)
            if known.any():
                lines.append(_Line(column, fold, epochs[known], values[known]))
    return lines


def draw_axes(x: Scale, y: Scale, name: str = "epoch") -> Markup:
    """Return grid lines and ticks; `name` is what the horizontal axis counts."""
    elements = []
    for value in y.ticks():
        tick = '<path class="grid" d="M{} {}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{:.4g}</text>'
        elements.append(Markup(tick).format(LEFT, y(value), WIDTH - RIGHT, LEFT - 6, y(value) + 3.5, value))
    for value in x.ticks(about=6, least=1):
        tick = '<text x="{}" y="{}" text-anchor="middle">{:g}</text>'
        elements.append(Markup(tick).format(x(value), HEIGHT - BOTTOM + 15, value))
    title = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
    elements.append(Markup(title).format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, name))
    return join(elements)


def _draw_line(line: _Line, x: Scale, y: Scale) -> Markup:
    kind = LINE_CLASS[line.column.partition("_")[0]]
    points = [(x(epoch), y(value)) for epoch, value in zip(line.epochs, line.values, strict=True)]
    # a line of one point is invisible: the circle shows it
    group = (
        '<g class="line {}"><title>fold {}, {}: {:.4g} at the end</title>'
        '<polyline points="{}"/><circle cx="{}" cy="{}" r="2"/></g>'
    )
    path = " ".join(f"{left:g},{top:g}" for left, top in points)
    name = line.column.replace("_", " ")
    return Markup(group).format(kind, line.fold, name, line.values[-1], path, *points[-1])


def _draw_fold_numbers(ends: dict[int, float], gap: float = 11.0) -> list[Markup]:
    """Return the folds' numbers beside the ends of their lines, moved down where two would overlap."""
    if len(ends) > 12:  # more do not fit beside the panel; the lines still have titles
        return []
    elements, lowest = [], -math.inf
    first_limit = HEIGHT - BOTTOM - gap * (len(ends) - 1)
    for index, (fold, end) in enumerate(sorted(ends.items(), key=lambda item: item[1])):
        lowest = max(lowest + gap, min(end, first_limit + gap * index))
        number = '<text class="number" x="{}" y="{:.1f}">{}</text>'
        elements.append(Markup(number).format(WIDTH - RIGHT + 7, lowest + 3.5, fold))
    return elements
