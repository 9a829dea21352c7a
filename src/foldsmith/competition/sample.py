"""The sample submission: which table it is, and which test images each of its rows is about."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.listing import subset_of
from foldsmith.competition.long_form import LongForm
from foldsmith.competition.roles import (
    column,
    image_columns,
    images_of_rows,
    is_sample_name,
    is_test_name,
    sample_rank,
)
from foldsmith.competition.spellings import Names, images_by_folder, match_ids
from foldsmith.errors import InputError, first_of

CERTAIN_RANK = 3  # of a name that is always a sample submission's
BY_NAME = "by its name"
COVERED = 0.99  # share of rows that must name a test image


@dataclass(frozen=True)
class Sample:
    """The sample submission: its path below the root, its table, and what says that it is one.

    `long` is its form if it has a row for each image and label; `table` then has a row for each image.
    """

    path: str
    table: pd.DataFrame
    evidence: str
    long: LongForm | None = None


@dataclass(frozen=True)
class TestList:
    """A table that names test images by `image_column`, and the sample's ids in `id_column`."""

    path: str
    id_column: str
    image_column: str
    images: dict[str, tuple[str, ...]]


def find_sample(competition: Competition) -> Sample | None:
    """Return the sample submission by its name, or by its ids if they are the test images; None without one.

    Raise InputError if several tables could be it, or if the one that competition.toml names is missing.
    """
    catalog, named = competition.catalog, competition.settings.sample
    if named:
        if named not in catalog.paths:
            raise InputError(
                f"{competition.settings_path}: sample is '{named}', but {competition.root} has no "
                "such table; "
                f"its tables: {first_of(catalog.paths, 10)}."
            )
        return _read(competition, named, "competition.toml names it")
    by_name = sorted(
        filter(is_sample_name, catalog.paths), key=lambda path: (-sample_rank(path), path.count("/"))
    )
    for path in by_name:
        top = [
            other
            for other in by_name
            if sample_rank(other) == sample_rank(path) and other.count("/") == path.count("/")
        ]
        if sample_rank(path) >= CERTAIN_RANK and len(top) == 1:
            return _read(competition, path, BY_NAME)
        fitting = [other for other in top if _fits(competition, other)]
        if fitting:
            _refuse_larger(competition, fitting[0], top)
            return _only(competition, fitting, "by its name and ids")
        if sample_rank(path) >= CERTAIN_RANK:
            return _read(competition, path, BY_NAME)
    by_content = [
        path
        for path in catalog.paths
        if not is_test_name(path)
        and not is_sample_name(path)
        and not subset_of(PurePosixPath(path).stem)  # train.csv, validation.csv
        and _lists_test_images(competition, path)
    ]
    return _only(competition, by_content, "its ids are the test images") if by_content else None


def _read(competition: Competition, path: str, evidence: str) -> Sample:
    """Return a table as the sample. Raise InputError if it cannot be read."""
    table = competition.catalog.read(path)
    if table is None:
        raise competition.catalog.fault(path) or InputError(f"{path} is no table.")
    return Sample(path, table, evidence, competition.catalog.long.get(path))


def _only(competition: Competition, paths: list[str], evidence: str) -> Sample:
    """Return the only fitting table. Raise InputError if others differ from it in more than the values."""
    first = competition.catalog.read(paths[0])
    for other in paths[1:]:
        table = competition.catalog.read(other)
        if list(table.columns) != list(first.columns) or list(table.iloc[:, 0]) != list(first.iloc[:, 0]):
            raise InputError(
                f"{competition.folder} has several sample submissions ({first_of(paths)}); set "
                f'sample = "{paths[0]}" or sample = "{other}" in {competition.settings_path}.'
            )
    return Sample(paths[0], first, evidence, competition.catalog.long.get(paths[0]))


def _refuse_larger(competition: Competition, path: str, others: list[str]) -> None:
    """Raise InputError if another sample, whose ids cannot be read, has all ids of this one and more."""
    ids = set(competition.catalog.read(path).iloc[:, 0])
    for other in others:
        table = competition.catalog.read(other)
        if other != path and table is not None and ids < set(table.iloc[:, 0]):
            raise InputError(
                f"{competition.folder} has several sample submissions: {other} has all {len(ids)} ids of "
                f'{path} and {len(table) - len(ids)} more; set sample = "{other}" or sample = "{path}" in '
                f"{competition.settings_path}."
            )


def _lists_test_images(competition: Competition, path: str) -> bool:
    """Return whether a table has all test images as ids and names no training images: then it is the form."""
    table = competition.catalog.read(path)
    if table is None or len(table) < COVERED * len(competition.test_images):
        return False
    train = Names(competition.train_images).share(table.iloc[:, 0])
    return max(train) < 0.5 and _fits(competition, path)


def _fits(competition: Competition, path: str) -> bool:
    """Return whether a table of two columns or more has ids of test images in its first one."""
    table = competition.catalog.read(path)
    if table is None or table.empty or len(table.columns) < 2:
        return False
    ids = list(table.columns)[0]
    if image_columns(table, Names(competition.test_images))[:1] != [ids] and not find_test_list(
        competition, table, path
    ):
        return False
    rows = images_of_rows(table, ids, competition.test_images)
    named = {image for row in rows for image in row}
    if not named:
        test_list = find_test_list(competition, table, path)
        named = {image for images in test_list.images.values() for image in images} if test_list else set()
        rows = [tuple(named)] * len(table) if test_list else rows
    return sum(map(bool, rows)) >= COVERED * len(table) and table.iloc[:, 0].is_unique


