"""The interface of a form of label files: one module a form, one row each in labels.FORMS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foldsmith.competition.folder import Competition


@dataclass(frozen=True)
class LabelForm:
    """A form that label files come in.

    `candidates` lists the files of a competition folder that may be of this form, in the order of names.
    `find` returns those of them that fit: whose content is labels of the training images; `in_folders` is how
    many of these lie in class folders, which then are labels already. `read` returns rows (name, category,
    group), indexed by the line or entry of the file, and the names of categories, empty if the file has none.
    `parse` raises InputError for a file that cannot be read at all. `unit` is what the index counts: "line",
    "annotation". `unsupported` are the settings of competition.toml that mean nothing for this form.
    """

    name: str
    suffixes: tuple[str, ...]
    unit: str
    candidates: Callable[[Competition], list[Path]]
    find: Callable[[Competition, int], list[Path]]
    read: Callable[[Path, Competition], tuple[pd.DataFrame, dict[str, str]]]
    parse: Callable[[Path], object]
    unsupported: tuple[str, ...] = ()
