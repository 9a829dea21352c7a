"""What labels and sample ask for: the task, the metric and the form of the submission, by evidence."""

from dataclasses import dataclass, field, replace

import pandas as pd

from foldsmith.competition.label_columns import RARE, read_columns, refuse_regions
from foldsmith.competition.label_kind import read_column
from foldsmith.competition.label_words import flags_in, is_negative, numbers_in, odd_answer, split_cell
from foldsmith.competition.sample_cells import SampleCells
from foldsmith.competition.settings import Settings
from foldsmith.errors import InputError, first_of
from foldsmith.natural_order import natural_key
from foldsmith.tasks.metrics import find_metric, metric_for
from foldsmith.tasks.task import CONFIDENT, CellForm

# the metric that is assumed for a task and the kind of its submission
USUAL_METRICS = {
    ("multiclass", "labels"): "accuracy",
    ("multiclass", "probabilities"): "log_loss",
    ("multiclass", CONFIDENT): "accuracy",
    ("binary", "labels"): "accuracy",
    ("binary", "probabilities"): "roc_auc",
    ("multilabel", "labels"): "f1_samples",
    ("multilabel", "probabilities"): "roc_auc",
    ("ordinal", "labels"): "quadratic_weighted_kappa",
    ("ordinal", "probabilities"): "log_loss",
    ("regression", "values"): "rmse",
}
RANKED = 5  # labels in a row, where neither sample nor metric says how many


@dataclass(frozen=True)
class Target:
    """What is predicted, and how it is submitted.

    `label_columns` are those that hold the labels. `separator` divides several labels in one cell; empty if
    there is one. `names` are the classes in their order and their names, for `Task.encode`; empty: those that
    occur. `positive` is the class whose probability is submitted. `submission` is the kind of the cells
    (`tasks.cells.CellForm`). `spellings` are label words that are read as another one (`1.0` as `1`).
    `evidence` is one sentence a fact.
    """

    task: str
    metric: str
    label_columns: tuple[str, ...]
    separator: str = ""
    positive: str = ""
    submission: str = "labels"
    names: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)

    @property
    def cell_form(self) -> CellForm:
        return CellForm(self.submission, self.separator or " ", self.metric)


def read_target(
    labels: pd.DataFrame, names: dict[str, str], sample: pd.DataFrame | None, settings: Settings
) -> Target:
    """Return what labels and sample ask for. What competition.toml sets decides.

    `labels` has one row per label row and one or more label columns, all text; `names` are the names of the
    categories, empty without any; `sample` is the sample submission without its id column.

    Raise InputError with both readings, and the lines of competition.toml that decide, where two fit.
    """
    cells = SampleCells.of(sample)
    stripped = labels.apply(lambda column: column.str.strip())
    if not settings.task:
        refuse_regions(stripped)
        _refuse_row_per_class(stripped, names, cells)
    if len(labels.columns) > 1:
        reading = read_columns(stripped, cells, settings)
    else:
        reading = read_column(stripped.iloc[:, 0], names, cells, settings)
    target = Target(
        task=reading.task,
        metric="",
        label_columns=tuple(labels.columns),
        separator=reading.separator,
        names=reading.names or names or _name_of_number(reading.task, labels),
        spellings=reading.spellings,
        evidence=reading.evidence,
    )
    if target.task == "binary":
        target = _with_positive(target, _categories(stripped, target), names, cells, settings)
    submission, why = _submission(target, _categories(stripped, target), cells, settings)
    metric, said = _metric(target, submission, cells, settings)
    return replace(target, submission=submission, metric=metric, evidence=[*target.evidence, *why, *said])


def _refuse_row_per_class(labels: pd.DataFrame, names: dict[str, str], sample: SampleCells) -> None:
    """Raise InputError for a sample with a row for each image and class, and a number in it."""
    known = {*labels.columns, *names, *names.values(), *labels.to_numpy().ravel().tolist()}
    for index, column in enumerate(sample.columns if len(sample.columns) == 2 else ()):
        words = {row[index] for row in sample.rows}
        numbers = numbers_in(row[1 - index] for row in sample.rows)
        if len(words) > 1 and words <= known and numbers is not None and numbers_in(words) is None:
            raise InputError(
                f"the sample submission has a row for each image and class ('{column}' holds classes, "
                f"'{sample.columns[1 - index]}' a number), which is not supported; write a sample with a "
                "row for each image and a column for each class, and reshape the submission."
            )


def _name_of_number(task: str, labels: pd.DataFrame) -> dict[str, str]:
    """Return the name of a single number, that of its column; empty for classes."""
    return {name: name for name in labels.columns} if task == "regression" else {}


