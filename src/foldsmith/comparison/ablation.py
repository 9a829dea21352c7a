"""What a recipe scores without each of its fields, on the images it was itself scored on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foldsmith.errors import InputError
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.resampling import NUM_DRAWS, bootstrap_gain
from foldsmith.process.files import atomic_write, load_json, load_npz
from foldsmith.recipes.neutral import Drop
from foldsmith.recipes.words import in_words
from foldsmith.run.command import Command
from foldsmith.run.identity import as_saved, differing_uses, load_identity
from foldsmith.run.stamps import check_identity, digests_of_trained, is_from, trained_folds, training_seconds
from foldsmith.run.tables import load_folds

HEADER = ("run", "in the recipe", "here", "score", "the field gains", "images", "seconds", "verdict")
EARNS = "earns its place"
UNSHOWN = "within one standard error: does not show that it does"
HARMS = "harms"


@dataclass(frozen=True)
class AblationRow:
    """A run of an ablation, scored out-of-fold.

    `gain` is the score of the full recipe less the run's, positive where the field makes the metric better,
    over the `num_compared` images that both have held out; None for the full recipe itself.
    """

    metric: str
    score: float
    seconds: float
    made_with: str
    line: str  # the command that trained it
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
    """A row by run name, the full recipe's first; None of a run that is not validated yet.

    Raises InputError where runs cannot be compared.
    """
    rows = {command.name: _read_row(command) for command in (full, *without.values())}
    if rows[full.name] is None:
        return dict.fromkeys(rows)
    for command in without.values():
        if rows[command.name] is not None:
            if rows[command.name].metric != rows[full.name].metric:
                raise InputError(
                    f"{command.run.root} and {full.run.root} have different metrics; validate anew."
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
    made = [load_json(run.fold_run(fold)) for fold in folds]
    facts, cv = made[0], load_json(run.cv)
    machine = f"{facts['precision']}, {facts['hardware']}, torch {facts['versions']['torch']}"
    return AblationRow(
        metric=cv["metric"],
        score=cv["oof"],
        seconds=training_seconds(run, made),
        made_with=f"seed {facts['seed']}, {machine}",
        line=facts["command"],
    )


def _compare(full: Command, other: Command, metric: str) -> tuple[PairedDifference, int]:
    """What the full recipe gains over the other, and on how many images.

    Raises InputError where their folds differ, or where no fold is trained in both.
    """
    folds = [load_folds(command.run.folds).set_index("path").sort_index() for command in (full, other)]
    if not folds[0].equals(folds[1]):
        raise InputError(
            f"{other.run.root} and {full.run.root} have different folds, so that the first is no "
            "ablation; drop a field that leaves the folds as they are."
        )
    one, whole = load_npz(other.run.oof), load_npz(full.run.oof)
    # with --fold a run may have held out fewer images
    shared = sorted(set(one["path"].tolist()) & set(whole["path"].tolist()))
    if not shared:
        raise InputError(f"{other.run.root} and {full.run.root} have no fold in common; leave --fold out.")
    labels = whole["label"][_rows_of(whole, shared)]
    pair = [each["probabilities"][_rows_of(each, shared)] for each in (one, whole)]
    return bootstrap_gain(labels, *pair, metric, full.recipe.seed), len(shared)


def _rows_of(oof: dict[str, np.ndarray], paths: list[str]) -> np.ndarray:
    row = {path: index for index, path in enumerate(oof["path"].tolist())}
    return np.array([row[path] for path in paths])


def table_of(
    full: Command, without: Mapping[Drop, Command], rows: Mapping[str, AblationRow | None]
) -> list[list[str]]:
    """The cells below HEADER: the full recipe, then the run without each field."""
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
        table.append([name, *values, f"{row.score:.4f}", gain, count, f"{row.seconds:,.0f}", row.verdict])
    return table


def write_ablation(
    path: Path,
    full: Command,
    without: Mapping[Drop, Command],
    rows: Mapping[str, AblationRow | None],
    command: str,
) -> None:
    """Writes the table as Markdown, with what it rests on."""
    done = {name: row for name, row in rows.items() if row is not None}
    metrics = {row.metric for row in done.values()}
    lines = [f"# {full.name} on {full.competition}, without one field at a time", "", f"`{command}`", ""]
    cells = [list(HEADER), ["---"] * len(HEADER), *table_of(full, without, rows)]
    lines += ["| " + " | ".join(each) + " |" for each in cells]
    lines += [
        "",
        f"The score is {', '.join(metrics) or 'the metric'}, out-of-fold: every image by a network that "
        "never saw it, all images at once. What a field gains is the full recipe's score less the run's, on "
        "the same images, and positive where the field makes the metric better. Its standard error is that "
        f"of a paired bootstrap: both runs are scored on the same {NUM_DRAWS:,} draws of as many images, "
        "with replacement.",
        "",
        "The error knows of images, and nothing of training seeds: the same command with another --seed and "
        "--output says whether a verdict stands. Of fields that do nothing, about one in three lies outside "
        "one standard error by chance.",
        "",
    ]
    lines += [f"Made with {made}." for made in sorted({row.made_with for row in done.values()})]
    lines += ["", *(f"- {name}: `{row.line}`" for name, row in done.items())]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