def find_test_list(competition: Competition, sample: pd.DataFrame, sample_path: str) -> TestList | None:
    """Return the table that maps the sample's ids to names of test images; None if there is none.

    A column with file names decides over ids that are bare numbers, which could be row numbers.
    """
    ids = set(sample.iloc[:, 0].str.strip())
    if Names(competition.test_images).share(ids)[0] >= COVERED:  # the ids are file names themselves
        return None
    paths = [path for path in competition.catalog.paths if path != sample_path and not is_sample_name(path)]
    for path in sorted(paths, key=lambda path: not is_test_name(path)):
        table = competition.catalog.read(path)
        if table is None or table.empty:
            continue
        keys = [
            name
            for name in dict.fromkeys(table.columns)
            if len(ids & set(column(table, name))) >= COVERED * len(ids)
        ]
        for found in _read_lists(competition, path, keys, sample):
            covers = len(found.images.keys() & ids) >= COVERED * len(ids)
            if covers and (is_test_name(path) or not _is_of_training(competition, found, ids)):
                return found
    return None


def _read_lists(
    competition: Competition, path: str, keys: list[str], sample: pd.DataFrame
) -> Iterator[TestList]:
    """Yield a test list for each column of a table that names test images, with the likeliest of the keys."""
    table = competition.catalog.read(path)
    for image_column in image_columns(table, Names(competition.test_images)):
        others = [key for key in keys if key != image_column]
        others.sort(key=lambda key: key.strip().lower() != sample.columns[0].strip().lower())
        if others:
            found = _map(competition, table, others[0], image_column)
            yield TestList(path, others[0], image_column, found)


def _is_of_training(competition: Competition, found: TestList, ids: Collection[str]) -> bool:
    """Return whether a list says nothing about test images whose names are those of training images.

    It does not if its cells name training images too, and the ids name test images by themselves.
    """
    table, names = competition.catalog.read(found.path), Names(competition.test_images)
    rows = zip(
        images_of_rows(table, found.image_column, competition.train_images),
        images_of_rows(table, found.image_column, competition.test_images),
        strict=True,
    )
    both = [bool(train) for train, test in rows if test]
    return names.share(ids)[1] >= COVERED and 2 * sum(both) > len(both)


def _refuse_broken_lists(
    competition: Competition, sample: Sample, ids: list[str], images: list[str | None]
) -> None:
    """Raise InputError for a damaged test list, of which the sample's ids could be.

    Bare ids can name images by themselves, but others than the list says: as row numbers do.
    """
    if Names(competition.test_images).share(ids)[0] >= COVERED:
        return
    direct = {name: (image,) for name, image in zip(ids, images, strict=True) if image}
    known = set(ids)
    for path in competition.catalog.paths:
        if not is_test_name(path) or is_sample_name(path) or path in competition.catalog.documents:
            continue
        table = competition.catalog.read(path)
        if table is None or table.empty:
            fault = competition.catalog.fault(path) or f"{competition.root / path} has no rows"
            raise InputError(
                f"{str(fault).rstrip('.')}; the ids of {sample.path} could be those of this list: correct "
                "or remove it."
            )
        keys = sorted(dict.fromkeys(table.columns), key=lambda name: -len(known & set(column(table, name))))
        for found in _read_lists(competition, path, keys, sample.table):
            listed = known & set(column(table, found.id_column))
            wrong = any(found.images.get(name) != direct.get(name) for name in listed)
            absent = [name for name in ids if name not in found.images]
            if wrong and len(listed) >= len(table) / 2:
                raise InputError(
                    f"{competition.root / path}: {len(absent)} of {len(ids)} ids of {sample.path} (first: "
                    f"{first_of(absent)}) have no row there whose '{found.image_column}' is a test image; "
                    "correct these rows, or remove the file if the ids are not its own."
                )


def _map(
    competition: Competition, table: pd.DataFrame, id_column: str, image_column: str
) -> dict[str, tuple[str, ...]]:
    """Return the test images of every id, in the order of the rows."""
    found: dict[str, list[str]] = {}
    for key, images in zip(
        column(table, id_column), images_of_rows(table, image_column, competition.test_images), strict=True
    ):
        found.setdefault(key, []).extend(images)
    return {key: tuple(dict.fromkeys(images)) for key, images in found.items() if images}


def rows_of_sample(competition: Competition, sample: Sample) -> tuple[list[tuple[str, ...]], TestList | None]:
    """Return the test images of every row of the sample, and the test list that told them, if any did.

    Raise InputError if an id names two images and no test list says which.
    """
    ids = list(sample.table.iloc[:, 0].str.strip())
    test_list = find_test_list(competition, sample.table, sample.path)
    if test_list is not None:
        return [test_list.images.get(name, ()) for name in ids], test_list
    images = match_ids(ids, competition.test_images, competition.root / sample.path)
    folders = None if any(images) else images_by_folder(ids, competition.test_images)
    if folders is not None:
        return [folders.get(name, ()) for name in ids], None
    _refuse_broken_lists(competition, sample, ids, images)
    return [() if image is None else (image,) for image in images], None


def test_tables(competition: Competition) -> list[pd.DataFrame]:
    """Return the tables that list test images; their further columns are features, not labels."""
    tables = []
    for path in competition.catalog.paths:
        if is_test_name(path) and PurePosixPath(path).suffix:
            table = competition.catalog.read(path)
            if table is not None:
                tables.append(table)
    return tables
