"""Independent oracles: minimal readers of label and settings files that share no code with foldsmith."""

import csv
import io
import json
import tomllib
from typing import Any


def image_of(names: list[str], subset: str) -> list[str] | None:
    """Return the image that each name refers to; None unless all names have the same form."""
    paths = [[word for word in name.replace("\\", "/").split("/") if word not in ("", ".")] for name in names]
    if any(name.startswith(("/", "\\")) or ".." in words for name, words in zip(names, paths, strict=True)):
        return None
    for form in ("{}.png", "{}", f"{subset}/{{}}.png", f"{subset}/{{}}"):
        spelled = {form.format(index): f"{subset}/{index}.png" for index in range(12)}
        if all("/".join(words) in spelled for words in paths):
            return [spelled["/".join(words)] for words in paths]
    return None


def whole_number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip()
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def once_only(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def true_labels_of_json(content: bytes) -> dict[str, str] | None:
    """Return the class name of every labelled image; None if the file must be refused."""
    try:
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=once_only)
        annotations = document["annotations"]
        first = annotations[0]
        coco = "images" in document and "file_name" not in first
        if coco:
            ids = [repr(image["id"]) for image in document["images"]]
            names_by_id = {repr(image["id"]): image["file_name"] for image in document["images"]}
            if len(set(ids)) < len(ids):
                return None
            names = [names_by_id[repr(entry["image_id"])] for entry in annotations]
        else:
            names = [entry["file_name"] for entry in annotations]
        labels = [whole_number(entry["category_id" if coco else "category"]) for entry in annotations]
        listed = {}
        for entry in [] if document.get("categories") is None else document["categories"]:
            number, name = whole_number(entry.get("id")), entry.get("name", "")
            if number is None or number in listed or isinstance(name, bool):
                return None
            if not isinstance(name, (str, int, float)) or (isinstance(name, str) and "\\ud" in ascii(name)):
                return None
            listed[number] = str(entry.get("name", number))
        if not isinstance(document.get("categories"), (list, type(None))) or not isinstance(
            annotations, list
        ):
            return None
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    if not all(isinstance(name, str) and name.strip() for name in names) or None in labels:
        return None
    images = image_of(names, "train")
    if images is None or (listed and not set(labels) <= set(listed)) or len(set(labels)) < 2:
        return None
    labels_of: dict[str, set[int]] = {}
    for image, label in zip(images, labels, strict=True):
        labels_of.setdefault(image, set()).add(label)
    if any(len(found) > 1 for found in labels_of.values()):
        return None
    return {image: listed.get(label, str(label)) for image, (label,) in labels_of.items()}


def lines_of(content: bytes) -> list[list[str]] | None:
    """Return the rows of a table in UTF-8 or, without control characters, Windows-1252; None for no table."""
    try:
        try:
            text = content.decode("utf-8-sig")
        except ValueError:
            text = content.decode("cp1252")
            if any(ord(char) < 32 and char not in "\t\r\n" or ord(char) == 127 for char in text):
                return None
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = next((char for char in ",;\t|" if char in first), ",")
        return [
            row for row in csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter) if row
        ]
    except (ValueError, csv.Error):
        return None


def possible_labels_of_csv(content: bytes) -> list[dict[str, str]]:
    """Return every possible reading of a CSV."""
    return possible_labels(lines_of(content))


def possible_labels_of_lines(content: bytes) -> list[dict[str, str]]:
    """Return every possible reading of JSON Lines."""
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
        entries = [json.loads(line, object_pairs_hook=once_only) for line in lines]
        columns = list(dict.fromkeys(key for entry in entries for key in entry))
        cells = [[entry.get(column) for column in columns] for entry in entries]
    except (ValueError, RecursionError, AttributeError, TypeError):
        return []
    return possible_labels(
        [columns, *([cell if isinstance(cell, str) else "" for cell in row] for row in cells)]
    )


def possible_labels(rows: list[list[str]] | None) -> list[dict[str, str]]:
    """Return every possible reading: each pair of a column that names images and one that labels them."""
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return []
    found = []
    for id_at in range(len(rows[0])):
        for label_at in set(range(len(rows[0]))) - {id_at}:
            images = image_of([row[id_at].strip() for row in rows[1:]], "train")
            pairs = {
                (image, row[label_at].strip()) for image, row in zip(images or [], rows[1:], strict=False)
            }
            if pairs and len(dict(pairs)) == len(pairs) and all(label for _, label in pairs):
                found.append(dict(pairs))
    return found


def true_settings(content: bytes, metrics: tuple[str, ...]) -> dict[str, str] | None:
    """Return the settings of a competition.toml; None if it must be refused."""
    texts = ("task", "metric", "labels", "id_column", "label_column", "label_separator", "group_column")
    texts += ("positive", "sample", "submission")
    lists = ("label_columns", "train_images", "test_images", "files")
    known = {**dict.fromkeys(texts, ""), **dict.fromkeys(lists, ())}
    try:
        found = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    for key in set(found) & set(lists):
        found[key] = (found[key],) if isinstance(found[key], str) else found[key]
        if not isinstance(found[key], (list, tuple)) or not all(
            isinstance(one, str) and one for one in found[key]
        ):
            return None
        found[key] = tuple(found[key])
    if not set(found) <= set(known) or not all(
        isinstance(found[key], str) for key in set(found) & set(texts)
    ):
        return None
    words = {
        "metric": metrics,
        "task": ("multiclass", "binary", "multilabel", "ordinal", "regression"),
        "submission": ("labels", "probabilities", "ranked", "values"),
    }
    if any(found[key] not in words[key] for key in set(found) & set(words)):
        return None
    return None if found.get("label_column") and found.get("label_columns") else {**known, **found}
