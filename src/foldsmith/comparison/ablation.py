"""Ablations: the gain of single fields of a recipe, on the same held-out images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foldsmith.errors import InputError
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.resampling import NUM_DRAWS, bootstrap_gain
from foldsmith.process.files import atomic_write, load_json, load_npz
from foldsmith.process.terminal import format_score
from foldsmith.recipes.neutral import Drop
from foldsmith.recipes.words import in_words
from foldsmith.run.command import Command
from foldsmith.run.identity import as_saved, differing_uses, load_identity
from foldsmith.run.stamps import check_identity, digests_of_trained, is_from, trained_folds, training_seconds
from foldsmith.run.tables import load_folds, load_task
from foldsmith.tasks.own_metric import choose_metric

HEADER = ("run", "in the recipe", "here", "score", "the field gains", "images", "seconds", "verdict")
EARNS = "earns its place"
UNSHOWN = "within one standard error: does not show that it does"
HARMS = "harms"


@dataclass(frozen=True)
class AblationRow:
    """A run of an ablation, scored out-of-fold.

    `gain` is that of the full recipe over the run, on the `num_compared` images that both held out. It is
    positive if the field improves the metric, and None for the full recipe itself.
    """

    metric: str
    score: float
    seconds: float
    setup: str  # seed, precision, hardware and version of torch
    command: str  # that trained it
    gain: PairedDifference | None = None
    num_compared: int = 0

    @property
    def verdict(self) -> str:
        if self.gain is None:
            return ""
        if not self.gain.exceeds_error:
            return UNSHOWN
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
            gain, count = _compare(full, command, rows[full.name].metric)
            rows[command.name] = replace(rows[command.name], gain=gain, num_compared=count)
    return rows


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


def _compare(full: Command, other: Command, metric: str) -> tuple[PairedDifference, int]:
    """Return the gain of the full recipe over the other, and the number of images compared.

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
    labels = whole["label"][_rows_of(whole, shared)]
    task = load_task(full.run)
    pair = [oof[task.predictions_key][_rows_of(oof, shared)] for oof in (ablated, whole)]
    chosen = choose_metric(task, full.metric, metric)
    return bootstrap_gain(labels, *pair, chosen, full.recipe.seed), len(shared)


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
            table.append([name, *values, *["-"] * 5])
            continue
        gain = "" if row.gain is None else f"{row.gain.difference:+.4f} ± {row.gain.standard_error:.4f}"
        count = "" if row.gain is None else f"{row.num_compared:,}"
        table.append(
            [name, *values, format_score(row.score), gain, count, f"{row.seconds:,.0f}", row.verdict]
        )
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
        f"on the same {NUM_DRAWS:,} samples of as many images, drawn with replacement.",
        "",
        "The error covers the sampling of images, not training seeds: repeat the command with another --seed "
        "and --output to check a verdict. By chance, about one in three fields without effect lies outside "
        "one standard error.",
        "",
    ]
    lines += [f"Trained with {setup}." for setup in sorted({row.setup for row in done.values()})]
    lines += ["", *(f"- {name}: `{row.command}`" for name, row in done.items())]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
