"""Label tables: which table labels the training images, by which columns, and by which evidence."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.label_columns import refuse_regions
from foldsmith.competition.label_words import (
    SEPARATORS,
    numbers_in,
    sets_or_words,
    unlike_lists,
    without_brackets,
)
from foldsmith.competition.labels_json import has_annotations
from foldsmith.competition.roles import (
    ID_COLUMNS,
    LABEL_COLUMNS,
    column,
    image_columns,
    images_of_rows,
    is_box_column,
    is_like_label,
    is_sample_name,
    is_test_name,
    likely_labels,
    subset_cells,
    subset_column,
)
from foldsmith.competition.sample import Sample, test_tables
from foldsmith.competition.spellings import Names, match_ids
from foldsmith.errors import Entries, InputError, first_of

# how certain the label columns are, by what says so
SETTINGS, SAMPLE, USUAL, ALIKE, REST, ELIMINATION = 6, 5, 4, 3, 2, 1
UNSURE_FLAGS = {"-1", "0", "1", "-1.0", "0.0", "1.0"}  # -1 stands for an uncertain 1 beside 0, as in CheXpert
FLAG_CELLS = ({"0", "1", "0.0", "1.0"}, {"-1", "1", "-1.0", "1.0"})


@dataclass(frozen=True)
class LabelColumns:
    """The columns of a label table. `rank` says how certain they are, `why` by which evidence.

    `others` are further columns that could be labels as well.
    """

    id_column: str
    label_columns: tuple[str, ...]
    rank: int
    why: str
    others: tuple[str, ...] = ()

    def with_id(self, id_column: str) -> "LabelColumns":
        return replace(self, id_column=id_column)


@dataclass(frozen=True)
class LabelTable:
    """A table that may label the training images. `named` is the number of training images that it names.

    `columns` is None if they cannot be guessed; `fault` says why.
    """

    path: str
    named: int
    columns: LabelColumns | None
    fault: InputError | None = None


def candidate_tables(competition: Competition, sample: Sample | None) -> list[str]:
    """Return the tables that are neither the sample submission nor called like a list of test images."""
    paths = competition.catalog.paths
    return [
        path
        for path in paths
        if not is_sample_name(path)
        and not is_test_name(path)
        and (sample is None or path != sample.path)
        and path not in [form.source for form in competition.catalog.long.values()]
        and not has_annotations(competition.catalog.documents.get(path))
    ]


def find_label_tables(competition: Competition, sample: Sample | None) -> list[LabelTable]:
    """Return the tables that may label the training images, the most certain first.

    At least half of the rows name training images, or, of a table whose columns are told by their names, at
    least half of the training images have a row.
    """
    found = []
    names = Names(competition.train_images)
    for path in candidate_tables(competition, sample):
        table = competition.catalog.read(path)
        if table is None:
            continue
        try:
            columns = find_columns(path, table, competition, sample)
        except InputError as error:
            ids = image_columns(table, names)
            named = max((_count_named(table, name, competition) for name in ids), default=0)
            if named:
                found.append(LabelTable(path, named, None, error))
            continue
        if all((column(table, name) == "").all() for name in columns.label_columns):
            continue  # a form to be filled in
        named = _count_named(table, columns.id_column, competition)
        rows = len(_labelled_rows(table))
        expected = min(rows, len(competition.train_images)) if columns.rank > ALIKE else rows
        if named >= max(expected / 2, 1):
            found.append(LabelTable(path, named, columns))
    return sorted(found, key=lambda entry: -entry.columns.rank if entry.columns else 0)


def _labelled_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are not about test images by a column that says so."""
    name = subset_column(table)
    return table if not name else table[[subset != "test" for subset in subset_cells(table, name)]]


def _count_named(table: pd.DataFrame, id_column: str, competition: Competition) -> int:
    """Return how many rows name a training image; 0 if an id is ambiguous, which speaks against the table."""
    try:
        images = match_ids(column(table, id_column), competition.train_images)
    except InputError:
        return 0
    return sum(image is not None for image in images)


