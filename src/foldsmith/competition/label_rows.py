"""The label rows of a source: from folders or file names, from JSON, and from tables."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition import labels_json
from foldsmith.competition.class_folders import NameLabels
from foldsmith.competition.folder import Competition
from foldsmith.competition.label_tables import LabelTable, read_label_rows
from foldsmith.competition.listing import folder_subset, is_left_behind
from foldsmith.competition.roles import column
from foldsmith.competition.spellings import how_loosely, match_ids, normal_path
from foldsmith.competition.subsets import common_folder, folder_names
from foldsmith.competition.units import expand_units
from foldsmith.errors import Entries, InputError, first_of

JSON_COLUMN = "category"


@dataclass(frozen=True)
class Labels:
    """The labels as text. `rows` has `path`, the label columns and `group`, in the order of the source.

    `source` names the label file or the folders, `path` where an error in them lies. `names` are the names
    of the classes by category, empty if nothing lists them.
    """

    source: str
    path: Path
    rows: pd.DataFrame
    columns: tuple[str, ...]
    names: dict[str, str]
    id_column: str = ""
    evidence: list[str] = field(default_factory=list)


def labels_of_names(competition: Competition, found: NameLabels, source: str) -> Labels:
    """Return labels that folders or file names say."""
    for name in ("id_column", "label_column", "label_columns"):
        value = getattr(competition.settings, name)
        if value:
            raise InputError(
                f"{competition.settings_path}: {name} is '{value}', but the labels are {source}, "
                "without columns; "
                'remove it, or name the label file: labels = "FILE".'
            )
    rows = pd.DataFrame({"path": list(found.labels), JSON_COLUMN: list(found.labels.values())})
    return Labels(source, competition.root / "train", rows, (JSON_COLUMN,), {}, "", [found.evidence])


def labels_of_json(competition: Competition, paths: Sequence[str]) -> Labels:
    """Return the labels of JSON files with annotations, of different images."""
    if competition.settings.target_columns:
        raise InputError(
            f"{competition.settings_path}: label_columns is "
            f"{first_of(competition.settings.target_columns)}, but "
            f'{paths[0]} has no columns; remove it, or name a table: labels = "FILE".'
        )
    frames, names = [], {}
    for path in paths:
        rows, listed = labels_json.read_json_labels(
            competition.root / path, competition.settings.group_column
        )
        rows["path"] = _resolve(competition.root / path, rows["name"], "annotation", competition)
        frames.append(rows.drop(columns="name"))
        names |= listed
    rows = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    source = " + ".join(paths)
    return Labels(source, competition.root / paths[0], rows, (JSON_COLUMN,), names)


def labels_of_tables(competition: Competition, tables: Sequence[LabelTable]) -> Labels:
    """Return the labels of tables with the same columns, of different images."""
    frames, evidence = [], []
    for entry in tables:
        table = competition.catalog.read(entry.path)
        table, said = _without_system_files(table, entry.columns.id_column, entry.path)
        evidence += said
        rows = read_label_rows(entry.path, table, entry.columns, competition)
        rows, said = _without_test_images(rows, entry.path, competition)
        evidence += said
        expanded = None if _names_images(rows, competition) else expand_units(rows, competition, entry.path)
        if expanded is None:
            rows["path"] = _resolve(competition.root / entry.path, rows["name"], "line", competition)
        else:
            rows, said = expanded
            evidence += said
        evidence += _loosely_read(rows, entry.path, competition)
        frames.append(rows.drop(columns="name"))
        evidence.append(f"{entry.path}: {entry.columns.why}")
        if table.attrs.get("encoding", "UTF-8") != "UTF-8":
            evidence.append(f"{entry.path} is not UTF-8; it is read as {table.attrs['encoding']}")
        if entry.columns.others:
            evidence.append(
                f"{entry.path}: {first_of(entry.columns.others, 6)} could be labels too; "
                "label_columns decides"
            )
    columns = tables[0].columns
    rows = pd.concat(frames) if len(frames) > 1 else frames[0]
    stripped = {name: name.strip() for name in columns.label_columns}  # names of classes, as in `a.jpg, 1, 0`
    return Labels(
        " + ".join(entry.path for entry in tables),
        competition.root / tables[0].path,
        rows.rename(columns=stripped),
        tuple(stripped.values()),
        {},
        columns.id_column,
        evidence,
    )


def _without_system_files(table: pd.DataFrame, ids: str, path: str) -> tuple[pd.DataFrame, list[str]]:
    """Return a table without rows about files of an operating system (.DS_Store), and a sentence."""
    names = column(table, ids)
    unused = names.map(lambda name: is_left_behind(os.path.basename(normal_path(name))))
    if not unused.any():
        return table, []
    said = f"{int(unused.sum())} rows of {path} name system files ({names[unused].iloc[0]}), not used"
    return table[~unused], [said]


def _without_test_images(
    rows: pd.DataFrame, path: str, competition: Competition
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows without those about test images that lie among the training images, and a sentence."""
    # a bare name could be that of a training image which is missing
    with_folder = rows["name"].str.contains("/").all()
    mixed = [image for image in competition.test_images if with_folder or not folder_subset(image)]
    if not mixed:
        return rows, []
    train = match_ids(rows["name"], competition.train_images, competition.root / path)
    test = match_ids(rows["name"], mixed, competition.root / path)
    unused = [
        one is None and other is not None and _in_folder_of(name, other)
        for name, one, other in zip(rows["name"], train, test, strict=True)
    ]
    if not any(unused):
        return rows, []
    said = f"{sum(unused):,} rows of {path} label test images and are not used"
    return rows[[not skip for skip in unused]].copy(), [said]


