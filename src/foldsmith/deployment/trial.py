"""Try a bundle as Kaggle would run it: in an environment with the image's versions, without a network."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foldsmith.deployment.bundle import code_of
from foldsmith.deployment.hidden_test import PREDICTIONS, SUBMISSION
from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.process.files import load_npz
from foldsmith.process.terminal import say
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_task

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "requirements-kaggle-image.txt"
ENVIRONMENT = ROOT / ".venv-kaggle-image"
PYTHON = "3.12"
# runs before the notebook's code: a socket of the internet raises, as in a notebook without internet
BLOCK = """\
import socket

class NoInternet(socket.socket):
    def __init__(self, family=socket.AF_INET, *words, **named):
        if family in (socket.AF_INET, socket.AF_INET6):
            raise OSError("the notebook has no internet")
        super().__init__(family, *words, **named)

socket.socket = NoInternet
"""
EXACT, ROUNDED = 1e-4, 2e-2  # largest difference of a probability, and where 16 bits round it


@dataclass(frozen=True)
class Comparison:
    """How far the probabilities of a bundle, on the images that a run has predicted, are from the run's.

    `largest` and `mean` are absolute differences; `agree` is the share of images with the same decision, None
    for numbers.
    """

    images: int
    largest: float
    mean: float
    agree: float | None
    tolerance: float

    @property
    def passes(self) -> bool:
        return self.largest <= self.tolerance

    @property
    def sentence(self) -> str:
        decisions = "" if self.agree is None else f", {self.agree:.2%} of the decisions are the same"
        return (
            f"predictions of {self.images:,} test images differ from the run's by at most "
            f"{self.largest:.2g} ({self.mean:.2g} on average; tolerance {self.tolerance:g}){decisions}"
        )


def build_environment(python: str, environment: Path = ENVIRONMENT, image: Path = IMAGE) -> Path:
    """Return the interpreter of an environment with the versions of `image`; it is built once.

    Raise InputError if `python` is not Python 3.12, and MachineError if the packages cannot be installed.
    """
    check_python(python)
    interpreter, installed = environment / "bin" / "python", environment / "installed"
    if installed.is_file() and installed.read_bytes() == image.read_bytes():
        return interpreter
    say(f"installing {image.name} into {environment} (once, some minutes)")
    shutil.rmtree(environment, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        commands = [
            [uv, "venv", "--quiet", "--python", python, str(environment)],
            [uv, "pip", "install", "--quiet", "--python", str(interpreter), "-r", str(image)],
        ]
    else:
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(image)]
        commands = [[python, "-m", "venv", str(environment)], pip]
    for command in commands:
        if subprocess.run(command).returncode:
            raise MachineError(f"{' '.join(command)} failed")
    shutil.copy(image, installed)
    return interpreter


def check_python(python: str) -> None:
    """Raise InputError unless `python` runs, and is the image's version."""
    ask = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    try:
        version = subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout.strip()
    except OSError as error:
        raise InputError(
            f"--try needs Python {PYTHON}, as Kaggle's image has, and {python} cannot be run "
            f"({error.strerror}); write --try PATH for an interpreter elsewhere."
        ) from error
    if version != PYTHON:
        found = f"Python {version}" if version else "no Python"
        raise InputError(
            f"--try needs Python {PYTHON}, as Kaggle's image has, and {python} is {found}; write --try PATH."
        )


def run_notebook(interpreter: Path, folder: Path, contest: Path, output: Path) -> None:
    """Run the notebook of a bundle on a contest's folder, without a network; results go to `output`.

    Raise InputError if it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        mount = Path(name)
        (mount / "bundle").symlink_to((folder / "dataset").absolute())
        (mount / contest.name).symlink_to(contest.absolute())
        code = BLOCK + code_of(folder / "kernel" / "predict.ipynb")
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "OMP_NUM_THREADS") if key in os.environ}
        environment = {**kept, "FOLDSMITH_INPUT": str(mount), "FOLDSMITH_OUTPUT": str(output)}
        if subprocess.run([str(interpreter), "-c", code], env=environment, cwd=name).returncode:
            raise InputError(f"the notebook in {folder / 'kernel'} failed; its last lines say why.")
    if not (output / SUBMISSION).is_file():
        raise InputError(f"the notebook in {folder / 'kernel'} wrote no {SUBMISSION}.")


def compare_predictions(run: RunPaths, output: Path, tolerance: float) -> Comparison:
    """Return how far a notebook's predictions are from test.npz of a run, on the images of both.

    Raise InputError if they share no image.
    """
    theirs, own, task = load_npz(output / PREDICTIONS), load_npz(run.test), load_task(run)
    key = task.predictions_key
    row = {path: index for index, path in enumerate(own["path"].tolist())}
    shared = [(index, row[path]) for index, path in enumerate(theirs["path"].tolist()) if path in row]
    if not shared:
        raise InputError(f"{run.test} has predictions of none of the contest's test images.")
    first, second = map(list, zip(*shared, strict=True))
    predicted, expected = theirs[key][first], own[key][second]
    difference = np.abs(predicted - expected)
    agree = None
    if key == "probabilities":
        same = task.decide(predicted) == task.decide(expected)
        agree = float(same.reshape(len(shared), -1).all(axis=1).mean())
    return Comparison(len(shared), float(difference.max()), float(difference.mean()), agree, tolerance)
