"""Ablations: the gain of single fields of a recipe, on the same held-out images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foldsmith.errors import InputError
from foldsmith.evaluation.chance import PairedDifference, holm
from foldsmith.evaluation.resampling import NUM_DRAWS, gain_with_error, p_of_gain
from foldsmith.process.files import atomic_write, load_json, load_npz
from foldsmith.process.terminal import format_score, with_error
from foldsmith.recipes.neutral import Drop
from foldsmith.recipes.words import in_words
from foldsmith.run.command import Command
from foldsmith.run.identity import as_saved, differing_uses, load_identity
from foldsmith.run.stamps import check_identity, digests_of_trained, is_from, trained_folds, training_seconds
from foldsmith.run.tables import load_folds, load_task
from foldsmith.tasks.own_metric import choose_metric

HEADER = ("run", "in the recipe", "here", "score", "the field gains", "p", "images", "seconds", "verdict")
EARNS = "earns its place"
UNCLEAR = "unclear"
HARMS = "harms"
SIGNIFICANCE = 0.05  # a verdict needs an adjusted p below this, and a gain beyond NUM_ERRORS standard errors
NUM_ERRORS = 2


@dataclass(frozen=True)
class AblationRow:
    """A run of an ablation, scored out-of-fold; `score` is None where the metric is not defined.

    `gain` is that of the full recipe over the run, on the `num_compared` images that both held out. It is
    positive if the field improves the metric, and None for the full recipe itself, and where the metric is
    not defined on those images. `p` is adjusted for the number of dropped fields (Holm).
    """

    metric: str
    score: float | None
    seconds: float
    setup: str  # seed, precision, hardware and version of torch
    command: str  # that trained it
    gain: PairedDifference | None = None
    num_compared: int = 0
    p: float = 1.0

    @property
    def verdict(self) -> str:
        if self.gain is None:
            return f"{UNCLEAR}: the metric is not defined" if self.num_compared else ""
        if self.p >= SIGNIFICANCE or abs(self.gain.difference) <= NUM_ERRORS * self.gain.standard_error:
            return UNCLEAR
        return EARNS if self.gain.difference > 0 else HARMS


def read_rows(full: Command, without: Mapping[Drop, Command]) -> dict[str, AblationRow | None]:
    """Return the rows by run name, the full recipe first; None for a run that is not validated yet.

    Raise InputError where runs cannot be compared.
    """
    rows = {command.name: _read_row(command) for command in (full, *without.values())}
    if rows[full.name] is None:
        return dict.fromkeys(rows)
    for command in without.values():
        if rows[command.name] is not None:
            if rows[command.name].metric != rows[full.name].metric:
                raise InputError(
                    f"{command.run.root} and {full.run.root} have different metrics; run src/validate.py "
                    "again."
                )
            rows[command.name] = _compare(full, command, rows[command.name])
    dropped = [command.name for command in without.values()]
    # a run that is not there yet counts as a field without effect
    p_values = holm(np.array([1.0 if rows[name] is None else rows[name].p for name in dropped]))
    adjusted = dict(zip(dropped, p_values.tolist(), strict=True))
    return {name: row and replace(row, p=adjusted.get(name, 1.0)) for name, row in rows.items()}


def _read_row(command: Command) -> AblationRow | None:
    run, folds = command.run, trained_folds(command.run)
    if not folds or not is_from(run.stamp("validate"), digests_of_trained(run, folds)):
        return None
    if check_identity(run, again=True, **command.identity):
        return None  # --again is about to replace it
    if differing_uses(load_identity(run), as_saved(command.identity)):
        return None  # its stages are about to predict with other views
    fold_runs = [load_json(run.fold_run(fold)) for fold in folds]
    facts, cv = fold_runs[0], load_json(run.cv)
    machine = f"{facts['precision']}, {facts['hardware']}, torch {facts['versions']['torch']}"
    return AblationRow(
        metric=cv["metric"],
        score=cv["oof"],
        seconds=training_seconds(run, fold_runs),
        setup=f"seed {facts['seed']}, {machine}",
        command=facts["command"],
    )


def _compare(full: Command, other: Command, row: AblationRow) -> AblationRow:
    """Return the row with the gain of the full recipe over it, its p (unadjusted) and the images compared.

    Raise InputError where their folds differ, or where they have no trained fold in common.
    """
    folds = [load_folds(command.run.folds).set_index("path").sort_index() for command in (full, other)]
    if not folds[0].equals(folds[1]):
        raise InputError(
            f"{other.run.root} and {full.run.root} have different folds, and cannot be compared; drop a "
            "field that does not change the folds."
        )
    ablated, whole = load_npz(other.run.oof), load_npz(full.run.oof)
    # with --fold a run has fewer held-out images
    shared = sorted(set(ablated["path"].tolist()) & set(whole["path"].tolist()))
    if not shared:
        raise InputError(
            f"{other.run.root} and {full.run.root} have no trained fold in common; leave --fold out."
        )
    row = replace(row, num_compared=len(shared))
    labels = whole["label"][_rows_of(whole, shared)]
    task = load_task(full.run)
    pair = [oof[task.predictions_key][_rows_of(oof, shared)] for oof in (ablated, whole)]
    metric = choose_metric(task, full.metric, row.metric)
    if any(metric.evaluate(labels, predictions) is None for predictions in pair):
        return row
    gain = gain_with_error(labels, *pair, metric, full.recipe.seed)
    return replace(row, gain=gain, p=p_of_gain(labels, *pair, gain, task))


def _rows_of(oof: dict[str, np.ndarray], paths: list[str]) -> np.ndarray:
    row = {path: index for index, path in enumerate(oof["path"].tolist())}
    return np.array([row[path] for path in paths])


def table_of(
    full: Command, without: Mapping[Drop, Command], rows: Mapping[str, AblationRow | None]
) -> list[list[str]]:
    """Return the cells below HEADER: the full recipe, then one row per dropped field."""
    dropped = {command.name: drop for drop, command in without.items()}
    table = []
    for name, row in rows.items():
        drop = dropped.get(name)
        values = ["", ""] if drop is None else [in_words(getattr(full.recipe, drop.field)), drop.value]
        if row is None:
            table.append([name, *values, *["-"] * (len(HEADER) - 3)])
            continue
        score, count = format_score(row.score), f"{row.num_compared:,}" if row.num_compared else ""
        gain, p = ("–", "–") if row.num_compared else ("", "")
        if row.gain is not None:
            gain, p = with_error(f"{row.gain.difference:+.4f}", row.gain.standard_error), f"{row.p:.2g}"
        table.append([name, *values, score, gain, p, count, f"{row.seconds:,.0f}", row.verdict])
    return table


def write_ablation(
    path: Path,
    full: Command,
    without: Mapping[Drop, Command],
    rows: Mapping[str, AblationRow | None],
    command: str,
) -> None:
    """Write the table as Markdown, with an explanation, the setup and the commands."""
    done = {name: row for name, row in rows.items() if row is not None}
    metrics = {row.metric for row in done.values()}
    lines = [f"# {full.name} on {full.competition}, without one field at a time", "", f"`{command}`", ""]
    cells = [list(HEADER), ["---"] * len(HEADER), *table_of(full, without, rows)]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    lines += [
        "",
        f"The score is {', '.join(metrics) or 'the metric'}, out-of-fold, over all images at once. The gain "
        "of a field is the full recipe's score minus the run's, on the same images; it is positive if the "
        "field improves the metric. Its standard error is that of a paired bootstrap: both runs are scored "
        f"on the same {NUM_DRAWS:,} samples of as many images, drawn with replacement. p is that of the gain "
        "if the field had no effect (McNemar's exact test for the share of right images), adjusted for the "
        "number of fields (Holm).",
        "",
        f"A field {EARNS} or {HARMS} if p is below {SIGNIFICANCE} and the gain is beyond {NUM_ERRORS} "
        "standard errors; else its effect is unclear. Neither covers training seeds: repeat the "
        "command with another --seed and --output to check a verdict.",
        "",
    ]
    lines += [f"Trained with {setup}." for setup in sorted({row.setup for row in done.values()})]
    lines += ["", *(f"- {name}: `{row.command}`" for name, row in done.items())]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
