"""Corrected labels: a file of path, digest, old and new, applied by the digest of an image's pixels.

All images of a digest, copies of one picture, get the same label. `old` are labels as the competition has
them, so that a file applies to the competition rather than to a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foldsmith.competition.tables import read_table
from foldsmith.data.duplicates import join_groups, name_groups
from foldsmith.errors import Entries, InputError, nearest_name
from foldsmith.process.files import digest_of, load_json
from foldsmith.run.command import CORRECTED, Command
from foldsmith.run.tables import unguarded
from foldsmith.tasks import Task
from foldsmith.tasks.multilabel import columns_of, separator_of
from foldsmith.tasks.regression import with_scaling
from foldsmith.tasks.value_scores import as_columns

COLUMNS = ("path", "digest", "old", "new")
LEAVE_OUT = "(leave out)"  # `new` of an image that is not used; `Spelling` lets no class be spelled like it
AGAIN = "save the file again from the report of a run on this folder, or remove these lines"


@dataclass(frozen=True)
class Spelling:
    """How labels are written in a corrections file: `words` by class, in the column of samples.csv.

    `separator` divides the labels of a set; it is None where an image has one label. Numbers have no words.
    """

    column: str
    words: Sequence[str]
    separator: str | None

    def labels_of(self, cell: str) -> list[int] | None:
        """Return the sorted class indices of a cell; None if a word is no class."""
        index = {word: label for label, word in enumerate(self.words)}
        words = [cell] if self.separator is None else cell.split(self.separator) if cell else []
        return sorted({index[word] for word in words}) if set(words) <= set(index) else None


def spelling_of(classes: pd.DataFrame, task: Task) -> Spelling:
    """Return how labels are written: by the first of class name, category and index that is never ambiguous.

    `classes` is classes.csv. A word is ambiguous if two classes have it, if it is empty or LEAVE_OUT, or if
    it holds the separator of sets.
    """
    if task.predictions_key == "values":
        return Spelling("class_name", (), None)
    for column in ("class_name", "category", "label"):
        words = list(classes[column].astype(str))
        separator = None if task.single_label else separator_of(words)
        torn = separator is not None and any(separator in word for word in words)
        if len(set(words)) == len(words) and not {"", LEAVE_OUT} & set(words) and not torn:
            break
    return Spelling(column, words, separator)


def read_corrections(path: Path) -> pd.DataFrame:
    """Return a file of corrections: COLUMNS as text, by line. Raise InputError if it is none."""
    if not path.is_file():
        raise InputError(f"--corrections {path}: there is no such file; the report of a run saves one.")
    table = read_table(path)
    missing = [column for column in COLUMNS if column not in table]
    if missing or table.columns.duplicated().any():
        raise InputError(
            f"{path} has the columns {', '.join(table.columns)}; corrections have {', '.join(COLUMNS)}, each "
            "once: save the file from a run's report."
        )
    if table.empty:
        raise InputError(f"{path} holds no correction; leave --corrections out.")
    return table[list(COLUMNS)].map(unguarded)


def digest_of_corrections(table: pd.DataFrame) -> str:
    """Return a digest of what a table of corrections says, whatever the paths and the order of its lines."""
    return digest_of(sorted(set(zip(table["digest"], table["old"], table["new"], strict=True))))


def refuse_other_corrections(command: Command, lines: pd.DataFrame | None) -> None:
    """Raise InputError if the run was prepared with other corrections than the command's `lines`."""
    run, stamp = command.run, command.run.stamp("prepare")
    if command.again or not stamp.is_file():
        return
    held = load_json(stamp).get("corrections", "")
    if held == ("" if lines is None else digest_of_corrections(lines)):
        return
    if lines is None:
        raise InputError(
            f"{run.root} was prepared with corrections of labels; run it with --corrections "
            f"{run.corrections}, or choose another --name."
        )
    free = command.name + ("-2" if command.name.endswith(CORRECTED) else CORRECTED)
    raise InputError(
        f"{run.root} was prepared {'with other' if held else 'without'} corrections, not with those of "
        f"{command.corrections}; choose another --name, such as --name {free}, or replace the run: --again."
    )


@dataclass(frozen=True)
class Corrected:
    """The tables of prepare.py after corrections.

    `samples` are the training images that are left, `index` is the index of the cache without those that were
    left out, `applied` has COLUMNS for every image that a line speaks of.
    """

    samples: pd.DataFrame
    classes: pd.DataFrame
    index: pd.DataFrame
    applied: pd.DataFrame


@dataclass(frozen=True)
class Labelled:
    """The labels that corrections are applied to.

    `samples` are those of the task's `encode`, `classes` its classes, `index` is that of the cache with
    digest and `near` (the first image of a near-duplicate group).
    """

    samples: pd.DataFrame
    classes: pd.DataFrame
    index: pd.DataFrame
    task: Task

    @property
    def spelling(self) -> Spelling:
        return spelling_of(self.classes, self.task)

    def cells(self) -> pd.DataFrame:
        """Return path, digest and label (`old`) of every training image, as corrections spell them."""
        digests = self.index.set_index("path")["digest"].loc[self.samples["path"]]
        old = self.samples[self.spelling.column].astype(str)
        return pd.DataFrame({"path": self.samples["path"], "digest": digests.to_numpy(), "old": old})