def choose_table(competition: Competition, tables: Sequence[LabelTable]) -> list[LabelTable]:
    """Return the label tables: one, or several with the same columns for different images; none if none fits.

    Raise InputError if several fit equally, or if a table whose columns are only inferred stands beside one
    that names as many images and whose columns cannot be guessed.
    """
    fitting = [table for table in tables if table.columns]
    if not fitting:
        return []
    best = [table for table in fitting if table.columns.rank == fitting[0].columns.rank]
    most = max(best, key=lambda table: table.named)
    # a table of some of the images, such as that of their boxes, is no rival of one of all
    best = [table for table in best if has_columns_of(table, most) or 2 * table.named > most.named]
    for rival in tables:
        unclear = rival.columns is None and rival.named >= most.named
        if unclear and most.columns.rank in (ALIKE, ELIMINATION):
            raise InputError(_unclear(competition, most, rival))
    if len(best) > 1 and not _complement(competition, best):
        raise InputError(
            f"{competition.folder} has several label files ({first_of([table.path for table in best])}); "
            f'set labels = "{best[0].path}" or labels = "{best[1].path}" in {competition.settings_path}.'
        )
    return best


def has_columns_of(table: LabelTable, other: LabelTable) -> bool:
    """Return whether two tables hold ids and labels in the same columns, as those of train and val do."""
    return replace(table.columns, why="", others=()) == replace(other.columns, why="", others=())


def _unclear(competition: Competition, table: LabelTable, rival: LabelTable) -> str:
    columns = first_of(competition.catalog.read(rival.path).columns, 10)
    return (
        f"{competition.root / rival.path}: its columns {columns} cannot be told apart, and it names "
        f"{rival.named} "
        f"training images; {table.path} names {table.named} by the columns {table.columns.id_column}, "
        f"{first_of(table.columns.label_columns)}. Write into {competition.settings_path} either "
        f'labels = "{rival.path}" with id_column and label_columns = ["COLUMN"], or labels = "{table.path}".'
    )


def _complement(competition: Competition, tables: Sequence[LabelTable]) -> bool:
    """Return whether tables have the same columns and name different images, as train.csv and val.csv do."""
    seen: set[str] = set()
    for table in tables:
        same = has_columns_of(table, tables[0])
        frame = competition.catalog.read(table.path)
        images = set(match_ids(column(frame, table.columns.id_column), competition.train_images)) - {None}
        if not same or images & seen:
            return False
        seen |= images
    return True


def read_label_rows(
    path: str, table: pd.DataFrame, columns: LabelColumns, competition: Competition
) -> pd.DataFrame:
    """Return `name`, the label columns and, where set, `group`, indexed by line.

    A label may be empty: it can be an empty set. Raise InputError for an empty id.
    An image whose group is empty has none.
    """
    source, settings = competition.root / path, competition.settings
    if table.empty:
        raise InputError(f"{source} has a header but no rows; download it again.")
    table = _labelled_rows(table)
    rows = pd.DataFrame({"name": column(table, columns.id_column)}, index=table.index)
    for name in columns.label_columns:
        rows[name] = without_brackets(column(table, name))
        odd = rows.index[[] if settings.task == "multiclass" else unlike_lists(rows[name])]
        remedy = 'write them as the others, or set task = "multiclass" in competition.toml.'
        Entries(source, len(rows), "line").refuse(odd, f"of '{name}' are no lists [...]", remedy)
    if not settings.task:
        others = table[[name for name in dict.fromkeys(table.columns) if name != columns.id_column]]
        _refuse_regions(source, rows[list(columns.label_columns)], others)
    group = settings.group_column
    if group in table.columns and group:
        rows["group"] = column(table, group)
    checked = [name for name in columns.label_columns if not _may_be_empty(rows[name], competition)]
    for name in ("name", *checked):
        empty = rows.index[rows[name] == ""]
        meaning = columns.id_column if name == "name" else name
        several = name != "name" and len(columns.label_columns) > 1 and set(rows[name]) <= {"", *UNSURE_FLAGS}
        remedy = "write 0 where an image does not have it." if several else "fill them in."
        Entries(source, len(rows), "line").refuse(empty, f"have an empty '{meaning}'", remedy)
    return rows


def _refuse_regions(source: Path, table: pd.DataFrame, others: pd.DataFrame) -> None:
    try:
        refuse_regions(table, others)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _may_be_empty(cells: pd.Series, competition: Competition) -> bool:
    """Return whether cells are sets of labels, of which an empty one has none."""
    settings = competition.settings
    if settings.task or settings.label_separator:
        return settings.task in ("", "multilabel")
    return any(sets_or_words(set(cells) - {""}, separator) for separator in SEPARATORS)


