"""Tests that need a CUDA GPU: every precision and option learns, and `deterministic` gives the same bytes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MakeCompetition

import examine
import infer
import look
import prepare
import pretrain
import report
import split
import submit
import train
import validate
from foldsmith.augment.device import apply_draws
from foldsmith.augment.rows import AUGMENTATIONS
from foldsmith.process.files import load_npz
from foldsmith.process.signals import Interrupted
from foldsmith.run.paths import RunPaths
from foldsmith.training import loop as epochs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")

SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "8", "--batch-size", "8", "--device", "cuda"]
SAME_BYTES = ["--set", "deterministic=true"]


def run_stages(folder: Path, output: Path, *words: str) -> Path:
    """Run all stages up to test predictions; return the run's folder."""
    typed = [str(folder), *SMALL, "--folds", "2", "--output", str(output), *words]
    stages = [prepare, split, *([pretrain] if any("pretrain=" in word for word in words) else [])]
    for stage in (*stages, train, validate, infer):
        assert stage.main(typed) == 0
    return output / "tiny" / "quick"


def learned(run: Path) -> float:
    """Assert finite predictions; return the out-of-fold accuracy."""
    assert np.isfinite(load_npz(run / "oof.npz")["probabilities"]).all()
    assert np.isfinite(load_npz(run / "test.npz")["probabilities"]).all()
    return json.loads((run / "cv.json").read_text())["oof"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_separable_classes_are_learned_in_every_precision(
    make_competition: MakeCompetition, tmp_path: Path, precision: str
) -> None:
    run = run_stages(make_competition(per_class=12), tmp_path, "--precision", precision)
    assert learned(run) >= 0.9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from imports of torch.compile
@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer=muon", "nesterov=true", "lr=0.01", "schedule=one-cycle"],
        ["cutmix=1", "mixup=0.2", "mix_share=0.5", "class_weights=auto", "label_smoothing=0.1"],
        ["sam=0.02", "clip_grad=1", "recalibrate=4", "logit_adjustment=1", "label_smoothing=0.1"],
        ["augment=trivial", "erase=0.2", "alternating_flip=true", "sampling=balanced"],
        ["loss=bce", "seeds=2", "rounds=2", "lr=0.02"],
        ["model=whitened-cnn", "image_size=32", "optimizer=muon", "lr=0.01"],
        ["model=timm:resnet18", "image_size=32", "optimizer=sgd", "lr=0.03", "ema_decay=0.5"],
        ["compile=true", "epochs=8"],
    ],
    ids=lambda settings: settings[0],
)
# a warning of torch.compile about a split softmax reduction
@pytest.mark.filterwarnings(r"ignore:\s*Online softmax is disabled:UserWarning")
def test_every_training_option_works_on_a_gpu(
    make_competition: MakeCompetition, tmp_path: Path, settings: list[str]
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    assert learned(run_stages(make_competition(per_class=24), tmp_path, *words)) >= 0.6  # chance: 1/3


def test_an_autoencoder_is_pretrained_and_learns_on_a_gpu(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    words = ["--image-size", "52", "--set", "model=autoencoder-lenet-upsampled"]
    words += ["--set", "pretrain=autoencoder", "--set", "pretrain_epochs=2"]
    assert learned(run_stages(make_competition(per_class=24), tmp_path, *words)) >= 0.6  # chance: 1/3


@pytest.mark.parametrize("augment", ["shift-flip", "photo", "trivial", "study-resnet"])
def test_deterministic_training_gives_the_same_bytes_however_folds_are_spread(
    make_competition: MakeCompetition, tmp_path: Path, augment: str
) -> None:
    folder, words = make_competition(), (*SAME_BYTES, "--set", f"augment={augment}")
    alone = run_stages(folder, tmp_path / "alone", *words)
    together = run_stages(folder, tmp_path / "together", *words, "--device", "cuda,cuda:0")
    for name in ("fold0/weights.safetensors", "fold1/weights.safetensors", "oof.npz", "test.npz"):
        assert (alone / name).read_bytes() == (together / name).read_bytes()


def test_deterministic_training_gives_the_same_bytes_whatever_the_number_of_workers(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder, words = make_competition(), (*SAME_BYTES, "--set", "augment_on=workers")
    runs = [run_stages(folder, tmp_path / name, *words, "--workers", name) for name in ("0", "2")]
    for name in ("fold0/weights.safetensors", "oof.npz"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()


def test_an_interrupted_training_resumes_to_the_same_bytes(
    make_competition: MakeCompetition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, words = make_competition(), (*SAME_BYTES, "--set", "cutmix=1", "--set", "optimizer=muon")
    whole = run_stages(folder, tmp_path / "whole", *words)
    done, steps = epochs.train_one_epoch, list[int]()

    def stopping(*arguments: object) -> tuple[float, float]:
        steps.append(0)
        if len(steps) == 4:  # takes effect after a step, within an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return done(*arguments)

    monkeypatch.setattr(epochs, "train_one_epoch", stopping)
    with pytest.raises(Interrupted):
        run_stages(folder, tmp_path / "stopped", *words)
    stopped = run_stages(folder, tmp_path / "stopped", *words)
    assert len(steps) == 17  # two folds of eight epochs, one of them started twice
    for name in ("fold0/weights.safetensors", "fold1/weights.safetensors", "oof.npz"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("side", [0, 24])
def test_a_gpu_augments_as_a_cpu_does(name: str, side: int) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8))
    draws = AUGMENTATIONS[name].draw(1, len(images), 32, side)
    on_cpu, on_gpu = apply_draws(images, draws, side), apply_draws(images.cuda(), draws, side).cpu()
    # border pixels of a rotation, and rounding, may differ
    assert ((on_cpu - on_gpu).abs() < 0.02).float().mean() > 0.99


def test_out_of_memory_halves_the_micro_batch_and_training_learns(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(per_class=40)
    words = [str(folder), *SMALL, "--image-size", "128", "--batch-size", "64", "--folds", "2"]
    words += ["--output", str(tmp_path), "--epochs", "4", "--set", "model=timm:resnet50"]
    # In a process of its own, because memory held by the allocator counts. It trains twice, the second time
    # in three fifths of the memory of the first.
    code = (
        "import sys, torch; sys.path.insert(0, 'src'); "
        "import prepare, split, train; stages = (prepare, split, train); "
        "run = lambda name: [stage.main([*sys.argv[1:], '--name', name]) for stage in stages]; "
        "statuses = run('whole'); "
        "share = 0.6 * torch.cuda.max_memory_allocated() / torch.cuda.get_device_properties(0).total_memory; "
        "torch.cuda.empty_cache(); torch.cuda.set_per_process_memory_fraction(share, 0); "
        "sys.exit(any(statuses + run('parts')))"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "from here on in micro-batches of" in done.stdout
    facts = json.loads((tmp_path / "tiny" / "parts" / "fold0" / "run.json").read_text())
    assert 1 <= facts["micro_batch"] < 64


def test_examine_and_look_work_on_a_gpu(make_competition: MakeCompetition, tmp_path: Path) -> None:
    folder = make_competition()
    run = run_stages(folder, tmp_path)
    for stage in (submit, examine, report):
        assert stage.main([str(folder), *SMALL, "--folds", "2", "--output", str(tmp_path)]) == 0
    assert (run / "report.html").is_file()
    assert look.main([str(run), str(folder / "test" / "0.png"), "--device", "cuda"]) == 0
    assert RunPaths(run).look("0.png").is_file()