def _in_folder_of(name: str, image: str) -> bool:
    """Return whether an id's folder, if it has one, is that of an image, or ends as its path does."""
    own, other = (PurePosixPath(path.replace("\\", "/")).parent.parts for path in (name, image))
    shared = min(len(own), len(other))
    return not shared or [part.lower() for part in own[-shared:]] == [
        part.lower() for part in other[-shared:]
    ]


def _names_images(rows: pd.DataFrame, competition: Competition) -> bool:
    """Return whether any row names an image."""
    try:
        return any(match_ids(rows["name"], competition.train_images)) or rows.empty
    except InputError:  # ambiguous names are names
        return True


def _loosely_read(rows: pd.DataFrame, path: str, competition: Competition) -> list[str]:
    """Return a sentence on ids that are spelled otherwise than the images."""
    loose = how_loosely(list(rows["name"]), competition.train_images)
    return [f"the ids of {path} are read {loose}, as in '{rows['name'].iloc[0]}'"] if loose else []


def _resolve(path: Path, names: pd.Series, unit: str, competition: Competition) -> list[str]:
    """Return the image of every row; `names` are indexed by what `unit` counts.

    Raise InputError for names outside the folder, and for names without an image.
    """
    paths = map(normal_path, names.tolist())
    outside = [row for row, path in enumerate(paths) if path.startswith("/") or ".." in path.split("/")]
    images = match_ids(names, competition.train_images, path)
    missing = [row for row, image in enumerate(images) if image is None]
    train = competition.root / common_folder(competition.train_images)
    for wrong, what, remedy in (
        (outside, f"name a file outside {train}/", "name files inside it."),
        (missing, f"name an image that is not in {train}", _remedy(names, missing, competition)),
    ):
        example = f"'{names.iloc[wrong[0]]}'" if wrong else ""
        Entries(path, len(names), unit).refuse(names.index[wrong], what, remedy, example)
    return [image for image in images if image is not None]


def _shape(name: str) -> str:
    """Return a file name without the differences that systems make: capitals, and the form of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _remedy(names: pd.Series, missing: Sequence[int], competition: Competition) -> str:
    """Return what to do about names without an image: the nearest image, if one is near."""
    import difflib

    if not missing:
        return ""
    name = PurePosixPath(names.iloc[missing[0]]).name
    if name in folder_names(competition.train_images):
        return "it is a folder of images; write a row for each image in it, with its path as id."
    known = {PurePosixPath(image).name: image for image in competition.train_images}
    alike = {_shape(base): image for base, image in known.items()}.get(_shape(name))
    if alike:
        return (
            f"{alike} differs in capitals or the form of its accents alone; write it as the file is called."
        )
    image, _, word = name.rpartition("_")
    if len(missing) == len(names) and image and match_ids([image], competition.train_images) != [None]:
        return (
            f"the ids are an image and a label ('{image}', '{word}'); write a row for each image, with a "
            "column for each label."
        )
    near = difflib.get_close_matches(name, list(known)[:20_000], n=1, cutoff=0.75)
    hint = f"the nearest image is {known[near[0]]}; " if near and len(missing) == len(names) else ""
    return f"{hint}add the images, or remove these rows."
