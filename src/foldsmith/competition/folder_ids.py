"""Ids that are folders of images, as those of patients with several slices each."""

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.label_tables import USUAL, LabelTable, candidate_tables, label_columns
from foldsmith.competition.roles import column
from foldsmith.competition.sample import Sample
from foldsmith.competition.spellings import images_by_folder


def find_folder_table(competition: Competition, sample: Sample | None) -> list[LabelTable]:
    """Return the table that labels the folders of the training images; none without one.

    It has a row for each folder, and labels that repeat and that the sample or their name tells.
    """
    for path in candidate_tables(competition, sample):
        table = competition.catalog.read(path)
        if table is None or len(table) < 4:
            continue
        for name in dict.fromkeys(table.columns):
            cells = column(table, name)
            if not cells.is_unique:
                continue
            found = images_by_folder(list(cells), competition.train_images)
            if found is None or 2 * sum(map(len, found.values())) < len(competition.train_images):
                continue
            columns = label_columns(table, name, competition, sample)
            if (
                columns
                and columns.rank >= USUAL
                and all(_repeats(table, label, len(found)) for label in columns.label_columns)
            ):
                return [LabelTable(path, len(found), columns.with_id(name))]
    return []


def _repeats(table: pd.DataFrame, name: str, count: int) -> bool:
    return column(table, name).nunique() <= max(count / 2, 2)


def expand_folders(
    rows: pd.DataFrame, competition: Competition, path: str
) -> tuple[pd.DataFrame, list[str]] | None:
    """Return label rows of folders as rows of their images, with `path` and `group`, and a sentence.

    Return None if the names of the rows are no folders.
    """
    found = images_by_folder(list(rows["name"]), competition.train_images)
    if found is None:
        return None
    if "group" not in rows:
        rows = rows.assign(group=rows["name"])
    rows = rows.assign(path=rows["name"].map(found)).dropna(subset="path").explode("path")
    images = len(rows)
    said = (
        f"the ids of {path} are folders: each of {images:,} images has the label of its folder, of which "
        f"there are {len(found):,}; the images of a folder stay in one fold"
    )
    return rows, [said]
