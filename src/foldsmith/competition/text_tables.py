"""Text files without a header that are tables: an image and its label a line, numbered lists, class names."""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition.listing import words_of
from foldsmith.competition.roles import SUBSET_WORDS
from foldsmith.competition.spellings import Names
from foldsmith.natural_order import natural_key

HEAD = 60  # lines that are looked at before a whole file is read
NAMED = 0.9  # share of the lines that name an image, in a table of images
LONGEST = 10_000_000  # lines
MOST_NAMES = 100_000  # of classes
LABEL_WORDS = {"label", "labels", "class", "classes", "category", "categories"}
# words in the name of a file that lists the names of classes
LIST_WORDS = {*LABEL_WORDS, "names", "synset", "synsets", "words", "mapping", "species"}


def read_text_tables(root: Path, paths: Iterable[str], images: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the text files that are tables, by path, with columns named by what they hold.

    They are tables of images, in which one column names an image (`image`, and `label` if there is one other
    column); lists of class names (`id`, `name`); and numbered lists such as those of CUB-200, `1 001.A/x.jpg`
    beside `1 3`, which are joined to the list of the images.
    """
    names, tables, numbered = Names(images), {}, {}
    for path in sorted(paths, key=natural_key):
        if PurePosixPath(path).suffix.lower() != ".txt" or not (root / path).is_file():
            continue
        head = _lines(root / path, HEAD)
        column = _image_column(_cells(head), names)
        if column is not None:
            rows = _cells(_lines(root / path, LONGEST))
            if rows:
                tables[path] = _table_of_images(path, rows, column, names)
        elif (rows := _cells(head)) and {len(row) for row in rows} == {2} and rows[0][0].isdigit():
            numbered[path] = dict(_cells(_lines(root / path, LONGEST)))
        if path not in tables and LIST_WORDS & set(words_of(PurePosixPath(path).stem)):
            listed = _class_names(_lines(root / path, MOST_NAMES + 1))
            if listed is not None and len(listed) <= MOST_NAMES:
                tables[path] = listed
    return {path: _joined(table, path, numbered) for path, table in tables.items()}


def _lines(path: Path, count: int) -> list[str]:
    """Return the first lines of a file, without empty ones, comments, and a first line with their number."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [line.strip() for line in itertools.islice(file, count)]
    lines = [line for line in lines if line and not line.startswith("#")]
    return lines[1:] if lines and lines[0].isdigit() and len(lines) > 2 and not lines[1].isdigit() else lines


def _cells(lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of lines, all of one length: between tabs, commas or spaces.

    Where lines between spaces have different lengths, the first word is one cell and the rest the other.
    Return no rows if a line has one cell only.
    """
    if not lines:
        return []
    delimiter = next((mark for mark in "\t,;" if all(mark in line for line in lines)), None)
    rows = [[cell.strip() for cell in line.split(delimiter)] for line in lines]
    if len({len(row) for row in rows[1:]}) > 1:
        rows = [line.split(None, 1) for line in lines]
    elif len(rows) > 2 and len(rows[0]) == len(rows[1]) - 1:  # a header without a name for the images
        rows[0] = ["image", *rows[0]]
    lengths = {len(row) for row in rows}
    return rows if len(lengths) == 1 and lengths != {1} else []


def _image_column(rows: Sequence[Sequence[str]], names: Names) -> int | None:
    """Return the column whose cells name images, the header left aside; None if there is none."""
    for column in range(len(rows[0]) if rows else 0):
        cells = [row[column] for row in (rows[1:] if len(rows) > 2 else rows)]
        if max(names.share(cells)) >= NAMED and not all(cell.isdigit() for cell in cells):
            return column
    for column in range(len(rows[0]) if rows else 0):
        cells = [row[column] for row in rows]
        if max(names.share(cells)) >= NAMED and len(set(cells)) > len(cells) / 2 and len(cells[0]) > 3:
            return column
    return None


def _table_of_images(path: str, rows: list[list[str]], column: int, names: Names) -> pd.DataFrame:
    """Return the rows of a file with an image a line; a header is read if the first line names no image."""
    header = rows[0] if max(names.share([rows[0][column]])) == 0 else None
    rows = rows[1:] if header else rows
    frame = pd.DataFrame(rows, index=range(1, len(rows) + 1), dtype=str)
    if header:
        return frame.set_axis(header, axis=1)
    titles = [f"column {number}" for number in range(1, frame.shape[1] + 1)]
    titles[column] = "image"
    if len(titles) == 2:
        cells, other = frame.iloc[:, 1 - column], 1 - column
        if SUBSET_WORDS & set(words_of(path)):
            titles[other] = "split"
        elif cells.nunique() <= max(len(cells) / 2, 2):  # a number that never repeats counts the lines
            titles[other] = "label"
    return frame.set_axis(titles, axis=1)


def _class_names(lines: Sequence[str]) -> pd.DataFrame | None:
    """Return the table of a list of class names, `id` and `name`; None if it is none.

    A line is a key and a name, or a name alone, whose key is the number of its line from 0. Such a list
    names classes only if all its numbers are classes, which `attrs` says.
    """
    pairs = [re.split(r"\t|,|\s", line, maxsplit=1) for line in lines]
    named = all(len(pair) == 2 and any(map(str.isalpha, pair[1])) for pair in pairs)
    if pairs and named and len({key for key, _ in pairs}) == len(pairs):
        table = pd.DataFrame(pairs, columns=["id", "name"], dtype=str)
        return table.map(str.strip)
    if (
        len(lines) < 2
        or len(set(lines)) < len(lines)
        or not all(any(map(str.isalpha, line)) for line in lines)
    ):
        return None
    table = pd.DataFrame({"id": [str(number) for number in range(len(lines))], "name": list(lines)})
    table.attrs["complete"] = True
    return table


def _joined(table: pd.DataFrame, path: str, numbered: dict[str, dict[str, str]]) -> pd.DataFrame:
    """Return a numbered list of images with a column for each list of the same numbers beside it."""
    if list(table.columns) != ["column 1", "image"] or not table["column 1"].is_unique:
        return table
    folder, keys = PurePosixPath(path).parent, table["column 1"]
    for other, values in numbered.items():
        if PurePosixPath(other).parent == folder and values.keys() == set(keys):
            stem = PurePosixPath(other).stem
            name = "label" if LABEL_WORDS & set(words_of(stem)) else stem
            table[name if name not in table else stem] = keys.map(values)
    return table.rename(columns={"column 1": "number"})