def find_columns(
    path: str, table: pd.DataFrame, competition: Competition, sample: Sample | None = None
) -> LabelColumns:
    """Return the id and the label columns: as set in competition.toml, by the sample, or by a usual name.

    Raise InputError if a column is missing, ambiguous or repeated, or if the first line is not a header.
    """
    source, columns, settings = competition.root / path, list(table.columns), competition.settings
    for name in (settings.id_column, *settings.target_columns):
        if name and name not in columns:
            raise InputError(f"{source} has no column '{name}'; its columns: {first_of(columns, 10)}.")
    ids = _id_columns(table, competition)
    refuse_headless(source, ids or columns, competition.train_images)
    labels = label_columns(table, ids[0] if len(ids) == 1 else "", competition, sample)
    free = [name for name in dict.fromkeys(columns) if name != settings.group_column]
    if len(free) == 2 and not ids and labels and len(labels.label_columns) == 1:
        ids = [name for name in free if name not in labels.label_columns]
    missing = not ids or labels is None or not labels.label_columns
    if missing or len(ids) > 1 or ids[0] in labels.label_columns or labels.rank == 0:
        _refuse_regions(source, table, table[[name for name in dict.fromkeys(columns) if name not in ids]])
        what = "no" if missing else "more than one possible"
        raise InputError(f"{source}: {what} {_which_columns(path, table, ids, competition)}")
    chosen = (ids[0], *labels.label_columns)
    if any(columns.count(name) > 1 for name in chosen):
        raise InputError(f"{source}: column '{chosen[0]}' or '{chosen[-1]}' occurs twice; rename one.")
    return labels.with_id(ids[0])


def _which_columns(path: str, table: pd.DataFrame, ids: Sequence[str], competition: Competition) -> str:
    """Return the columns among which none was found, the likely ones, and the lines that decide."""
    columns = list(dict.fromkeys(table.columns))
    named = ids[0] if ids else columns[0]
    likely = likely_labels(table, {*ids, named, competition.settings.group_column, subset_column(table)})
    in_path = [name for name in columns if len(name) > 3 and name.lower() in path.lower() and name != named]
    likely = list(dict.fromkeys([*in_path, *likely]))
    example = (likely or [name for name in columns if name != named] or columns)[0]
    shown = f"; {first_of(likely, 6)} look like labels" if len(likely) > 1 else ""
    return (
        f"id and label column found among {first_of(columns, 10)}{shown}; set id_column and label_columns in "
        f'{competition.settings_path}, such as id_column = "{named}" and label_columns = ["{example}"].'
    )


def _id_columns(table: pd.DataFrame, competition: Competition) -> list[str]:
    """Return the columns that may hold the ids: by what they name, else by a usual name."""
    settings = competition.settings
    if settings.id_column:
        return [settings.id_column]
    apart = {settings.group_column, *settings.target_columns}
    named = [name for name in image_columns(table, Names(competition.train_images)) if name not in apart]
    if len(named) > 1:
        named = _same_images(table, named, competition)
    if len(named) == 1:
        return named
    free = [name for name in dict.fromkeys(table.columns) if name not in apart]
    usual = [name for name in named or free if name.strip().lower() in ID_COLUMNS]
    return (usual if len(usual) == 1 or not named else named) or (free if len(free) == 1 else [])


def _same_images(table: pd.DataFrame, names: Sequence[str], competition: Competition) -> list[str]:
    """Return the first column of distinct ids, if all such columns name the same images; else all columns."""
    distinct = [name for name in names if column(table, name).is_unique]
    rows = [tuple(images_of_rows(table, name, competition.train_images)) for name in distinct]
    inside = [name for name in distinct if not column(table, name).str.startswith(("..", "/")).any()]
    distinct = inside or distinct
    usual = [name for name in distinct if name.strip().lower() in ID_COLUMNS]
    return (usual or distinct)[:1] if distinct and len(set(rows)) == 1 else list(names)


