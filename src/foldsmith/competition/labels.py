"""Label files of every form, read into one table of samples."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition.folder import Competition, find_tables, match_ids, natural_key, read_table
from foldsmith.competition.labels_csv import (
    candidate_tables,
    find_label_tables,
    read_csv_labels,
    tables_that_name,
)
from foldsmith.competition.labels_json import is_label_json, parse_json, read_json_labels
from foldsmith.errors import Entries, InputError, first_of

CLASS_FOLDERS = "train"  # what `labels` in competition.toml calls one folder a class


@dataclass(frozen=True)
class Metadata:
    """The labelled training images.

    `samples` has `path`, `label` (class index), `class_name`, `category` (as the label file writes it) and
    `group`, in natural order of the path; `classes` has `label`, `category`, `class_name`, one row a class;
    `repeated` are the images named more than once, always with the same label; `notes` are sentences on what
    was taken for the labels.
    """

    source: str
    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]
    notes: list[str] = field(default_factory=list)


def read_metadata(competition: Competition) -> Metadata:
    """Reads the labels of a competition folder. Raises InputError if they are not whole and consistent."""
    path = find_label_file(competition)
    names: dict[str, str] = {}
    notes: list[str] = []
    if path is None:
        path, source = competition.folder / "train", "the folders under train/"
        _refuse_settings(competition, "id_column", "label_column", "group_column")
        rows = _read_class_folders(competition)
        notes = [] if competition.settings.labels else _notes_on_folders(competition, list(rows["path"]))
    elif path.suffix.lower() == ".json":
        source = path.name
        _refuse_settings(competition, "label_column")
        rows, names = read_json_labels(path, competition.settings.group_column)
        rows["path"] = _resolve(path, rows["name"], "annotation", competition)
    else:
        source = path.name
        rows = read_csv_labels(path, competition)
        rows["path"] = _resolve(path, rows["name"], "line", competition)
    return replace(_build_metadata(path, source, rows, names), notes=notes)


def _notes_on_folders(competition: Competition, images: list[str]) -> list[str]:
    """Which tables name the images as well: those folders may be parts of a download, and no classes."""
    others = [path.name for path in tables_that_name(images, competition)]
    if not others:
        return []
    return [
        f"the folders under train/ are taken for the classes, but {first_of(others)} names their images too; "
        "if the labels stand there, write labels, id_column and label_column in "
        f'{competition.folder / "competition.toml"}, and else labels = "{CLASS_FOLDERS}"'
    ]


def find_label_file(competition: Competition) -> Path | None:
    """Return the file that settings name, answer.json, or another JSON or CSV that fits; None for class
    folders.

    If nothing fits but there are such files, the first: reading it tells what is wrong with it.
    """
    folder, named = competition.folder, competition.settings.labels
    if named == CLASS_FOLDERS:
        return None
    if named:
        return _named_file(folder, named)
    if (folder / "answer.json").is_file():
        return folder / "answer.json"
    in_folders = _images_in_folders(competition)
    documents = find_tables(folder, ".json")
    fitting = [path for path in documents if is_label_json(path)]
    fitting = fitting or find_label_tables(competition, len(in_folders))
    if len(fitting) > 1:
        names = first_of([path.name for path in fitting])
        raise InputError(
            f"{folder} holds several label files ({names}); "
            f'write labels = "FILE" in {folder / "competition.toml"}.'
        )
    if fitting:
        return fitting[0]
    tables = candidate_tables(competition)
    if in_folders:
        _refuse_unreadable(documents, tables)
        return None
    return next(iter(documents or tables), None)


def _named_file(folder: Path, name: str) -> Path:
    """Return the label file of that name in the folder. Raise InputError if there is none."""
    path = folder / name
    if PurePosixPath(name).name != name or not path.is_file():
        raise InputError(f"{folder / 'competition.toml'}: labels names '{name}', not a file in {folder}.")
    return path


def _refuse_unreadable(documents: list[Path], tables: list[Path]) -> None:
    """Raise InputError for a file that cannot be read: it may be the labels, for which the names of folders
    must not be taken instead."""
    for path in documents:
        parse_json(path)
    for path in tables:
        read_table(path)


def _refuse_settings(competition: Competition, *names: str) -> None:
    """Raises InputError for columns that competition.toml names and this form of labels has not."""
    for name in names:
        column = getattr(competition.settings, name)
        if column:
            raise InputError(
                f"{competition.folder / 'competition.toml'}: {name} names '{column}', but the labels are no "
                "CSV with columns; take it out, or give the labels as a CSV."
            )


def _images_in_folders(competition: Competition) -> list[str]:
    """The training images that lie in a folder under train/."""
    return [image for image in competition.train_images if image.count("/") > 1]


def _read_class_folders(competition: Competition) -> pd.DataFrame:
    images = _images_in_folders(competition)
    if not images:
        raise InputError(
            f"{competition.folder} has no labels: neither answer.json, nor a COCO-style JSON, nor a CSV with "
            "an id and a label column, nor one folder a class under train/."
        )
    return pd.DataFrame({"path": images, "category": [image.split("/")[1] for image in images], "group": ""})


def _resolve(path: Path, names: pd.Series, unit: str, competition: Competition) -> list[str]:
    """The image of every row; `names` are indexed by what `unit` counts.

    Raises InputError for names that leave the folder or name no image.
    """
    parts = [PurePosixPath(name.replace("\\", "/")) for name in names]
    leaving = [row for row, part in enumerate(parts) if part.is_absolute() or ".." in part.parts]
    images = match_ids(names, competition.train_images, path)
    missing = [row for row, image in enumerate(images) if image is None]
    train = competition.folder / "train"
    for wrong, what, remedy in (
        (leaving, "name a file outside train/", "name files inside it."),
        (missing, f"name an image that is not in {train}", "add the images, or remove these rows."),
    ):
        example = f"'{names.iloc[wrong[0]]}'" if wrong else ""
        Entries(path, len(names), unit).refuse(names.index[wrong], what, remedy, example)
    return [image for image in images if image is not None]


def _build_metadata(path: Path, source: str, rows: pd.DataFrame, names: dict[str, str]) -> Metadata:
    """Classes in the order of their numbers or names, samples in natural order; repeated rows once."""
    rows = rows[["path", "category", "group"]]
    named_again = sorted(set(rows.loc[rows["path"].duplicated(), "path"]), key=natural_key)
    rows = rows.drop_duplicates()
    for column, meaning in (("category", "labels"), ("group", "groups")):
        values = rows.groupby("path", sort=True)[column].unique()
        torn = values[values.map(len) > 1]
        if len(torn):
            told = " and ".join(torn.iloc[0])
            raise InputError(
                f"{path}: {len(torn)} images have two different {meaning} (first: {torn.index[0]}: {told}); "
                "keep one of them."
            )
    categories = sorted({*rows["category"], *names}, key=natural_key)
    if all(re.fullmatch(r"[+-]?[0-9]{1,18}", category) for category in categories):
        categories.sort(key=int)
    if rows["category"].nunique() < 2:
        only = rows["category"].iloc[0]
        raise InputError(f"{path} gives every image only one class ({only}); there is nothing to tell apart.")
    classes = pd.DataFrame({"label": range(len(categories)), "category": categories})
    classes["class_name"] = [names.get(category, category) for category in categories]
    samples = rows.merge(classes, on="category").set_index("path").loc[sorted(rows["path"], key=natural_key)]
    columns = ["path", "label", "class_name", "category", "group"]
    return Metadata(source, samples.reset_index()[columns], classes, named_again)
