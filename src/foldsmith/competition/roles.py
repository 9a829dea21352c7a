"""What a table is for: which of its columns names images, which labels them, which tells subsets apart."""

import re
from collections.abc import Collection, Sequence
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
LABEL_WORDS = {"label", "labels", "class", "classes", "category", "categories", "target", "targets"}
# columns of boxes in images: xmin, x1, Roi.X1, bbox_x2, Bbox [x, w], width
BOX = re.compile(
    r"(bbox|box|roi)?[\W_]*([xywh][\W_]*(min|max|[0-9]|center)?|(min|max)[xy]|left|right|top|bottom|width|height)"
    r"[\W_]*|bbox|boxes",
    re.I,
)
LIKELY_LABELS = {
    "diagnosis", "dx", "species", "breed", "disease", "emotion", "genre", "tags", "attribute", "attributes",
    "type", "finding", "grade", "score", "rating", "name", "variety", "family",
}  # fmt: skip
MOST_CLASSES = 200
SUBSET_COLUMNS = ("split", "subset", "set", "partition", "phase", "usage", "dataset", "data set")
SUBSET_WORDS = {"split", "partition", "subset"}  # in a longer name, as train_test_split
CODES = {"0": "train", "1": "val", "2": "test"}  # as in CelebA's partition
# columns of yes and no -> the subset where it is no, and where it is yes
SUBSET_FLAGS = {"is valid": ("train", "val"), "is val": ("train", "val"), "is test": ("train", "test"),
                "is train": ("test", "train"), "is training": ("test", "train"),
                "train test split": ("test", "train")}  # fmt: skip
TRUE, FALSE = {"1", "1.0", "true"}, {"0", "0.0", "false"}
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


def is_box_column(name: str) -> bool:
    """Return whether a column is called like a side or corner of a box in an image."""
    return BOX.fullmatch(name.strip()) is not None


def is_like_label(name: str) -> bool:
    """Return whether a column's name ends with a word for labels, as in `Finding Labels` or ClassId."""
    words = [word for word in words_of(name) if word not in ("id", "name", "names", "idx", "index")]
    return bool(words) and words[-1] in LABEL_WORDS


def likely_labels(table: pd.DataFrame, apart: Collection[str]) -> list[str]:
    """Return the columns that look like labels, the likeliest first: their words repeat, and are no measures.

    `apart` are the columns that hold something else.
    """
    found = {}
    for name in dict.fromkeys(table.columns):
        cells = column(table, name)
        count = cells.nunique()
        fractions = cells.str.fullmatch(r"-?\d*\.\d*[1-9]\d*").mean() > 0.1
        if (
            name in apart
            or is_box_column(name)
            or fractions
            or not 2 <= count <= min(MOST_CLASSES, len(table) / 2)
        ):
            continue
        known = is_like_label(name) or bool(LIKELY_LABELS & set(words_of(name)))
        text = bool(cells.str.contains(r"[^\W\d]").mean() > 0.5)
        found[name] = (not known, not text)
    return sorted(found, key=found.get)


def column(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as stripped text; the first of a repeated name."""
    return table.iloc[:, list(table.columns).index(name)].str.strip()


def joined_cells(table: pd.DataFrame) -> pd.Series:
    """Return the cells of each row, with spaces between them."""
    first, *others = (table.iloc[:, index].astype(str) for index in range(table.shape[1]))
    return first.str.cat([other.to_numpy() for other in others], sep=" ") if others else first


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
    """Return the column whose cells say training, validation or test; empty if there is none."""
    for name in dict.fromkeys(table.columns):
        said = {subset for subset in set(subset_cells(table, name))}
        if "" not in said and len(said) > 1:
            return name
    return ""


def subset_cells(table: pd.DataFrame, name: str) -> list[str]:
    """Return what each cell of a column says: train, val or test; empty texts for a column of another kind.

    Understood are words, 0, 1 and 2 in a column called like a partition, and yes or no in one such as
    is_valid.
    """
    words, cells = words_of(name), column(table, name).str.lower()
    flags, distinct = SUBSET_FLAGS.get(" ".join(words)), set(cells)
    if flags and distinct <= TRUE | FALSE:
        return [flags[cell in TRUE] for cell in cells]
    if name.strip().lower() not in SUBSET_COLUMNS and not SUBSET_WORDS & set(words):
        return [""] * len(cells)
    codes = CODES if distinct == CODES.keys() else {cell: subset_of(cell) for cell in distinct}
    return [codes[cell] for cell in cells]
