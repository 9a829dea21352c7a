"""Time to accuracy of foldsmith and of what people use instead, on the same images, split and threads.

.venv/bin/python tests/benchmarks/peers.py input/flowers102 --weights tf_efficientnet_lite0.safetensors \\
    --minutes 10 --target .65 --ours probe finetune --timm ../timm --fastai ../venv-fastai/bin/python --floor
.venv/bin/python tests/benchmarks/peers.py input/cifar10 --limit 10000 --ours quick small-images-fast --floor

Every method trains on the training images of fold 0 and is judged on its held-out ones, in turn, on one
thread unless --threads says otherwise. Its clock starts with its process and so holds imports and decoding. A
row has the accuracy at the end, the highest one within --minutes, and the seconds to --target. A method that
is not done after --minutes is stopped; what it had printed counts. Settings are those that each peer's
documentation recommends for small data: timm's fine-tuning with AdamW, layer decay, RandAugment and EMA, or
from scratch its defaults with cosine and warm-up; fastai's vision_learner with fine_tune, or fit_one_cycle
from scratch, with aug_transforms; for the floor logistic regression on histograms of oriented gradients and a
small image.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import pandas as pd

from foldsmith.process.machine import has_fast_bf16
from foldsmith.process.terminal import show_table

SRC = Path(__file__).resolve().parents[2] / "src"
ACCURACY = r"(?:\d+\.\d+|\d+)"
FASTAI = """
import sys, time
from functools import partial
from pathlib import Path
begun = float(sys.argv[7])
import timm, torch
from fastai.vision.all import *
folder, arch, size, epochs, weights, batch = (Path(sys.argv[1]), *sys.argv[2:3], *map(int, sys.argv[3:5]),
                                              sys.argv[5], int(sys.argv[6]))
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
set_seed(0, True)
if weights:
    create = timm.create_model
    overlay = {"file": weights}
    timm.create_model = lambda name, pretrained=False, **words: create(
        name, pretrained=pretrained, **words, **({"pretrained_cfg_overlay": overlay} if pretrained else {}))
dls = ImageDataLoaders.from_folder(folder, train="train", valid="validation", seed=0, bs=batch, num_workers=0,
                                   item_tfms=Resize(size), batch_tfms=aug_transforms(size=size))
class Told(Callback):
    order = 60
    def after_epoch(self):
        print(f"TOLD {time.time() - begun:.1f} {float(self.recorder.values[-1][-1]):.5f}", flush=True)
learn = vision_learner(dls, arch, metrics=accuracy, pretrained=bool(weights), cbs=Told())
if weights:
    learn.fine_tune(epochs)
else:
    learn.unfreeze()
    learn.fit_one_cycle(epochs, 3e-3)
"""


@dataclass(frozen=True)
class Split:
    """Folders of links to images by class, and the sizes that methods use.

    `folder` has train/CLASS and validation/CLASS. `weights` is a file, or empty for training from scratch.
    """

    folder: Path
    competition: Path
    limit: int
    size: int
    weights: str
    network: str


@dataclass(frozen=True)
class Row:
    """A method's accuracies on the held-out images by the seconds since its start."""

    name: str
    points: list[tuple[float, float]]
    ended: bool
    seconds: float  # of the whole process

    def cells(self, minutes: float, target: float) -> list[str]:
        if not self.points:
            return [self.name, "–", "–", "–", "failed or too slow"]
        within = [accuracy for seconds, accuracy in self.points if seconds <= 60 * minutes]
        reached = [seconds for seconds, accuracy in self.points if accuracy >= target]
        return [
            self.name,
            f"{self.points[-1][1]:.4f} after {self.points[-1][0]:,.0f} s",
            f"{max(within):.4f}" if within else "–",
            f"{reached[0]:,.0f}" if reached else "not reached",
            "" if self.ended else "stopped",
        ]


