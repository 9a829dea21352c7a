"""Hypothesis strategies for mutated label files, sample submissions and settings, with known outcomes."""

import copy
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

LABELS = [index % 3 for index in range(12)]
NAMES = ["cat", "dog", "eel"]
READ, REFUSED, EITHER = "read", "refused", "either"


@dataclass(frozen=True)
class Case:
    """A mutated file: its name in the competition folder, its bytes, and the required outcome.

    `verdict` is READ (the mutations are harmless), REFUSED (one is harmful; the message must contain `key`),
    or EITHER.
    """

    name: str
    content: bytes
    verdict: str
    key: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        """Return the bytes of all files of the case by their name."""
        return {self.name: self.content}


# --- JSON: functions that change a document in place; harmful ones return what the error message must name

Draw = Callable[[st.SearchStrategy], Any]
ODD = st.sampled_from(
    [None, True, 1.0, 1e30, float("nan"), [], {}, "x", "", "1.0", "--1", "1e3", "²", 10**20]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 13) | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["0", "1", "0.png", "train/2.png", "../0.png", "/", ".", "id", "01", "1.0", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["id", "name", "file_name", "category"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def entry_of(draw: Draw, entries: list) -> dict:
    return entries[draw(st.integers(0, len(entries) - 1))]


def keys_of(document: dict) -> tuple[list[dict], str, str]:
    """Return the entries with file names, their key of the name, and the key of a category."""
    if "images" in document:
        return document["images"], "file_name", "category_id"
    return document["annotations"], "file_name", "category"


def shuffle(draw: Draw, document: dict) -> None:
    for key in document:
        draw(st.randoms(use_true_random=False)).shuffle(document[key])


def respell_categories(draw: Draw, document: dict) -> None:
    _, _, key = keys_of(document)
    for entry in document["annotations"]:
        form = draw(st.sampled_from(["{}", " {} ", "+{}", "0{}", "{}\n"]))
        entry[key] = form.format(entry[key])


def respell_names(draw: Draw, document: dict) -> None:
    entries, key, _ = keys_of(document)
    form = draw(st.sampled_from(["train/{}", "./{}", "train//{}", ".\\{}", "train\\{}"]))
    for entry in entries:
        entry[key] = form.format(entry[key])


def drop_extensions(draw: Draw, document: dict) -> None:
    entries, key, _ = keys_of(document)
    for entry in entries:
        entry[key] = entry[key].removesuffix(".png")


def add_keys(draw: Draw, document: dict) -> None:
    entry_of(draw, document["annotations"])["bbox"] = draw(st.lists(st.integers()))
    document["info"] = {"year": 2020}


def repeat(draw: Draw, document: dict) -> None:
    document["annotations"].append(dict(entry_of(draw, document["annotations"])))


HARMLESS_JSON = (shuffle, respell_categories, respell_names, drop_extensions, add_keys, repeat)


def odd_category(draw: Draw, document: dict) -> str:
    _, _, key = keys_of(document)
    entry_of(draw, document["annotations"])[key] = draw(ODD)
    return "annotation"


def lost_key(draw: Draw, document: dict) -> str:
    entry = entry_of(draw, document["annotations"])
    entry.pop(
        draw(st.sampled_from(sorted({"file_name", "category", "image_id", "category_id"} & set(entry))))
    )
    return "annotation"


def unlisted_category(draw: Draw, document: dict) -> str:
    _, _, key = keys_of(document)
    entry_of(draw, document["annotations"])[key] = draw(st.integers(3, 99))
    return "annotation"


def strange_name(draw: Draw, document: dict) -> str:
    entries, key, _ = keys_of(document)
    entry_of(draw, entries)[key] = draw(st.sampled_from(STRANGE_NAMES))
    return "annotation"


def contradiction(draw: Draw, document: dict) -> str:
    _, _, key = keys_of(document)
    entry = dict(entry_of(draw, document["annotations"]))
    entry[key] = str((int(entry[key]) + 1) % 3)
    document["annotations"].append(entry)
    return "train/"


def damaged_categories(draw: Draw, document: dict) -> str:
    damage = draw(st.integers(0, 4))
    if damage == 0:
        document["categories"].append({"id": "1", "name": "again"})
    elif damage == 1:
        entry_of(draw, document["categories"])["id"] = draw(ODD)
    elif damage == 2:
        entry_of(draw, document["categories"])["name"] = draw(st.sampled_from([None, True, [], "\udfff"]))
    elif damage == 3:
        document["categories"] = {"0": "cat"}
    else:
        document["categories"][draw(st.integers(0, 2))] = "cat"
    return "categories"


def one_class(draw: Draw, document: dict) -> str:
    _, _, key = keys_of(document)
    for entry in document["annotations"]:
        entry[key] = 1
    return "only one class"


def wrong_shape(draw: Draw, document: dict) -> str:
    document["annotations"] = draw(st.sampled_from([[], {}, None, "x", 3, ["0.png"], [[]]]))
    return "annotations"


STRANGE_NAMES = [
    "99.png", "../0.png", "/etc/passwd", "train/../0.png", "0.PNG", " 0.png", "", "\0", 3, None, "test/0.png",
    "\x1b[2J", "\ud800", "a\nb",
]  # fmt: skip
HARMFUL_JSON = (
    odd_category, lost_key, unlisted_category, strange_name, contradiction, damaged_categories, one_class,
    wrong_shape,
)  # fmt: skip


def document_of(form: str) -> dict[str, Any]:
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES)]
    if form == "answer":
        annotations = [{"file_name": f"{index}.png", "category": label} for index, label in enumerate(LABELS)]
        return {"annotations": annotations, "categories": categories}
    images = [{"id": 100 + index, "file_name": f"{index}.png"} for index in range(12)]
    annotations = [{"image_id": 100 + index, "category_id": label} for index, label in enumerate(LABELS)]
    return {"images": images, "annotations": annotations, "categories": categories}


