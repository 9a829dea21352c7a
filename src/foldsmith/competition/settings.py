"""The settings of `competition.toml`: what decides where a folder can be read in two ways."""

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from foldsmith.errors import InputError, unknown_name
from foldsmith.tasks.metrics import find_metric, is_custom
from foldsmith.tasks.task import CONFIDENT

FILE_NAME = "competition.toml"
TASK_NAMES = ("multiclass", "binary", "multilabel", "ordinal", "regression")
SUBMISSION_KINDS = ("labels", "probabilities", "ranked", "values", CONFIDENT)
LISTS = ("label_columns", "train_images", "test_images", "files", "grades")


@dataclass(frozen=True)
class Settings:
    """The keys of `competition.toml`; what is empty is found by evidence.

    `labels` is the label file, "folders" or "names", or a folder pattern with `{label}` for the class.
    `train_images` and `test_images` are folders or patterns. `files` are the files of one image.
    `grades` are the labels of the task ordinal, the lowest first.
    """

    task: str = ""
    metric: str = ""
    labels: str = ""
    id_column: str = ""
    label_column: str = ""
    label_columns: tuple[str, ...] = ()
    label_separator: str = ""
    group_column: str = ""  # images with the same value are in the same fold; empty: no groups
    train_images: tuple[str, ...] = ()
    test_images: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    positive: str = ""
    grades: tuple[str, ...] = ()
    sample: str = ""
    submission: str = ""

    @property
    def target_columns(self) -> tuple[str, ...]:
        """Return the label columns, whichever of the two keys names them."""
        return self.label_columns or ((self.label_column,) if self.label_column else ())


def read_settings(folder: Path) -> Settings:
    """Read `competition.toml`, if there is one. Raise InputError for unknown keys and wrong values."""
    path = folder / FILE_NAME
    if not path.is_file():
        return Settings()
    text = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except (OSError, ValueError, RecursionError) as error:  # tomllib's own error is a ValueError
        bare = re.search(r"^\s*(\w+)\s*=\s*([^\W\d][\w.-]*)\s*$", text, re.MULTILINE)
        hint = f' Text needs quotes: {bare[1]} = "{bare[2]}".' if bare else ""
        raise InputError(f"{path} is not valid TOML: {error}.{hint}") from error
    known = [field.name for field in fields(Settings)]
    for key in values:
        if key not in known:
            raise unknown_name(f"key in {path}:", key, known)
    settings = Settings(**{key: _checked(path, key, value) for key, value in values.items()})
    if settings.label_column and settings.label_columns:
        raise InputError(f"{path} has both label_column and label_columns; keep one of them.")
    for kind, name, names in (
        ("task", settings.task, TASK_NAMES),
        ("submission", settings.submission, SUBMISSION_KINDS),
    ):
        if kind in values and name not in names:
            raise unknown_name(f"{kind} in {path}:", name, names)
    if "metric" in values:
        _check_metric(path, settings.metric)
    return settings


def _check_metric(path: Path, metric: str) -> None:
    """Raise InputError for an unknown metric, and for a file: a competition folder must not bring code."""
    if is_custom(metric):
        raise InputError(
            f"{path}: metric is '{metric}'; a function of your own is named on the command line only: "
            f"--metric {metric}"
        )
    try:
        find_metric(metric)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _checked(path: Path, key: str, value: Any) -> str | tuple[str, ...]:
    """Return a value in the type of its key. Raise InputError for any other type."""
    if key not in LISTS:
        if not isinstance(value, str):
            raise InputError(f"{path}: {key} takes text in quotes, not {value!r}.")
        if not value and key not in ("task", "metric", "submission"):  # those have a list of words
            raise InputError(f"{path}: {key} is empty; remove the line, or write a value.")
        return value
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(entry, str) and entry for entry in values):
        raise InputError(f'{path}: {key} takes text in quotes, or a list of texts ["…"], not {value!r}.')
    if not values:
        raise InputError(f"{path}: {key} is empty; remove the line, or write a value.")
    return tuple(values)
