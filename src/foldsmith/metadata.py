"""Label files of every form, read into one table of samples."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from foldsmith.competition import Competition, match_ids, natural_key, read_table, sample_submission_path
from foldsmith.errors import InputError, first_of

ID_COLUMNS = ("id", "image_id", "image", "filename", "file_name", "file", "path", "img", "name", "image_name")
LABEL_COLUMNS = ("label", "class", "category", "target", "class_id", "category_id", "label_id", "y")


@dataclass(frozen=True)
class Metadata:
    """The labelled training images.

    `samples` has `path`, `label` (class index), `class_name`, `category` (as the label file writes it) and
    `group`, in natural order of the path; `classes` has `label`, `category`, `class_name`, one row a class;
    `repeated` are the images named more than once, always with the same label.
    """

    source: str
    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]


def read_metadata(competition: Competition) -> Metadata:
    """Reads the labels of a competition folder. Raises InputError if they are not whole and consistent."""
    path = find_label_file(competition)
    names: dict[str, str] = {}
    if path is None:
        source = "the folders under train/"
        rows = _read_class_folders(competition)
    else:
        source = path.name
        if path.suffix.lower() == ".json":
            rows, names = _read_json(path, competition.settings.group_column)
        else:
            rows = _read_csv(path, competition)
        rows["path"] = _resolve(path, rows["name"], competition)
    return _build_metadata(path or competition.folder / "train", source, rows, names)


def find_label_file(competition: Competition) -> Path | None:
    """The one settings name, answer.json, another JSON, or a CSV that fits; None for class folders."""
    folder, settings = competition.folder, competition.settings
    if settings.labels:
        path = folder / settings.labels
        if PurePosixPath(settings.labels).name != settings.labels or not path.is_file():
            raise InputError(
                f"{folder / 'competition.toml'}: labels names '{settings.labels}', not a file in {folder}."
            )
        return path
    if (folder / "answer.json").is_file():
        return folder / "answer.json"
    found = sorted(folder.glob("*.json")) or _csv_candidates(competition)
    if len(found) > 1:
        names = first_of([path.name for path in found])
        raise InputError(
            f"{folder} holds several label files ({names}); "
            f'write labels = "FILE" in {folder / "competition.toml"}.'
        )
    return found[0] if found else None


def _csv_candidates(competition: Competition) -> list[Path]:
    """The CSVs whose ids name training images; without class folders any CSV, so that its fault is told."""
    sample = sample_submission_path(competition.folder)
    tables = [path for path in sorted(competition.folder.glob("*.csv")) if path != sample]
    fitting = []
    for path in tables:
        table = read_table(path)
        columns = _label_columns(table, competition)
        if columns and any(match_ids(table[columns[0]].head(1000), competition.train_images)):
            fitting.append(path)
    has_class_folders = any(
        "/" in PurePosixPath(image).relative_to("train").as_posix() for image in competition.train_images
    )
    return fitting or ([] if has_class_folders else tables)


def _label_columns(table: pd.DataFrame, competition: Competition) -> tuple[str, str] | None:
    """The id and label columns of a CSV, or None if they cannot be told."""
    columns, settings = list(table.columns), competition.settings
    lowered = {column.lower(): column for column in reversed(columns)}
    label = settings.label_column or next((lowered[name] for name in LABEL_COLUMNS if name in lowered), "")
    id_column = settings.id_column or next((lowered[name] for name in ID_COLUMNS if name in lowered), "")
    if len(columns) == 2:
        id_column = id_column or next(column for column in columns if column != label)
        label = label or next(column for column in columns if column != id_column)
    known = id_column in columns and label in columns and id_column != label
    return (id_column, label) if known else None


def _read_csv(path: Path, competition: Competition) -> pd.DataFrame:
    table = read_table(path)
    columns = _label_columns(table, competition)
    if columns is None:
        raise InputError(
            f"{path}: no id and label column found among {first_of(table.columns, 10)}; "
            "name them in competition.toml (id_column, label_column)."
        )
    if table.empty:
        raise InputError(f"{path} has a header but no rows; it may have been cut off.")
    group = competition.settings.group_column
    if group and group not in table.columns:
        raise InputError(
            f"{path} has no group column '{group}'; its columns are {first_of(table.columns, 10)}."
        )
    rows = pd.DataFrame({"name": table[columns[0]].str.strip(), "category": table[columns[1]].str.strip()})
    rows["group"] = table[group] if group else ""
    for column, meaning in (("name", columns[0]), ("category", columns[1])):
        _refuse(
            path,
            rows.index[rows[column] == ""] + 2,
            "line",
            f"have an empty '{meaning}'",
            "fill them in.",
            len(rows),
        )
    return rows


def _read_class_folders(competition: Competition) -> pd.DataFrame:
    inside = [PurePosixPath(image).relative_to("train") for image in competition.train_images]
    rows = pd.DataFrame(
        {
            "path": competition.train_images,
            "category": [path.parts[0] if len(path.parts) > 1 else "" for path in inside],
            "group": "",
        }
    )
    rows = rows[rows["category"] != ""].reset_index(drop=True)
    if rows.empty:
        raise InputError(
            f"{competition.folder} has no labels: neither answer.json, nor a COCO-style JSON, nor a CSV with "
            "an id and a label column, nor one folder a class under train/."
        )
    return rows


def _read_json(path: Path, group_key: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows of name, category and group, and the names of the categories; answer.json and COCO-style files."""
    document = _parse_json(path)
    if not isinstance(document, dict) or "annotations" not in document:
        raise InputError(f"{path} has no 'annotations'; it must look like {{\"annotations\": [{{…}}, …]}}.")
    annotations = _list_of_objects(path, document, "annotations")
    if not annotations:
        raise InputError(
            f"{path}: 'annotations' is empty; it must name every training image with its category."
        )
    coco = "images" in document and "file_name" not in annotations[0]
    name_key, category_key = ("image_id", "category_id") if coco else ("file_name", "category")
    for key in (name_key, category_key, *([group_key] if group_key else [])):
        wrong = [index for index, entry in enumerate(annotations) if key not in entry]
        _refuse(
            path,
            wrong,
            "annotation",
            f"have no '{key}'",
            "add it, or remove these entries.",
            len(annotations),
        )
    names = [entry[name_key] for entry in annotations]
    if coco:
        names = _coco_names(path, document, names)
    wrong = [index for index, name in enumerate(names) if not isinstance(name, str) or not name.strip()]
    _refuse(path, wrong, "annotation", "have a file name that is no text", "name the image file.", len(names))
    categories = [_integer(entry[category_key]) for entry in annotations]
    for index, category in enumerate(categories):
        if category is None:
            count = categories.count(None)
            raise InputError(
                f"{path}: {count} of {len(categories)} annotations have a '{category_key}' that is no "
                f"integer (first: annotation {index}, {names[index]}: {annotations[index][category_key]!r}); "
                "write whole numbers."
            )
    class_names = _category_names(path, document)
    if class_names:
        wrong = [index for index, category in enumerate(categories) if category not in class_names]
        _refuse(
            path,
            wrong,
            "annotation",
            "have a category that 'categories' does not list",
            "list it.",
            len(names),
        )
    groups = [str(entry[group_key]) if group_key else "" for entry in annotations]
    return pd.DataFrame({"name": names, "category": categories, "group": groups}), class_names


