"""The interface of a label file format: one module per format, one row per format in labels.FORMS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foldsmith.competition.folder import Competition


@dataclass(frozen=True)
class LabelForm:
    """A label file format.

    `candidates` lists the files of a competition folder that may have this format, sorted by name.
    `find` returns the candidates whose content is labels of the training images. Its second argument is the
    number of training images in class folders, which may be the labels instead.
    `read` returns rows (name, category, group), indexed by the line or entry of the file, and the names of
    the categories, empty if the file has none.
    `parse` raises InputError for a file that cannot be read at all.
    `unit` is what the index counts: "line", "annotation".
    `unsupported` are the settings of competition.toml that have no meaning for this format.
    """

    name: str
    suffixes: tuple[str, ...]
    unit: str
    candidates: Callable[[Competition], list[Path]]
    find: Callable[[Competition, int], list[Path]]
    read: Callable[[Path, Competition], tuple[pd.DataFrame, dict[str, str]]]
    parse: Callable[[Path], object]
    unsupported: tuple[str, ...] = ()
