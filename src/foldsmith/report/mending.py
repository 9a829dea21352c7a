"""What the page needs to correct labels: of each of its pictures the digest, label, and copies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from foldsmith.data.corrections import LEAVE_OUT, spelling_of
from foldsmith.tasks import Task

GALLERIES = ("suspects", "mistakes", "far_cards", "false_cards", "missed_cards")  # names of the sections
Context = dict[str, Any]


@dataclass(frozen=True)
class Mendable:
    """The labels of a run: samples.csv with every training image, classes.csv, and corrections.csv.

    `key` names the labels in the browser's storage, so that two reports do not mix.
    """

    key: str
    samples: pd.DataFrame
    classes: pd.DataFrame
    applied: pd.DataFrame


def describe_mending(mendable: Mendable | None, task: Task, context: Mapping[str, Any]) -> Context:
    """Return the data of the script as `mending`, None without samples or pictures to judge.

    Keys: key, leave (the word for leaving an image out), separator (of sets, else None), numbers (whether
    labels are numbers), classes ([word in corrections.csv, name] by class), images (path of a picture on the
    page -> [digest, label]), copies (digest -> [path, label in the competition] for each label), and applied
    (digest -> new label of the corrections that the run has).
    """
    paths = list(dict.fromkeys(card["path"] for card in _cards(context)))
    if mendable is None or not paths:
        return {"mending": None}
    samples, applied, names = mendable.samples, mendable.applied, list(mendable.classes["class_name"])
    spelling = spelling_of(mendable.classes, task)
    wanted = {*samples.loc[samples["path"].isin(paths), "digest"], *applied["digest"]}
    samples = samples[samples["digest"].isin(wanted)]
    current = dict(zip(samples["path"], samples[spelling.column].astype(str), strict=True))
    digests = dict(zip(samples["path"], samples["digest"], strict=True))
    images = {path: [digests[path], current[path]] for path in paths if path in digests}
    # a run with corrections has other labels than the competition, to which a file applies
    originals = {**current, **dict(zip(applied["path"], applied["old"], strict=True))}
    copies: dict[str, dict[str, str]] = {}
    for path, digest in {**digests, **dict(zip(applied["path"], applied["digest"], strict=True))}.items():
        copies.setdefault(digest, {}).setdefault(originals[path], path)
    return {
        "mending": {
            "key": mendable.key,
            "leave": LEAVE_OUT,
            "separator": spelling.separator,
            "numbers": task.predictions_key == "values",
            "classes": [[word, names[label]] for label, word in enumerate(spelling.words)],
            "images": images,
            "copies": {
                digest: [[path, old] for old, path in labels.items()] for digest, labels in copies.items()
            },
            "applied": dict(zip(applied["digest"], applied["new"], strict=True)),
        }
    }


def _cards(context: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Return the cards of the galleries in which labels can be corrected."""
    for name in GALLERIES:
        yield from context.get(name, [])
    for number in context.get("numbers", []):
        yield from number["worst"]
    for group in context.get("duplicate_groups", []):
        yield from group["cards"] if len(group["labels"]) > 1 else []