def _categories(labels: pd.DataFrame, target: Target) -> list[str]:
    """Return the distinct categories of a task with one class an image, in natural order; else none."""
    if target.task in ("multilabel", "regression"):
        return []
    return sorted(set(categories_of(labels, target)), key=natural_key)


def categories_of(labels: pd.DataFrame, target: Target) -> pd.Series:
    """Return the category of each row, for `Task.encode`.

    It is text for multiclass, binary and ordinal, a tuple of texts for multilabel (empty if none is true), a
    tuple of numbers for regression. Raise InputError for a cell that is none.
    """
    columns = labels[list(target.label_columns)].apply(lambda column: column.str.strip())
    if target.task == "regression":
        rows = [_numbers(row, target.label_columns) for row in columns.itertuples(index=False, name=None)]
        return pd.Series(rows, index=labels.index, dtype=object)
    if len(target.label_columns) > 1:
        sets = _true_columns(columns)
        rows = sets if target.task == "multilabel" else [names[0] for names in sets]
        return pd.Series(rows, index=labels.index, dtype=object)
    cells = columns.iloc[:, 0]
    if target.task == "multilabel":
        order = {name: index for index, name in enumerate(target.names)}
        rows = [
            tuple(sorted(
                {target.spellings.get(token, token) for token in split_cell(cell, target.separator or " ")},
                key=lambda token: (order.get(token, len(order)), natural_key(token)),
            ))
            for cell in cells
        ]  # fmt: skip
        return pd.Series(rows, index=labels.index, dtype=object)
    empty = cells.index[cells == ""]
    if len(empty):
        raise InputError(
            f"column '{target.label_columns[0]}': {len(empty)} of {len(cells)} labels are empty (first: row "
            f'{empty[0]}); fill them in, or set task = "multilabel" in competition.toml for empty sets.'
        )
    return cells.replace(target.spellings) if target.spellings else cells


def _numbers(row: tuple[str, ...], columns: tuple[str, ...]) -> tuple[float, ...]:
    numbers = numbers_in(row)
    if numbers is None:
        wrong = [(name, cell) for name, cell in zip(columns, row, strict=True) if numbers_in([cell]) is None]
        raise InputError(
            f"column '{wrong[0][0]}': the label '{wrong[0][1]}' is not a finite number, which the task "
            "regression needs; correct it, or set another task in competition.toml."
        )
    return tuple(numbers.tolist())