def ways_in(value: Any, way: tuple = ()) -> list[tuple]:
    """Return the path of keys and indices to every node of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(deep for key, child in inner for deep in ways_in(child, (*way, key)))]


def replaced(value: Any, way: tuple, new: Any) -> Any:
    if not way:
        return new
    value = copy.copy(value)
    value[way[0]] = replaced(value[way[0]], way[1:], new)
    return value


def damage_bytes(draw: Draw, content: bytes) -> bytes:
    """Replace, remove or insert a few bytes, or cut off the end as a broken download does."""
    start = draw(st.integers(0, len(content)))
    if draw(st.booleans()):
        return content[:start]
    stop = draw(st.integers(start, min(start + 20, len(content))))
    return content[:start] + draw(st.binary(max_size=5)) + content[stop:]


@st.composite
def json_cases(draw: Draw, form: str) -> Case:
    document: Any = document_of(form)
    for mutate in draw(st.lists(st.sampled_from(HARMLESS_JSON), max_size=3, unique=True)):
        if not (mutate is drop_extensions and "\\" in str(document)):
            mutate(draw, document)
    kind, verdict, key = draw(st.sampled_from([READ, REFUSED, REFUSED, "node", "bytes"])), EITHER, ""
    if kind == READ:
        verdict = READ
    elif kind == REFUSED:
        verdict, key = REFUSED, draw(st.sampled_from(HARMFUL_JSON))(draw, document)
    elif kind == "node":
        for _ in range(draw(st.integers(1, 3))):
            document = replaced(document, draw(st.sampled_from(ways_in(document))), draw(VALUES))
    halves = "\\ud8" in json.dumps(document) or "\\udf" in json.dumps(document)  # UTF-8 cannot encode it
    ensure_ascii = draw(st.booleans()) or (verdict != EITHER and halves)
    text = json.dumps(document, indent=draw(st.sampled_from([None, 1])), ensure_ascii=ensure_ascii)
    content = text.encode("utf-8", "surrogatepass")
    if draw(st.booleans()) and "\n" in text:
        content = content.replace(b"\n", b"\r\n")
    if draw(st.booleans()):
        content = b"\xef\xbb\xbf" + content
    if kind == "bytes":
        content = damage_bytes(draw, content)
    return Case("answer.json" if form == "answer" else "train.json", content, verdict, key)


# --- tables and settings


HEADERS = [("id", "label"), ("filename", "class"), ("Image", "Target"), ("photo", "y")]
STRANGE_IDS = ["", "99.png", "../0.png", "/etc/passwd", "=1+1", "0.PNG", "\x1b[2J", "a\nb"]


@st.composite
def csv_cases(draw: Draw) -> Case:
    rows = [[f"{index}.png", NAMES[label]] for index, label in enumerate(LABELS)]
    header = list(draw(st.sampled_from(HEADERS)))
    kind, verdict, key = draw(st.sampled_from([READ, REFUSED, REFUSED, "bytes"])), EITHER, ""
    form = draw(st.sampled_from(["{}", "train/{}", " {} ", "./{}"]))
    bare = draw(st.booleans())
    rows = [[form.format(name.removesuffix(".png") if bare else name), label] for name, label in rows]
    if draw(st.booleans()):
        rows.append(list(rows[draw(st.integers(0, 11))]))
    draw(st.randoms(use_true_random=False)).shuffle(rows)
    if draw(st.booleans()):
        header, rows = [*header, "width"], [[*row, "300"] for row in rows]
    if header[0] in ("photo", "Image") and len(header) == 3:
        header[0] = "image"
    if draw(st.booleans()):
        header, rows = header[::-1], [row[::-1] for row in rows]
    id_at, label_at = (header.index(next(word for word in header if word not in skip)) for skip in (
        ("label", "class", "Target", "y", "width"),
        ("id", "filename", "Image", "image", "photo", "width"),
    ))  # fmt: skip
    if kind == READ:
        verdict = READ
    elif kind == REFUSED:
        verdict = REFUSED
        row = rows[draw(st.integers(0, len(rows) - 1))]
        harm = draw(st.integers(0, 9))
        key = "line"
        if harm == 0:
            row.append("more")
        elif harm == 1:
            row.pop()
        elif harm == 2:
            row[label_at] = draw(st.sampled_from(["", " ", "\t"]))
        elif harm == 3:
            row[id_at] = draw(st.sampled_from(STRANGE_IDS))
        elif harm == 4:
            rows.append(list(row))
            rows[-1][label_at] = NAMES[(NAMES.index(row[label_at]) + 1) % 3]
            key = "train/"
        elif harm == 5:
            header, rows, key = rows[0], rows[1:], ""
        elif harm == 6:
            for cells in rows:
                cells[label_at] = "cat"
            key = "only one class"
        elif harm == 7:
            header[label_at], key = header[id_at], ""
        elif harm == 8:
            rows, key = [], ""
        else:
            header, rows, key = header[:1], [cells[:1] for cells in rows], ""
    content = table_of(draw, [header, *rows])
    if kind == "bytes":
        content = damage_bytes(draw, content)
    return Case("labels.csv", content, verdict, key)


@st.composite
def lines_cases(draw: Draw) -> Case:
    """Draw JSON Lines, as Hugging Face's metadata.jsonl has them."""
    form = draw(st.sampled_from(["{}.png", "{}", "train/{}.png", "./{}.png"]))
    entries = [{"file_name": form.format(n), "label": NAMES[label]} for n, label in enumerate(LABELS)]
    draw(st.randoms(use_true_random=False)).shuffle(entries)
    kind, verdict, key = draw(st.sampled_from([READ, REFUSED, REFUSED, "bytes"])), EITHER, ""
    if kind == READ:
        verdict = READ
    elif kind == REFUSED:
        verdict, key = REFUSED, "line"
        entry = entries[draw(st.integers(0, 11))]
        harm = draw(st.integers(0, 4))
        if harm == 0:
            entry.pop(draw(st.sampled_from(["file_name", "label"])))
        elif harm == 1:
            entry["file_name"] = draw(st.sampled_from(STRANGE_IDS))
        elif harm == 2:
            entry["label"] = draw(st.sampled_from(["", " ", None]))
        elif harm == 3:
            entries.append({**entry, "label": NAMES[(NAMES.index(entry["label"]) + 1) % 3]})
            key = "train/"
        else:
            entries, key = [{**one, "label": "cat"} for one in entries], "only one class"
    ascii_only = draw(st.booleans())
    text = draw(st.sampled_from(["\n", "\r\n"])).join(
        json.dumps(one, ensure_ascii=ascii_only) for one in entries
    )
    content = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig"])))
    return Case("metadata.jsonl", damage_bytes(draw, content) if kind == "bytes" else content, verdict, key)