def build_split(args: argparse.Namespace, output: Path, root: Path) -> Path:
    """Return a folder of links to the training and held-out images of fold 0, by class."""
    words = [str(args.folder), "--recipe", "quick", "--output", str(output), "--name", "split"]
    words += ["--limit", str(args.limit)] if args.limit else []
    for stage in ("prepare", "split"):
        subprocess.run(
            [sys.executable, str(SRC / f"{stage}.py"), *words], check=True, stdout=subprocess.DEVNULL
        )
    run = output / args.folder.name / "split"
    folds = pd.read_csv(run / "folds.csv").merge(
        pd.read_csv(run / "samples.csv", dtype=str)[["path", "class_name"]], on="path"
    )
    for row in folds.itertuples():
        subset = "validation" if row.fold == 0 else "train"
        link = root / subset / f"{row.label:04}" / Path(row.path).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((args.folder / row.path).resolve())
    return root


def watch(command: list[str], read: Callable[[str, float], float | None], minutes: float, **words) -> Row:
    """Run a command for at most that many minutes; `read` gives the accuracy that a printed line tells."""
    begun, points = time.monotonic(), []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **words
    )
    stopper = threading.Timer(60 * minutes, process.terminate)
    stopper.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        accuracy = read(line, time.monotonic() - begun)
        if accuracy is not None:
            points.append((time.monotonic() - begun, accuracy))
    status = process.wait()
    stopper.cancel()
    if status and not points:
        print("".join(lines[-15:]), file=sys.stderr)
    return Row("", points, status == 0, time.monotonic() - begun)


def ours(recipe: str, split: Split, minutes: float, output: Path) -> Row:
    """Train a recipe of foldsmith's; it is judged every epoch, as the others are."""
    words = [str(split.competition), "--recipe", recipe, "--fold", "0", "--device", "cpu", "--again"]
    words += ["--output", str(output), "--name", f"peer-{recipe}"]
    words += ["--limit", str(split.limit)] if split.limit else []
    borrowed = recipe in ("default", "probe", "finetune") and split.weights
    if borrowed:
        words += ["--set", f"weights={split.weights}", "--set", f"model=timm:{split.network}"]
        words += ["--image-size", str(split.size)] if recipe != "default" else []
    if recipe != "probe":
        words += ["--set", "validate_every=1"]

    def read(line: str, seconds: float) -> float | None:
        found = re.search(r"held out \S+ ([\d.]+)%", line) or re.search(
            r"held out .*?accuracy ([\d.]+)%", line
        )
        return float(found[1]) / 100 if found else None

    command = [sys.executable, str(SRC / "run.py"), *words, "--until", "validate"]
    row = watch(command, read, minutes)
    cv = output / split.competition.name / f"peer-{recipe}" / "cv.json"
    if row.ended and cv.is_file():
        row.points.append((row.seconds, json.loads(cv.read_text())["mean"]))  # all views
    return row


def timm(checkout: Path, split: Split, minutes: float, epochs: int) -> Row:
    """Train timm's train.py with the settings it recommends, for borrowed weights or from scratch."""
    with tempfile.TemporaryDirectory() as output:
        words = ["--data-dir", str(split.folder), "--train-split", "train", "--val-split", "validation"]
        words += ["--model", split.network, "--num-classes", str(num_classes(split.folder))]
        words += ["--img-size", str(split.size), "--batch-size", "32", "--device", "cpu", "--workers", "0"]
        words += ["--epochs", str(epochs), "--sched", "cosine", "--opt", "adamw", "--output", output]
        if split.weights:
            words += [
                "--pretrained",
                "--pretrained-path",
                split.weights,
                "--lr",
                "5e-4",
                "--layer-decay",
                ".75",
            ]
            words += [
                "--warmup-epochs",
                "1",
                "--aa",
                "rand-m7-mstd0.5",
                "--model-ema",
                "--weight-decay",
                ".05",
            ]
        else:
            words += ["--lr", "2e-3", "--warmup-epochs", "2", "--weight-decay", ".05"]
        if has_fast_bf16():  # elsewhere it is emulated
            words += ["--amp", "--amp-dtype", "bfloat16"]

        def read(line: str, seconds: float) -> float | None:
            found = re.search(rf"Test: \[\s*(\d+)/(\d+)\].*Acc@1:\s*{ACCURACY}\s*\(\s*({ACCURACY})\)", line)
            return float(found[3]) / 100 if found and found[1] == found[2] else None

        return watch([sys.executable, str(checkout / "train.py"), *words], read, minutes, cwd=checkout)


