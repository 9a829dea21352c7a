"""What is wrong with which file, and what was done about it: the rows of problems.csv."""

from collections.abc import Iterable, Sequence

import pandas as pd

from foldsmith.data.duplicates import find_originals

# `problem` is the kind, the same words for every such file; `detail` is what differs from file to file
COLUMNS = ("path", "problem", "detail", "action")
Row = tuple[str, str, str, str]


def problem_rows(paths: Iterable[str], problem: str, action: str) -> list[Row]:
    """The same problem for every path."""
    return [(path, problem, "", action) for path in paths]


def unreadable_rows(index: pd.DataFrame) -> list[Row]:
    """Images of a cache index (`path`, `problem`) that could not be decoded."""
    rows = []
    for path, reason in index.loc[index["problem"] != "", ["path", "problem"]].itertuples(index=False):
        action = "left out" if path.startswith("train/") else "predicted as the class prior"
        rows.append((path, "unreadable", reason, action))
    return rows


def grey_rows(index: pd.DataFrame) -> list[Row]:
    """Grey images where most have colour; a set that is grey altogether has no problem."""
    grey = index.loc[index["grey"], "path"]
    few = len(grey) < 0.5 * len(index)
    return problem_rows(grey, "grey, among images with colour", "used as RGB") if few else []


def duplicate_rows(paths: Sequence[str], digests: Sequence[str], labels: dict[str, int]) -> list[Row]:
    """Images with exactly the pixels of an earlier one; `labels` are those of the training images by path.

    `paths` are training images before test images, so that the earlier one of a pair is the training image.
    """
    rows = []
    for path, original in zip(paths, find_originals(digests), strict=True):
        if original is None:
            continue
        first = paths[original]
        if path not in labels:
            kind = "training" if first in labels else "test"
            rows.append((path, f"same pixels as a {kind} image", first, "predicted like any other"))
        elif labels[path] == labels[first]:
            rows.append((path, "same pixels as another image", first, "kept in the same fold"))
        else:
            problem = "same pixels as another image with another label"
            rows.append((path, problem, first, "kept in the same fold; check both labels"))
    return rows


def summarise(problems: pd.DataFrame) -> list[str]:
    """One line for each kind of problem: its count, what was done, and its first file."""
    lines = []
    for (problem, action), group in problems.groupby(["problem", "action"], sort=False):
        path, detail = group["path"].iloc[0], group["detail"].iloc[0]
        first = f"{path}: {detail}" if detail else path
        files = "1 file" if len(group) == 1 else f"{len(group):,} files"
        lines.append(f"{problem}: {files}, {action} (first: {first})")
    return lines
