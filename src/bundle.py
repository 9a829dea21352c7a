"""Bundle runs for a contest whose notebooks have no internet: a data set and a notebook for Kaggle.

.venv/bin/python src/bundle.py output/tiny80/default --owner NAME
.venv/bin/python src/bundle.py output/tiny80/blend --try      # and run it as Kaggle would

Write DIR/dataset (the source, the runs' weights, bundle.json) and DIR/kernel (the notebook).
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.terminal import say
from foldsmith.run.command import WordParser
from foldsmith.run.identity import competition_folder_of, load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import trained_folds

MINUTES = 480.0  # of a notebook, an hour below Kaggle's limit
OWNER = "INSERT_KAGGLE_NAME"


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    typed = read_words(words)
    runs = [RunPaths(Path(os.path.abspath(path))) for path in typed.runs]
    for run in runs:
        if not load_identity(run) or not (trained_folds(run) or run.blend.is_file()):
            raise InputError(
                f"{run.root} holds no trained run; name a run's folder, output/<competition>/<run>."
            )
    folder = typed.output or runs[0].root / "bundle"
    if folder.exists() and not (folder / "kernel").is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} holds other files; choose another --output.")
    # imported here: torch takes seconds
    from foldsmith.deployment.bundle import write_bundle
    from foldsmith.deployment.combination import average_of
    from foldsmith.deployment.image_predictor import require_current

    combination = average_of(runs)
    if len(runs) == 1:
        require_current(runs[0], combination)
    notebook = {
        "owner": typed.owner,
        "contest": typed.contest or runs[0].root.parent.name,
        "minutes": typed.minutes,
        "command": shlex.join([".venv/bin/python", "src/bundle.py", *words]),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle.") as name:
        manifest = write_bundle(Path(name) / "new", runs[0], combination, typed.fp16, notebook)
        shutil.rmtree(folder, ignore_errors=True)
        (Path(name) / "new").rename(folder)
    size = sum(path.stat().st_size for path in (folder / "dataset").rglob("*") if path.is_file())
    say(f"bundle: {folder}, {len(manifest.members)} runs, {len(manifest.files)} files, {size / 1e6:,.0f} MB")
    if typed.python:
        try_bundle(typed, runs, folder)
    for line in advice(folder, typed.owner):
        say(f"bundle: {line}")
    return 0


def read_words(argv: list[str]) -> argparse.Namespace:
    """Parse the command line. Raise InputError for wrong words."""
    parser = WordParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    several = "folders of runs, output/<competition>/<run>; of several the mean is predicted"
    add("runs", metavar="RUN", type=Path, nargs="+", help=several)
    add(
        "--output", metavar="DIR", type=Path, help="write to DIR (the folder bundle in that of the first run)"
    )
    add("--owner", metavar="NAME", default=OWNER, help="your name on Kaggle, for the metadata files")
    add("--contest", metavar="SLUG", help="the contest's name in Kaggle's addresses (the folder's name)")
    add("--fp16", action="store_true", help="store matrices as float16: half the size, rounded")
    limit = f"time limit of the notebook; what does not fit into it is left out ({MINUTES:g})"
    add("--minutes", metavar="N", type=float, default=MINUTES, help=limit)
    trial = "run the notebook in a clean environment with the versions of Kaggle's image, without a network, "
    trial += "and compare its probabilities with test.npz; PYTHON is a Python 3.12 (python3.12)"
    add("--try", dest="python", metavar="PYTHON", nargs="?", const="python3.12", help=trial)
    typed = parser.parse_args(argv)
    if typed.minutes <= 0:
        raise InputError(f"--minutes {typed.minutes:g}: must be more than 0.")
    return typed


def try_bundle(typed: argparse.Namespace, runs: list[RunPaths], folder: Path) -> None:
    """Run a bundle as Kaggle would. Raise InputError if its probabilities are not those of the run."""
    from foldsmith.deployment.trial import (
        EXACT,
        ROUNDED,
        build_environment,
        compare_predictions,
        run_notebook,
    )
    from foldsmith.process.files import load_json

    contest = competition_folder_of(runs[0])
    if not contest.is_dir():
        raise InputError(f"--try needs the contest's folder, and {contest} is not there.")
    with tempfile.TemporaryDirectory() as name:
        run_notebook(build_environment(typed.python), folder, contest, Path(name))
        if len(runs) > 1:
            say("bundle: there is no test.npz of the mean of several runs to compare with; "
                "src/submit.py RUN RUN writes one, as a run")  # fmt: skip
            return
        members = [RunPaths(path) for path in sorted((folder / "dataset" / "runs").iterdir())]
        precisions = {
            load_json(run.fold_run(fold))["precision"] for run in members for fold in trained_folds(run)
        }
        tolerance = ROUNDED if typed.fp16 or precisions != {"fp32"} else EXACT
        comparison = compare_predictions(runs[0], Path(name), tolerance)
    say(f"bundle: {comparison.sentence}")
    if not comparison.passes:
        raise InputError(
            f"{folder} does not give the probabilities of {runs[0].root}; {comparison.sentence}."
        )


def advice(folder: Path, owner: str) -> list[str]:
    """Return the lines that upload a bundle."""
    lines = [
        f"kaggle datasets create -p {folder / 'dataset'} --dir-mode zip   # uploads the data set",
        f"kaggle kernels push -p {folder / 'kernel'}                      # then the notebook",
    ]
    if owner == OWNER:
        lines.insert(
            0, f"write your name on Kaggle for {OWNER} in the two metadata files, or add --owner NAME"
        )
    return lines


if __name__ == "__main__":
    run_main(main)