def label_columns(
    table: pd.DataFrame, id_column: str, competition: Competition, sample: Sample | None
) -> LabelColumns | None:
    """Return the label columns by the first evidence that names some; None if none does.

    The rank is 0 if several columns have a usual name.
    """
    settings = competition.settings
    if settings.target_columns:
        return LabelColumns("", settings.target_columns, SETTINGS, "competition.toml names them")
    apart = {id_column, settings.group_column, subset_column(table)}
    free = [name for name in dict.fromkeys(table.columns) if name not in apart]
    by_sample = _named_by_sample(table, free, sample)
    if by_sample:
        return by_sample
    features = {name for listed in test_tables(competition) for name in listed.columns}
    rest = [name for name in free if name not in features]
    usual = [name for name in free if name.strip().lower() in LABEL_COLUMNS]
    if "x" in {name.strip().lower() for name in free}:  # y is a coordinate
        usual = [name for name in usual if name.strip().lower() != "y"]
    if usual:
        others = tuple(
            name
            for name in rest
            if name not in usual
            and not is_box_column(name)
            and 1 < column(table, name).nunique() <= min(100, max(len(table) / 2, 2))
        )
        rank = USUAL if len(usual) == 1 else 0
        return LabelColumns("", tuple(usual), rank, f"the column is called '{usual[0]}'", others)
    wanted = rest or free  # the test images of a download may come with their labels
    for flags in FLAG_CELLS:
        hot = [name for name in wanted if set(column(table, name)) <= flags]
        if len(hot) > 1 and len(hot) == len(wanted):
            return LabelColumns("", tuple(hot), USUAL, f"the columns hold {' and '.join(sorted(flags)[::2])}")
    if features and len(rest) == 1:
        return LabelColumns("", tuple(rest), REST, "the test list has all other columns")
    if len(free) == 1 and (column(table, free[0]).nunique() < len(table) or len(table) < 3):
        return LabelColumns("", tuple(free), ELIMINATION, "it is the only other column")
    alike = [name for name in wanted if is_like_label(name) and not is_box_column(name)]
    if alike:
        chosen = _one_of_twins(table, alike)
        others = tuple(likely_labels(table, {*alike, *apart, *(features if rest else ())}))
        rank = ALIKE if len(chosen) == 1 else 0
        return LabelColumns("", tuple(chosen), rank, f"the column is called '{chosen[0]}'", others)
    if not id_column and len(free) == 2:
        rest = [name for name in free if name.strip().lower() not in ID_COLUMNS]
        return LabelColumns("", tuple(rest), ELIMINATION,
                            "it is the only other column")  # fmt: skip
    return None


def _one_of_twins(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the column with words, if all of these columns say the same in numbers and words; else all."""
    cells = {name: column(table, name) for name in names}
    counts = {name: values.nunique() for name, values in cells.items()}
    same = pd.DataFrame(cells).drop_duplicates()
    if len(set(counts.values())) > 1 or len(same) != counts[names[0]]:
        return list(names)
    return [next((name for name in names if numbers_in(set(cells[name])) is None), names[0])]


def _named_by_sample(table: pd.DataFrame, free: Sequence[str], sample: Sample | None) -> LabelColumns | None:
    """Return the columns that the sample's header names, or the one whose values are that header."""
    asked_for = [name.strip() for name in sample.table.columns[1:]] if sample else []
    shared = [name for name in free if name.strip() in asked_for]
    if shared and len(shared) == len(asked_for):
        return LabelColumns("", tuple(shared), SAMPLE, f"{sample.path} asks for {first_of(shared)}")
    if len(asked_for) > 1:
        for name in free:
            values = set(column(table, name))
            if len(values) > 1 and values <= set(asked_for):
                return LabelColumns("", (name,), SAMPLE, f"the columns of {sample.path} are its values")
    if len(asked_for) == 1:
        words = {word for cell in sample.table.iloc[:, 1].unique() for word in cell.split()}
        known = [name for name in free if words and words <= set(column(table, name))]
        if len(known) == 1 and numbers_in(words) is None:
            return LabelColumns("", (known[0],), SAMPLE, f"the words in {sample.path} are its values")
    return None


def refuse_headless(path: object, columns: Collection[str], images: list[str]) -> None:
    """Raise InputError if the header names an image: it is a row, and would be lost."""
    unusual = [name.strip() for name in columns if name.strip().lower() not in ID_COLUMNS]
    names = Names(images)
    for name in unusual:
        if names.could_name(name) and match_ids([name], images) != [None]:
            raise InputError(
                f"{path} has no header: its first line names the image '{name}'; "
                "add a header line, such as id,label."
            )
