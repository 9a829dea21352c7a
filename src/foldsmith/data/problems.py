"""What is wrong with which file, and what was done about it: the rows of problems.csv."""

from collections.abc import Iterable, Sequence

import pandas as pd

from foldsmith.data.duplicates import find_originals

COLUMNS = ("path", "problem", "action")


def problem_rows(paths: Iterable[str], problem: str, action: str) -> list[tuple[str, str, str]]:
    return [(path, problem, action) for path in paths]


def unreadable_rows(index: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Images of a cache index (`path`, `problem`) that could not be decoded."""
    rows = []
    for path, problem in index.loc[index["problem"] != "", ["path", "problem"]].itertuples(index=False):
        trained = path.startswith("train/")
        action = "left out" if trained else "predicted as the class prior"
        rows.append((path, f"unreadable: {problem}", action))
    return rows


def grey_rows(index: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Grey images where most have colour; a set that is grey altogether has no problem."""
    grey = index.loc[index["grey"], "path"]
    few = len(grey) < 0.5 * len(index)
    return problem_rows(grey, "grey, among images with colour", "used as RGB") if few else []


def duplicate_rows(
    paths: Sequence[str], digests: Sequence[str], labels: dict[str, int]
) -> list[tuple[str, str, str]]:
    """Images with exactly the pixels of an earlier one; `labels` are those of the training images by path."""
    rows = []
    for path, original in zip(paths, find_originals(digests), strict=True):
        if original is None:
            continue
        first = paths[original]
        if path not in labels:
            where = "a training" if first in labels else "another test"
            rows.append((path, f"same pixels as {first}, {where} image", "predicted like any other"))
        elif labels[path] == labels.get(first):
            rows.append((path, f"same pixels as {first}", "kept in the same fold"))
        else:
            rows.append(
                (
                    path,
                    f"same pixels as {first}, but another label",
                    "kept in the same fold; check the labels",
                )
            )
    return rows


def summarise(problems: pd.DataFrame) -> list[str]:
    """One line for each kind of problem: its count, its first file, and what was done."""
    if problems.empty:
        return []
    # the kind is the sentence up to what differs from file to file
    kind = problems["problem"].str.replace(r"(train|test)/.*?(?=, (?:a|an)|, but|$)", "…", regex=True)
    lines = []
    for (what, action), group in problems.groupby([kind, "action"], sort=False):
        lines.append(f"{len(group):,} x {what}: {action} (first: {group['path'].iloc[0]})")
    return lines
