"""The runs of a competition: ranked, and compared in pairs by significance tests.

R runs · N images. The files of a run are cv.json, oof.npz, identity.json, and fold<k>/run.json or, for a
blend, blend.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.data.corrections import describe_corrections
from foldsmith.errors import InputError, first_of
from foldsmith.evaluation.chance import compare_paired, holm, mcnemar_exact, paired_t_test
from foldsmith.evaluation.last_run import differing_settings
from foldsmith.process.files import load_json, load_npz
from foldsmith.recipes import Recipe
from foldsmith.recipes.words import as_typed, in_distinct_words
from foldsmith.run.kaggle_scores import Submission, load_submissions, scored_submission
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import training_seconds
from foldsmith.run.tables import load_classes, load_corrections, load_task
from foldsmith.run.validated import is_stale, validated_runs
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import find_metric

SIGNIFICANCE = 0.05  # a run is called better below this adjusted p


@dataclass(frozen=True)
class Run:
    """A finished run.

    `credit` (N,) has, by path, the credit of each held-out image; bool where it is either right or wrong.
    `credit_name` says what its mean is. `targets` (N,) are the images' classes, in the words of the label
    file, or their numbers. `identity` is identity.json, `corrections` are the rows of corrections.csv that
    change something.
    """

    name: str
    cv: dict[str, Any]
    recipe: dict[str, Any]
    seconds: float
    credit: pd.Series
    credit_name: str
    targets: pd.Series
    identity: dict[str, Any] = field(default_factory=dict)
    corrections: pd.DataFrame = field(default_factory=pd.DataFrame)
    submission: Submission | None = None  # the scored one of its submission.csv

    @property
    def made_of(self) -> list[str]:
        """The members of a blend or an average; empty for a trained run."""
        return self.recipe.get("made_of", [])


def find_runs(competition: Path) -> list[Run]:
    """Return the validated runs under `output/<competition>`, by name, without stale ones.

    Raise InputError if there is none.
    """
    runs = [run for run in validated_runs(competition) if not is_stale(run)]
    if not runs:
        if RunPaths(competition).identity.is_file():
            raise InputError(f"{competition} is one run; name the folder of all runs, {competition.parent}.")
        stale = find_stale(competition)
        detail = f" but stale ones ({first_of(stale)})" if stale else ""
        raise InputError(
            f"{competition} holds no validated run{detail}; name output/<competition>, and run "
            "src/validate.py first."
        )
    return [_load_run(run) for run in runs]


def find_stale(competition: Path) -> list[str]:
    """Return the names of stale runs: their folds or members changed after validation or blending."""
    return [run.root.name for run in validated_runs(competition) if is_stale(run)]


def _load_run(run: RunPaths) -> Run:
    cv, oof, identity = load_json(run.cv), load_npz(run.oof), load_json(run.identity)
    task, words = load_task(run), load_classes(run.classes)["category"].to_numpy()
    credit = pd.Series(task.correct(oof["label"], oof[task.predictions_key]), index=oof["path"])
    targets = pd.Series(_in_words(task, oof["label"], words), oof["path"])
    if run.blend.is_file():
        trained = load_json(run.blend)["runs"]  # a blend costs what its members cost
    else:
        folds = load_json(run.stamp("validate"))["trained"]
        trained = [load_json(run.fold_run(int(fold))) for fold in folds]
    seconds, corrections = training_seconds(run, trained), load_corrections(run.corrections)
    return Run(
        run.root.name,
        cv,
        identity["recipe"],
        seconds,
        credit,
        task.credit_name,
        targets,
        identity,
        corrections[corrections["old"] != corrections["new"]],
        scored_submission(run),
    )


def _in_words(task: Task, targets: np.ndarray, words: np.ndarray) -> list[object]:
    """Return the target of each image in a form that does not depend on the order of the classes."""
    if task.single_label:
        return list(words[targets])
    if task.predictions_key == "values":
        return task.label_column(targets)
    return [tuple(sorted(words[row > 0])) for row in targets]


def _is_higher_better(cv: Mapping[str, Any]) -> bool:
    """Return the direction of a run's metric; cv.json of older versions names a row of METRICS."""
    return cv["higher_is_better"] if "higher_is_better" in cv else find_metric(cv["metric"]).higher_is_better


