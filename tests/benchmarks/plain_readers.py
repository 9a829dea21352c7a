"""What a mutated file says, by readers of a few lines that share nothing with foldsmith."""

import csv
import io
import json
import tomllib
from typing import Any


def image_of(names: list[str], part: str) -> list[str] | None:
    """The image every name stands for, if all are written in one way."""
    parts = [[word for word in name.replace("\\", "/").split("/") if word not in ("", ".")] for name in names]
    if any(name.startswith(("/", "\\")) or ".." in words for name, words in zip(names, parts, strict=True)):
        return None
    for form in ("{}.png", "{}", f"{part}/{{}}.png", f"{part}/{{}}"):
        spelled = {form.format(index): f"{part}/{index}.png" for index in range(12)}
        if all("/".join(words) in spelled for words in parts):
            return [spelled["/".join(words)] for words in parts]
    return None


def whole_number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip()
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def once_only(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def true_labels_of_json(content: bytes) -> dict[str, str] | None:
    """The class name of every labelled image; None where the contract has the file refused."""
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
    told: dict[str, set[int]] = {}
    for image, label in zip(images, labels, strict=True):
        told.setdefault(image, set()).add(label)
    if any(len(each) > 1 for each in told.values()):
        return None
    return {image: listed.get(label, str(label)) for image, (label,) in told.items()}


def lines_of(content: bytes) -> list[list[str]] | None:
    try:
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        return [row for row in csv.reader(text, strict=True) if row]
    except (ValueError, csv.Error):
        return None


def possible_labels_of_csv(content: bytes) -> list[dict[str, str]]:
    """What the labels can be: by every two columns of which one names images, the other a class of each."""
    rows = lines_of(content)
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
    """The settings a competition.toml gives; None where the contract has it refused."""
    known = {"metric": "accuracy", "labels": "", "id_column": "", "label_column": "", "group_column": ""}
    try:
        told = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not set(told) <= set(known) or not all(isinstance(value, str) for value in told.values()):
        return None
    return {**known, **told} if told.get("metric", "accuracy") in metrics else None
