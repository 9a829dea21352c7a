"""The submission format: read from the sample, written, and checked against sample and test folder."""

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.competition.folder import Competition
from foldsmith.competition.label_tables import refuse_headless
from foldsmith.competition.listing import subset_of
from foldsmith.competition.long_form import LongForm, split_ids
from foldsmith.competition.sample import BY_NAME, Sample, rows_of_sample
from foldsmith.competition.spellings import Names, how_loosely, match_ids
from foldsmith.competition.subsets import common_folder, folder_names
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.natural_order import natural_key
from foldsmith.process.files import atomic_write
from foldsmith.tasks import Task
from foldsmith.tasks.cells import default_columns
from foldsmith.tasks.task import BY_COLUMNS, CellForm, Cells

# predictions (N, K) -> predictions (N, K) and decisions in the form of targets
Decide = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class SubmissionForm:
    """The header and the rows of a submission.

    `columns` are the header. `ids` and `images` are the rows in order. A row is about one image, or about
    several, whose predictions are averaged, or about none if the test images lack it. `cells` are the columns
    beside the id, as the competition's task reads them. `sample` and `test_list` are the paths of the sample
    submission and of the table that says which images its ids mean; empty if there is none. With `long` the
    file has a row for each image and label.
    """

    columns: list[str]
    ids: list[str]
    images: list[tuple[str, ...]]
    cells: Cells
    notes: list[str] = field(default_factory=list)
    sample: str = ""
    test_list: str = ""
    long: LongForm | None = None

    @property
    def content(self) -> dict[str, Any]:
        """Return the inputs of a submission besides the predictions and found.json, for its stamp."""
        images = [list(named) for named in self.images]
        return {"columns": self.columns, "ids": self.ids, "images": images, "values": self.cells.words}

    @property
    def missing_images(self) -> list[str]:
        """Return the ids of the sample without an image in the test folder."""
        return [name for name, image in zip(self.ids, self.images, strict=True) if not image]


def read_submission_form(
    competition: Competition, classes: pd.DataFrame, task: Task, cell_form: CellForm = BY_COLUMNS
) -> SubmissionForm:
    """Return the format of the sample submission; without a sample `filename,class`.

    `classes` has `label`, `category`, `class_name`. `cell_form` is what the cells were found
    to hold. Raise InputError if the sample does not fit the test
    images or the classes.
    """
    sample = competition.sample
    if sample is None:
        columns = default_columns(task, classes, cell_form)
        return _default_form(competition.test_images, columns, task.default_cells(classes, cell_form))
    path, table = competition.root / sample.path, sample.table
    if table.empty or len(table.columns) < 2:
        raise InputError(
            f"{path} needs an id column, a label column and one row per test image; download it again."
        )
    columns = list(table.columns)
    refuse_headless(path, columns[:1], competition.test_images)
    if competition.settings.id_column in columns[1:]:
        raise InputError(
            f"{path}: the id column '{competition.settings.id_column}' must be the first column; move it, or "
            "change id_column in competition.toml."
        )
    ids, images, test_list, notes = _read_ids(path, sample, competition)
    cells = task.read_cells(path, table.iloc[:, 1:], classes, cell_form)
    if sample.evidence != BY_NAME:
        notes = [f"{sample.path} is the sample submission: {sample.evidence}", *notes]
    notes = [*notes, *cells.notes]
    return SubmissionForm(columns, ids, images, cells, notes, sample.path, test_list, sample.long)


def _default_form(test_images: list[str], columns: list[str], cells: Cells) -> SubmissionForm:
    """Return the format of a file name and these columns, in natural order of the file names."""
    names = _names_below(test_images)
    order = sorted(range(len(names)), key=lambda index: natural_key(names[index]))
    return SubmissionForm(
        columns=["filename", *columns],
        ids=[names[index] for index in order],
        images=[(test_images[index],) for index in order],
        cells=cells,
        notes=[
            f"no sample submission found; submission.csv is written as filename,{','.join(columns[:3])}"
            f"{',…' if len(columns) > 3 else ''}, sorted by file name."
        ],
    )


