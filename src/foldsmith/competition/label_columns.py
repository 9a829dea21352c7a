"""What several label columns are: one class in columns, a set of labels, or several numbers."""

from dataclasses import dataclass, field

import pandas as pd

from foldsmith.competition.label_words import flags_in, numbers_in, odd_answer, regions_in
from foldsmith.competition.roles import column, likely_labels
from foldsmith.competition.sample_cells import SampleCells
from foldsmith.competition.settings import Settings
from foldsmith.errors import InputError, first_of
from foldsmith.tasks.metrics import find_metric

RARE = 0.1  # share of labels that may be mistakes
SINGLE = 0.01  # share of rows that may be mistakes where all others have one label


@dataclass(frozen=True)
class Reading:
    """How labels are read: the task, the separator, the classes in order if they are known, and evidence."""

    task: str
    separator: str = ""
    names: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)


def task_of_settings(settings: Settings) -> str:
    """Return the task that competition.toml sets, or that its grades or metric need; empty without."""
    tasks = find_metric(settings.metric).tasks if settings.metric else ()
    if settings.task or settings.grades:
        return settings.task or "ordinal"
    return tasks[0] if len(tasks) == 1 else "regression" if settings.submission == "values" else ""


def refuse_regions(table: pd.DataFrame, others: pd.DataFrame | None = None) -> None:
    """Raise InputError if a column of labels holds masks or boxes: they are about parts of an image.

    `others` is the whole table, of which a column that looks like labels is named.
    """
    for name in dict.fromkeys(table.columns):
        cells = set(column(table, name))
        regions = regions_in(cells)
        if regions:
            example = min(cell for cell in cells if cell)[:30]
            likely = [] if others is None else likely_labels(others, {name})
            raise InputError(
                f"column '{name}' holds {regions} ('{example}'), and foldsmith predicts labels and numbers "
                "of whole images; to classify the images all the same, add a CSV with the columns id,label "
                'and set labels = "FILE" in competition.toml, or name another column: label_columns = '
                f'["{(likely or ["COLUMN"])[0]}"].'
            )


def read_columns(labels: pd.DataFrame, sample: SampleCells, settings: Settings) -> Reading:
    """Return what several label columns are. Raise InputError where they are neither 0 and 1 nor numbers."""
    columns = list(labels.columns)
    names, task = {column: column for column in columns}, task_of_settings(settings)
    flags = {column: flags_in(set(labels[column])) for column in columns}
    if task == "regression":
        return Reading(task, names=names, evidence=[f"{len(columns)} numbers an image ({first_of(columns)})"])
    if all(known is not None for known in flags.values()):
        return _of_flags(labels, {column: known for column, known in flags.items() if known}, task)
    numbers = [numbers_in(labels[column]) for column in columns]
    fractions = any(values is not None and (values % 1 != 0).any() for values in numbers)
    fractions = fractions or sample.has_fractions
    # a few wrong cells in columns of 0 and 1 make them no numbers
    wrong = any(_nearly_flags(labels[column]) for column in columns if flags[column] is None)
    if all(values is not None for values in numbers) and fractions and not wrong and not task:
        said = f"{len(columns)} numbers an image ({first_of(columns)}); the task is regression"
        return Reading("regression", names=names, evidence=[said])
    other = next(column for column in columns if flags[column] is None)
    raise InputError(
        f"the label columns {first_of(columns, 8)} are not all 0 and 1 ('{other}' has "
        f"'{odd_answer(labels[other])}'), and several classes an image are not supported; set in "
        f'competition.toml label_columns = ["{other}"] for one of them, without a sample of all, or '
        'task = "regression" for numbers.'
    )


def _nearly_flags(cells: pd.Series) -> bool:
    """Return whether all cells but a few are two answers, such as 0 and 1."""
    shares = cells.value_counts(normalize=True)
    return flags_in(set(shares.index[:2])) is not None and shares.iloc[2:].sum() < RARE


def _of_flags(labels: pd.DataFrame, flags: dict[str, dict[str, bool]], task: str) -> Reading:
    columns = list(labels.columns)
    true = pd.DataFrame({column: labels[column].map(flags[column]) for column in columns})
    sums, names = true.sum(axis=1), {column: column for column in columns}
    exclusive = bool((sums == 1).all())
    if task and task not in ("multiclass", "multilabel"):
        raise InputError(
            f"the {len(columns)} label columns {first_of(columns)} are 0 and 1, and competition.toml asks "
            f'for the task {task}; set label_columns = ["COLUMN"] for one of them, or task = "multilabel".'
        )
    if task == "multiclass" and not exclusive:
        raise InputError(
            f"{int((sums != 1).sum())} of {len(sums)} rows have none or several of the {len(columns)} label "
            'columns set, which is not multiclass; set task = "multilabel" in competition.toml.'
        )
    odd = sums[sums != 1]
    if not task and 0 < len(odd) < SINGLE * len(sums):
        raise InputError(
            f"{len(odd)} of {len(sums)} rows have none or several of the {len(columns)} label columns set "
            f'(first: row {odd.index[0]}), and all others one; correct them, or set task = "multilabel" in '
            "competition.toml for independent labels."
        )
    if task != "multilabel" and exclusive:
        said = (
            f"exactly one of {len(columns)} label columns is set in each row: they are the classes; set "
            'task = "multilabel" in competition.toml for independent labels'
        )
        return Reading("multiclass", names=names, evidence=[said])
    pair = (
        "-1 (no) or 1"
        if any(flag.strip() == "-1" for known in flags.values() for flag in known)
        else "0 or 1"
    )
    said = (
        f"{len(columns)} label columns are {pair}, up to {int(sums.max())} of them in a row: a set of labels"
    )
    return Reading("multilabel", names=names, evidence=[said])