def table_of(draw: Draw, rows: list[list[str]], delimiter: str = ",") -> bytes:
    """Return the bytes of a CSV file, with one of the usual quotings, line endings and encodings."""
    file = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    csv.writer(file, lineterminator=ending, quoting=quoting, delimiter=delimiter).writerows(rows)
    text = file.getvalue() + draw(st.sampled_from(["", ending]))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig"])))


@st.composite
def sample_cases(draw: Draw) -> Case:
    cell_kind = draw(st.sampled_from(["category", "class_name", "placeholder", "probabilities"]))
    form = draw(st.sampled_from(["{}.png", "{}", "test/{}.png"]))
    order = draw(st.permutations(range(12)))
    if cell_kind == "probabilities":
        words = draw(st.sampled_from([["0", "1", "2"], NAMES]))
        header = ["id", *draw(st.permutations(words))]
        rows = [[form.format(index), *["0.3333"] * 3] for index in order]
    else:
        words = {"category": ["0", "1", "2"], "class_name": NAMES, "placeholder": ["?"]}[cell_kind]
        header = ["id", draw(st.sampled_from(["label", "id", "kind, of"]))]
        rows = [[form.format(index), draw(st.sampled_from(words))] for index in order]
    kind, verdict, key = draw(st.sampled_from([READ, REFUSED, REFUSED, "bytes"])), EITHER, ""
    if kind == READ:
        verdict = READ
    elif kind == REFUSED:
        verdict = REFUSED
        row = rows[draw(st.integers(0, 11))]
        harm = draw(st.integers(0, 6))
        if harm == 0:
            row.append("more")
        elif harm == 1:
            row.pop()
        elif harm == 2:
            row[0] = draw(st.sampled_from(STRANGE_IDS))
        elif harm == 3:
            rows.append(list(row))
        elif harm == 4:
            rows = []
        elif harm == 5 and cell_kind == "probabilities":
            header[draw(st.integers(1, 3))] = "yak"
        elif harm == 5:
            rows[0][1], rows[1][1] = "yak", "cat"
        elif cell_kind == "probabilities":
            header, rows = header[:-1], [cells[:-1] for cells in rows]
            header, rows = [*header, header[1]], [[*cells, "0"] for cells in rows]
        else:
            header, rows = rows[0], rows[1:]
    content = table_of(draw, [header, *rows])
    if kind == "bytes":
        content = damage_bytes(draw, content)
    return Case("sample_submission.csv", content, verdict, key)


