"""What a table is for: which of its columns names images, which labels them, which tells subsets apart."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import pandas as pd

from foldsmith.competition.listing import subset_of, words_of
from foldsmith.competition.spellings import Names, match_ids
from foldsmith.errors import InputError

ID_COLUMNS = (
    "id", "image_id", "image", "filename", "file_name", "file", "path", "img", "name", "image_name",
    "imageid", "id_code", "image_path", "filepath", "file_path",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "category", "target", "class_id", "category_id", "label_id", "y")
SUBSET_COLUMNS = ("split", "subset", "set", "partition", "phase", "usage", "dataset")
PROBE = 400  # rows that are looked at before a whole column is matched


def is_sample_name(path: str) -> bool:
    """Return whether a file is called like a sample submission."""
    return sample_rank(path) > 0


def sample_rank(path: str) -> int:
    """Return how much a file is called like a sample submission: 3 sample_submission, 0 not at all."""
    stem = PurePosixPath(path).stem.lower()
    plain = "".join(letter for letter in stem if letter.isalpha())
    if plain == "samplesubmission":
        return 4
    if "submission" in plain:
        return 3 if "sample" in plain or "format" in plain else 2
    return 1 if plain.startswith("sample") else 0


def is_test_name(path: str) -> bool:
    """Return whether a file is called like a list of the test images: test.csv, test/metadata.json."""
    pure = PurePosixPath(path)
    said = subset_of(pure.stem)
    words = words_of(pure.stem)
    if said or "train" in words or "test" in words:
        return said == "test"
    return next((subset_of(name) for name in reversed(pure.parts[:-1]) if subset_of(name)), "") == "test"


def column(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as stripped text; the first of a repeated name."""
    return table.iloc[:, list(table.columns).index(name)].str.strip()


def image_columns(table: pd.DataFrame, names: Names) -> list[str]:
    """Return the columns in which at least half of the cells name an image, the likeliest first.

    Columns with file names, also in another case or with another ending, come before columns with bare names
    or numbers, which could be row numbers.
    """
    full, loose, bare = [], [], []
    for name in dict.fromkeys(table.columns):
        cells = column(table, name)
        if max(names.share(cells[:PROBE])) < 0.2:
            if names.share_loosely(cells[:PROBE]) >= 0.5:
                loose.append(name)
            continue
        with_ending, either = names.share(cells)
        if with_ending >= 0.5:
            full.append(name)
        elif either >= 0.5:
            bare.append(name)
    if full or loose:
        return full or loose
    distinct = [name for name in bare if column(table, name).nunique() > len(table) / 2]
    bare = distinct or bare
    usual = [name for name in bare if name.strip().lower() in ID_COLUMNS]
    return usual or bare


def images_of_rows(table: pd.DataFrame, name: str, images: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the image that each row names in a column; nothing where ids are ambiguous."""
    try:
        matched = match_ids(column(table, name), images)
    except InputError:
        return [()] * len(table)
    return [() if image is None else (image,) for image in matched]


def subset_column(table: pd.DataFrame) -> str:
    """Return the column whose cells say train, val or test; empty if there is none."""
    for name in dict.fromkeys(table.columns):
        if name.strip().lower() in SUBSET_COLUMNS:
            said = {subset_of(cell.strip()) for cell in column(table, name).unique()}
            if "" not in said and "test" in said and len(said) > 1:
                return name
    return ""
