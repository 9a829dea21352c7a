"""The model card of an export: what it scores, on which data, from which weights, and how it is used.

N held-out images · K outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.deployment.local_paths import without_folders
from foldsmith.evaluation.decisions import Decision
from foldsmith.process.terminal import format_score, with_error
from foldsmith.recipes.words import in_words
from foldsmith.report.provenance import changed_fields
from foldsmith.tasks import Task
from foldsmith.tasks.value_scores import as_columns


@dataclass(frozen=True)
class CardFacts:
    """The facts of a model card.

    `identity` and `cv` are the run's files, `cv` empty for a run that is not validated; `fold_runs` run.json
    of its folds; `by_class` the table of score_by_class, `parity` the export's parity.json. `decision` is the
    kept one, by which answers are decided; `corrected` says how many labels were corrected, empty for none.
    """

    identity: Mapping[str, Any]
    cv: Mapping[str, Any]
    fold_runs: Sequence[Mapping[str, Any]]
    views: Sequence[str]
    by_class: pd.DataFrame | None
    parity: Mapping[str, Any]
    decision: Decision | None = None
    corrected: str = ""


def score_by_class(
    task: Task, targets: np.ndarray, predictions: np.ndarray, decided: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Return a row for each class, or for each number of a regression, of the held-out images.

    Of classes and labels: precision, recall, F1 and the images that have it. Of numbers: the mean absolute
    error and the bias. They are NaN where undefined.
    """
    if task.predictions_key == "values":
        errors = predictions.astype(np.float64) - as_columns(targets)
        columns = {"mean absolute error": np.abs(errors).mean(axis=0), "mean error": errors.mean(axis=0)}
    else:
        from sklearn.metrics import precision_recall_fscore_support

        figures = precision_recall_fscore_support(
            targets, decided, labels=np.arange(len(names)), average=None, zero_division=np.nan
        )
        columns = dict(zip(("precision", "recall", "F1", "images"), figures, strict=True))
    return pd.DataFrame({"class": list(names), **columns})


def write_card(facts: CardFacts) -> str:
    """Return the text of the model card, in Markdown."""
    first, cv = facts.fold_runs[0], facts.cv
    competition = cv.get("competition", "a competition")
    lines = [
        "---",
        "library_name: onnx",
        "tags: [image-classification, foldsmith]",
        "---",
        "",
        f"# {competition}: {first['recipe']['name']}",
        "",
        f"{len(facts.fold_runs)} folds of {first['recipe']['model']} ({first['parameters']:,} parameters), "
        f"views {', '.join(facts.views)}, images of {first['recipe']['image_size']} pixels.",
        "",
        "```",
        "python -m pip install onnxruntime numpy opencv-python-headless",
        "python predict.py IMAGE… > answers.csv",
        "```",
        "",
        "A graph (`.onnx`) takes `images`, uint8 (batch, height, width, channels), read as by `predict.py`.",
        "",
        "## Score",
        "",
        *_score_lines(cv),
        *([] if facts.by_class is None else ["", markdown_table(facts.by_class)]),
        *([] if facts.decision is None else ["", f"Answers are decided by {facts.decision.sentence}."]),
        "",
        "## Where it comes from",
        "",
        f"- command: `{without_folders(first['command'])}`",
        f"- data (digest): {facts.identity.get('data', 'not recorded')}",
        *([f"- labels were corrected: {facts.corrected}"] if facts.corrected else []),
        f"- weights it started from: {_weights_in_words(first.get('weights') or {})}",
        f"- what the recipe changes: {without_folders(_recipe_in_words(first['recipe']))}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in first['versions'].items())}",
        "",
        "## Parity",
        "",
        f"Largest difference to the run's predictions in fp32, on {facts.parity['images']} held-out images: "
        + ", ".join(
            f"{value:.1e} at batch size {size}" for size, value in facts.parity["differences"].items()
        )
        + f" (refused above {facts.parity['tolerance']:.0e}). `parity.json` has all figures.",
    ]
    return "\n".join(lines) + "\n"


def _score_lines(cv: Mapping[str, Any]) -> list[str]:
    if not cv:
        return ["The run is not validated: src/validate.py gives its score."]
    score = with_error(format_score(cv["mean"]), cv["standard_error"])
    direction = "higher" if cv["higher_is_better"] else "lower"
    lines = [
        f"{cv['metric']}, by cross-validation over {len(cv['folds'])} folds: {score} ({direction} is better; "
        f"one standard error), on {cv['num_images']:,} images that the networks had not seen. The files here "
        "average the folds, which is rarely worse."
    ]
    return [*lines, "", "By class, of the held-out images:"]


def markdown_table(table: pd.DataFrame) -> str:
    """Return a table in Markdown; numbers with three decimals, a dash where undefined."""

    def cell(value: object) -> str:
        if isinstance(value, (float, np.floating)):
            return "–" if np.isnan(value) else f"{value:.3f}"
        return str(value).replace("|", "\\|").replace("\n", " ")

    header = [str(column) for column in table.columns]
    rows = [
        header,
        ["---"] * len(header),
        *([cell(value) for value in row] for row in table.itertuples(index=False)),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _weights_in_words(weights: Mapping[str, Any]) -> str:
    if not weights:
        return "none (random ones)"
    licence = weights.get("licence") or "not known: look it up before you publish this"
    return f"{weights['name']}, digest {weights['digest'][:16]}, licence {licence}"


def _recipe_in_words(recipe: Mapping[str, Any]) -> str:
    changed = changed_fields(recipe)
    return ", ".join(f"{name} = {in_words(value)}" for name, value in changed.items()) or "nothing"
