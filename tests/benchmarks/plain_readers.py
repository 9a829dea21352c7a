"""Independent oracles: minimal readers of label and settings files that share no code with foldsmith."""

import csv
import io
import json
import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any


def image_of(names: list[str], subset: str) -> list[str] | None:
    """Return the image that each name refers to; None unless all names have the same form."""
    paths = [[word for word in name.replace("\\", "/").split("/") if word not in ("", ".")] for name in names]
    if any(name.startswith(("/", "\\")) or ".." in words for name, words in zip(names, paths, strict=True)):
        return None
    for form in ("{}.png", "{}", f"{subset}/{{}}.png", f"{subset}/{{}}", "{}.PNG", "{}.jpg"):
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
    lists = ("label_columns", "train_images", "test_images", "files", "grades")
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


# --- contests: label table, sample submission and test list
YES, NO = {"1", "1.0", "true", "yes", "y", "t"}, {"0", "0.0", "false", "no", "n", "f"}
SEPARATORS = (" ", ",", ";", "|")
REST = "the rest"
Truth = str | frozenset[str] | tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Form:
    """What a contest is about: its task, the label columns, and what the cells of its sample are.

    `kind` is one of the names in `KINDS`. `separator` divides labels in the label table, `between` those in
    the sample. `length` is the number of ranked labels where the sample shows one.
    """

    task: str
    kind: str
    columns: tuple[str, ...]
    positive: str = ""
    separator: str = " "
    between: str = " "
    length: int = 0

    def truth(self, cells: Sequence[str], columns: Sequence[str]) -> Truth | None:
        """Return what the label cells of a row say; None if nothing."""
        cells = [re.sub(r"^([01])\.0*$", r"\1", cell.strip()) for cell in cells]
        if self.task == "regression":
            numbers = [plain_number(cell) for cell in cells]
            names = columns if len(columns) > 1 else [""]
            return None if None in numbers else tuple(sorted(zip(names, numbers, strict=True)))
        if len(cells) == 1:
            tokens = [plain_word(token) for token in self.split(cells[0])]
            return frozenset(tokens) if self.task == "multilabel" else plain_word(cells[0]) or None
        flags = [cell.lower() in YES for cell in cells]
        if not all(cell.lower() in YES | NO for cell in cells):
            return None
        true = [name.strip() for name, flag in zip(columns, flags, strict=True) if flag]
        return frozenset(true) if self.task == "multilabel" else true[0] if len(true) == 1 else None

    def split(self, cell: str) -> list[str]:
        if cell.startswith("[") and cell.endswith("]"):
            return [token.strip().strip("'") for token in cell[1:-1].split(",") if token.strip()]
        return tokens_of(cell, self.separator)


def tokens_of(cell: str, separator: str) -> list[str]:
    tokens = cell.split(None if separator == " " else separator)
    return [token.strip() for token in tokens if token.strip()]


def plain_number(cell: str) -> float | None:
    return (
        float(cell) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?", cell, re.IGNORECASE) else None
    )


def plain_word(word: str) -> str:
    """Return a word as classes are told apart: 1.0 is 1."""
    return re.sub(r"\.0*$", "", word) if re.fullmatch(r"[+-]?\d+\.0*", word) else word


def alike(word: str, category: str) -> bool:
    """Return whether a word could be a way to write a class."""
    shapes = [one.strip().casefold().replace("_", " ") for one in (word, category)]
    numbers = [plain_number(shape) for shape in shapes]
    if None not in numbers:
        return numbers[0] == numbers[1]
    return shapes[0] == shapes[1] or any(set(shapes) <= answers for answers in (YES, NO))


def possible_truths(
    content: bytes, form: Form, columns: Sequence[str], kept: str = ""
) -> list[dict[str, Truth]]:
    """Return every possible reading of a label table in which `columns` hold the labels.

    Classes other than `kept`, if there is one, are read as one: the rest.
    """
    rows = lines_of(content)
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return []
    header, found = [name.strip() for name in rows[0]], []
    if not set(columns) <= set(header) or (
        set(form.columns) <= set(header) and {*columns} != {*form.columns}
    ):
        return []
    ats = [header.index(name) for name in columns]
    for id_at in set(range(len(header))) - set(ats):
        images = image_of([row[id_at].strip() for row in rows[1:]], "train") or []
        truths = [form.truth([row[at] for at in ats], columns) for row in rows[1:]]
        truths = [REST if kept and truth not in (kept, None) else truth for truth in truths]
        pairs = set(zip(images, truths, strict=False))
        if images and len(dict(pairs)) == len(pairs) and None not in truths:
            found.append(dict(pairs))
    return found


