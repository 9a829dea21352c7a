"""Predictions matched by path, never by position: collect, stack, average and save them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from foldsmith.data.duplicates import join_groups
from foldsmith.errors import InputError
from foldsmith.process.files import load_npz, save_csv, save_npz
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_samples
from foldsmith.tasks import Task


class LabelledImages(Protocol):
    """Images with their `paths`, and their `labels` (n,) or (n, K)."""

    paths: list[str]
    labels: np.ndarray


def scatter_oof(folds: pd.DataFrame, heldout: Iterable[dict[str, np.ndarray]], task: Task) -> np.ndarray:
    """Return the held-out predictions of the rows of folds.csv, float32 (N, K), matched by path.

    Raise InputError for a row with no prediction or two, and for a path that is not in folds.csv.
    """
    index = pd.Index(folds["path"])
    predictions = np.full((len(folds), task.num_outputs), np.nan, dtype=np.float32)
    for predicted in heldout:
        rows = index.get_indexer(pd.Index(predicted["path"]))
        wrong = (rows < 0) | pd.Series(rows).duplicated().to_numpy() | ~np.isnan(predictions[rows, 0])
        if wrong.any():
            raise InputError(
                f"{predicted['path'][wrong][0]} has two held-out predictions, or is not in folds.csv; run "
                "src/train.py --again."
            )
        predictions[rows] = predicted[task.predictions_key]
    absent = np.flatnonzero(np.isnan(predictions).any(axis=1))
    if len(absent):
        first = folds["path"].iloc[absent[0]]
        raise InputError(
            f"{len(absent)} held-out images have no prediction (first: {first}); run src/train.py."
        )
    return task.finish(predictions)


def related_images(run: RunPaths, held_out: pd.DataFrame) -> np.ndarray:
    """Return a group number for each held-out row of folds.csv, int64 (N,).

    Images with the same pixels, near-duplicates, and images of the label file's groups share a number. No
    number is in two folds. Near-duplicates that src/split.py divided, as they are many, count as unrelated.
    """
    samples = load_samples(run.samples).set_index("path").loc[list(held_out["path"])]
    folds = held_out["fold"].to_numpy()
    num_folds = pd.Series(folds).groupby(samples["near"].to_numpy()).transform("nunique")
    near = np.where(num_folds == 1, samples["near"], "").tolist()
    groups = join_groups(list(samples["digest"]), list(samples["group"]), near)
    return held_out.groupby([groups, folds], sort=False).ngroup().to_numpy(np.int64)


def match_rows(predicted: Sequence[str] | np.ndarray, paths: Sequence[str], source: str) -> np.ndarray:
    """Return the index of each of `paths` in `predicted`, int64 (N,).

    Raise InputError, naming the `source`, unless both hold the same images, once each.
    """
    row = {path: index for index, path in enumerate(np.asarray(predicted).tolist())}
    if len(row) != len(predicted):
        raise InputError(f"{source} predicts an image twice; run the stage that wrote it again.")
    expected = set(paths)
    unmatched = [
        *(path for path in paths if path not in row),
        *(path for path in row if path not in expected),
    ]
    if unmatched:
        raise InputError(
            f"{source} predicts other images than the first run ({len(unmatched)} differ, first: "
            f"{unmatched[0]}); name runs of the same images."
        )
    return np.array([row[path] for path in paths], dtype=np.int64)


def stack_predictions(files: Sequence[Path], paths: Sequence[str], task: Task) -> np.ndarray:
    """Return the predictions of R files, oof.npz or test.npz, float32 (R, N, K), in the order of `paths`.

    Raise InputError where a file predicts other images.
    """
    stacked = []
    for file in files:
        predicted = load_npz(file)
        stacked.append(predicted[task.predictions_key][match_rows(predicted["path"], paths, str(file))])
    return np.stack(stacked)


def save_oof(run: RunPaths, held_out: pd.DataFrame, predictions: np.ndarray, task: Task) -> None:
    """Write oof.npz and oof.csv: predictions (N, K) of the held-out rows of folds.csv.

    In oof.csv a number has no confidence.
    """
    save_npz(
        run.oof,
        path=held_out["path"].to_numpy(dtype=np.str_),
        label=task.targets(held_out),
        fold=held_out["fold"].to_numpy(np.int64),
        **{task.predictions_key: predictions},
    )
    table = held_out.assign(
        prediction=task.label_column(task.decide(predictions)), confidence=task.confidence(predictions)
    )
    has_confidence = task.predictions_key == "probabilities"
    save_csv(run.oof_table, table if has_confidence else table.drop(columns="confidence"))


def save_held_out(path: Path, held_out: LabelledImages, predictions: np.ndarray, task: Task) -> None:
    """Write held-out predictions (n, K) of a fold, or of one of its networks: heldout.npz."""
    paths = np.array(held_out.paths, dtype=np.str_)
    save_npz(path, path=paths, label=held_out.labels, **{task.predictions_key: predictions})


def mean_of_networks(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of a fold's networks' predictions (n, K), float32 (n, K); of one, its own."""
    if len(predictions) == 1:
        return predictions[0]
    return np.mean(predictions, axis=0, dtype=np.float64).astype(np.float32)


def average_predictions(predictions: Sequence[np.ndarray], task: Task) -> np.ndarray:
    """Return the mean of predictions (N, K) over networks, float32 (N, K)."""
    total = predictions[0].astype(np.float64)  # one sum: predictions of many classes fill the memory
    for prediction in predictions[1:]:
        total += prediction
    return task.finish(total / len(predictions))
