"""Results may change only with the version, because stamps of the same version count as current."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeCompetition

import infer
import prepare
import split
import train
import validate
from foldsmith import __version__
from foldsmith.process.files import load_npz
from foldsmith.process.machine import versions

VERSION = "0.4.2"
# figures of oof.npz and test.npz, by settings on top of the recipe `quick`
FIGURES = {
    (): (0.1182, -0.0289),
    ("optimizer=muon", "lr=0.01", "cutmix=1", "ema_decay=0.9", "label_smoothing=0.1"): (-0.1254, -0.1022),
    ("loss=bce", "sampling=balanced", "rounds=2", "alternating_flip=true"): (-0.1667, -0.1114),
    ("class_weights=auto", "label_smoothing=0.1", "sam=0.05", "augment=photo"): (0.0325, -0.0494),
    ("logit_adjustment=1", "schedule=one-cycle", "augment=trivial", "erase=0.2"): (-0.1627, -0.0989),
    ("model=whitened-cnn", "train_size=14", "mixup=0.4", "recalibrate=2", "optimizer=sgd"): (0.3284, -0.1452),
}
NOTED_WITH = {"torch": "2.15.0", "timm": "1.0.31", "opencv-python-headless": "5.0.0.93"}
WORDS = ["--recipe", "quick", "--image-size", "16", "--epochs", "3", "--batch-size", "8", "--folds", "2"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu", "--name", "run"]


def figure_of(path: Path) -> float:
    """Return a number that depends on every probability in the file, with a weight of its own."""
    probabilities = load_npz(path)["probabilities"].astype(np.float64)
    return float((probabilities.ravel() * np.cos(np.arange(probabilities.size))).sum())


@pytest.mark.skipif(
    any(versions()[package] != noted for package, noted in NOTED_WITH.items()),
    reason=f"the numbers were noted with {NOTED_WITH}",
)
@pytest.mark.parametrize("settings", FIGURES, ids="; ".join)
def test_numbers_change_only_with_the_version(
    settings: tuple[str, ...], make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(per_class=10, test_per_class=4)
    answer = json.loads((folder / "answer.json").read_text())
    del answer["annotations"][0]  # unbalanced classes: class weights have an effect
    (folder / "answer.json").write_text(json.dumps(answer))
    words = [str(folder), *WORDS, "--output", str(tmp_path)]
    words += [word for setting in settings for word in ("--set", setting)]
    for stage in (prepare, split, train, validate, infer):
        assert stage.main(words) == 0
    run = tmp_path / folder.name / "run"
    found = figure_of(run / "oof.npz"), figure_of(run / "test.npz")
    message = (
        f"runs of version {VERSION} have other numbers: raise foldsmith.__version__, and note {found} here"
    )
    # processors round differently, Muon's bf16 most of all
    assert found == pytest.approx(FIGURES[settings], abs=5e-3), message


def test_the_numbers_belong_to_the_current_version() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert VERSION == __version__ == project["version"], "note the numbers of this version"
