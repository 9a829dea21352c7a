"""Tables of every format, read as text cells: CSV and its dialects, JSON Lines, JSON lists of objects."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd

from foldsmith.competition.listing import subset_of
from foldsmith.errors import Entries, InputError

if TYPE_CHECKING:
    from foldsmith.competition.long_form import LongForm

DELIMITERS = (",", ";", "\t", "|")
SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)
TAB_SUFFIXES = (".tsv", ".tab")
CELL_LIMIT = 2**31 - 1  # characters; the csv module's own limit is 131,072
JSON_SUFFIXES = (".json",)
JSON_LINES = (".jsonl", ".ndjson")


def read_table(path: Path) -> pd.DataFrame:
    """Read a user's table with every cell as text; the index is the line or entry of the row.

    Delimiters are commas, semicolons, tabs or bars, where the first line does not say it as `sep=;`. The
    encoding is UTF-8, or UTF-16 with a byte order mark, or, failing these, Windows-1252. Raise InputError if
    it is not a valid table, or if a row and the header differ in length.
    """
    if path.suffix.lower() in JSON_LINES:
        return _read_json_lines(path)
    if path.suffix.lower() in JSON_SUFFIXES:
        return _frame_of_objects(path, parse_json(path))
    text, encoding = _read_text(path)
    said = SEPARATOR_LINE.match(text)  # with which spreadsheets begin a table
    delimiter = said[1] if said else delimiter_of(text, path.suffix.lower())
    default = csv.field_size_limit(CELL_LIMIT)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        lines = [(reader.line_num, cells) for cells in reader if cells][1 if said else 0 :]
    except csv.Error as error:
        raise InputError(f"{path} is not a valid CSV file: {error}.") from error
    finally:
        csv.field_size_limit(default)
    if not lines:
        raise InputError(f"{path} is not a valid CSV file: it is empty.")
    header, rows = lines[0][1], lines[1:]
    uneven = [line for line, cells in rows if len(cells) != len(header)]
    what = f"have more or fewer cells than the header, {len(header)}"
    Entries(path, len(rows), "line").refuse(uneven, what, "correct them (a text with commas needs quotes).")
    table = pd.DataFrame(
        [cells for _, cells in rows], columns=header, index=[line for line, _ in rows], dtype=str
    )
    table.attrs["encoding"] = encoding
    return table


def _read_text(path: Path) -> tuple[str, str]:
    """Return a file's text and its encoding. Raise InputError if it is no text."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} is not a valid CSV file: {error}.") from error
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in content and not marked:
        raise InputError(f"{path} is not a valid CSV file: it holds bytes of zero; save it as UTF-8.")
    try:
        return (content.decode("utf-16"), "UTF-16") if marked else (content.decode("utf-8-sig"), "UTF-8")
    except UnicodeDecodeError as error:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            text = "\0"
        if not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
            return text, "Windows-1252"
        raise InputError(f"{path} is not a valid CSV file: {error}.") from error


def delimiter_of(text: str, suffix: str = ".csv") -> str:
    """Return the delimiter of a table: a comma, unless the first line has none and has another one.

    In a file named .tsv it is a tab, if the first line has one.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    if suffix in TAB_SUFFIXES and "\t" in first:
        return "\t"
    found = [delimiter for delimiter in DELIMITERS if delimiter in first]
    return found[0] if found else ","


def parse_json(path: Path) -> Any:
    """Return the value of a user's JSON file. Raise InputError if it is not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(
            f"{path} is not valid JSON ({where}); it may be truncated; download it again."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except (OSError, RecursionError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); download it again.") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return these pairs as a dictionary. Raise ValueError for a repeated key: it would lose a value."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key '{twice}' twice")
    return entries


def _read_json_lines(path: Path) -> pd.DataFrame:
    """Return a table of JSON Lines, one object a line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8.") from error
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entries.append(json.loads(line, object_pairs_hook=_unique_keys))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path} is not valid JSON Lines (line {number}: {error}); download it again."
            ) from error
    return _frame_of_objects(path, entries)


def _frame_of_objects(path: Path, document: Any) -> pd.DataFrame:
    """Return a JSON document as a table: a list of objects, the `images` of a COCO file, or a dictionary.

    A dictionary of lists has a row for each entry of a list.
    """
    if isinstance(document, dict) and isinstance(document.get("images"), list):
        document = document["images"]
    if isinstance(document, dict) and document and all(map(_is_plain, document.values())):
        document = [{"key": key, "value": value} for key, value in document.items()]
    elif isinstance(document, dict) and document and all(map(_is_list, document.values())):
        # {"cat": ["0.jpg", …]}, {"0.jpg": ["cat", …]} or {"train": ["0.jpg", …]}
        names = ("split", "image") if all(map(subset_of, document)) else ("key", "value")
        pairs = [(key, value) for key, values in document.items() for value in values]
        document = [dict(zip(names, pair, strict=True)) for pair in pairs]
    if not isinstance(document, list) or not document or not all(isinstance(row, dict) for row in document):
        raise InputError(f"{path} is no table: neither a list of objects nor an object with 'images'.")
    columns = list(dict.fromkeys(key for row in document for key in row))
    if not columns:
        raise InputError(f"{path} is no table: its objects are empty.")
    rows = [[cell_text(row.get(column)) for column in columns] for row in document]
    try:
        return pd.DataFrame(rows, columns=columns, index=range(1, len(rows) + 1), dtype=str)
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
        raise InputError(f"{path} holds text that is not Unicode ({error.reason}); correct it.") from error


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_plain, value))


def cell_text(value: Any) -> str:
    """Return a JSON value as the text of a cell: a list of plain values joined by spaces, null empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(map(_is_plain, value)):
        return " ".join(map(str, value))
    return json.dumps(value)


class Catalog:
    """The tables of a root, parsed once. `paths` are POSIX paths below `root`; `read` are read already.

    `long` are the forms of tables that are read in another shape than they are written (`long_form`).
    """

    def __init__(self, root: Path, paths: list[str], read: Mapping[str, pd.DataFrame] | None = None) -> None:
        self.root, self.paths = root, [*paths, *(read or {})]
        self._read: dict[str, pd.DataFrame | InputError] = dict(read or {})
        self.long: dict[str, LongForm] = {}

    def read(self, path: str) -> pd.DataFrame | None:
        """Return a table, or None for a file that is none; `fault` says why."""
        if path not in self._read:
            try:
                self._read[path] = read_table(self.root / path)
            except InputError as error:
                self._read[path] = error
        table = self._read[path]
        return None if isinstance(table, InputError) else table

    def replace(self, path: str, table: pd.DataFrame, form: "LongForm") -> None:
        """Read a table in another shape from here on."""
        self._read[path], self.long[path] = table, form

    def fault(self, path: str) -> InputError | None:
        """Return what is wrong with a file that is no table; None if it is one."""
        self.read(path)
        fault = self._read[path]
        return fault if isinstance(fault, InputError) else None

    @cached_property
    def documents(self) -> dict[str, Any]:
        """Return the valid JSON documents by path."""
        documents = {}
        for path in self.paths:
            if PurePosixPath(path).suffix.lower() in JSON_SUFFIXES:
                try:
                    documents[path] = parse_json(self.root / path)
                except InputError:
                    continue  # `fault` reports it
        return documents