def _parse_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(
            f"{path} is not valid JSON ({where}); it may have been cut off, fetch it again."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); fetch it again.") from error


def _list_of_objects(path: Path, document: dict, key: str) -> list[dict]:
    entries = document[key]
    if not isinstance(entries, list):
        raise InputError(f"{path}: '{key}' is a {type(entries).__name__}, it must be a list.")
    wrong = [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]
    _refuse(path, wrong, f"entry of '{key}'", "are no objects", 'write {"key": value, …}.', len(entries))
    return entries


def _coco_names(path: Path, document: dict, image_ids: list[Any]) -> list[Any]:
    images = _list_of_objects(path, document, "images")
    wrong = [index for index, image in enumerate(images) if "id" not in image or "file_name" not in image]
    _refuse(path, wrong, "entry of 'images'", "have no 'id' or no 'file_name'", "add them.", len(images))
    file_names = {repr(image["id"]): image["file_name"] for image in images}
    wrong = [index for index, image_id in enumerate(image_ids) if repr(image_id) not in file_names]
    _refuse(
        path,
        wrong,
        "annotation",
        "have an 'image_id' that 'images' does not list",
        "list it.",
        len(image_ids),
    )
    return [file_names[repr(image_id)] for image_id in image_ids]


def _category_names(path: Path, document: dict) -> dict[str, str]:
    if document.get("categories") is None:
        return {}
    entries = _list_of_objects(path, document, "categories")
    ids = [_integer(entry.get("id")) for entry in entries]
    wrong = [index for index, category in enumerate(ids) if category is None]
    _refuse(
        path, wrong, "entry of 'categories'", "have no integer 'id'", "write whole numbers.", len(entries)
    )
    twice = [category for category, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: 'categories' lists {len(twice)} ids twice (first: {twice[0]}); list each once."
        )
    return {
        str(category): str(entry.get("name", category)) for category, entry in zip(ids, entries, strict=True)
    }


