"""The label format JSON: `answer.json` of study 1, and COCO-style files."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.spellings import Names, match_ids
from foldsmith.competition.tables import parse_json
from foldsmith.errors import Entries, InputError, first_of

# what the keys of images and of categories are called
IMAGE_KEYS = ("id", "image_id")
CATEGORY_KEYS = ("id", "category_id")
NAME_KEYS = ("name", "scientificName", "scientific_name", "category_name")


def has_annotations(document: Any) -> bool:
    """Return whether a JSON document looks like labels: an object with `annotations`."""
    return isinstance(document, dict) and "annotations" in document


def is_valid(competition: Competition, path: str) -> bool:
    """Return whether a file is valid JSON, of whatever content."""
    return path in competition.catalog.documents


def find_label_documents(competition: Competition) -> list[str]:
    """Return the JSON files whose annotations name training images: one, or several of different images.

    Raise InputError if several annotate the same images.
    """
    names = Names(competition.train_images)
    fitting: dict[str, set[str]] = {}
    for path, document in competition.catalog.documents.items():
        named = _file_names(document) if has_annotations(document) else []
        if named and max(names.share(named)) >= 0.5:
            try:
                fitting[path] = set(filter(None, match_ids(named, competition.train_images)))
            except InputError:
                fitting[path] = set(competition.train_images)
    if sum(map(len, fitting.values())) > len(set().union(*fitting.values())):
        first, second = list(fitting)[:2]
        raise InputError(
            f"{competition.folder} has several label files ({first_of(fitting)}); set labels = "
            f'"{first}" or labels = "{second}" in {competition.settings_path}.'
        )
    return list(fitting)


def faulty_documents(competition: Competition) -> list[str]:
    """Return the JSON files that are invalid, or whose annotations name no training images."""
    documents = competition.catalog.documents
    paths = [path for path in competition.catalog.paths if path.lower().endswith(".json")]
    return [path for path in paths if path not in documents or has_annotations(documents[path])]


def _file_names(document: dict) -> list[str]:
    """Return the file names of annotated images as far as they can be read; `read_json_labels` is strict."""
    annotations = document["annotations"] if isinstance(document["annotations"], list) else []
    annotations = [entry for entry in annotations if isinstance(entry, dict)]
    images = document.get("images") if isinstance(document.get("images"), list) else []
    files = {
        repr(image[key]): image["file_name"]
        for image in images
        if isinstance(image, dict) and "file_name" in image
        for key in IMAGE_KEYS
        if key in image
    }
    found = [entry.get("file_name", files.get(repr(entry.get("image_id")))) for entry in annotations]
    return [name for name in found if isinstance(name, str)]


def read_json_labels(path: Path, group_key: str = "") -> tuple[pd.DataFrame, dict[str, str]]:
    """Return rows (name, category, group) and the names of the categories, empty if the file names none.

    `name` is the image as the file writes it, `category` an integer as text, `group` the value of
    `group_key`. Raise InputError for a file of any other structure.
    """
    document, annotations = _read_annotations(path)
    coco = "images" in document and "file_name" not in annotations[0]
    name_key, category_key = ("image_id", "category_id") if coco else ("file_name", "category")
    entries = Entries(path, len(annotations), "annotation")
    for key in (name_key, category_key):
        _require_key(entries, annotations, key)
    groups = _groups(entries, document, group_key, coco) if group_key else [""] * len(annotations)
    names = [annotation[name_key] for annotation in annotations]
    if coco:
        names = _coco_names(entries, document, names)
    # half of a surrogate pair is no text: pandas cannot hold it where pyarrow is installed
    texts = [isinstance(name, str) and bool(name.strip()) and _is_name(name) for name in names]
    wrong = [index for index, is_text in enumerate(texts) if not is_text]
    entries.refuse(wrong, "have a file name that is not text", "name the image.")
    categories = _read_categories(entries, annotations, category_key, names)
    class_names = _category_names(path, document)
    if class_names:
        _refuse_unlisted(entries, categories, class_names, names)
    return pd.DataFrame({"name": names, "category": categories, "group": groups}), class_names


def _groups(entries: Entries, document: dict, key: str, coco: bool) -> list[str]:
    """Return the group of every annotation: a key of annotations, or of their images in COCO's form."""
    annotations = document["annotations"]
    images = document["images"] if coco and isinstance(document["images"], list) else []
    if not any(key in entry for entry in annotations) and any(key in image for image in images):
        _require_key(Entries(entries.path, len(images), "entry of 'images'"), images, key)
        values = {repr(image.get(_key_of(images, IMAGE_KEYS))): image[key] for image in images}
        return [_group_text(values.get(repr(entry["image_id"]))) for entry in annotations]
    _require_key(entries, annotations, key)
    return [_group_text(entry[key]) for entry in annotations]


def _key_of(objects: list[dict], keys: tuple[str, ...]) -> str:
    """Return the first of these keys that the first object has; the first key if it has none."""
    return next((key for key in keys if objects and key in objects[0]), keys[0])


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
    id_key = _key_of(images, IMAGE_KEYS)
    for key in (id_key, "file_name"):
        _require_key(Entries(annotations.path, len(images), "entry of 'images'"), images, key)
    # an id may be a number or text, and 1 is not "1"
    _refuse_repeated(annotations.path, [repr(image[id_key]) for image in images], "images")
    file_names = {repr(image[id_key]): image["file_name"] for image in images}
    wrong = [index for index, image_id in enumerate(image_ids) if repr(image_id) not in file_names]
    texts = {str(image[id_key]) for image in images}
    mixed = bool(wrong) and all(str(image_ids[index]) in texts for index in wrong)
    remedy = "write ids as text in both or as numbers in both." if mixed else "list it."
    annotations.refuse(wrong, "have an 'image_id' that 'images' does not list", remedy)
    return [file_names[repr(image_id)] for image_id in image_ids]


def _category_names(path: Path, document: dict) -> dict[str, str]:
    """Return the name of every listed category by its id; empty if the file lists none."""
    if document.get("categories") is None:
        return {}
    categories = _list_of_objects(path, document, "categories")
    entries = Entries(path, len(categories), "entry of 'categories'")
    id_key, name_key = _key_of(categories, CATEGORY_KEYS), _key_of(categories, NAME_KEYS)
    ids = [_integer_text(category.get(id_key)) for category in categories]
    entries.refuse(
        [at for at, number in enumerate(ids) if number is None],
        f"have no integer '{id_key}'",
        "write whole numbers.",
    )
    _refuse_repeated(path, ids, "categories")
    wrong = [at for at, category in enumerate(categories) if not _is_name(category.get(name_key, ""))]
    entries.refuse(wrong, "have a 'name' that is not text", "write text, or remove the name.")
    return {
        number: str(category.get(name_key, number)) for number, category in zip(ids, categories, strict=True)
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