def rows_of_sample(files: dict[str, bytes]) -> list[tuple[list[str], tuple[str, ...]]] | None:
    """Return cells and test images of every row of the sample; None if they are unknown.

    Ids that are no file names are those of the test list, if there is one.
    """
    rows = lines_of(files["sample_submission.csv"])
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return None
    rows = [[cell.strip() for cell in row] for row in rows[1:]]
    ids = [row[0] for row in rows]
    direct = image_of(ids, "test")
    if "test.csv" not in files or any("." in name for name in ids):
        return direct and [(row, (image,)) for row, image in zip(rows, direct, strict=True)]
    table = lines_of(files["test.csv"])
    if not table or any(len(row) != len(table[0]) for row in table):
        return None
    cells = [[row[at].strip() for row in table[1:]] for at in range(len(table[0]))]
    for names in cells:
        images = image_of(names, "test") if any("." in name for name in names) else None
        for keys in cells if images else ():
            if set(ids) <= set(keys):
                pairs = list(zip(keys, images, strict=True))
                return [
                    (row, tuple(dict.fromkeys(image for key, image in pairs if key == row[0])))
                    for row in rows
                ]
    return None


def form_of(form: Form, files: dict[str, bytes]) -> Form:
    """Return what a contest asks for now.

    One number in all rows that are left of a sample is a probability. In a small table one row in which not
    one of the columns is set makes them independent.
    """
    table = lines_of(files["train.csv"]) or [[]]
    header = [name.strip() for name in table[0]]
    if form.kind == "exclusive" and len(form.columns) > 1 and set(form.columns) <= set(header):
        cells = [[row[header.index(name)].strip() for name in form.columns] for row in table[1:]]
        flags = [[cell.lower() in YES for cell in row] for row in cells if set(row) <= YES | NO]
        if len(flags) == len(cells) and any(sum(row) != 1 for row in flags):
            shown = {tuple(row[1:]) for row in (lines_of(files["sample_submission.csv"]) or [])[1:]}
            mixed = len(shown) > 1 and {cell for row in shown for cell in row} == {"0", "1"}
            return replace(form, task="multilabel", kind="flags" if mixed else "columns")
    rows = lines_of(files["sample_submission.csv"]) or []
    shown = {row[1].strip() for row in rows[1:] if len(row) == 2}
    number = plain_number(shown.pop()) if len(shown) == 1 else None
    told = form.task != "multiclass" or form.kind != "label" or "competition.toml" in files
    if told or number is None or not 0 <= number <= 1:
        return form
    return replace(form, task="binary", kind="probability", positive="1")


def classes_of_columns(columns: Sequence[str], categories: Sequence[str]) -> list[int] | None:
    """Return the class that each column names, also after a prefix of all; None if one names none."""
    columns = [column.strip() for column in columns]
    if len(columns) == len(categories) == 1:
        return [0]
    prefix = re.sub(r"\d+$", "", os.path.commonprefix(list(columns)))
    for names in (columns, [column.removeprefix(prefix) for column in columns]):
        if set(names) <= set(categories) and len(set(names)) == len(names):
            return [list(categories).index(name) for name in names]
    return None


def spelled_right(word: str, category: str, vocabulary: Iterable[str]) -> bool:
    """Return whether a class is written as in the sample, or like itself if the sample does not have it."""
    known = {other for other in vocabulary if alike(other, category)}
    return word in known if known else alike(word, category)


def fault_of_cells(
    form: Form,
    sample: list[list[str]],
    cells: Sequence[str],
    chances: Sequence[float],
    categories: Sequence[str],
) -> str:
    """Return what is wrong with the written cells of a row; empty if nothing.

    `sample` are header and rows of the sample; `chances` are the predictions of the row by class.
    """
    header, *shown = sample
    if form.kind == "probability":
        yes = [
            chance for chance, category in zip(chances, categories, strict=True) if category == form.positive
        ]
        return "" if any(abs(float(cells[0]) - chance) < 1e-6 for chance in yes or chances) else f"not {yes}"
    if form.kind in ("exclusive", "columns", "values", "flags"):
        classes = classes_of_columns(header[1:], categories)
        if classes is None:
            return "the columns are no classes"
        expected = [chances[label] for label in classes]
        if form.kind == "flags":
            known = [cell for row in shown for cell in row[1:]]
            right = [spelled_right(cell, str(int(chance >= 0.5)), known)
                     for cell, chance in zip(cells, expected, strict=True)]  # fmt: skip
        else:
            right = [abs(float(cell) - chance) < 1e-5 for cell, chance in zip(cells, expected, strict=True)]
        return "" if all(right) else f"not {expected}"
    lists = [[row[1]] if form.kind == "label" else tokens_of(row[1], form.between) for row in shown]
    known, most = {word for words in lists for word in words}, max(map(len, lists))
    if form.kind == "set":
        classes = [label for label, chance in enumerate(chances) if chance >= 0.5]
    elif form.kind == "ranked":
        length = min(most if most > 1 else form.length, len(categories))
        classes = sorted(range(len(chances)), key=lambda label: -chances[label])[:length]
    elif form.task == "ordinal":
        classes = [int(sum(grade * chance for grade, chance in enumerate(chances)) + 0.5)]
    else:
        classes = [max(range(len(chances)), key=lambda label: chances[label])]
    expected = [categories[label] for label in classes]
    # a sample without lists does not say what divides them
    ways = [[cells[0]]] if form.kind == "label" else [
        tokens_of(cells[0], one) for one in ([form.between] if most > 1 else SEPARATORS)
    ]  # fmt: skip
    right = any(
        len(words) == len(expected) and all(map(spelled_right, words, expected, [known] * len(words)))
        for words in ways
    )
    return "" if right else f"not {expected}"