def _names_below(test_images: list[str]) -> list[str]:
    """Return the images' paths below the folder that says test, or their full paths if those repeat."""
    depths = {}
    for folder in set(map(os.path.dirname, test_images)):
        said = [index for index, name in enumerate(folder.split("/")) if subset_of(name) in ("test", "val")]
        depths[folder] = said[0] + 1 if said else 0
    names = [image.split("/", depths[os.path.dirname(image)])[-1] for image in test_images]
    return names if len(set(names)) == len(names) else list(test_images)


def _refuse_ids_elsewhere(path: Path, table: pd.DataFrame, test_images: list[str]) -> None:
    """Raise InputError if another column than the first one holds the ids of test images."""
    for position, name in enumerate(table.columns):
        cells = table.iloc[:, position]
        if position and cells.is_unique and None not in match_ids(cells, test_images):
            raise InputError(
                f"{path}: the column '{name.strip()}' holds the ids of the test images, and "
                f"'{table.columns[0].strip()}' stands before it; move it to the front: the id must be the "
                "first column, here and in the submission."
            )


def _read_ids(
    path: Path, sample: Sample, competition: Competition
) -> tuple[list[str], list[tuple[str, ...]], str, list[str]]:
    """Return ids and test images of the sample's rows, the test list used, and a sentence on it.

    Raise InputError if an id is repeated, or if more than 1 % of the ids have no image.
    """
    table = sample.table
    ids = [name.strip() for name in table.iloc[:, 0]]
    repeated = table.index[pd.Series(ids).duplicated()]
    if len(repeated):
        _refuse_ids_elsewhere(path, table, competition.test_images)
    Entries(path, len(ids), "line").refuse(repeated, "repeat an id", "download the sample again.")
    images, test_list = rows_of_sample(competition, sample)
    first = table.columns[0].strip()
    if test_list and first in test_list.images:
        raise InputError(
            f"{path} has no header: its first line has '{first}', an id of {test_list.path}; add a header "
            "line, such as id,label."
        )
    missing = [name for name, named in zip(ids, images, strict=True) if not named]
    if len(missing) > 0.01 * len(ids):
        remedy = (
            "some are folders of images; add test.csv with the columns id,image, a row for each image of a "
            "folder, and a row of the submission is the mean over them"
            if set(missing) <= folder_names(competition.test_images)
            else _labels_in_ids(missing, competition.test_images)
            or "the test folder is incomplete, or belongs to another sample; download both again"
        )
        raise InputError(
            f"{path}: {len(missing)} of {len(ids)} ids have no image in "
            f"{competition.root / common_folder(competition.test_images)} "
            f"(first: {first_of(missing)}); {remedy}."
        )
    most = max(map(len, images))
    loose = how_loosely(ids, competition.test_images)
    if loose:
        return ids, images, "", [f"the ids of {sample.path} are read {loose}, as in '{ids[0]}'"]
    if test_list is None:
        said = f"the ids of {sample.path} stand for several images: a row is the mean of up to {most}"
        return ids, images, "", [said] if most > 1 else []
    several = f"; a row is the mean of up to {most} images" if most > 1 else ""
    sentence = (
        f"the ids of {sample.path} are those of '{test_list.id_column}' in {test_list.path}, which names the "
        f"images in '{test_list.image_column}'{several}"
    )
    return ids, images, test_list.path, [sentence]


def _labels_in_ids(ids: list[str], images: list[str]) -> str:
    """Return the remedy for ids that are an image, or a folder of images, and a label; empty for others."""
    pairs = split_ids(ids, {*folder_names(images), *Names(images).bare})
    if not pairs:
        return ""
    return (
        f"the ids are an image or folder and a label ('{pairs[0][0]}', '{pairs[0][1]}'), with several "
        "columns a row, which is not supported; write a sample with a row for each image and a column for "
        "each label"
    )


