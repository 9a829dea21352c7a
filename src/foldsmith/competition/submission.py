"""The submission format: read from the sample, written, and checked against sample and test folder."""

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
    """The header and the rows of a submission.

    `columns` are the header. `ids` and `images` are the rows in order; an image is None if the test folder
    lacks it. `cells` are the columns beside the id, as the competition's task reads them.
    """

    columns: list[str]
    ids: list[str]
    images: list[str | None]
    cells: Cells
    notes: list[str] = field(default_factory=list)

    @property
    def content(self) -> dict[str, list[str]]:
        """Return the inputs of a submission besides the predictions, for its stamp."""
        return {"columns": self.columns, "ids": self.ids, "values": self.cells.words}

    @property
    def missing_images(self) -> list[str]:
        """Return the ids of the sample without an image in the test folder."""
        return [name for name, image in zip(self.ids, self.images, strict=True) if image is None]


def read_submission_form(competition: Competition, classes: pd.DataFrame, task: Task) -> SubmissionForm:
    """Return the format of the sample submission; without a sample `filename,class`.

    `classes` has `label`, `category`, `class_name`. Raise InputError if the sample does not fit the test
    images or the classes.
    """
    path = sample_submission_path(competition.folder)
    if path is None:
        return _default_form(competition.test_images, task.default_cells(classes))
    table = read_table(path)
    if table.empty or len(table.columns) < 2:
        raise InputError(
            f"{path} needs an id column, a label column and one row per test image; download it again."
        )
    columns = list(table.columns)
    refuse_headless(path, columns[0], competition.test_images)
    if competition.settings.id_column in columns[1:]:
        raise InputError(
            f"{path}: the id column '{competition.settings.id_column}' must be the first column; move it, or "
            "change id_column in competition.toml."
        )
    ids, images = _read_ids(path, table, competition)
    cells = task.read_cells(path, [column.strip() for column in columns[1:]], table.iloc[:, 1:], classes)
    return SubmissionForm(columns, ids, images, cells, cells.notes)


def _default_form(test_images: list[str], cells: Cells) -> SubmissionForm:
    """Return the format `filename,class`, in natural order of the file names."""
    names = [image.removeprefix("test/") for image in test_images]
    order = sorted(range(len(names)), key=lambda index: natural_key(names[index]))
    return SubmissionForm(
        columns=["filename", "class"],
        ids=[names[index] for index in order],
        images=[test_images[index] for index in order],
        cells=cells,
        notes=[
            "no sample submission found; submission.csv is written as filename,class, sorted by file name."
        ],
    )


def _read_ids(
    path: Path, table: pd.DataFrame, competition: Competition
) -> tuple[list[str], list[str | None]]:
    """Return the ids of the sample's rows and the test image of each id, or None if there is no such image.

    Raise InputError if an id is repeated, or if more than 1 % of the ids have no image.
    """
    ids = [name.strip() for name in table.iloc[:, 0]]
    repeated = table.index[pd.Series(ids).duplicated()]
    Entries(path, len(ids), "line").refuse(repeated, "repeat an id", "download the sample again.")
    images = match_ids(ids, competition.test_images, path)
    missing = [name for name, image in zip(ids, images, strict=True) if image is None]
    if len(missing) > 0.01 * len(ids):
        raise InputError(
            f"{path}: {len(missing)} of {len(ids)} ids have no image in {competition.folder / 'test'} "
            f"(first: {first_of(missing)}); the test folder is incomplete, or belongs to another sample; "
            "download both again."
        )
    return ids, images


def fill_submission(
    form: SubmissionForm, probabilities: dict[str, np.ndarray], prior: np.ndarray
) -> pd.DataFrame:
    """Return the submission table. Rows are matched by image; a row without an image gets the `prior` (K,).

    Raise InputError if a test image has no prediction, or one that is not finite.
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
        raise InputError(
            f"{len(unknown)} test images have a prediction that is not finite (first: {image}); "
            "run src/infer.py again."
        )
    table = form.cells.fill(rows)
    table.insert(0, "id", form.ids)
    return table.set_axis(form.columns, axis=1)  # a header may repeat a name


def write_submission(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def save_submission(
    path: Path,
    form: SubmissionForm,
    predicted: dict[str, np.ndarray],
    prior: np.ndarray,
    competition: Competition,
) -> list[str]:
    """Write a submission from `predicted`, the arrays of test.npz, and return the notes of the check.

    It is checked before it gets its name, so that an existing submission has passed. Raise InputError as
    `fill_submission` and `check_submission` do.
    """
    # test.npz holds the paths and the task's predictions
    (key,) = predicted.keys() - {"path"}
    by_path = dict(zip(predicted["path"].tolist(), predicted[key], strict=True))
    table = fill_submission(form, by_path, prior)
    with atomic_write(path) as temporary:
        write_submission(temporary, table)
        return check_submission(temporary, form, competition)


def check_submission(path: Path, form: SubmissionForm, competition: Competition) -> list[str]:
    """Read a written submission back and check it against its format and the test folder.

    Return sentences about rows on which the sample and the test folder disagree. Raise InputError at the
    first fault that a competition would reject: header, ids, order, labels, or probabilities.
    """
    header, *rows = _read_exactly(path)
    if header != form.columns:
        raise InputError(
            f"{path}: the header is {first_of(header, 10)}; it must be {first_of(form.columns, 10)}."
        )
    ids = [row[0] if row else "" for row in rows]
    counts = f"{len(ids)} rows for {len(form.ids)} ids; " if len(ids) != len(form.ids) else ""
    for line, (written, expected) in enumerate(zip_longest(ids, form.ids, fillvalue="missing"), start=2):
        if written != expected:
            raise InputError(f"{path}, line {line}: {counts}the id is '{written}'; it must be '{expected}'.")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: {len(row)} cells; it must have {len(header)}.")
    form.cells.check(path, rows)
    return disagreements(form, competition)


def _read_exactly(path: Path) -> list[list[str]]:
    """Return the cells of every line of a CSV, also of the empty lines that `read_table` skips."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a valid CSV file: {error}.") from error
    if not any(lines):
        raise InputError(f"{path} is not a valid CSV file: it is empty.")
    return lines


def images_without_row(form: SubmissionForm, competition: Competition) -> list[str]:
    """Return the test images without a row in the sample submission, in natural order."""
    return sorted({*competition.test_images} - {*form.images}, key=natural_key)


def disagreements(form: SubmissionForm, competition: Competition) -> list[str]:
    """Return sentences on rows without a test image, and on test images without a row."""
    notes = []
    if form.missing_images:
        notes.append(
            f"{len(form.missing_images)} rows of the sample have no test image and get the class prior "
            f"({first_of(form.missing_images)})."
        )
    extra = images_without_row(form, competition)
    if extra:
        notes.append(
            f"{len(extra)} test images have no row in the sample and are left out ({first_of(extra)})."
        )
    return notes