def rank_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run, the best first.

    Columns: run, metric, score, standard_error, accuracy, seconds, images, folds, and differs: the recipe
    fields in which the runs differ, or the members of a blend, and corrections of labels.
    Where a run was scored by Kaggle, also public_score, public_minus_score, and private_score if one is
    known; NaN for the others.

    Raise InputError where the runs have different metrics.
    """
    metrics = sorted({run.cv["metric"] for run in runs})
    if len(metrics) > 1:
        by_metric = [
            f"{metric}: {first_of(run.name for run in runs if run.cv['metric'] == metric)}"
            for metric in metrics
        ]
        raise InputError(
            f"the runs have different metrics ({'; '.join(by_metric)}); run src/validate.py again for "
            "those of the old metric, or src/blend.py for a blend."
        )
    differing = differing_fields([run.recipe for run in runs if not run.made_of])
    words = {name: in_distinct_words([run.recipe.get(name) for run in runs]) for name in differing}
    rows = [
        {
            "run": run.name,
            "metric": run.cv["metric"],
            "score": run.cv["mean"],
            "standard_error": run.cv["standard_error"],
            "accuracy": float(run.credit.mean()),
            "seconds": round(run.seconds, 1),
            "images": len(run.credit),
            "folds": len(run.cv["folds"]),
            "differs": f"made of {', '.join(run.made_of)}"
            if run.made_of
            else ", ".join(
                [f"{name}={words[name][row]}" for name in differing]
                + ([] if run.corrections.empty else [describe_corrections(run.corrections)])
            ),
        }
        for row, run in enumerate(runs)
    ]
    lower = not _is_higher_better(runs[0].cv)
    table = (
        pd.DataFrame(rows).astype({"score": float, "standard_error": float}).assign(**_kaggle_columns(runs))
    )
    return table.sort_values(["score", "run"], ascending=[lower, True], ignore_index=True)


def _kaggle_columns(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Return the columns of Kaggle's scores, a value a run; none where no run was scored."""
    if not any(run.submission for run in runs):
        return {}
    public = [run.submission.public if run.submission else np.nan for run in runs]
    private = [run.submission.private if run.submission else None for run in runs]
    columns = {
        "public_score": public,
        "public_minus_score": [score - run.cv["mean"] for score, run in zip(public, runs, strict=True)],
    }
    if any(score is not None for score in private):
        columns["private_score"] = [np.nan if score is None else score for score in private]
    return columns


def differing_fields(recipes: Sequence[dict[str, Any]]) -> list[str]:
    """Return the fields in which recipes differ; of a single recipe, those that are not the defaults."""
    defaults = [{field.name: field.default for field in fields(Recipe)}] if len(recipes) == 1 else []
    names = list(dict.fromkeys(name for recipe in recipes for name in recipe if name != "name"))
    return [
        name for name in names if len({as_typed(recipe.get(name)) for recipe in [*recipes, *defaults]}) > 1
    ]


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per pair, compared on the images that both runs held out with the same label.

    Columns: a, b, images, difference (mean credit of b minus a, for one class the accuracy), standard_error,
    only_a, only_b (images to which only one gives more credit), p, p_adjusted (Holm, for all pairs) and
    verdict. p is that of McNemar's exact test where an image is right or wrong, otherwise of the paired t
    test. A run is called better if p_adjusted is below SIGNIFICANCE.
    """
    rows = []
    for a, b in combinations(runs, 2):
        paths, _ = _shared_images(a, b)
        if paths.empty:
            continue
        credit_a, credit_b = a.credit[paths].to_numpy(), b.credit[paths].to_numpy()
        paired = compare_paired(credit_a, credit_b)
        test = (mcnemar_exact if credit_a.dtype == bool else paired_t_test)(credit_a, credit_b)
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


def pairs_with_best(pairs: pd.DataFrame, ranked: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of the best run with each other one, in the order of `pairs`."""
    best = ranked["run"].iloc[0]
    return pairs[(pairs["a"] == best) | (pairs["b"] == best)]


