"""Write a bundle: a data set with the runs and the source, and a notebook that predicts with them."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from foldsmith import __version__
from foldsmith.competition.found import load_found
from foldsmith.competition.settings import FILE_NAME
from foldsmith.deployment.combination import Combination
from foldsmith.deployment.local_paths import without_folders
from foldsmith.deployment.manifest import NAME, RUNS, SETTINGS, Manifest, save_manifest
from foldsmith.evaluation.decisions import as_json
from foldsmith.process.files import digest_of, digest_of_file, load_json, save_json
from foldsmith.run.identity import competition_folder_of
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import require_trained, trained_folds
from foldsmith.run.tables import load_folds

SOURCE = Path(__file__).parents[2]  # src/
CELL = """CONTEST = ""  # the contest's folder; empty: found below /kaggle/input by its sample submission
MINUTES = {minutes:g}  # the time limit: networks and views that do not fit into it are left out

import os
import sys
import time
from pathlib import Path

begun = time.monotonic()
mount = Path(os.environ.get("FOLDSMITH_INPUT", "/kaggle/input"))
output = Path(os.environ.get("FOLDSMITH_OUTPUT", "/kaggle/working"))
bundles = [found.parent for depth in range(1, 5) for found in mount.glob("*/" * depth + "{manifest}")]
if len(bundles) != 1:
    raise SystemExit(f"{{mount}} holds {{len(bundles)}} files {manifest}; add the bundle's data set, once.")
sys.path.insert(0, str(bundles[0] / "src"))
from foldsmith.deployment.hidden_test import HiddenTest, predict_hidden_test

contest = Path(CONTEST) if CONTEST else None
predict_hidden_test(HiddenTest(bundles[0], mount, output, contest, MINUTES, begun))
"""


def write_bundle(
    folder: Path, run: RunPaths, combination: Combination, half: bool, notebook: dict[str, Any]
) -> Manifest:
    """Write dataset/ and kernel/ into a new folder, and return the manifest.

    With `half` weight matrices are stored as float16. `notebook` has `owner`, `contest` (its slug), `minutes`
    and `command`. Raise InputError if a run is not whole.
    """
    dataset = folder / "dataset"
    folds = [trained_folds(member) for member in combination.members]
    members = []
    for member, numbers in zip(combination.members, folds, strict=True):
        members.append(f"{RUNS}/{len(members)}-{member.root.name}")
        copy_run(member, numbers, dataset / members[-1], half)
    shutil.copytree(SOURCE, dataset / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE.parent / "LICENSE", dataset / "LICENSE")
    (dataset / SETTINGS).mkdir()
    settings = competition_folder_of(combination.members[0]) / FILE_NAME
    if settings.is_file():
        shutil.copy(settings, dataset / SETTINGS / FILE_NAME)
    else:
        (dataset / SETTINGS / FILE_NAME).touch()  # Kaggle drops empty folders
    first, task = combination.members[0], combination.task
    manifest = Manifest(
        foldsmith=__version__,
        competition=run.root.parent.name,
        sample=load_found(first.found).sample,
        members=members,
        folds=folds,
        weights=combination.weights.tolist(),
        adjustment=combination.adjustment,
        value=combination.value,
        decision=as_json(combination.decision),
        prior=task.prior(task.targets(load_folds(first.folds))).tolist(),
        command=without_folders(notebook["command"]),
        files={
            str(path.relative_to(dataset)): digest_of_file(path)
            for path in sorted(dataset.rglob("*"))
            if path.is_file()
        },
    )
    save_manifest(dataset, manifest)
    write_notebook(folder, run, notebook)
    return manifest


def copy_run(run: RunPaths, folds: Sequence[int], folder: Path, half: bool) -> None:
    """Copy what prediction needs of a run into a new folder. Raise InputError unless the run is whole."""
    target = RunPaths(folder)
    fold_runs = require_trained(run, folds)
    target.stamp("prepare").parent.mkdir(parents=True)
    for path in (run.found, run.classes):
        shutil.copy(path, folder / path.name)
    save_json(target.identity, without_folders(load_json(run.identity)))
    # the cache's name says how images become pixels; the stamp's other entries are about this machine
    save_json(target.stamp("prepare"), {"cache": load_json(run.stamp("prepare"))["cache"]})
    for fold, facts in zip(folds, fold_runs, strict=True):
        source, copied = run.of_fold(fold), target.of_fold(fold)
        copied.root.mkdir()
        save_json(copied.run, without_folders(load_json(source.run)))
        for weights in source.all_weights(facts["seeds"]):
            to = copied.root / weights.relative_to(source.root)
            to.parent.mkdir(exist_ok=True)
            copy_weights(weights, to, half)


def copy_weights(source: Path, target: Path, half: bool) -> None:
    """Copy a weights file; with `half` its matrices and kernels become float16.

    Norms, biases and statistics stay as they are: they are small, and a variance may exceed float16.
    """
    if not half:
        shutil.copy(source, target)
        return
    tensors = load_file(source)
    save_file(
        {
            name: tensor.half() if tensor.dtype == torch.float32 and tensor.ndim >= 2 else tensor
            for name, tensor in tensors.items()
        },
        target,
    )


def write_notebook(folder: Path, run: RunPaths, notebook: dict[str, Any]) -> None:
    """Write kernel/ with the notebook, and the metadata files that Kaggle's client reads."""
    kernel = folder / "kernel"
    kernel.mkdir()
    name = slug_of(run.root.parent.name, run.root.name)
    cell = CELL.format(minutes=notebook["minutes"], manifest=NAME)
    save_json(kernel / "predict.ipynb", as_notebook(cell))
    owner = notebook["owner"]
    save_json(
        folder / "dataset" / "dataset-metadata.json",
        {"title": name, "id": f"{owner}/{name}", "licenses": [{"name": "other"}]},
    )
    save_json(
        kernel / "kernel-metadata.json",
        {
            "id": f"{owner}/{name}-predict",
            "title": f"{name}-predict",
            "code_file": "predict.ipynb",
            "language": "python",
            "kernel_type": "notebook",
            "is_private": True,
            "enable_gpu": True,
            "enable_internet": False,
            "dataset_sources": [f"{owner}/{name}"],
            "competition_sources": [notebook["contest"]],
            "kernel_sources": [],
            "model_sources": [],
        },
    )


def as_notebook(cell: str) -> dict[str, Any]:
    """Return the content of a notebook (nbformat 4) with one cell of code."""
    return {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "metadata": {},
                "outputs": [],
                "source": cell.splitlines(keepends=True),
            }
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 4,
    }


def code_of(notebook: Path) -> str:
    """Return the code of a notebook's cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def slug_of(contest: str, run: str) -> str:
    """Return the name of a bundle as Kaggle writes it in addresses: at most 42 letters, digits and hyphens.

    A longer one is cut and ends with a digest, so that two runs never have one name.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", f"foldsmith {contest} {run}".lower()).strip("-")
    return slug if len(slug) <= 42 else f"{slug[:35].strip('-')}-{digest_of([contest, run])[:6]}"