def fill_submission(
    form: SubmissionForm,
    probabilities: dict[str, np.ndarray],
    prior: np.ndarray,
    decide: Decide | None = None,
) -> pd.DataFrame:
    """Return the submission table.

    `decide` returns predictions and decisions for predictions (N, K); without it the task decides. Raise
    InputError as `predictions_of_rows` does.
    """
    rows = predictions_of_rows(form, probabilities, prior)
    table = form.cells.fill(*(decide(rows) if decide else (rows,)))
    table.insert(0, "id", form.ids)
    table = table.set_axis(form.columns, axis=1)  # a header may repeat a name
    return form.long.lengthen(table) if form.long else table


def predictions_by_path(predicted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the predictions (K,) of each test image by its path, from the arrays of test.npz."""
    # they are the paths and the task's predictions
    (key,) = predicted.keys() - {"path"}
    return dict(zip(predicted["path"].tolist(), predicted[key], strict=True))


def predictions_of_rows(
    form: SubmissionForm, probabilities: dict[str, np.ndarray], prior: np.ndarray
) -> np.ndarray:
    """Return the predictions of the rows (N, K), matched by image; a row without one gets the `prior` (K,).

    Raise InputError if a test image has no prediction, or one that is not finite.
    """
    absent = [image for named in form.images for image in named if image not in probabilities]
    if absent:
        raise InputError(
            f"{len(absent)} test images have no prediction (first: {absent[0]}); run src/infer.py again."
        )
    rows = np.stack([_mean_of(named, probabilities, prior) for named in form.images])
    unknown = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(unknown):
        image = first_of(form.images[unknown[0]])
        raise InputError(
            f"{len(unknown)} test images have a prediction that is not finite (first: {image}); "
            "run src/infer.py again."
        )
    return rows


def _mean_of(images: tuple[str, ...], predictions: dict[str, np.ndarray], prior: np.ndarray) -> np.ndarray:
    """Return the prediction of a row: its image's, the mean of its images', or without any the prior."""
    if len(images) == 1:
        return predictions[images[0]]
    return np.mean([predictions[image] for image in images], axis=0, dtype=np.float64) if images else prior


def write_submission(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def save_submission(
    path: Path,
    form: SubmissionForm,
    predicted: dict[str, np.ndarray],
    prior: np.ndarray,
    competition: Competition,
    decide: Decide | None = None,
) -> list[str]:
    """Write a submission from `predicted`, the arrays of test.npz, and return the notes of the check.

    It is checked before it gets its name, so that an existing submission has passed. Raise InputError as
    `fill_submission` and `check_submission` do.
    """
    table = fill_submission(form, predictions_by_path(predicted), prior, decide)
    with atomic_write(path) as temporary:
        write_submission(temporary, table)
        return check_submission(temporary, form, competition)


def check_submission(path: Path, form: SubmissionForm, competition: Competition) -> list[str]:
    """Read a written submission back and check it against its format and the test folder.

    Return sentences about rows on which the sample and the test folder disagree. Raise InputError at the
    first fault that a competition would reject: header, ids, order, labels, or probabilities.
    """
    header, *rows = _read_exactly(path)
    columns, named = (list(form.long.header), form.long.ids) if form.long else (form.columns, form.ids)
    if header != columns:
        raise InputError(f"{path}: the header is {first_of(header, 10)}; it must be {first_of(columns, 10)}.")
    ids = [row[0] if row else "" for row in rows]
    counts = f"{len(ids)} rows for {len(named)} ids; " if len(ids) != len(named) else ""
    for line, (written, expected) in enumerate(zip_longest(ids, named, fillvalue="missing"), start=2):
        if written != expected:
            raise InputError(f"{path}, line {line}: {counts}the id is '{written}'; it must be '{expected}'.")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: {len(row)} cells; it must have {len(header)}.")
    if form.long:
        rows = form.long.widen([row[1] for row in rows]).to_numpy().tolist()
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
    return sorted(
        {*competition.test_images} - {image for named in form.images for image in named}, key=natural_key
    )


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
