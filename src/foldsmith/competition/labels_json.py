"""The label format JSON: `answer.json` of study 1, and COCO-style files."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from foldsmith.competition.folder import Competition, find_tables
from foldsmith.competition.label_form import LabelForm
from foldsmith.errors import Entries, InputError, first_of


def is_label_json(path: Path) -> bool:
    """Return whether a JSON file looks like labels: an object with `annotations`."""
    try:
        document = parse_json(path)
    except InputError:
        return False
    return isinstance(document, dict) and "annotations" in document


def read_json_labels(path: Path, group_key: str = "") -> tuple[pd.DataFrame, dict[str, str]]:
    """Return rows (name, category, group) and the names of the categories, empty if the file names none.

    `name` is the image as the file writes it, `category` an integer as text, `group` the value of
    `group_key`. Raise InputError for a file of any other structure.
    """
    document, annotations = _read_annotations(path)
    coco = "images" in document and "file_name" not in annotations[0]
    name_key, category_key = ("image_id", "category_id") if coco else ("file_name", "category")
    entries = Entries(path, len(annotations), "annotation")
    for key in filter(None, (name_key, category_key, group_key)):
        _require_key(entries, annotations, key)
    names = [annotation[name_key] for annotation in annotations]
    if coco:
        names = _coco_names(entries, document, names)
    wrong = [index for index, name in enumerate(names) if not isinstance(name, str) or not name.strip()]
    entries.refuse(wrong, "have a file name that is not text", "name the image.")
    categories = _read_categories(entries, annotations, category_key, names)
    class_names = _category_names(path, document)
    if class_names:
        _refuse_unlisted(entries, categories, class_names, names)
    groups = [_group_text(annotation[group_key]) if group_key else "" for annotation in annotations]
    return pd.DataFrame({"name": names, "category": categories, "group": groups}), class_names


def _read_annotations(path: Path) -> tuple[dict[str, Any], list[dict]]:
    """Return the whole document and its annotations, at least one."""
    document = parse_json(path)
    if not isinstance(document, dict) or "annotations" not in document:
        raise InputError(f"{path} has no 'annotations'; write {{\"annotations\": [{{…}}, …]}}.")
    annotations = _list_of_objects(path, document, "annotations")
    if not annotations:
        raise InputError(f"{path}: 'annotations' is empty; list every training image with its category.")
    return document, annotations


def _read_categories(entries: Entries, annotations: list[dict], key: str, names: list[str]) -> list[str]:
    """Return the category of every annotation, an integer as text. Raise InputError if one is not integer."""
    categories = [_integer_text(annotation[key]) for annotation in annotations]
    wrong = [index for index, category in enumerate(categories) if category is None]
    example = "".join(f"{names[index]}: {annotations[index][key]!r}" for index in wrong[:1])
    entries.refuse(wrong, f"have a '{key}' that is not an integer", "write whole numbers.", example)
    return [category for category in categories if category is not None]


def _refuse_unlisted(
    entries: Entries, categories: list[str], class_names: dict[str, str], names: list[str]
) -> None:
    """Raise InputError if a category is missing from the file's `categories`."""
    wrong = [index for index, category in enumerate(categories) if category not in class_names]
    example = "".join(names[index] for index in wrong[:1])
    entries.refuse(wrong, "have a category that 'categories' does not list", "list it.", example)


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


def _list_of_objects(path: Path, document: dict, key: str) -> list[dict]:
    """Return the list of objects under `key`. Raise InputError if it is anything else."""
    entries = document[key]
    if not isinstance(entries, list):
        raise InputError(f"{path}: '{key}' is a {type(entries).__name__}; it must be a list.")
    wrong = [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]
    Entries(path, len(entries), f"entry of '{key}'").refuse(
        wrong, "are not objects", 'write {"key": value, …}.'
    )
    return entries


def _require_key(entries: Entries, objects: list[dict], key: str) -> None:
    """Raise InputError if an object lacks `key`."""
    wrong = [index for index, entry in enumerate(objects) if key not in entry]
    entries.refuse(wrong, f"have no '{key}'", "add it, or remove these entries.")


def _refuse_repeated(path: Path, ids: list[Any], key: str) -> None:
    """Raise InputError if an id occurs more than once."""
    repeated = [entry for entry, count in Counter(ids).items() if count > 1]
    if repeated:
        first = first_of(repeated, 1)
        raise InputError(
            f"{path}: '{key}' lists {len(repeated)} ids more than once (first: {first}); remove the repeats."
        )


def _coco_names(annotations: Entries, document: dict, image_ids: list[Any]) -> list[Any]:
    """Return the file name of every annotation's image. Raise InputError for an id without an image."""
    images = _list_of_objects(annotations.path, document, "images")
    for key in ("id", "file_name"):
        _require_key(Entries(annotations.path, len(images), "entry of 'images'"), images, key)
    # an id may be a number or text, and 1 is not "1"
    _refuse_repeated(annotations.path, [repr(image["id"]) for image in images], "images")
    file_names = {repr(image["id"]): image["file_name"] for image in images}
    wrong = [index for index, image_id in enumerate(image_ids) if repr(image_id) not in file_names]
    annotations.refuse(wrong, "have an 'image_id' that 'images' does not list", "list it.")
    return [file_names[repr(image_id)] for image_id in image_ids]


def _category_names(path: Path, document: dict) -> dict[str, str]:
    """Return the name of every listed category by its id; empty if the file lists none."""
    if document.get("categories") is None:
        return {}
    categories = _list_of_objects(path, document, "categories")
    entries = Entries(path, len(categories), "entry of 'categories'")
    ids = [_integer_text(category.get("id")) for category in categories]
    entries.refuse(
        [at for at, number in enumerate(ids) if number is None],
        "have no integer 'id'",
        "write whole numbers.",
    )
    _refuse_repeated(path, ids, "categories")
    wrong = [at for at, category in enumerate(categories) if not _is_name(category.get("name", ""))]
    entries.refuse(wrong, "have a 'name' that is not text", "write text, or remove the name.")
    return {
        number: str(category.get("name", number)) for number, category in zip(ids, categories, strict=True)
    }


def _is_name(value: Any) -> bool:
    """Return whether a value can be a class name: a number, or text without lone surrogates.

    JSON can spell half of a surrogate pair, which no file can hold.
    """
    if isinstance(value, str):
        return not re.search("[\ud800-\udfff]", value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer_text(value: Any) -> str | None:
    """Return an integer, or its decimal text, in canonical form; None for any other value, and for true."""
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
