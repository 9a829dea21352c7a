"""Tables with a row for each image and label (`ID_epidural,0`), read as a row an image, a column a label."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from foldsmith.competition.roles import column, image_columns, is_sample_name
from foldsmith.competition.spellings import Names, images_by_folder
from foldsmith.competition.tables import Catalog
from foldsmith.errors import first_of

WHOLE = 0.9  # share of the images that have a row for each label
MOST_LABELS = 200


@dataclass(frozen=True)
class LongForm:
    """The rows of a long table: header, ids as written, and image (or folder) and label of each.

    `source` is the table that says image and label of an id; empty if the ids themselves do.
    """

    header: tuple[str, str]
    ids: list[str]
    units: list[str]
    labels: list[str]
    source: str = ""

    @classmethod
    def of(cls, table: pd.DataFrame, pairs: list[tuple[str, str]], source: str = "") -> "LongForm":
        units, labels = (list(cells) for cells in zip(*pairs, strict=True))
        return cls(tuple(table.columns), list(table.iloc[:, 0].str.strip()), units, labels, source)

    def widen(self, cells: list[str]) -> pd.DataFrame:
        """Return cells of the rows as a table of one row an image: its id and a column for each label."""
        frame = pd.DataFrame({"unit": self.units, "label": self.labels, "cell": cells})
        wide = frame.drop_duplicates(["unit", "label"]).pivot(index="unit", columns="label", values="cell")
        wide = wide.loc[list(dict.fromkeys(self.units)), list(dict.fromkeys(self.labels))].fillna("")
        wide.insert(0, self.header[0], wide.index)
        return pd.DataFrame(
            wide.to_numpy(), columns=list(wide.columns), index=range(1, len(wide) + 1), dtype=str
        )

    def lengthen(self, wide: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a wide table whose columns are the id and the labels, in the long order."""
        cells = wide.set_index(wide.columns[0]).stack().to_dict()
        values = [cells[pair] for pair in zip(self.units, self.labels, strict=True)]
        return pd.DataFrame({self.header[0]: self.ids, self.header[1]: values})


def widen_tables(catalog: Catalog, images: list[str]) -> list[str]:
    """Replace long tables in the catalog by wide ones, and return a sentence on each.

    Ids that end with a label say so only if the labels are the columns of another table, or if another table
    has such ids with the same labels; else `10_left` may be an image of its own.
    """
    names, folders = Names(images), {name for image in images for name in image.split("/")[:-1]}
    pairs = {}
    for path in catalog.paths:
        table = catalog.read(path)
        if table is not None and table.shape[1] == 2 and len(table) >= 4:
            found = _by_ids(list(table.iloc[:, 0].str.strip()), names, folders)
            pairs |= {path: found} if found and not _contradicts(found, table) else {}
    labels = {path: {label for _, label in found} for path, found in pairs.items()}
    headers = [set(table.columns) for path in catalog.paths if (table := catalog.read(path)) is not None]
    chosen = {
        path: LongForm.of(catalog.read(path), pairs[path])
        for path, known in labels.items()
        if any(known <= header for header in headers) or list(labels.values()).count(known) > 1
    }
    for path in filter(is_sample_name, catalog.paths):
        table = catalog.read(path)
        if path not in chosen and table is not None and table.shape[1] == 2 and len(table) >= 4:
            listed = _by_list(table, path, names, images, catalog)
            chosen |= {path: listed} if listed else {}
    for path, form in chosen.items():
        catalog.replace(path, form.widen(list(catalog.read(path).iloc[:, 1].str.strip())), form)
    return [
        f"{path} has a row for each image and label by {form.source or 'its ids'}: {len(set(form.units)):,} "
        f"images, {len(set(form.labels))} labels ({first_of(dict.fromkeys(form.labels))})"
        for path, form in chosen.items()
    ]


def _contradicts(pairs: list[tuple[str, str]], table: pd.DataFrame) -> bool:
    """Return whether two rows have different cells for one label of an image."""
    rows = pd.DataFrame(pairs).assign(cell=list(table.iloc[:, 1].str.strip())).drop_duplicates()
    return bool(rows.duplicated([0, 1]).any())


def _by_ids(ids: list[str], names: Names, folders: set[str]) -> list[tuple[str, str]] | None:
    """Return image and label of ids such as `ID_0fd_epidural`; None if they are not of this form."""
    known = names.full | names.bare | folders
    if any(name in known for name in ids[:1]):
        return None
    pairs = split_ids(ids, known)
    return pairs if pairs and _is_long(pairs) else None


def split_ids(ids: list[str], known: Collection[str]) -> list[tuple[str, str]] | None:
    """Return the known name before an underscore at the start of each id, and the rest; None without one."""
    pairs = []
    for name in ids:
        words = name.split("_")
        cuts = ("_".join(words[:count]) for count in range(len(words) - 1, 0, -1))
        unit = next((cut for cut in cuts if cut in known), None)
        if unit is None:
            return None
        pairs.append((unit, name[len(unit) + 1 :]))
    return pairs


def _by_list(
    sample: pd.DataFrame, sample_path: str, names: Names, images: list[str], catalog: Catalog
) -> LongForm | None:
    """Return the form of a sample by a table with a row for each of its ids; None without such a table."""
    ids = set(sample.iloc[:, 0].str.strip())
    for path in catalog.paths:
        table = catalog.read(path)
        if path == sample_path or table is None or len(table.columns) < 3:
            continue
        for key in [name for name in dict.fromkeys(table.columns) if ids <= set(column(table, name))]:
            rows = table[column(table, key).isin(ids)]
            pairs = _pairs_of_list(rows, key, names, images) if column(rows, key).is_unique else None
            if pairs is not None:
                by_id = dict(zip(column(rows, key), pairs, strict=True))
                found = [by_id[name] for name in sample.iloc[:, 0].str.strip()]
                return LongForm.of(sample, found, path)
    return None


def _pairs_of_list(
    rows: pd.DataFrame, key: str, names: Names, images: list[str]
) -> list[tuple[str, str]] | None:
    """Return image (or folder) and label of rows by the two columns that hold them; None without such."""
    others = [name for name in dict.fromkeys(rows.columns) if name != key]
    for unit in others:
        cells = column(rows, unit)
        if image_columns(rows[[unit]], names) or images_by_folder(list(cells), images):
            for label in others:
                pairs = list(zip(cells, column(rows, label), strict=True))
                if label != unit and _is_long(pairs):
                    return pairs
    return None


def _is_long(pairs: list[tuple[str, str]]) -> bool:
    """Return whether nearly all images have a row for each of two or more labels."""
    distinct = set(pairs)
    units, labels = Counter(unit for unit, _ in distinct), {label for _, label in distinct}
    if not 2 <= len(labels) <= MOST_LABELS or len(distinct) < 0.99 * len(pairs) or len(units) < 2:
        return False
    whole = sum(count == len(labels) for count in units.values())
    return whole >= WHOLE * len(units)
