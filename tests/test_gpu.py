"""What only a CUDA GPU can show: every precision learns, and same bytes where they are asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MakeCompetition

import prepare
import split
import train
import validate

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")

SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "8", "--batch-size", "8", "--device", "cuda"]


def train_on_gpu(folder: Path, output: Path, *words: str) -> Path:
    for stage in (prepare, split, train, validate):
        assert stage.main([str(folder), *SMALL, "--folds", "2", "--output", str(output), *words]) == 0
    return output / "tiny" / "quick"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_separable_classes_are_learned_in_every_precision(
    make_competition: MakeCompetition, tmp_path: Path, precision: str
) -> None:
    run = train_on_gpu(make_competition(per_class=12), tmp_path, "--precision", precision)
    assert json.loads((run / "cv.json").read_text())["oof"] >= 0.9
    assert np.isfinite(np.load(run / "oof.npz")["probabilities"]).all()


def test_deterministic_training_gives_the_same_bytes(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder, words = make_competition(), ("--set", "deterministic=true", "--set", "augment_on=workers")
    runs = [train_on_gpu(folder, tmp_path / name, *words, "--workers", name) for name in ("0", "2")]
    for name in ("fold0/weights.safetensors", "oof.npz"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()