def _true_columns(columns: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the names of the columns that are true in each row."""
    true = {}
    for name in columns:
        flags = flags_in(set(columns[name]))
        if flags is None:
            wrong = odd_answer(columns[name])
            raise InputError(f"column '{name}': '{wrong}' is neither 0 nor 1; correct it.")
        true[name] = columns[name].map(flags)
    frame = pd.DataFrame(true)
    return [tuple(name for name, flag in zip(frame, row, strict=True) if flag) for row in frame.to_numpy()]


def _with_positive(
    target: Target, categories: list[str], names: dict[str, str], sample: SampleCells, settings: Settings
) -> Target:
    """Return the target with its positive class, the second of its two names."""
    if len(categories) != 2:
        asking = (
            f"the metric {settings.metric}" if settings.metric and not settings.task else "the task binary"
        )
        several = " and a metric of several classes, such as macro_f1" if settings.metric else ""
        raise InputError(
            f"{asking} needs two classes, and the labels have {len(categories)} "
            f'({first_of(categories)}); set positive = "CLASS" for one class against the others, or '
            f'task = "multiclass"{several}, in competition.toml.'
        )
    flags = flags_in(categories)
    headed = sample.class_in_header({category: names.get(category, category) for category in categories})
    if settings.positive:
        positive, why = _named_positive(settings.positive, categories, names), "competition.toml sets it"
    elif headed:
        positive, why = headed, f"the sample's column is '{sample.columns[0]}'"
    elif flags is not None and len(set(flags.values())) == 2:
        positive, why = next(word for word, flag in flags.items() if flag), ""
    else:
        positives = [category for category in categories if not is_negative(names.get(category, category))]
        by_word = len(positives) == 1
        positive = positives[0] if by_word else categories[1]
        why = f"{_other(categories, positive)} is a usual word for the negative class" if by_word else (
            f'nothing says which is positive; set positive = "{_other(categories, positive)}" in '
            "competition.toml for the other one"
        )  # fmt: skip
    negative = _other(categories, positive)
    shown = names.get(positive, positive)
    said = [f"the positive class is {shown}: {why}"] if why else []
    classes = {category: names.get(category, category) for category in (negative, positive)}
    return replace(target, positive=positive, names=classes, evidence=[*target.evidence, *said])


def _other(categories: list[str], category: str) -> str:
    return categories[0] if category == categories[1] else categories[1]


def _named_positive(positive: str, categories: list[str], names: dict[str, str]) -> str:
    """Return the category that `positive` in competition.toml names, by itself or by its name."""
    for category in categories:
        if positive in (category, names.get(category)):
            return category
    raise InputError(
        f"competition.toml: positive is '{positive}', and the classes are {first_of(categories)}; name one."
    )


def _submission(
    target: Target, categories: list[str], sample: SampleCells, settings: Settings
) -> tuple[str, list[str]]:
    """Return the kind of the submission's cells, and a sentence where labels and sample do not settle it."""
    task, kind = target.task, settings.submission
    if kind:
        if (kind == "values") != (task == "regression"):
            raise InputError(
                f'competition.toml: submission = "{kind}" does not fit the task {task}; set task = '
                f'"{"regression" if kind == "values" else "multiclass"}", or remove the line.'
            )
        if kind == CONFIDENT and task != "multiclass":
            raise InputError(
                f'competition.toml: submission = "{kind}" is for the task multiclass, and the labels are '
                f"read as {task}; remove the line, or set another task."
            )
        return kind, []
    if task == "regression":
        return "values", []
    if len(sample.columns) > 1:
        return _of_several_columns(task, sample)
    if task == "multilabel":
        return ("ranked" if settings.metric.startswith("map_at_") else "labels"), []
    if task == "multiclass" and sample.have_confidence:
        return CONFIDENT, [
            f"the cells of the sample are a label and its probability ('{sample.shown}'); set submission = "
            '"labels" in competition.toml for labels alone'
        ]
    most = sample.most_labels(set(categories) | set(target.names.values()))
    if most > 1:
        return "ranked", [
            f"the sample has up to {most} labels in a cell: a row is a list of the most probable ones"
        ]
    if settings.metric.startswith("map_at_"):
        return "ranked", [f"the metric {settings.metric} scores a list of labels in each row"]
    return _of_one_column(target, categories, sample, settings)


def _of_several_columns(task: str, sample: SampleCells) -> tuple[str, list[str]]:
    if task == "multilabel" and sample.mixes_zero_and_one:
        return "labels", [
            "the sample has 0 and 1 in different cells: each cell is a label; set submission = "
            '"probabilities" in competition.toml for probabilities'
        ]
    cells = [cell for row in sample.rows for cell in row]
    odd = [cell for cell in cells if cell not in ("0", "1")]
    if task == "multilabel" and {"0", "1"} < set(cells) and len(odd) < RARE * len(cells):
        raise InputError(
            f"the sample submission has 0 and 1 in its cells but for {len(odd)} (first: '{odd[0]}'); correct "
            'it, or set in competition.toml submission = "labels" or submission = "probabilities".'
        )
    return "probabilities", []


def _of_one_column(
    target: Target, categories: list[str], sample: SampleCells, settings: Settings
) -> tuple[str, list[str]]:
    """Return labels, or the probability of the positive class."""
    scores = bool(settings.metric) and not find_metric(settings.metric).scores_decisions
    if target.task != "binary":
        scores = scores and settings.metric not in ("top5_accuracy", "expected_calibration_error")
        if scores and not sample.rows:
            return "probabilities", [f"the metric {settings.metric} scores probabilities: a column a class"]
        if scores:
            return "labels", [
                f"the metric {settings.metric} wants probabilities, but the sample has one column for "
                f"{len(categories)} classes: labels are submitted"
            ]
        return "labels", []
    if settings.metric and not scores:
        return "labels", [f"the metric {settings.metric} scores labels"]
    if sample.rows and not sample.could_be_probabilities and sample.words != {""}:
        said = (
            f"; the metric {settings.metric} wants probabilities, which it has no cells for" if scores else ""
        )
        return "labels", [f"the cells of the sample are labels ('{sample.shown}'){said}"]
    if sample.mixes_zero_and_one and not scores:
        return "labels", ["the sample has 0 and 1 in different rows: labels are submitted"]
    header = f" in '{sample.columns[0]}'" if sample.columns else ""
    return "probabilities", [
        f"a row of the submission is the probability of {target.names[target.positive]}{header}; set "
        'submission = "labels" in competition.toml for labels'
    ]


def _metric(
    target: Target, submission: str, sample: SampleCells, settings: Settings
) -> tuple[str, list[str]]:
    """Return the metric, and a sentence where it is assumed."""
    task = target.task
    if settings.metric:
        return metric_for(settings.metric, task).name, []
    if submission == "ranked":
        metric = f"map_at_{sample.longest if sample.longest > 1 else RANKED}"
    else:
        metric = USUAL_METRICS[task, submission]
    return metric, [
        f'the metric is assumed to be {metric}; set metric = "…" in competition.toml for another one'
    ]
