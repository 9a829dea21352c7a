"""The form of a submission: read from the sample, written, and checked against sample and test folder."""

import csv
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.competition.folder import (
    Competition,
    match_ids,
    read_table,
    sample_submission_path,
)
from foldsmith.competition.labels_csv import refuse_headless
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.natural_order import natural_key
from foldsmith.process.files import atomic_write
from foldsmith.tasks import Task
from foldsmith.tasks.task import Cells


@dataclass(frozen=True)
class SubmissionForm:
    """What a submission must look like, row by row.

    `columns` are the header; `ids` and `images` (None where the test folder has no such image) the rows in
    order. `cells` are what the form asks for beside the id, as the competition's task reads it.
    """

    columns: list[str]
    ids: list[str]
    images: list[str | None]
    cells: Cells
    notes: list[str] = field(default_factory=list)

    @property
    def content(self) -> dict[str, list[str]]:
        """What a submission's text depends on besides the predictions, for a stamp."""
        return {"columns": self.columns, "ids": self.ids, "values": self.cells.words}

    @property
    def missing_images(self) -> list[str]:
        """Ids that the sample names and the test folder lacks."""
        return [name for name, image in zip(self.ids, self.images, strict=True) if image is None]


def read_submission_form(competition: Competition, classes: pd.DataFrame, task: Task) -> SubmissionForm:
    """Return the form the sample submission asks for; without one `filename,class`.

    `classes` has `label`, `category`, `class_name`. Raise InputError if the sample fits neither test nor
    classes.
    """
    path = sample_submission_path(competition.folder)
    if path is None:
        return _default_form(competition.test_images, task.default_cells(classes))
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
    cells = task.read_cells(path, [column.strip() for column in columns[1:]], table.iloc[:, 1:], classes)
    return SubmissionForm(columns, ids, images, cells, cells.notes)


def _default_form(test_images: list[str], cells: Cells) -> SubmissionForm:
    """Return the form `filename,class`, sorted naturally by file name."""
    names = [image.removeprefix("test/") for image in test_images]
    order = sorted(range(len(names)), key=lambda index: natural_key(names[index]))
    return SubmissionForm(
        columns=["filename", "class"],
        ids=[names[index] for index in order],
        images=[test_images[index] for index in order],
        cells=cells,
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
    table = form.cells.fill(rows)
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
) -> list[str]:
    """Writes a submission from `predicted`, which is test.npz, checked before it takes its name: one that is
    there is one that was accepted.

    Returns what `check_submission` does; raises what it and `fill_submission` raise.
    """
    probabilities = dict(zip(predicted["path"].tolist(), predicted["probabilities"], strict=True))
    table = fill_submission(form, probabilities, prior)
    with atomic_write(path) as temporary:
        write_submission(temporary, table)
        return check_submission(temporary, form, competition)


def check_submission(path: Path, form: SubmissionForm, competition: Competition) -> list[str]:
    """Read a written submission back and check it against its form and the test folder.

    Returns sentences about rows in which the two sources disagree. Raises InputError at the first thing that
    a competition would refuse: header, ids, order, label vocabulary, or probabilities.
    """
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
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: {len(row)} cells, it must have {len(header)}.")
    form.cells.check(path, rows)
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