def _integer(value: Any) -> str | None:
    """An integer, or its decimal string, in canonical form; None for everything else (true is no integer)."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip()
    return str(int(text)) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def _resolve(path: Path, names: pd.Series, competition: Competition) -> list[str]:
    """The image of every row. Raises InputError for names that leave the folder or name no image."""
    parts = names.map(lambda name: PurePosixPath(name.replace("\\", "/")))
    leaving = [index for index, part in enumerate(parts) if part.is_absolute() or ".." in part.parts]
    _refuse(path, leaving, "row", "name a file outside train/", "name files inside it.", len(names), names)
    images = match_ids([part.as_posix() for part in parts], competition.train_images)
    missing = [index for index, image in enumerate(images) if image is None]
    _refuse(
        path, missing, "row", f"name an image that is not in {competition.folder / 'train'}",
        "add the images, or remove these rows.", len(names), names,
    )  # fmt: skip
    return [image for image in images if image is not None]


def _build_metadata(path: Path, source: str, rows: pd.DataFrame, names: dict[str, str]) -> Metadata:
    """Classes in the order of their numbers or names, samples in natural order; repeated rows once."""
    rows = rows[["path", "category", "group"]]
    named_again = sorted(set(rows.loc[rows["path"].duplicated(), "path"]), key=natural_key)
    rows = rows.drop_duplicates()
    repeated = rows[rows["path"].duplicated(keep=False)].sort_values("path")
    if not repeated.empty:
        image = repeated["path"].iloc[0]
        labels = " and ".join(repeated.loc[repeated["path"] == image, "category"])
        raise InputError(
            f"{path}: {repeated['path'].nunique()} images have two different labels or groups "
            f"(first: {image}: {labels}); keep one of them."
        )
    categories = sorted({*rows["category"], *names}, key=natural_key)
    if all(_integer(category) is not None for category in categories):
        categories.sort(key=int)
    if len(categories) < 2:
        raise InputError(f"{path} knows only one class ({categories[0]}); there is nothing to tell apart.")
    classes = pd.DataFrame({"label": range(len(categories)), "category": categories})
    classes["class_name"] = [names.get(category, category) for category in categories]
    samples = rows.merge(classes, on="category").set_index("path").loc[sorted(rows["path"], key=natural_key)]
    columns = ["path", "label", "class_name", "category", "group"]
    return Metadata(source, samples.reset_index()[columns], classes, named_again)


def _refuse(
    path: Path,
    wrong: Iterable[int],
    unit: str,
    what: str,
    remedy: str,
    total: int,
    names: pd.Series | None = None,
) -> None:
    """Raises InputError, with count and first example, if anything is wrong."""
    wrong = list(wrong)
    if wrong:
        first = f"{unit} {wrong[0]}" + (f", '{names.iloc[wrong[0]]}'" if names is not None else "")
        raise InputError(f"{path}: {len(wrong)} of {total} {unit}s {what} (first: {first}); {remedy}")
