"""The rows of problems.csv: what is wrong with which file, and what was done about it."""

from collections.abc import Iterable, Sequence

import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import Metadata
from foldsmith.competition.submission import SubmissionForm, images_without_row
from foldsmith.data.duplicates import find_originals
from foldsmith.errors import InputError, first_of

# `problem` is the kind, in the same words for every file of it; `detail` differs from file to file
COLUMNS = ("path", "problem", "detail", "action")
Row = tuple[str, str, str, str]
# of near-duplicates, of which a larger group cannot stay together
SAME_FOLD = "kept in the same fold, up to half a fold of them"
TOLERATED_TEST_IMAGES = 10  # so many unreadable test images never stop a run, even of a small test set


def problem_rows(paths: Iterable[str], problem: str, action: str) -> list[Row]:
    """Return a row with the same problem and action for every path."""
    return [(path, problem, "", action) for path in paths]


def unreadable_rows(index: pd.DataFrame, test_images: Sequence[str] = ()) -> list[Row]:
    """Return a row for every image of a cache index (`path`, `problem`) that could not be decoded."""
    test = set(test_images)
    rows = []
    for path, reason in index.loc[index["problem"] != "", ["path", "problem"]].itertuples(index=False):
        action = "predicted as the class prior" if path in test else "left out"
        rows.append((path, "unreadable", reason, action))
    return rows


def grey_rows(index: pd.DataFrame) -> list[Row]:
    """Return a row for every grey image if most images have colour; grey data sets are no problem."""
    grey = index.loc[index["grey"], "path"]
    few = len(grey) < 0.5 * len(index)
    return problem_rows(grey, "grey, among images with colour", "used as RGB") if few else []


def duplicate_rows(paths: Sequence[str], digests: Sequence[str], labels: dict[str, object]) -> list[Row]:
    """Return a row for every image with the pixels of an earlier one.

    `paths` holds training images before test images, so that the earlier one of a pair is the training image.
    `labels` are those of the training images, by path.
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


def near_duplicate_rows(paths: Sequence[str], near: Sequence[str], labels: dict[str, object]) -> list[Row]:
    """Return a row for every near-duplicate; `near` is the path of the first image of its group, or empty."""
    rows = []
    for path, first in zip(paths, near, strict=True):
        if first in ("", path):
            continue
        if path not in labels:
            kind = "training" if first in labels else "test"
            rows.append((path, f"near-duplicate of a {kind} image", first, "predicted like any other"))
        elif labels[path] == labels[first]:
            rows.append((path, "near-duplicate of another image", first, SAME_FOLD))
        else:
            problem = "near-duplicate of another image with another label"
            rows.append((path, problem, first, f"{SAME_FOLD}; check both labels"))
    return rows


def find_problems(
    competition: Competition,
    metadata: Metadata,
    form: SubmissionForm,
    index: pd.DataFrame,
    near: Sequence[str],
    samples: pd.DataFrame,
) -> pd.DataFrame:
    """Return the table of problems.csv: problems of folder, labels, sample submission and pixels.

    `index` is the cache's. `near` is for each of its rows the first image of the near-duplicate group, or
    empty. `samples` are the training images that are used.
    """
    labels = dict(zip(samples["path"], samples["label"], strict=True))
    labelled = set(metadata.samples["path"])
    unlabelled = [image for image in competition.train_images if image not in labelled]
    without_row = images_without_row(form, competition)
    exact = duplicate_rows(list(index["path"]), list(index["digest"]), labels)
    exact_paths = {row[0] for row in exact}
    only_near = [
        "" if path in exact_paths else first for path, first in zip(index["path"], near, strict=True)
    ]
    rows = [
        *unreadable_rows(index, competition.test_images),
        *problem_rows(competition.other_files, "no image, by the end of its name", "not used"),
        *problem_rows(unlabelled, f"no label in {metadata.source}", "not used"),
        *problem_rows(
            metadata.repeated,
            f"named more than once in {metadata.source}, always with one label",
            "used once",
        ),
        *problem_rows(
            form.missing_images, "in the sample submission, but not in test/", "gets the class prior"
        ),
        *problem_rows(
            without_row, "in test/, but not in the sample submission", "predicted, but not submitted"
        ),
        *exact,
        *near_duplicate_rows(list(index["path"]), only_near, labels),
        *grey_rows(index),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def keep_readable(
    samples: pd.DataFrame, index: pd.DataFrame, max_unreadable: float, competition: Competition
) -> pd.DataFrame:
    """Return the samples whose image could be decoded.

    Raise InputError if a larger share than `max_unreadable` of the training or of the test images could not.
    """
    unreadable = set(index.loc[index["problem"] != "", "path"])
    for kind, images, tolerated in (
        ("training", list(samples["path"]), 0),
        ("test", competition.test_images, TOLERATED_TEST_IMAGES),
    ):
        lost = [image for image in images if image in unreadable]
        if len(lost) > max(max_unreadable * len(images), tolerated):
            raise InputError(
                f"{len(lost)} of {len(images)} {kind} images in {competition.folder} cannot be read, more "
                f"than max_unreadable={max_unreadable:g} allows (first: {first_of(lost)}); replace them, or "
                "allow more with --set max_unreadable=…"
            )
    return samples[~samples["path"].isin(unreadable)].reset_index(drop=True)


def summarise(problems: pd.DataFrame) -> list[str]:
    """Return one line for each kind of problem: count, action and first file."""
    lines = []
    for (problem, action), group in problems.groupby(["problem", "action"], sort=False):
        path, detail = group["path"].iloc[0], group["detail"].iloc[0]
        first = f"{path}: {detail}" if detail else path
        files = "1 file" if len(group) == 1 else f"{len(group):,} files"
        lines.append(f"{problem}: {files}, {action} (first: {first})")
    return lines
