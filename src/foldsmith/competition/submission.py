"""The form of a submission: read from the sample, written, and checked against sample and test folder."""

import csv
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.competition.folder import (
    Competition,
    match_ids,
    natural_key,
    read_table,
    sample_submission_path,
)
from foldsmith.competition.labels_csv import refuse_headless
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.process.files import written_whole


@dataclass(frozen=True)
class SubmissionForm:
    """What a submission must look like, row by row.

    `columns` are the header; `ids` and `images` (None where the test folder has no such image) the rows in
    order. `values` are the words for class 0 … K-1 where the form asks for one label; `column_labels` the
    class of each probability column where it asks for probabilities, else empty.
    """

    columns: list[str]
    ids: list[str]
    images: list[str | None]
    values: list[str]
    column_labels: list[int]
    notes: list[str]

    @property
    def content(self) -> dict[str, list[str]]:
        """What a submission's text depends on besides the predictions, for a stamp."""
        return {"columns": self.columns, "ids": self.ids, "values": self.values}

    @property
    def missing_images(self) -> list[str]:
        """Ids that the sample names and the test folder lacks."""
        return [name for name, image in zip(self.ids, self.images, strict=True) if image is None]


def read_submission_form(competition: Competition, classes: pd.DataFrame) -> SubmissionForm:
    """Return the form the sample submission asks for; without one `filename,class`.

    `classes` has `label`, `category`, `class_name`. Raise InputError if the sample fits neither test nor
    classes.
    """
    path = sample_submission_path(competition.folder)
    if path is None:
        return _default_form(competition.test_images, list(classes["category"]))
    table = read_table(path)
    if table.empty or len(table.columns) < 2:
        raise InputError(
            f"{path} needs an id column, a label column and one row a test image; fetch it again."
        )
    columns = list(table.columns)
    refuse_headless(path, columns[0], competition.test_images)
    if competition.settings.id_column in columns[1:]:
        raise InputError(f"{path}: the id column '{competition.settings.id_column}' is not the first one.")
    ids, images = _read_ids(path, table, competition)
    if len(columns) == 2:
        values, notes = _vocabulary(path, set(table.iloc[:, 1].str.strip()), classes)
        return SubmissionForm(columns, ids, images, values, [], notes)
    labels = _column_labels(path, [column.strip() for column in columns[1:]], classes)
    return SubmissionForm(columns, ids, images, [], labels, [])


def _default_form(test_images: list[str], categories: list[str]) -> SubmissionForm:
    """Return the form `filename,class`, sorted naturally by file name."""
    names = [image.removeprefix("test/") for image in test_images]
    order = sorted(range(len(names)), key=lambda index: natural_key(names[index]))
    return SubmissionForm(
        columns=["filename", "class"],
        ids=[names[index] for index in order],
        images=[test_images[index] for index in order],
        values=categories,
        column_labels=[],
        notes=["no sample submission: written as filename,class, sorted by file name."],
    )


def _read_ids(
    path: Path, table: pd.DataFrame, competition: Competition
) -> tuple[list[str], list[str | None]]:
    """Return the ids of the sample's rows, and the test image of each, or None where there is no such one.

    Raise InputError if an id is repeated, or more than 1 % of them have no image.
    """
    ids = [name.strip() for name in table.iloc[:, 0]]
    repeated = table.index[pd.Series(ids).duplicated()]
    Entries(path, len(ids), "line").refuse(repeated, "repeat an id", "fetch the sample again.")
    images = match_ids(ids, competition.test_images, path)
    missing = [name for name, image in zip(ids, images, strict=True) if image is None]
    if len(missing) > 0.01 * len(ids):
        raise InputError(
            f"{path} names {len(missing)} of {len(ids)} ids that have no image in "
            f"{competition.folder / 'test'} (first: {first_of(missing)}); "
            "the test folder is not whole, or belongs to another sample."
        )
    return ids, images


def _vocabulary(path: Path, used: set[str], classes: pd.DataFrame) -> tuple[list[str], list[str]]:
    """How the sample writes labels: as categories of the label file, or as class names."""
    for column in ("category", "class_name"):
        if used <= set(classes[column]):
            if classes[column].duplicated().any():
                twice = classes.loc[classes[column].duplicated(), column].iloc[0]
                raise InputError(
                    f"{path} asks for class names, but two classes are named '{twice}'; rename one."
                )
            return list(classes[column]), []
    both = {*classes["category"], *classes["class_name"]}
    if used <= both:
        raise InputError(
            f"{path} mixes class numbers and class names ({first_of(sorted(used))}); fetch it again."
        )
    unknown = sorted(used - both)
    if len(used) > 1 or _is_fraction(unknown[0]):
        raise InputError(
            f"{path}: {len(unknown)} of its labels are no class of this competition (first: {unknown[0]!r}); "
            f"the classes are {first_of(classes['category'])}; fetch the sample of this competition."
        )
    placeholder = f"the sample submission holds only '{unknown[0]}', which is no class"
    return list(classes["category"]), [f"{placeholder}: labels are written as in the label file."]


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def _column_labels(path: Path, columns: list[str], classes: pd.DataFrame) -> list[int]:
    """The class of each probability column."""
    for known in ("category", "class_name"):
        labels = dict(zip(classes[known], classes["label"], strict=True))
        if len(labels) == len(classes) == len(columns) and set(columns) == set(labels):
            return [int(labels[column]) for column in columns]
    names = {*classes["category"], *classes["class_name"]}
    strange = [column for column in columns if column not in names]
    told = (
        f"{len(strange)} columns are no class (first: {first_of(strange)})"
        if strange
        else "some columns are missing"
    )
    raise InputError(
        f"{path}: one label column or one probability column for each of the {len(classes)} classes is "
        f"understood, but it has {len(columns)} columns besides the id and {told}."
    )


