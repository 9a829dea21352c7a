"""Labels in a CSV with an id and a label column."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition.folder import (
    Competition,
    find_tables,
    match_ids,
    read_table,
    sample_submission_path,
)
from foldsmith.competition.label_form import LabelForm
from foldsmith.errors import Entries, InputError, first_of

ID_COLUMNS = ("id", "image_id", "image", "filename", "file_name", "file", "path", "img", "name", "image_name")
LABEL_COLUMNS = ("label", "class", "category", "target", "class_id", "category_id", "label_id", "y")


def find_label_tables(competition: Competition, in_folders: int) -> list[Path]:
    """The CSVs whose ids mostly name training images.

    Where `in_folders` images lie in class folders already, a CSV must name half as many, and its label column
    must have a usual name or stand in the settings: it may tell something else about them.
    """
    fitting = []
    for path in candidate_tables(competition):
        try:
            table = read_table(path)
            columns = find_columns(path, table, competition)
        except InputError:
            continue  # not these are the labels; if nothing else is, the fault is told when they are read
        if in_folders and columns[1] not in (
            *_usual([columns[1]], LABEL_COLUMNS),
            competition.settings.label_column,
        ):
            continue
        ids = table[columns[0]].str.strip()
        matched = sum(image is not None for image in _match(ids, competition))
        if matched >= max(in_folders / 2, len(ids) / 2, 1):
            fitting.append(path)
    return fitting


def candidate_tables(competition: Competition) -> list[Path]:
    """Every CSV of the folder but the sample submission."""
    sample = sample_submission_path(competition.folder)
    return [path for path in find_tables(competition.folder, ".csv") if path != sample]


def tables_that_name(images: list[str], competition: Competition) -> list[Path]:
    """The CSVs a column of which names half of the training images or more, and more than test images."""
    spellings = [
        (_spell(images, spelling), _spell(competition.test_images, spelling))
        for spelling in (lambda path: path.name, lambda path: path.stem, lambda path: path.as_posix())
    ]

    def names_most(column: pd.Series) -> bool:
        cells = set(column.str.strip())
        return any(
            len(train & cells) >= max(len(train) / 2, 2, 1 + len(test & cells)) for train, test in spellings
        )

    tables = {path: read_table(path) for path in candidate_tables(competition)}
    return [
        path
        for path, table in tables.items()
        if any(names_most(table.iloc[:, place]) for place in range(table.shape[1]))
    ]


def _spell(images: list[str], spelling: Callable[[PurePosixPath], str]) -> set[str]:
    """The images' paths within train/ or test/, spelled in one way."""
    return {spelling(PurePosixPath(*PurePosixPath(image).parts[1:])) for image in images}


def read_csv_labels(path: Path, competition: Competition) -> pd.DataFrame:
    """Rows (name, category, group) by line, as the file writes them. Raises InputError if any is missing."""
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
        Entries(path, len(rows), "line").refuse(empty, f"have an empty '{meaning}'", "fill them in.")
    return rows


def find_columns(path: Path, table: pd.DataFrame, competition: Competition) -> tuple[str, str]:
    """Return the id and the label column: those of the settings, of a usual name, or of two the other one.

    Raise InputError if they cannot be told for certain, occur twice, or the first line is no header.
    """
    columns, settings = list(table.columns), competition.settings
    for column in (settings.id_column, settings.label_column):
        if column and column not in columns:
            raise InputError(f"{path} has no column '{column}'; it has {first_of(columns, 10)}.")
    ids, labels = _possible_columns(table, competition)
    missing = not ids or not labels or ids == labels
    if missing or len(ids) > 1 or len(labels) > 1:
        raise InputError(
            f"{path}: {'no' if missing else 'more than one possible'} id and label column found among "
            f"{first_of(columns, 10)}; name them in competition.toml (id_column, label_column)."
        )
    id_column, label_column = ids[0], labels[0]
    if columns.count(id_column) > 1 or columns.count(label_column) > 1:
        raise InputError(f"{path}: the column '{id_column}' or '{label_column}' occurs twice; rename one.")
    refuse_headless(path, id_column, competition.train_images)
    return id_column, label_column


def _possible_columns(table: pd.DataFrame, competition: Competition) -> tuple[list[str], list[str]]:
    """Return the columns that may hold the ids, and those that may hold the labels."""
    settings = competition.settings
    free = [column for column in table.columns if column != settings.group_column]
    ids = _chosen_or_usual(settings.id_column, free, ID_COLUMNS)
    labels = _chosen_or_usual(settings.label_column, free, LABEL_COLUMNS)
    if len(ids) > 1:
        ids = _with_file_names(ids, table, competition) or ids
    if len(set(free)) == 2:
        ids = ids or [column for column in free if column not in labels][:1]
        labels = labels or [column for column in free if column not in ids]
    return ids, labels


def _with_file_names(columns: list[str], table: pd.DataFrame, competition: Competition) -> list[str]:
    """Return the columns that hold a name of a training image, with its extension: a row number could be
    taken for a name without one."""
    names = _file_names(competition)
    return [column for column in columns if names & set(table[column].str.strip())]


def _chosen_or_usual(chosen: str, columns: list[str], names: tuple[str, ...]) -> list[str]:
    """Return the column that settings name, else those of a usual name."""
    return [chosen] if chosen else _usual(columns, names)


def _usual(columns: list[str], names: tuple[str, ...]) -> list[str]:
    return [column for column in dict.fromkeys(columns) if column.strip().lower() in names]


def _file_names(competition: Competition) -> set[str]:
    """The training images as names with extension, with and without their folders."""
    paths = [PurePosixPath(image) for image in competition.train_images]
    return {path.name for path in paths} | {path.relative_to("train").as_posix() for path in paths}


def refuse_headless(path: Path, id_column: str, images: list[str]) -> None:
    """Raises InputError if the header names an image: then it is a row, and would be lost."""
    if id_column.strip().lower() not in ID_COLUMNS and match_ids([id_column.strip()], images, path) != [None]:
        raise InputError(
            f"{path} has no header line: its first line names the image '{id_column}'; "
            "add one, such as id,label."
        )


def _match(ids: pd.Series, competition: Competition) -> list[str | None]:
    try:
        return match_ids(ids, competition.train_images)
    except InputError:
        return []  # ids that could name two images are no reason to choose a file


FORM = LabelForm(
    name="CSV",
    suffixes=(".csv",),
    unit="line",
    candidates=candidate_tables,
    find=find_label_tables,
    read=lambda path, competition: (read_csv_labels(path, competition), {}),
    parse=read_table,
)
