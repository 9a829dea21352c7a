"""The label format CSV: an id column, a label column, and optionally a group column."""

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
    """Return the CSVs in which at least half of the ids name training images.

    If `in_folders` images are in class folders, a CSV must also name half as many images, and its label
    column must have a usual name or be set in competition.toml: its columns may be metadata and not labels.
    """
    fitting = []
    for path in candidate_tables(competition):
        try:
            table = read_table(path)
            columns = find_columns(path, table, competition)
        except InputError:
            continue  # if no other file fits, reading this one reports the fault
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
    """Return the CSVs of the folder except the sample submission."""
    sample = sample_submission_path(competition.folder)
    return [path for path in find_tables(competition.folder, ".csv") if path != sample]


def tables_that_name(images: list[str], competition: Competition) -> list[Path]:
    """Return the CSVs with a column that names half of the training images, and fewer test images."""
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
        if any(names_most(table.iloc[:, column]) for column in range(table.shape[1]))
    ]


def _spell(images: list[str], spelling: Callable[[PurePosixPath], str]) -> set[str]:
    """Return the images' paths within train/ or test/ in one spelling."""
    return {spelling(PurePosixPath(*PurePosixPath(image).parts[1:])) for image in images}


def read_csv_labels(path: Path, competition: Competition) -> pd.DataFrame:
    """Return rows (name, category, group), indexed by line. Raise InputError if a cell is empty."""
    table = read_table(path)
    id_column, label_column = find_columns(path, table, competition)
    if table.empty:
        raise InputError(f"{path} has a header but no rows; download it again.")
    group = competition.settings.group_column
    if group and group not in table.columns:
        raise InputError(f"{path} has no group column '{group}'; its columns: {first_of(table.columns, 10)}.")
    rows = pd.DataFrame({"name": table[id_column].str.strip(), "category": table[label_column].str.strip()})
    rows["group"] = table[group].str.strip() if group else ""
    for column, meaning in (("name", id_column), ("category", label_column)):
        empty = rows.index[rows[column] == ""]
        Entries(path, len(rows), "line").refuse(empty, f"have an empty '{meaning}'", "fill them in.")
    return rows


def find_columns(path: Path, table: pd.DataFrame, competition: Competition) -> tuple[str, str]:
    """Return the id and the label column: as set in competition.toml, or by a usual name.

    If there are two columns and one of them is known, the other is the other. Raise InputError if a column is
    missing, ambiguous or repeated, or if the first line is not a header.
    """
    columns, settings = list(table.columns), competition.settings
    for column in (settings.id_column, settings.label_column):
        if column and column not in columns:
            raise InputError(f"{path} has no column '{column}'; its columns: {first_of(columns, 10)}.")
    ids, labels = _possible_columns(table, competition)
    missing = not ids or not labels or ids == labels
    if missing or len(ids) > 1 or len(labels) > 1:
        raise InputError(
            f"{path}: {'no' if missing else 'more than one possible'} id and label column found among "
            f"{first_of(columns, 10)}; set id_column and label_column in competition.toml."
        )
    id_column, label_column = ids[0], labels[0]
    if columns.count(id_column) > 1 or columns.count(label_column) > 1:
        raise InputError(f"{path}: column '{id_column}' or '{label_column}' occurs twice; rename one.")
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
    """Return the columns with a file name of a training image.

    Names without extension do not count: a row number could match one.
    """
    names = _file_names(competition)
    return [column for column in columns if names & set(table[column].str.strip())]


def _chosen_or_usual(chosen: str, columns: list[str], names: tuple[str, ...]) -> list[str]:
    """Return the column set in competition.toml; if empty, the columns with a usual name."""
    return [chosen] if chosen else _usual(columns, names)


def _usual(columns: list[str], names: tuple[str, ...]) -> list[str]:
    return [column for column in dict.fromkeys(columns) if column.strip().lower() in names]


def _file_names(competition: Competition) -> set[str]:
    """Return the file names of the training images, with extension, with and without their folders."""
    paths = [PurePosixPath(image) for image in competition.train_images]
    return {path.name for path in paths} | {path.relative_to("train").as_posix() for path in paths}


def refuse_headless(path: Path, id_column: str, images: list[str]) -> None:
    """Raise InputError if the header names an image: it is a row, and would be lost."""
    if id_column.strip().lower() not in ID_COLUMNS and match_ids([id_column.strip()], images, path) != [None]:
        raise InputError(
            f"{path} has no header: its first line names the image '{id_column}'; "
            "add a header line, such as id,label."
        )


def _match(ids: pd.Series, competition: Competition) -> list[str | None]:
    """Return the training image of each id; nothing if an id is ambiguous, which speaks against the file."""
    try:
        return match_ids(ids, competition.train_images)
    except InputError:
        return []


FORM = LabelForm(
    name="CSV",
    suffixes=(".csv",),
    unit="line",
    candidates=candidate_tables,
    find=find_label_tables,
    read=lambda path, competition: (read_csv_labels(path, competition), {}),
    parse=read_table,
)