def apply_corrections(path: Path, lines: pd.DataFrame, labelled: Labelled) -> Corrected:
    """Return the labels with the corrections `lines` of the file `path`.

    Raise InputError, which names the first line, if a line is stale or contradicts another one.
    """
    cells = labelled.cells()
    _refuse_contradictions(path, lines, labelled)
    _refuse_stale(path, lines, cells)
    answers = lines.drop_duplicates("digest").set_index("digest")["new"]
    named = cells["digest"].isin(answers.index)
    applied = cells[named].assign(new=cells.loc[named, "digest"].map(answers)).reset_index(drop=True)
    left_out = set(applied.loc[applied["new"] == LEAVE_OUT, "path"])
    samples = _relabelled(
        labelled, applied[(applied["new"] != applied["old"]) & (applied["new"] != LEAVE_OUT)]
    )
    samples = samples[~samples["path"].isin(left_out)].reset_index(drop=True)
    few = samples["label"].nunique() < 2 if labelled.task.predictions_key == "values" else samples.empty
    if few or (labelled.task.single_label and samples["label"].nunique() < 2):
        raise InputError(f"{path}: its corrections leave nothing to tell apart; correct fewer labels.")
    classes = labelled.classes
    if labelled.task.predictions_key == "values":
        classes = with_scaling(classes, as_columns(labelled.task.targets(samples)))
    return Corrected(samples, classes, _without(labelled.index, left_out), applied)


def _refuse_contradictions(path: Path, lines: pd.DataFrame, labelled: Labelled) -> None:
    """Raise InputError for an answer that is no label, and for two answers to one digest."""
    entries, spelling, new = Entries(path, len(lines), "line"), labelled.spelling, lines["new"]
    if spelling.separator is None:
        remedy = f"write a label, the old one to keep it, or {LEAVE_OUT}."
        entries.refuse(lines.index[new == ""], "have no 'new'", remedy)
    open_answers = new[(new != LEAVE_OUT) & (new != lines["old"])]
    if labelled.task.predictions_key == "values":
        remedy = f"write {LEAVE_OUT}, or the old number to keep it."
        entries.refuse(open_answers.index, "change a number, which corrections cannot", remedy)
        return
    unknown = [line for line, cell in open_answers.items() if spelling.labels_of(cell) is None]
    if unknown:
        nearest = nearest_name(new[unknown[0]], spelling.words)
        hint = f"did you mean '{nearest}'? " if nearest else ""
        remedy = f"{hint}classes.csv of a run lists the classes (column {spelling.column})."
        entries.refuse(unknown, "have a 'new' that is no class", remedy, f"'{new[unknown[0]]}'")
    first = lines.drop_duplicates("digest").reset_index().set_index("digest")
    other = lines[new != lines["digest"].map(first["new"])]
    if len(other):
        earlier = first.loc[other["digest"].iloc[0]]
        example = f"'{other['new'].iloc[0]}', and line {earlier['index']} says '{earlier['new']}'"
        entries.refuse(other.index, "give a picture a second answer", "keep one answer.", example)


def _refuse_stale(path: Path, lines: pd.DataFrame, cells: pd.DataFrame) -> None:
    """Raise InputError for a digest or an old label that is not there, and for a copy with another label."""
    entries = Entries(path, len(lines), "line")
    unknown = lines.index[~lines["digest"].isin(cells["digest"])]
    if len(unknown):
        what = "are stale: no training image has these pixels"
        entries.refuse(unknown, what, f"{AGAIN}.", lines.loc[unknown[0], "path"])
    present = set(zip(cells["digest"], cells["old"], strict=True))
    named = dict.fromkeys(zip(lines["digest"], lines["old"], strict=True))
    stale = [line for line, pair in zip(lines.index, _pairs(lines), strict=True) if pair not in present]
    if stale:
        found = cells[cells["digest"] == lines.loc[stale[0], "digest"]].iloc[0]
        example = f"{found['path']} is labelled '{found['old']}', not '{lines.loc[stale[0], 'old']}'"
        entries.refuse(stale, "are stale: the picture has another label", f"{AGAIN}.", example)
    copies = cells[cells["digest"].isin(lines["digest"])]
    missing = copies[[pair not in named for pair in _pairs(copies)]]
    if len(missing):
        copy = missing.iloc[0]
        wrong = lines.index[lines["digest"].isin(missing["digest"])]
        answer = lines.loc[lines["digest"] == copy["digest"], "new"].iloc[0]
        example = f"{copy['path']} is labelled '{copy['old']}'"
        remedy = (
            f"add a line for every label of the picture, here with old '{copy['old']}' and new '{answer}'."
        )
        entries.refuse(wrong, "leave out a copy with another label", remedy, example)


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["digest"], table["old"], strict=True))


def _relabelled(labelled: Labelled, changed: pd.DataFrame) -> pd.DataFrame:
    """Return the samples with the new labels of `changed`: path, new."""
    samples, classes = labelled.samples.copy(), labelled.classes
    new = changed.set_index("path")["new"].map(labelled.spelling.labels_of)
    rows = samples.index[samples["path"].isin(new.index)]
    sets = [new[path] for path in samples.loc[rows, "path"]]
    columns = columns_of(sets, classes)
    if labelled.task.single_label:
        columns["label"] = [label for (label,) in sets]
    for column, cells in columns.items():
        samples.loc[rows, column] = cells
    return samples


def _without(index: pd.DataFrame, left_out: set[str]) -> pd.DataFrame:
    """Return the index of the cache without images; groups of near-duplicates get the name of another one."""
    index = index[~index["path"].isin(left_out)].reset_index(drop=True)
    return index.assign(near=name_groups(join_groups(list(index["near"])), list(index["path"])))


def describe_corrections(applied: pd.DataFrame) -> str:
    """Return what was corrected, in words; empty for a table without rows."""
    left_out = applied["new"] == LEAVE_OUT
    kept = applied["new"] == applied["old"]
    counts = {
        "labels changed": int((~left_out & ~kept).sum()),
        "images left out": int(left_out.sum()),
        "labels kept": int(kept.sum()),
    }
    return ", ".join(f"{count:,} {words}" for words, count in counts.items() if count)