def gains_of_corrections(runs: Sequence[Run]) -> list[str]:
    """Return what each run with corrected labels gained, on the images whose labels were not changed.

    It is paired with each run of the same recipe and folds that has other labels. A sentence says that its
    score is on other labels.
    """
    sentences = []
    for corrected in runs:
        if corrected.corrections.empty:
            continue
        what = describe_corrections(corrected.corrections)
        others = [
            run
            for run in runs
            if not run.made_of
            and not run.corrections.equals(corrected.corrections)
            and not differing_settings(run.identity, corrected.identity)
        ]
        sentences += [_gain_in_words(run, corrected) for run in others]
        sentences.append(
            f"{corrected.name} is scored on corrected labels ({what}): compare it with runs on other "
            "labels by pairs, which are of equal labels, not by rank."
        )
    return sentences


def _gain_in_words(run: Run, corrected: Run) -> str:
    paths, changed = _shared_images(run, corrected)
    if paths.empty:
        return f"{corrected.name} and {run.name} hold out no image with the same label."
    paired = compare_paired(run.credit[paths].to_numpy(), corrected.credit[paths].to_numpy())
    return (
        f"{corrected.name} against {run.name}, the same recipe without these corrections: "
        f"{paired.difference:+.4f} ± {paired.standard_error:.4f} in {run.credit_name} on the {len(paths):,} "
        f"held-out images of both whose labels were not changed ({changed:,} were)."
    )


def earlier_submissions(competition: Path) -> list[str]:
    """Return a sentence for each run whose Kaggle scores are all of an earlier submission.csv."""
    return [
        f"{run.root.name} was scored by Kaggle with an earlier submission.csv, so that score is not shown."
        for run in validated_runs(competition)
        if scored_submission(run) is None and any(entry.public is not None for entry in load_submissions(run))
    ]


def notes_on(runs: Sequence[Run], stale: Sequence[str]) -> list[str]:
    """Return a sentence for each pair with different labels, and for each stale run."""
    counts = [(a.name, b.name, _shared_images(a, b)[1]) for a, b in combinations(runs, 2)]
    return [
        *(
            f"{a} and {b} have different labels for {count:,} images, which their comparison leaves out."
            for a, b, count in counts
            if count
        ),
        *(
            f"{name} is left out: it is stale, because it changed after it was validated or blended; run "
            "src/validate.py or src/blend.py again."
            for name in stale
        ),
    ]


def notes_of_grid(competition: Path) -> list[str]:
    """Return a sentence for each run that the last grid stopped, or that failed, by its grid.json."""
    path = competition / "grid.json"
    if not path.is_file():
        return []
    return [
        f"{name} was stopped by the grid: {entry['reason']}."
        if entry["state"] == "stopped"
        else f"{name} failed in the grid: {entry['reason']}"
        for name, entry in load_json(path).items()
        if entry["state"] in ("stopped", "failed")
    ]


def _shared_images(a: Run, b: Run) -> tuple[pd.Index, int]:
    """Return the images that both held out with the same label, and the number with different labels."""
    shared = a.credit.index.intersection(b.credit.index)
    paths = shared[(a.targets[shared] == b.targets[shared]).to_numpy()]
    return paths, len(shared) - len(paths)


def _verdict(row: Any) -> str:
    if row.p_adjusted >= SIGNIFICANCE:
        return "no sure difference"
    return f"{row.b if row.difference > 0 else row.a} is better"
