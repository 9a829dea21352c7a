"""Labels in JSON: `answer.json` of the 80-class format, and COCO-style files."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from foldsmith.competition.folder import Competition, find_tables
from foldsmith.competition.label_form import LabelForm
from foldsmith.errors import InputError, first_of, refuse_wrong


def is_label_json(path: Path) -> bool:
    """Whether a JSON file looks like labels: an object with `annotations`."""
    try:
        document = parse_json(path)
    except InputError:
        return False
    return isinstance(document, dict) and "annotations" in document


def read_json_labels(path: Path, group_key: str = "") -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows (name, category, group) and the names of the categories, empty if the file names none.

    `name` is the image as the file writes it, `category` an integer as text, `group` that of `group_key`.
    Raises InputError for everything else.
    """
    document = parse_json(path)
    if not isinstance(document, dict) or "annotations" not in document:
        raise InputError(f"{path} has no 'annotations'; it must look like {{\"annotations\": [{{…}}, …]}}.")
    annotations = _list_of_objects(path, document, "annotations")
    if not annotations:
        raise InputError(f"{path}: 'annotations' is empty; it must give every training image a category.")
    coco = "images" in document and "file_name" not in annotations[0]
    name_key, category_key = ("image_id", "category_id") if coco else ("file_name", "category")
    for key in (name_key, category_key, *([group_key] if group_key else [])):
        _require_key(path, annotations, key, "annotation")
    names = [entry[name_key] for entry in annotations]
    if coco:
        names = _coco_names(path, document, names)
    total = len(names)
    wrong = [index for index, name in enumerate(names) if not isinstance(name, str) or not name.strip()]
    refuse_wrong(path, wrong, total, "annotation", "have a file name that is no text", "name the image.")
    categories = [_integer_text(entry[category_key]) for entry in annotations]
    wrong = [index for index, category in enumerate(categories) if category is None]
    example = "".join(f"{names[index]}: {annotations[index][category_key]!r}" for index in wrong[:1])
    what = f"have a '{category_key}' that is no integer"
    refuse_wrong(path, wrong, total, "annotation", what, "write whole numbers.", example)
    class_names = _category_names(path, document)
    if class_names:
        wrong = [index for index, category in enumerate(categories) if category not in class_names]
        what = "have a category that 'categories' does not list"
        refuse_wrong(path, wrong, total, "annotation", what, "list it.", "".join(names[i] for i in wrong[:1]))
    groups = [_group_text(entry[group_key]) if group_key else "" for entry in annotations]
    return pd.DataFrame({"name": names, "category": categories, "group": groups}), class_names


def parse_json(path: Path) -> Any:
    """The value of a JSON file from outside. Raises InputError if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once_only)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(
            f"{path} is not valid JSON ({where}); it may have been cut off, fetch it again."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except (OSError, RecursionError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); fetch it again.") from error


def _once_only(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises ValueError if a key stands twice: the first one would be lost."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key '{twice}' twice")
    return entries


def _list_of_objects(path: Path, document: dict, key: str) -> list[dict]:
    entries = document[key]
    if not isinstance(entries, list):
        raise InputError(f"{path}: '{key}' is a {type(entries).__name__}, it must be a list.")
    wrong = [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]
    refuse_wrong(path, wrong, len(entries), f"entry of '{key}'", "are no objects", 'write {"key": value, …}.')
    return entries


def _require_key(path: Path, entries: list[dict], key: str, unit: str) -> None:
    wrong = [index for index, entry in enumerate(entries) if key not in entry]
    refuse_wrong(path, wrong, len(entries), unit, f"have no '{key}'", "add it, or remove these entries.")


def _refuse_repeated(path: Path, ids: list[Any], key: str) -> None:
    repeated = [entry for entry, count in Counter(ids).items() if count > 1]
    if repeated:
        first = first_of(repeated, 1)
        raise InputError(f"{path}: '{key}' lists {len(repeated)} ids twice (first: {first}); list each once.")


def _coco_names(path: Path, document: dict, image_ids: list[Any]) -> list[Any]:
    """The file name of every annotation's image."""
    images = _list_of_objects(path, document, "images")
    for key in ("id", "file_name"):
        _require_key(path, images, key, "entry of 'images'")
    # an id may be a number or a text, and 1 is not "1"
    _refuse_repeated(path, [repr(image["id"]) for image in images], "images")
    file_names = {repr(image["id"]): image["file_name"] for image in images}
    wrong = [index for index, image_id in enumerate(image_ids) if repr(image_id) not in file_names]
    what = "have an 'image_id' that 'images' does not list"
    refuse_wrong(path, wrong, len(image_ids), "annotation", what, "list it.")
    return [file_names[repr(image_id)] for image_id in image_ids]


def _category_names(path: Path, document: dict) -> dict[str, str]:
    if document.get("categories") is None:
        return {}
    entries = _list_of_objects(path, document, "categories")
    ids = [_integer_text(entry.get("id")) for entry in entries]
    wrong = [index for index, category in enumerate(ids) if category is None]
    unit = "entry of 'categories'"
    refuse_wrong(path, wrong, len(entries), unit, "have no integer 'id'", "write whole numbers.")
    _refuse_repeated(path, ids, "categories")
    wrong = [index for index, entry in enumerate(entries) if not _is_name(entry.get("name", ""))]
    refuse_wrong(path, wrong, len(entries), unit, "have a 'name' that is no text", "write a text, or none.")
    return {category: str(entry.get("name", category)) for category, entry in zip(ids, entries, strict=True)}


def _is_name(value: Any) -> bool:
    """A text that can be written to a file: JSON can spell halves of a character, which cannot."""
    if isinstance(value, str):
        return not re.search("[\ud800-\udfff]", value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer_text(value: Any) -> str | None:
    """An integer, or its decimal text, in canonical form; None for everything else (true is no integer)."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return str(int(value)) if re.fullmatch(r"[+-]?[0-9]{1,18}", str(value).strip()) else None


def _group_text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _candidates(competition: Competition) -> list[Path]:
    return find_tables(competition.folder, ".json")


FORM = LabelForm(
    name="JSON",
    suffixes=(".json",),
    unit="annotation",
    candidates=_candidates,
    find=lambda competition, in_folders: [path for path in _candidates(competition) if is_label_json(path)],
    read=lambda path, competition: read_json_labels(path, competition.settings.group_column),
    parse=parse_json,
    unsupported=("label_column",),
)