def fill_submission(
    form: SubmissionForm, probabilities: dict[str, np.ndarray], prior: np.ndarray
) -> pd.DataFrame:
    """The submission table. Rows are matched by image; one without an image gets the `prior`, (K,).

    Raises InputError if an image of the test folder has no prediction, or one that is no number.
    """
    absent = [image for image in form.images if image is not None and image not in probabilities]
    if absent:
        raise InputError(
            f"{len(absent)} test images have no prediction (first: {absent[0]}); run src/infer.py again."
        )
    rows = np.stack([prior if image is None else probabilities[image] for image in form.images])
    unknown = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(unknown):
        image = form.images[unknown[0]]
        raise InputError(f"{len(unknown)} test images have a prediction that is no number (first: {image}).")
    if form.column_labels:
        rows = rows.astype(np.float64)
        rows /= rows.sum(axis=1, keepdims=True)
        table = pd.DataFrame(rows[:, form.column_labels])
    else:
        table = pd.DataFrame([form.values[label] for label in rows.argmax(axis=1)])
    table.insert(0, "id", form.ids)
    return table.set_axis(form.columns, axis=1)  # a header may say one word twice


def write_submission(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def save_submission(
    path: Path,
    form: SubmissionForm,
    predicted: dict[str, np.ndarray],
    prior: np.ndarray,
    competition: Competition,
    classes: pd.DataFrame,
) -> list[str]:
    """Writes a submission from `predicted`, which is test.npz, checked before it takes its name: one that is
    there is one that was accepted.

    Returns what `check_submission` does; raises what it and `fill_submission` raise.
    """
    probabilities = dict(zip(predicted["path"].tolist(), predicted["probabilities"], strict=True))
    table = fill_submission(form, probabilities, prior)
    with written_whole(path) as temporary:
        write_submission(temporary, table)
        return check_submission(temporary, competition, classes)


def check_submission(path: Path, competition: Competition, classes: pd.DataFrame) -> list[str]:
    """Reads a written submission back and checks it against the sample submission and the test folder.

    Returns sentences about rows in which the two sources disagree. Raises InputError at the first thing that
    a competition would refuse: header, ids, order, label vocabulary, or probabilities.
    """
    form = read_submission_form(competition, classes)
    header, *rows = _read_exactly(path)
    if header != form.columns:
        raise InputError(
            f"{path}: the header is {first_of(header, 10)}, it must be {first_of(form.columns, 10)}."
        )
    ids = [row[0] if row else "" for row in rows]
    counts = f"{len(ids)} rows for {len(form.ids)} ids; " if len(ids) != len(form.ids) else ""
    for line, (written, wanted) in enumerate(zip_longest(ids, form.ids, fillvalue="missing"), start=2):
        if written != wanted:
            raise InputError(f"{path}, line {line}: {counts}the id is '{written}', it must be '{wanted}'.")
    values = set(form.values)
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: {len(row)} cells, it must have {len(header)}.")
        if not form.column_labels and row[1] not in values:
            raise InputError(f"{path}, line {line}: '{row[1]}' is no label of this competition.")
    if form.column_labels:
        _check_probabilities(path, pd.DataFrame(rows).iloc[:, 1:])
    return disagreements(form, competition)


def _read_exactly(path: Path) -> list[list[str]]:
    """Every line of a CSV as it is, with what a forgiving reader would pass over."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a valid CSV file: {error}.") from error
    if not any(lines):
        raise InputError(f"{path} is not a valid CSV file: it is empty.")
    return lines


def _check_probabilities(path: Path, cells: pd.DataFrame) -> None:
    try:
        values = cells.to_numpy(dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: a probability is no number ({error}).") from error
    with np.errstate(invalid="ignore"):
        fine = (values >= 0).all(axis=1) & (values <= 1).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-6)
    if not fine.all():
        line = int(np.flatnonzero(~fine)[0])
        raise InputError(f"{path}, line {line + 2}: probabilities must lie in [0, 1] and sum to 1.")


def unasked_images(form: SubmissionForm, competition: Competition) -> list[str]:
    """Test images that have no row in the sample submission."""
    return sorted({*competition.test_images} - {*form.images}, key=natural_key)


def disagreements(form: SubmissionForm, competition: Competition) -> list[str]:
    """Where the sample submission and the test folder name different rows."""
    told = []
    if form.missing_images:
        told.append(
            f"{len(form.missing_images)} rows of the sample have no test image and get the class prior "
            f"({first_of(form.missing_images)})."
        )
    unasked = unasked_images(form, competition)
    if unasked:
        told.append(
            f"{len(unasked)} test images have no row in the sample and are left out ({first_of(unasked)})."
        )
    return told