def fastai(python: str, split: Split, minutes: float, epochs: int) -> Row:
    """Train fastai's vision_learner with its own defaults."""
    arch = split.network if split.weights else "resnet18"
    words = [str(split.folder), arch, str(split.size), str(epochs), split.weights, "64", str(time.time())]

    def read(line: str, seconds: float) -> float | None:
        found = re.search(r"TOLD [\d.]+ ([\d.]+)", line)
        return float(found[1]) if found else None

    return watch([python, "-c", FASTAI, *words], read, minutes)


def floor(split: Split) -> Row:
    """Fit a logistic regression on histograms of oriented gradients and an image of 8 x 8."""
    import cv2
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    begun = time.monotonic()
    descriptor = cv2.HOGDescriptor((32, 32), (16, 16), (8, 8), (8, 8), 9)

    def features_of(path: Path) -> np.ndarray:
        image = cv2.resize(cv2.imread(str(path)), (32, 32), interpolation=cv2.INTER_AREA)
        colours = cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() / 255
        return np.concatenate([descriptor.compute(image).ravel(), colours])

    sets = {}
    for subset in ("train", "validation"):
        paths = sorted((split.folder / subset).glob("*/*"))
        sets[subset] = np.stack([features_of(path) for path in paths]), [path.parent.name for path in paths]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    accuracy = model.fit(*sets["train"]).score(*sets["validation"])
    seconds = time.monotonic() - begun
    return Row("", [(seconds, float(accuracy))], True, seconds)


def num_classes(folder: Path) -> int:
    return len(list((folder / "train").iterdir()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path)
    add("--limit", type=int, default=0)
    add("--weights", default="", help="a safetensors file of --network")
    add("--network", default="", help="timm's (tf_efficientnet_lite0 with weights, resnet18 from scratch)")
    add("--size", type=int, default=0, help="pixels of the peers (128 with weights, else the images')")
    add("--minutes", type=float, default=10)
    add("--target", type=float, required=True)
    add("--threads", type=int, default=1)
    add("--epochs", type=int, default=20, help="of timm and fastai")
    add("--ours", nargs="*", default=[])
    add("--timm", type=Path, help="a checkout")
    add("--fastai", help="an interpreter with fastai and timm")
    add("--floor", action="store_true")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(args.threads), "NO_ALBUMENTATIONS_UPDATE": "1"}
    output = Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        folder = build_split(args, output, output / "by-class")
        weights = str(Path(args.weights).resolve()) if args.weights else ""
        network = args.network or ("tf_efficientnet_lite0" if weights else "resnet18")
        split = Split(
            folder, args.folder, args.limit, args.size or (128 if weights else 64), weights, network
        )
        methods: dict[str, Callable[[], Row]] = {
            f"foldsmith {recipe}": lambda recipe=recipe: ours(recipe, split, args.minutes, output)
            for recipe in args.ours
        }
        if args.timm:
            methods["timm train.py"] = lambda: timm(args.timm, split, args.minutes, args.epochs)
        if args.fastai:
            methods["fastai"] = lambda: fastai(args.fastai, split, args.minutes, args.epochs)
        if args.floor:
            methods["HOG and logistic regression"] = lambda: floor(split)
        rows = []
        for name, run in methods.items():
            row = run()
            rows.append([name, *row.cells(args.minutes, args.target)[1:]])
            print(" | ".join(rows[-1]), flush=True)
        header = ("method", "at the end", f"best in {args.minutes:g} min", f"s to {args.target:.0%}", "")
        show_table(f"{args.folder.name}, {args.threads} threads", header, rows)
    finally:
        shutil.rmtree(output, ignore_errors=True)


if __name__ == "__main__":
    main()
