"""The results of a study: a table beside the figures of the study itself, and learning curves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from foldsmith.process.files import atomic_write, load_json, load_npz
from foldsmith.recipes.studies import Study
from foldsmith.report.plots import HEIGHT, WIDTH, draw_learning_curves
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_log

HEADER = (
    "recipe", "parameters", "epochs", "images trained on", "seconds an epoch", "training accuracy",
    "held-out accuracy", "training loss", "held-out loss", "the study",
)  # fmt: skip
PANELS = ("Loss", "Accuracy")
STYLE = """
text { font: 11px sans-serif; fill: #444 } .title { font: bold 14px sans-serif; fill: #000 }
.grid { stroke: #ddd; fill: none } polyline { fill: none; stroke-width: 1.6 }
.train polyline { stroke: #d97706; stroke-dasharray: 4 3 } .train circle { fill: #d97706 }
.held polyline { stroke: #1d4ed8 } .held circle { fill: #1d4ed8 }
"""


@dataclass(frozen=True)
class StudyRow:
    """The run of a recipe: training figures of the last epoch, means over folds, and out-of-fold figures.

    `logs` are the logs by fold.
    """

    recipe: str
    parameters: int
    epochs: str
    training_images: int
    seconds_per_epoch: float
    train_accuracy: float
    accuracy: float
    accuracy_error: float | None
    train_loss: float
    loss: float
    hardware: str
    precision: str
    seed: int
    command: str
    logs: dict[int, pd.DataFrame]

    @property
    def accuracy_in_words(self) -> str:
        """Return the held-out accuracy with its standard error: `26.18% ± 0.77 points`."""
        error = "" if self.accuracy_error is None else f" ± {100 * self.accuracy_error:.2g} points"
        return f"{self.accuracy:.2%}{error}"


def read_row(run: RunPaths, recipe: str) -> StudyRow | None:
    """Return the row of a run, or None if it is not validated yet."""
    if not run.cv.is_file():
        return None
    cv = load_json(run.cv)
    folds = sorted(set(load_npz(run.oof)["fold"].tolist()))
    if not all(run.fold_run(fold).is_file() for fold in folds):
        return None  # it is being trained again
    facts = [load_json(run.fold_run(fold)) for fold in folds]
    logs = {fold_facts["fold"]: load_log(run.log(fold_facts["fold"])) for fold_facts in facts}
    last = pd.DataFrame([log.iloc[-1] for log in logs.values()])
    epochs = str(facts[0]["recipe"]["epochs"])
    if run.pretrain_run.is_file():
        epochs = f"{load_json(run.pretrain_run)['epochs']} without labels, then {epochs}"
    return StudyRow(
        recipe=recipe,
        parameters=facts[0]["parameters"],
        epochs=epochs,
        training_images=round(np.mean([fold_facts["training_images"] for fold_facts in facts])),
        seconds_per_epoch=float(np.mean([log["seconds"].mean() for log in logs.values()])),
        train_accuracy=float(last["train_accuracy"].mean()),
        accuracy=cv["metrics"]["accuracy"],
        accuracy_error=cv.get("standard_errors", {}).get("accuracy"),
        train_loss=float(last["train_loss"].mean()),
        loss=cv["metrics"]["log_loss"],
        hardware=facts[0]["hardware"],
        precision=facts[0]["precision"],
        seed=facts[0]["seed"],
        command=facts[0]["command"],
        logs=logs,
    )


def table_of(study: Study, rows: dict[str, StudyRow | None]) -> list[list[str]]:
    """Return the cells below HEADER, one row per recipe of the study."""
    table = []
    for recipe, reported in study.reported.items():
        row = rows[recipe]
        cells = ["-"] * 8 if row is None else [
            f"{row.parameters:,}", row.epochs, f"{row.training_images:,}", f"{row.seconds_per_epoch:.1f}",
            f"{row.train_accuracy:.2%}", row.accuracy_in_words, f"{row.train_loss:.4f}", f"{row.loss:.4f}",
        ]  # fmt: skip
        table.append([recipe, *cells, reported or "-"])
    return table


def write_study(path: Path, study: Study, rows: dict[str, StudyRow | None], command: str) -> None:
    """Write the table as Markdown, and the curves beside it as SVG."""
    done = [row for row in rows.values() if row is not None]
    picture = path.with_suffix(".svg")
    lines = [f"# {study.title}", "", f"`{command}` (the last one)", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (HEADER, ["---"] * len(HEADER))]
    lines += ["| " + " | ".join(cells) + " |" for cells in table_of(study, rows)]
    lines += [
        "",
        "Training figures are measured in the last epoch, with augmentation and dropout. Held-out figures "
        "are out-of-fold, with the recipe's views, ± the standard error of cv.json. The figures of the study "
        "are of its test set unless stated otherwise. Training losses include label smoothing if the recipe "
        "uses it; the parameters of an autoencoder include its decoder.",
        "",
    ]
    setups = {f"seed {row.seed}, {row.precision}, {row.hardware}" for row in done}
    lines += [f"Trained with {setup}." for setup in sorted(setups)]
    lines += ["", *(f"- {row.recipe}: `{row.command}`" for row in done)]
    if done:
        lines += ["", f"![Training and held-out curves of every recipe]({picture.name})"]
        with atomic_write(picture) as temporary:
            temporary.write_text(draw_study(done) + "\n", encoding="utf-8")
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_study(rows: list[StudyRow]) -> Markup:
    """Return loss and accuracy against epoch by recipe: training dashed, held out solid, a line per fold."""
    height, width = HEIGHT + 44, len(PANELS) * WIDTH
    elements = []
    for index, row in enumerate(rows):
        top = index * height
        title = '<text class="title" x="12" y="{}">{}: {:.2%} held out, {:.2%} in training</text>'
        elements.append(Markup(title).format(top + 20, row.recipe, row.accuracy, row.train_accuracy))
        curves = draw_learning_curves(row.logs)
        for column, panel in enumerate(PANELS):
            name = '<text x="{}" y="{}">{}: training dashed, held out solid</text>'
            elements.append(Markup(name).format(column * WIDTH + 46, top + 38, panel))
            frame = '<svg x="{}" y="{}" width="{}" height="{}">{}</svg>'
            elements.append(Markup(frame).format(column * WIDTH, top + 42, WIDTH, HEIGHT, curves[panel]))
    frame = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" role="img" '
        'aria-label="Training and held-out curves"><style>{}</style>'
        '<rect width="100%" height="100%" fill="white"/>\n{}\n</svg>'
    )
    size = width, len(rows) * height
    return Markup(frame).format(*size, width, Markup(STYLE), Markup("\n").join(elements))
