"""Images with a row for each of their labels: the rows of an image become one set of labels."""

from dataclasses import replace

import pandas as pd

from foldsmith.competition.label_rows import Labels
from foldsmith.competition.label_words import SEPARATORS, sets_or_words
from foldsmith.competition.sample_cells import SampleCells
from foldsmith.competition.settings import Settings
from foldsmith.errors import InputError

SEPARATOR = "|"
SEVERAL = 0.2  # share of images with different labels in several rows; fewer are errors in the table


def sets_of_rows(labels: Labels, sample: SampleCells, settings: Settings) -> tuple[Labels, str]:
    """Return labels with one row an image, the labels of its rows joined, and the separator between them.

    Labels are returned as they are, with an empty separator, if a row holds several labels already, and
    unless many images have rows with different labels and nothing asks for one label. Raise InputError with
    both readings if the sample asks for one.
    """
    if len(labels.columns) > 1 or settings.task not in ("", "multilabel") or settings.label_separator:
        return labels, ""
    rows, name = labels.rows, labels.columns[0]
    different = rows.drop_duplicates(["path", name]).groupby("path").size().gt(1)
    if not different.any() or rows.groupby("path")["group"].nunique().gt(1).any():
        return labels, ""
    if any(sets_or_words(set(rows[name]) - {""}, separator) for separator in SEPARATORS):
        return labels, ""  # each row is a set by itself, so that two of one image contradict each other
    if settings.task != "multilabel":
        if different.mean() < SEVERAL or rows[name].str.contains(SEPARATOR, regex=False).any():
            return labels, ""
        if len(sample.columns) == 1 and sample.words <= set(rows[name]):
            raise InputError(
                f"{labels.path}: {int(different.sum()):,} of {len(different):,} images have rows with "
                f"different labels, and the sample has one label a cell ('{sample.shown}'); set task = "
                '"multilabel" in competition.toml for sets of labels, or keep one row of each image.'
            )
    first = rows.drop_duplicates("path").set_index("path")
    words = rows.drop_duplicates(["path", name]).groupby("path")[name].agg(SEPARATOR.join)
    joined = first.assign(**{name: words}).reset_index()
    said = (
        f"{int(different.sum()):,} of {len(different):,} images have rows with different labels: the labels "
        f'of an image are a set; task = "multiclass" in competition.toml refuses such images'
    )
    return replace(labels, rows=pd.DataFrame(joined), evidence=[*labels.evidence, said]), SEPARATOR
