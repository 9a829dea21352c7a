"""Names of classes in a helper table, such as labels.csv with attribute_id and attribute_name."""

from collections.abc import Collection

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.listing import words_of
from foldsmith.competition.roles import column, image_columns, is_sample_name, is_test_name
from foldsmith.competition.spellings import Names

NAME_WORDS = {"name", "names", "disease", "description", "value"}


def find_class_names(
    competition: Competition, source: str, cells: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """Return the names of the classes in label cells by category, and a sentence on the table they are from.

    A cell may hold several categories between spaces. Nothing is returned without a table that names all.
    """
    categories = set(cells)
    tokens = {token for cell in cells for token in cell.split()}
    for path in competition.catalog.paths:
        if path in source.split(" + ") or is_sample_name(path) or is_test_name(path):
            continue
        table = competition.catalog.read(path)
        if table is None or len(table) > 10 * len(tokens) + 100 or len(table.columns) < 2:
            continue
        if len(table.columns) > 2 and image_columns(table, Names(competition.train_images)):
            continue
        for wanted in (categories, tokens):
            names = _names_in(table, wanted)
            if names:
                return names, [f"{path} names the classes"]
    return {}, []


def _names_in(table: pd.DataFrame, categories: set[str]) -> dict[str, str]:
    """Return the name of each category if a column lists all of them once, beside a column of names."""
    for key in dict.fromkeys(table.columns):
        keys = column(table, key)
        if not keys.is_unique or not categories <= set(keys):
            continue
        # of names that their lines number from 0 all are used, or the labels may count from 1
        if table.attrs.get("complete") and categories != set(keys):
            continue
        for name in dict.fromkeys(table.columns):
            if name != key and NAME_WORDS & set(words_of(name)) and column(table, name).str.len().min() > 0:
                found = dict(zip(keys, column(table, name), strict=True))
                return {category: found[category] for category in categories}
    return {}