SETTINGS = [
    "metric",
    "labels",
    "id_column",
    "label_column",
    "group_column",
    "label_columns",
    "task",
    "sample",
]
SETTINGS += ["train_images", "files", "positive", "submission"]
SETTINGS += ["metrik", "id_colum", "labels.x", '"labels"', "metric.name"]
ODD_VALUES = [
    "3",
    "true",
    "[]",
    '["a", "b"]',
    '["a", 3]',
    '"binary"',
    '"ranked"',
    "{}",
    "1979-05-27",
    "1979-13-99",
    "'text'",
    '"""a\nb"""',
    "nan",
    '"\\ud800"',
]
ODD_VALUES += ["1" * 5000, "[" * 5000]


@st.composite
def settings_cases(draw: Draw) -> Case:
    texts = st.sampled_from(
        ["accuracy", "macro_f1", "log_loss", "patient", "labels.csv", "", "Gerät", "../x"]
    )
    values = texts.map(json.dumps) | st.sampled_from(ODD_VALUES)
    lines = draw(st.lists(st.tuples(st.sampled_from(SETTINGS), values), max_size=4))
    text = "".join(f"{key} = {value}\n" for key, value in lines)
    text = draw(st.sampled_from(["", "# a comment\n", "[table]\n", "\ufeff"])) + text
    content = text.encode()
    if draw(st.booleans()):
        content = damage_bytes(draw, content)
    return Case("competition.toml", content, EITHER)
