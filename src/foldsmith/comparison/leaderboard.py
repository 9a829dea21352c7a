"""Runs of one competition side by side, and whether one is surely better than another.

R runs · N images. A run's files are read as they are: cv.json, oof.npz, identity.json, and fold<k>/run.json
or, of a blend, blend.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from foldsmith.errors import InputError, first_of
from foldsmith.evaluation.chance import compare_paired, holm, mcnemar_exact
from foldsmith.process.files import digest_of_file, load_json, load_npz
from foldsmith.recipes import Recipe
from foldsmith.recipes.words import as_typed, in_distinct_words
from foldsmith.run.identity import load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, is_predicted, training_seconds
from foldsmith.run.tables import load_classes, load_task
from foldsmith.tasks.metrics import METRICS

SURE = 0.05  # adjusted p under which one run is said to be better


@dataclass(frozen=True)
class Run:
    """A finished run: `right` (N,) bool says by path which held-out images it has right, `categories` (N,)
    which class each of them is, as the label file wrote it."""

    name: str
    cv: dict[str, Any]
    recipe: dict[str, Any]
    seconds: float
    right: pd.Series
    categories: pd.Series

    @property
    def made_of(self) -> list[str]:
        """The runs a blend was made of; none of a run with weights of its own."""
        return self.recipe.get("made_of", [])


def find_runs(competition: Path) -> list[Run]:
    """Every validated run under `output/<competition>`, by name, but stale ones. Raises InputError if there
    is none."""
    found = [run for run in _validated(competition) if not _is_stale(run)]
    if not found:
        told = f" but what was trained since: {first_of(stale)}" if (stale := find_stale(competition)) else ""
        raise InputError(
            f"{competition} holds no validated run{told}; give output/<competition> after src/validate.py."
        )
    return [_load_run(run) for run in found]


def find_stale(competition: Path) -> list[str]:
    """Names of the runs that were not validated, or not blended, since what they are made of changed."""
    return [run.root.name for run in _validated(competition) if _is_stale(run)]


def _validated(competition: Path) -> list[RunPaths]:
    return [RunPaths(path.parent) for path in sorted(competition.glob("*/cv.json"))]


def _is_stale(run: RunPaths) -> bool:
    if run.blend.is_file():
        parts = load_json(run.blend)["runs"]
        members = [
            (RunPaths(run.root.parent / part["run"]).oof, part["digests"]["oof.npz"]) for part in parts
        ]
        return any(oof.is_file() and digest_of_file(oof) != digest for oof, digest in members)
    if not run.stamp("validate").is_file():
        return True
    trained, views = load_json(run.stamp("validate"))["trained"], load_identity(run)["recipe"]["views"]
    folds = [int(fold) for fold in trained]
    if digests_of_trained(run, folds) != trained:
        return True
    return not all(is_predicted(run, fold, views) for fold in folds)


def _load_run(run: RunPaths) -> Run:
    cv, oof, identity = load_json(run.cv), load_npz(run.oof), load_json(run.identity)
    right = pd.Series(load_task(run).correct(oof["label"], oof["probabilities"]), index=oof["path"])
    categories = load_classes(run.classes)["category"].to_numpy()[oof["label"]]
    if run.blend.is_file():
        made = load_json(run.blend)["runs"]  # it costs what its runs cost
    else:
        made = [load_json(run.fold_run(int(fold))) for fold in load_json(run.stamp("validate"))["trained"]]
    seconds = training_seconds(run, made)
    return Run(run.root.name, cv, identity["recipe"], seconds, right, pd.Series(categories, oof["path"]))


def rank_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, the best first: run, metric, score, standard_error, accuracy, seconds, images, folds,
    differs (fields of the recipe in which the runs are not all alike, or the runs a blend was made of).

    Raises InputError where the runs have different metrics.
    """
    metrics = sorted({run.cv["metric"] for run in runs})
    if len(metrics) > 1:
        raise InputError(f"the runs have different metrics ({first_of(metrics)}); validate them anew.")
    differing = differing_fields([run.recipe for run in runs if not run.made_of])
    words = {name: in_distinct_words([run.recipe.get(name) for run in runs]) for name in differing}
    rows = [
        {
            "run": run.name,
            "metric": run.cv["metric"],
            "score": run.cv["mean"],
            "standard_error": run.cv["standard_error"],
            "accuracy": float(run.right.mean()),
            "seconds": round(run.seconds, 1),
            "images": len(run.right),
            "folds": len(run.cv["folds"]),
            "differs": f"made of {', '.join(run.made_of)}"
            if run.made_of
            else ", ".join(f"{name}={words[name][row]}" for name in differing),
        }
        for row, run in enumerate(runs)
    ]
    lower = not METRICS[metrics[0]].higher_is_better
    table = pd.DataFrame(rows).astype({"score": float, "standard_error": float})
    return table.sort_values(["score", "run"], ascending=[lower, True], ignore_index=True)


def differing_fields(recipes: Sequence[dict[str, Any]]) -> list[str]:
    """The fields in which recipes differ from each other, or one alone from the defaults; in their order."""
    defaults = [{field.name: field.default for field in fields(Recipe)}] if len(recipes) == 1 else []
    names = list(dict.fromkeys(name for recipe in recipes for name in recipe if name != "name"))
    return [
        name for name in names if len({as_typed(recipe.get(name)) for recipe in [*recipes, *defaults]}) > 1
    ]


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a pair on the images that both have held out, as the same class: a, b, images, difference
    (accuracy of b less a), standard_error, only_a, only_b, p (McNemar's, exact), p_adjusted (Holm's, for all
    pairs) and verdict.

    "better" is said only where the adjusted p is under SURE.
    """
    rows = []
    for a, b in combinations(runs, 2):
        paths, _ = _shared_images(a, b)
        if paths.empty:
            continue
        right_a, right_b = a.right[paths].to_numpy(), b.right[paths].to_numpy()
        paired, test = compare_paired(right_a, right_b), mcnemar_exact(right_a, right_b)
        rows.append(
            {
                "a": a.name,
                "b": b.name,
                "images": len(paths),
                "difference": paired.difference,
                "standard_error": paired.standard_error,
                "only_a": test.only_a,
                "only_b": test.only_b,
                "p": test.p,
            }
        )
    columns = ["a", "b", "images", "difference", "standard_error", "only_a", "only_b", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = holm(table["p"].to_numpy(float))
    table["verdict"] = [_verdict(row) for row in table.itertuples()]
    return table


def notes_on(runs: Sequence[Run], stale: Sequence[str]) -> list[str]:
    """A sentence for each pair with images of different labels, and for each run that is left out."""
    counts = [(a.name, b.name, _shared_images(a, b)[1]) for a, b in combinations(runs, 2)]
    return [
        *(
            f"{a} and {b} have different labels for {count:,} images, which are left out of their comparison."
            for a, b, count in counts
            if count
        ),
        *(
            f"{name} is left out: it is not of what it was made from any more; make it anew."
            for name in stale
        ),
    ]


def _shared_images(a: Run, b: Run) -> tuple[pd.Index, int]:
    """The images that both have held out as the same class, and how many more as another one."""
    shared = a.right.index.intersection(b.right.index)
    paths = shared[(a.categories[shared] == b.categories[shared]).to_numpy()]
    return paths, len(shared) - len(paths)


def _verdict(row: Any) -> str:
    if row.p_adjusted >= SURE:
        return "no sure difference"
    return f"{row.b if row.difference > 0 else row.a} is better"
