"""Read labels of every form into one table of samples."""

from dataclasses import dataclass, field, replace

import pandas as pd

from foldsmith.competition.class_names import find_class_names
from foldsmith.competition.folder import Competition
from foldsmith.competition.groups import find_group_candidates, read_groups
from foldsmith.competition.label_rows import Labels
from foldsmith.competition.label_sets import sets_of_rows
from foldsmith.competition.label_sources import found_source, named_source
from foldsmith.competition.roles import joined_cells
from foldsmith.competition.sample_cells import SampleCells, refuse_sample_form
from foldsmith.competition.target import Target, categories_of, read_target
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.natural_order import natural_key
from foldsmith.tasks import TASKS


@dataclass(frozen=True)
class Metadata:
    """The labelled training images.

    `samples` has `path`, `label` (class index), `class_name`, `category` (as the label file writes it) and
    `group`, in natural order of the path. `classes` has `label`, `category` and `class_name`, one row per
    class. `repeated` are the images named more than once, always with the same label. `target` is what
    is predicted and how it is submitted. `notes` are sentences on how the labels were found and read.
    """

    task: str
    source: str
    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]
    notes: list[str] = field(default_factory=list)
    labels: Labels | None = None
    target: Target | None = None


def _names_of_grades(grades: tuple[str, ...], target: Target, labels: set[str]) -> dict[str, str]:
    """Return the names of grades in their order. Raise InputError if they are not those of the labels."""
    if target.task != "ordinal":
        raise InputError(f"competition.toml: grades are of the task ordinal, and the task is {target.task}.")
    others = sorted(labels - set(grades), key=natural_key)
    if others:
        raise InputError(
            f"labels are not among the grades of competition.toml ({first_of(others)}); add them to grades, "
            "in their place from the lowest to the highest."
        )
    return {grade: target.names.get(grade, grade) for grade in grades}


def read_metadata(competition: Competition) -> Metadata:
    """Read the labels of a competition folder. Raise InputError if they are incomplete or inconsistent."""
    sample, settings = competition.sample, competition.settings
    wanted = None if sample is None else sample.table.iloc[:, 1:]
    if not settings.submission and sample is not None:
        refuse_sample_form(competition.root / sample.path, SampleCells.of(wanted))
    labels = read_labels(competition)
    labels, separator = sets_of_rows(labels, SampleCells.of(wanted), settings)
    cells = labels.rows[list(labels.columns)]
    is_empty = (cells == "").any(axis=1)
    if is_empty.all():
        _refuse_empty(labels, cells)
    try:
        decided = replace(settings, label_separator=separator) if separator else settings
        target = read_target(cells[~is_empty], labels.names, wanted, decided)
        if target.task != "multilabel" or len(labels.columns) > 1:
            _refuse_empty(labels, cells)
        rows = labels.rows[["path", "group"]].assign(category=list(categories_of(cells, target)))
        if settings.grades:
            target = replace(target, names=_names_of_grades(settings.grades, target, set(rows["category"])))
    except InputError as error:
        named = str(error).startswith(str(labels.path))
        raise error if named else InputError(f"{labels.path}: {error}") from error
    if separator and not any(" " in word for words in rows["category"] for word in words):
        target = replace(target, separator=" ")
    encoded = TASKS[target.task].encode(rows, target.names, labels.path)
    notes = [*labels.evidence, *target.evidence]
    return Metadata(
        target.task, labels.source, encoded.samples, encoded.classes, encoded.repeated, notes, labels, target
    )


def _refuse_empty(labels: Labels, cells: pd.DataFrame) -> None:
    """Raise InputError if a label is empty, which only a set of labels may be."""
    for name in cells:
        empty = cells.index[cells[name] == ""]
        remedy = 'fill them in, or set task = "multilabel" in competition.toml for images without a label.'
        Entries(labels.path, len(cells), "line").refuse(empty, f"have an empty '{name}'", remedy)


def read_labels(competition: Competition) -> Labels:
    """Return the labels from the source that competition.toml names, or that the evidence speaks for."""
    sample = competition.sample
    labels = named_source(competition, sample) or found_source(competition, sample)
    rows, evidence = read_groups(labels.rows, competition, labels.path)
    names, said = labels.names, []
    if not competition.settings.group_column and not rows["group"].any():
        cells = joined_cells(rows.drop_duplicates("path").set_index("path")[list(labels.columns)])
        evidence = find_group_candidates(competition, cells)
    if not names and len(labels.columns) == 1:
        names, said = find_class_names(competition, labels.source, set(rows[labels.columns[0]]))
    return Labels(
        labels.source,
        labels.path,
        rows,
        labels.columns,
        names,
        labels.id_column,
        [*labels.evidence, *evidence, *said],
    )
