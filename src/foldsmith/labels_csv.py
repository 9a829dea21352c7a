"""Labels in a CSV with an id and a label column."""

from pathlib import Path

import pandas as pd

from foldsmith.competition import Competition, find_tables, match_ids, read_table, sample_submission_path
from foldsmith.errors import InputError, first_of, refuse_wrong

ID_COLUMNS = ("id", "image_id", "image", "filename", "file_name", "file", "path", "img", "name", "image_name")
LABEL_COLUMNS = ("label", "class", "category", "target", "class_id", "category_id", "label_id", "y")


def find_label_tables(competition: Competition, least: int) -> list[Path]:
    """The CSVs whose ids mostly name training images, and at least `least` of them."""
    fitting = []
    for path in candidate_tables(competition):
        try:
            table = read_table(path)
            columns = find_columns(path, table, competition)
        except InputError:
            continue  # not these are the labels; if nothing else is, the fault is told when they are read
        ids = table[columns[0]].str.strip()
        matched = sum(image is not None for image in _match(ids, competition))
        if matched >= max(least, len(ids) / 2, 1):
            fitting.append(path)
    return fitting


def candidate_tables(competition: Competition) -> list[Path]:
    """Every CSV of the folder but the sample submission."""
    sample = sample_submission_path(competition.folder)
    return [path for path in find_tables(competition.folder, ".csv") if path != sample]


def read_csv_labels(path: Path, competition: Competition) -> pd.DataFrame:
    """Rows (name, category, group), as the file writes them. Raises InputError if any is missing."""
    table = read_table(path)
    id_column, label_column = find_columns(path, table, competition)
    if table.empty:
        raise InputError(f"{path} has a header but no rows; it may have been cut off.")
    group = competition.settings.group_column
    if group and group not in table.columns:
        raise InputError(f"{path} has no group column '{group}'; it has {first_of(table.columns, 10)}.")
    rows = pd.DataFrame({"name": table[id_column].str.strip(), "category": table[label_column].str.strip()})
    rows["group"] = table[group].str.strip() if group else ""
    for column, meaning in (("name", id_column), ("category", label_column)):
        empty = rows.index[rows[column] == ""]
        refuse_wrong(path, empty, len(rows), "line", f"have an empty '{meaning}'", "fill them in.")
    return rows.reset_index(drop=True)


def find_columns(path: Path, table: pd.DataFrame, competition: Competition) -> tuple[str, str]:
    """The id and the label column: those of the settings, of a usual name, or of two the other one.

    Raises InputError if they cannot be told, occur twice, or the first line is no header.
    """
    columns, settings = list(table.columns), competition.settings
    for column in (settings.id_column, settings.label_column):
        if column and column not in columns:
            raise InputError(f"{path} has no column '{column}'; it has {first_of(columns, 10)}.")
    usual = {column.strip().lower(): column for column in reversed(columns)}
    label = settings.label_column or next((usual[name] for name in LABEL_COLUMNS if name in usual), "")
    id_column = settings.id_column or next((usual[name] for name in ID_COLUMNS if name in usual), "")
    if len(set(columns)) == 2:
        id_column = id_column or next(column for column in columns if column != label)
        label = label or next(column for column in columns if column != id_column)
    if not id_column or not label or id_column == label:
        raise InputError(
            f"{path}: no id and label column found among {first_of(columns, 10)}; "
            "name them in competition.toml (id_column, label_column)."
        )
    if columns.count(id_column) > 1 or columns.count(label) > 1:
        raise InputError(f"{path}: the column '{id_column}' or '{label}' occurs twice; rename one.")
    refuse_headless(path, id_column, competition.train_images)
    return id_column, label


def refuse_headless(path: Path, id_column: str, images: list[str]) -> None:
    """Raises InputError if the header names an image: then it is a row, and would be lost."""
    if id_column.strip().lower() not in ID_COLUMNS and match_ids([id_column.strip()], images) != [None]:
        raise InputError(
            f"{path} has no header line: its first line names the image '{id_column}'; "
            "add one, such as id,label."
        )


def _match(ids: pd.Series, competition: Competition) -> list[str | None]:
    try:
        return match_ids(ids, competition.train_images)
    except InputError:
        return []  # ids that could name two images are no reason to choose a file
