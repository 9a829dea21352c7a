"""Groups of images that belong together, such as those of one patient: read as set, or pointed out."""

import re
from pathlib import Path

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.listing import words_of
from foldsmith.competition.roles import column, image_columns, images_of_rows, is_sample_name
from foldsmith.competition.sample import test_tables
from foldsmith.competition.spellings import Names
from foldsmith.errors import InputError

# how columns are called whose values must not be split between training and held-out images
GROUP_WORDS = (
    "patient", "subject", "person", "driver", "user", "owner", "animal", "individual", "location", "site",
    "camera", "seq", "session", "scene", "study", "hotel", "group", "lesion", "slide", "case", "video",
    "clip", "plot", "field", "farm", "machine", "device", "scanner", "hospital", "institution", "donor",
    "plate", "experiment", "batch", "series", "place",
)  # fmt: skip
LARGEST_SHARE = 0.8  # of distinct values among images: above it hardly any value repeats


def read_groups(
    rows: pd.DataFrame, competition: Competition, labels_path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Return the label rows with a column `group`, and sentences; empty without a group column.

    The group column may be one of the label file, or of any other table that names the images. Raise
    InputError if no table has it, or if it does not name every labelled image.
    """
    name = competition.settings.group_column
    if "group" in rows and (name or rows["group"].any()):
        return rows, _without_group(rows, name)
    if not name:
        return rows.assign(group=""), []
    for path, table, images in _tables_of_images(competition):
        if name in table.columns:
            cells = column(table, name)
            _refuse_two_groups(competition.root / path, name, images, list(cells))
            groups = dict(zip(images, cells, strict=True))
            lacking = [image for image in rows["path"] if image not in groups]
            if lacking:
                raise InputError(
                    f"{competition.root / path} has no {name} for {len(lacking)} of {len(rows)} "
                    "labelled images "
                    f"(first: {lacking[0]}); add rows, or remove group_column from "
                    f"{competition.settings_path}."
                )
            rows = rows.assign(group=rows["path"].map(groups))
            return rows, [f"groups: column '{name}' of {path}", *_without_group(rows, name)]
    known = list(
        dict.fromkeys(name for _, table, _ in _tables_of_images(competition) for name in table.columns)
    )
    raise InputError(
        f"{competition.settings_path}: group_column is '{name}', but {labels_path} has no such "
        "column, nor has "
        f"another table that names the training images; their columns: {', '.join(known[:10]) or 'none'}."
    )


def _without_group(rows: pd.DataFrame, name: str) -> list[str]:
    """Return a sentence on images whose group is empty; none without any."""
    empty = rows.loc[rows["group"] == "", "path"]
    if empty.empty:
        return []
    return [
        f"'{name}' is empty for {len(empty):,} of {len(rows):,} images (first: {empty.iloc[0]}): each of "
        "them counts as a group of its own"
    ]


def _refuse_two_groups(source: Path, name: str, images: list[str], groups: list[str]) -> None:
    """Raise InputError if a table puts an image into two groups."""
    of_images: dict[str, str] = {}
    for image, group in zip(images, groups, strict=True):
        if of_images.setdefault(image, group) != group:
            raise InputError(
                f"{source} names {image} with two values of '{name}', '{of_images[image]}' and '{group}'; "
                "correct it, or set another group_column in competition.toml."
            )


def _tables_of_images(competition: Competition) -> list[tuple[str, pd.DataFrame, list[str]]]:
    """Return the tables that name half of the training images or more: path, those rows, their images."""
    found = []
    names = Names(competition.train_images)
    for path in competition.catalog.paths:
        table = competition.catalog.read(path)
        if table is None or table.empty or is_sample_name(path):
            continue
        ids = image_columns(table, names)
        if ids:
            images = images_of_rows(table, ids[0], competition.train_images)
            kept = [bool(image) for image in images]
            if sum(kept) >= len(competition.train_images) / 2:
                named = [image[0] for image in images if image]
                found.append((path, table[kept].drop(columns=ids[0]), named))
    return found


def find_group_candidates(competition: Competition, labels: pd.Series) -> list[str]:
    """Return a sentence on every column that could be the group, with its counts and the line that sets it.

    `labels` are the label cells by image. A candidate's values repeat, and it is called like a group, or none
    of its values is in the test list. Columns whose values occur in the test list as well are none.
    """
    sentences, seen = [], set()
    for path, table, images in _tables_of_images(competition):
        for name in dict.fromkeys(table.columns):
            values = pd.Series(list(column(table, name)), index=images)
            values = values[~values.index.duplicated()]
            sentence = _candidate(name, path, values[values != ""], competition, labels)
            if sentence and name not in seen:
                seen.add(name)
                sentences.append(sentence)
    return sentences


def _candidate(name: str, path: str, values: pd.Series, competition: Competition, labels: pd.Series) -> str:
    """Return the sentence on a column if it could be the group, else an empty text."""
    count = values.nunique()
    if (
        not 2 <= count <= LARGEST_SHARE * len(values)
        or values.str.fullmatch(r"-?\d*\.\d+(e-?\d+)?").mean() > 0.5
    ):
        return ""
    called = any(word.startswith(known) for word in words_of(name) for known in GROUP_WORDS)
    in_test = {cell for table in test_tables(competition) if name in table for cell in column(table, name)}
    shared = in_test & set(values)
    apart = bool(in_test) and not shared and count >= 5
    told_by_label = pd.DataFrame({"value": values, "label": labels}).dropna().drop_duplicates()
    same_as_label = told_by_label["value"].is_unique and told_by_label["label"].is_unique
    if len(shared) > len(in_test) / 2 or same_as_label or not (called or apart):
        return ""
    test = ", none of them in the test list" if in_test and not shared else ""
    return (
        f"'{name}' of {path} repeats: {count:,} values over {len(values):,} images "
        f"({len(values) / count:.1f} images a value{test}); to keep images of one value in one fold, set "
        f'group_column = "{re.sub(chr(34), chr(92) + chr(34), name)}" in {competition.settings_path}'
    )
