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
import re
import shlex
import sys
import tempfile
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.files import atomic_folder, load_json
from foldsmith.process.terminal import say
from foldsmith.run.command import WordParser
from foldsmith.run.identity import competition_folder_of, load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import trained_folds

MINUTES = 480.0  # of a notebook, an hour below Kaggle's limit
MARK = "dataset/bundle.json"  # a folder with this file is a bundle, which another one may replace
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
        "command": shlex.join(["src/bundle.py", *words]),
    }
    if typed.python:
        from foldsmith.deployment.trial import check_python

        check_python(typed.python)  # before minutes of copying
    with atomic_folder(folder, MARK) as temporary:
        manifest = write_bundle(temporary, runs[0], combination, typed.fp16, notebook)
    size = sum(path.stat().st_size for path in (folder / "dataset").rglob("*") if path.is_file())
    several = "s" if len(manifest.members) > 1 else ""
    say(
        f"bundle: {folder}, {len(manifest.members)} run{several}, {len(manifest.files)} files, "
        f"{size / 1e6:,.0f} MB"
    )
    if typed.python:
        try_bundle(typed, runs, combination.members[0], folder)
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
    if not 0 < typed.minutes < float("inf"):
        raise InputError(f"--minutes {typed.minutes:g}: must be a number above 0.")
    for option, word in (("--owner", typed.owner), ("--contest", typed.contest or "contest")):
        if not re.fullmatch(r"[\w-]+", word, re.ASCII):
            raise InputError(
                f"{option} {word}: Kaggle's names have letters, digits, hyphens and underscores."
            )
    return typed


def try_bundle(typed: argparse.Namespace, runs: list[RunPaths], member: RunPaths, folder: Path) -> None:
    """Run a bundle as Kaggle would. Raise InputError if its probabilities are not those of the run."""
    from foldsmith.deployment.trial import (
        EXACT,
        ROUNDED,
        build_environment,
        compare_predictions,
        run_notebook,
    )

    contest = competition_folder_of(member)
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
        remedy = f"replace {OWNER} in the two metadata files by your name on Kaggle, or add --owner NAME"
        lines.insert(0, remedy)
    return lines


if __name__ == "__main__":
    run_main(main)
