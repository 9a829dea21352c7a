"""Ids that stand for several images each, as those of patients with slices in a folder or a list."""

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.label_tables import USUAL, LabelTable, candidate_tables, label_columns
from foldsmith.competition.roles import column, image_columns, images_of_rows, is_sample_name, is_test_name
from foldsmith.competition.sample import Sample
from foldsmith.competition.spellings import UNITS, Names, images_by_folder

FEWEST = 4  # units that make a table


def find_unit_table(competition: Competition, sample: Sample | None) -> list[LabelTable]:
    """Return the table that labels folders, or other units, of the training images; none without one.

    It has a row for each unit, and labels that repeat and that the sample or their name tells.
    """
    names = Names(competition.train_images)
    for path in candidate_tables(competition, sample):
        table = competition.catalog.read(path)
        if table is None or len(table) < FEWEST or _names_images(table, names):
            continue
        for name in dict.fromkeys(table.columns):
            cells, columns = column(table, name), label_columns(table, name, competition, sample)
            if columns is None or columns.rank < USUAL or not cells.is_unique:
                continue
            units = _images_of_units(list(cells), path, competition)
            count = 0 if units is None else sum(map(len, units[0].values()))
            if 2 * count >= len(competition.train_images) and all(
                _repeats(column(table, label), len(table)) for label in columns.label_columns
            ):
                return [LabelTable(path, len(units[0]), columns.with_id(name))]
    return []


def _names_images(table: pd.DataFrame, names: Names) -> bool:
    """Return whether a table has ids of images, not only a few numbers that are names of images too."""
    return any(column(table, name).nunique() > len(table) / 2 for name in image_columns(table, names))


def _repeats(cells: pd.Series, count: int) -> bool:
    """Return whether labels, or those in cells of several, occur for two units or more on average."""
    tokens = {token for cell in cells for token in cell.split()}
    several = cells.str.contains(" ").any() and len(tokens) <= count / 2
    return cells.nunique() <= max(count / 2, 2) or bool(several)


def _images_of_units(
    ids: Sequence[str], path: str, competition: Competition
) -> tuple[dict[str, tuple[str, ...]], str] | None:
    """Return the training images of each id and what says so; None if the ids are no units.

    `path` is the table of the ids.
    """
    found = images_by_folder(ids, competition.train_images)
    if found is not None:
        return found, "folders, or beginnings of names,"
    names = Names(competition.train_images)
    for other in competition.catalog.paths:
        table = competition.catalog.read(other)
        if other == path or table is None or table.empty or is_sample_name(other) or is_test_name(other):
            continue
        for image_column in image_columns(table, names)[:1]:
            images = images_of_rows(table, image_column, competition.train_images)
            for key in dict.fromkeys(table.columns):
                listed = _images_by_cell(column(table, key), images, set(ids))
                if key != image_column and listed:
                    return listed, f"those of '{key}' in {other}, units"
    return None


def _images_by_cell(
    cells: pd.Series, images: Sequence[tuple[str, ...]], wanted: set[str]
) -> dict[str, tuple[str, ...]]:
    """Return the images beside each wanted cell; none unless nearly all are there, and some repeat."""
    if len(wanted & set(cells)) < UNITS * len(wanted):
        return {}
    listed: dict[str, list[str]] = defaultdict(list)
    for cell, named in zip(cells, images, strict=True):
        if cell in wanted:
            listed[cell] += named
    flat = [image for group in listed.values() for image in group]
    repeats = len(set(flat)) == len(flat) > len(listed)
    return {name: tuple(group) for name, group in listed.items()} if repeats else {}


def expand_units(
    rows: pd.DataFrame, competition: Competition, path: str
) -> tuple[pd.DataFrame, list[str]] | None:
    """Return label rows of units as rows of their images, with `path` and `group`, and a sentence.

    Return None if the names of the rows are no units.
    """
    units = _images_of_units(list(rows["name"]), path, competition)
    if units is None:
        return None
    found, what = units
    if "group" not in rows:
        rows = rows.assign(group=rows["name"])
    rows = rows.assign(path=rows["name"].map(found)).dropna(subset="path").explode("path")
    rows = rows.dropna(subset="path")
    said = (
        f"the ids of {path} are {what} of images: {len(rows):,} images have the labels of {len(found):,} "
        "ids; the images of an id stay in one fold"
    )
    return rows, [said]
