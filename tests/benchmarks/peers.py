"""Time to accuracy of foldsmith and of what people use instead, on the same images, split and threads.

.venv/bin/python tests/benchmarks/peers.py input/flowers102 --minutes 7 --targets .6 .7 --rows rows.jsonl \\
    --weights tf_efficientnet_lite0.safetensors --timm ../timm --fastai ../venv-fastai/bin/python \\
    --methods probe+weights finetune+weights:7 default+weights timm+weights:12 fastai+weights:5 floor
.venv/bin/python tests/benchmarks/peers.py input/cifar10 --limit 10000 --minutes 6 --targets .4 .75 \\
    --rows rows.jsonl --timm ../timm --methods quick small-images-fast default:8 timm:4 floor

A method is a recipe of foldsmith's, `timm` (train.py of a checkout), `fastai`, `autogluon` or `floor`
(logistic regression on histograms of oriented gradients and a small image); `+weights` starts it from
--weights, `:EPOCHS` sets the epochs of its schedule. Choose them so that the schedule ends within --minutes:
a method that is not done then is killed, and what it had printed counts.

The methods run in turn. All train on the training images of fold 0 and are judged on its held-out ones,
after every epoch if the method can. The clock of a method starts with its process, so it holds imports and
decoding; foldsmith's begins without a cache. In brackets are the processor seconds until then, which other
programs on the machine change less. ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 before the command make
a processor without AVX-512 and bfloat16 instructions of a newer one. Rows are added to
--rows as JSON; a method that has a row there for the same images and minutes is not run again.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import pandas as pd

from foldsmith.process.machine import has_fast_bf16
from foldsmith.process.terminal import show_table

HERE = Path(__file__).resolve().parent
SRC = HERE.parents[1] / "src"
PEERS = ("timm", "fastai", "autogluon")
SCRATCH_NETWORK, SCRATCH_PIXELS = "resnet18", 64  # of the peers; 32 pixels leave it one position at the end
BORROWED_PIXELS = 128  # of all methods with weights, but for `default`, which chooses
SPARE = 45  # seconds of the budget that AutoGluon needs for imports and its last evaluation
# a line of a method's output that has a held-out accuracy: as a share, or in per cent
SHARE = re.compile(r"^held out ([\d.]+)|^validate: accuracy ([\d.]+)|'val_accuracy' reached ([\d.]+)")
PER_CENT = re.compile(r"held out \S+ ([\d.]+)%|Test: \[ *(?:\d+)/\d+\] .*Acc@1: +\S+ \( *([\d.]+)\)")
LAST_BATCH = re.compile(r"Test: \[ *(\d+)/\1\]")  # of timm, which prints running means


@dataclass(frozen=True)
class Method:
    """A method as typed: NAME[+weights][:EPOCHS]; `epochs` is empty for those of a recipe."""

    name: str
    borrowed: bool
    epochs: str

    @classmethod
    def of(cls, word: str) -> "Method":
        name, _, epochs = word.partition(":")
        return cls(name.removesuffix("+weights"), name.endswith("+weights"), epochs)


@dataclass(frozen=True)
class Images:
    """The images of a comparison: a competition of them, and links to them in folders by class."""

    competition: Path
    by_class: Path

    @property
    def num_classes(self) -> int:
        return len(list((self.by_class / "train").iterdir()))


class Point(NamedTuple):
    """A held-out accuracy, the seconds since the method's start, and its processor seconds until then."""

    seconds: float
    processor: float
    accuracy: float

    @property
    def time(self) -> str:
        return f"{self.seconds:,.0f} ({self.processor:,.0f})"


@dataclass(frozen=True)
class Row:
    """The held-out accuracies of a method; `seconds` is how long it ran."""

    competition: str
    limit: int
    minutes: float
    threads: int
    method: str
    points: list[Point]
    ended: bool
    seconds: float
    command: list[str]

    @classmethod
    def of_line(cls, line: str) -> "Row":
        entry = json.loads(line)
        return cls(**{**entry, "points": [Point(*point) for point in entry["points"]]})

    @property
    def same(self) -> tuple[str, int, float, int]:
        """Return what rows of one table have in common."""
        return self.competition, self.limit, self.minutes, self.threads

    def cells(self, targets: list[float]) -> list[str]:
        if not self.points:
            return [self.method, *["–"] * (3 + len(targets)), "no accuracy"]
        last, best = self.points[-1], max(point.accuracy for point in self.points)
        reached = [next((p.time for p in self.points if p.accuracy >= target), "–") for target in targets]
        return [
            self.method, f"{last.accuracy:.4f}", last.time, f"{best:.4f}", *reached,
            "" if self.ended else "stopped",
        ]  # fmt: skip


def split(competition: Path, output: Path, limit: int) -> pd.DataFrame:
    """Return foldsmith's folds of a competition's images: path, class_name, label and fold."""
    words = [str(competition), "--recipe", "quick", "--output", str(output), "--name", "split"]
    words += ["--limit", str(limit)] if limit else []
    for stage in ("prepare", "split"):
        command = [sys.executable, str(SRC / f"{stage}.py"), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    run = output / competition.name / "split"
    samples = pd.read_csv(run / "samples.csv", dtype=str)[["path", "class_name"]]
    return pd.read_csv(run / "folds.csv").merge(samples, on="path")


def link_images(competition: Path, limit: int, folder: Path) -> Images:
    """Link the training and held-out images of fold 0 below `folder`, by class.

    With a limit, a competition of these images and one test image is linked first: foldsmith would check all
    the others.
    """
    if limit:
        root, competition = competition, folder / competition.name
        for row in split(root, folder / "chosen", limit).itertuples():
            link(root / row.path, competition / "train" / row.class_name)
        test = pd.read_csv(folder / "chosen" / root.name / "split" / "test_samples.csv")["path"]
        link(root / test[0], competition / "test")
    images = Images(competition, folder / "by-class")
    for row in split(competition, folder / "split", 0).itertuples():
        subset = "validation" if row.fold == 0 else "train"
        link(competition / row.path, images.by_class / subset / f"{row.label:04}")
    return images


def link(image: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / image.name).symlink_to(image.resolve())


def our_command(method: Method, images: Images, args: argparse.Namespace, output: str) -> list[str]:
    """Return the command that trains and scores fold 0 with a recipe of foldsmith's."""
    words = [str(images.competition), "--recipe", method.name, "--fold", "0", "--device", "cpu"]
    words += ["--output", output]
    if method.epochs:
        words += ["--epochs", method.epochs]
    if method.borrowed:
        words += ["--set", f"weights={args.weights}"]
    if method.borrowed and method.name != "default":
        words += ["--image-size", str(BORROWED_PIXELS)]
    if method.name == "finetune":  # growing images, as `default` uses them
        words += ["--set", f"train_size={BORROWED_PIXELS * 7 // 8}"]
        words += ["--set", f"train_size_from={BORROWED_PIXELS * 5 // 8}"]
    if method.name == "default" and not method.borrowed:
        words += ["--set", "pretrained=false"]
    return [sys.executable, str(SRC / "run.py"), *words, "--until", "validate"]


def timm_command(method: Method, images: Images, args: argparse.Namespace, output: str) -> list[str]:
    """Return the command of timm's train.py, with AdamW, a cosine schedule and its default augmentation."""
    network, pixels = network_of(method, args)
    values = {
        "data-dir": images.by_class, "model": network, "num-classes": images.num_classes,
        "img-size": pixels, "epochs": method.epochs, "output": output, "device": "cpu", "workers": 1,
        "sched": "cosine", "warmup-epochs": 1, "opt": "adamw", "weight-decay": 0.05, "checkpoint-hist": 1,
    }  # fmt: skip
    if method.borrowed:
        values |= {"pretrained-path": args.weights, "lr": 1e-3, "batch-size": 32}
    else:
        values |= {"lr": 2e-3, "batch-size": 64}
    words = [text for word, value in values.items() for text in (f"--{word}", str(value))]
    words += ["--pretrained"] if method.borrowed else []
    # networks with depthwise convolutions, as those with weights here, are slower in bf16 on a CPU
    words += ["--amp", "--amp-dtype", "bfloat16"] if has_fast_bf16() and not method.borrowed else []
    flags = ["--channels-last", "--sched-on-updates", "--scale", "0.35", "1"]
    return [sys.executable, str(args.timm / "train.py"), *flags, *words]


def script_command(method: Method, images: Images, args: argparse.Namespace) -> list[str]:
    """Return the command of the script that runs fastai, AutoGluon or the floor."""
    network, pixels = network_of(method, args)
    words = [str(HERE / f"peers_{method.name}.py"), str(images.by_class)]
    if method.name == "floor":
        return [sys.executable, *words]
    words += [network, str(pixels), method.epochs, *([args.weights] if method.borrowed else [])]
    if method.name == "autogluon":
        return [args.autogluon, *words, f"{60 * args.minutes - SPARE:.0f}"]
    return [args.fastai, *words]


def network_of(method: Method, args: argparse.Namespace) -> tuple[str, int]:
    """Return timm's name of a peer's network, and the pixels of its images."""
    if method.borrowed:
        return Path(args.weights).stem, BORROWED_PIXELS
    return SCRATCH_NETWORK, SCRATCH_PIXELS


def accuracy_in(line: str) -> float | None:
    """Return the held-out accuracy that a line of a method's output states, if any."""
    if found := SHARE.search(line):
        return float(next(filter(None, found.groups())))
    if "Test: [" in line and not LAST_BATCH.search(line):
        return None
    found = PER_CENT.search(line)
    return float(next(filter(None, found.groups()))) / 100 if found else None


def processor_seconds(group: int) -> float:
    """Return the processor seconds of a process group, with those of its processes that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            values = path.read_text().rpartition(")")[2].split()
            if int(values[2]) == group:
                ticks += sum(map(int, values[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def watch(command: list[str], seconds: float) -> tuple[list[Point], bool, float]:
    """Run a command for at most `seconds`; return its points, whether it ended well, and its seconds."""
    begun, points, lines = time.monotonic(), [], []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        stopper = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
        stopper.start()
        for line in process.stdout:
            lines.append(line)
            accuracy = accuracy_in(line)
            if accuracy is not None:
                at = round(time.monotonic() - begun, 1)
                points.append(Point(at, processor_seconds(process.pid), accuracy))
        status = process.wait()
        stopper.cancel()
    if status not in (0, -signal.SIGKILL):
        print("".join(lines[-15:]), file=sys.stderr)
    return points, status == 0, round(time.monotonic() - begun, 1)


def run_method(word: str, images: Images, args: argparse.Namespace) -> Row:
    method = Method.of(word)
    with tempfile.TemporaryDirectory() as output:
        if method.name == "timm":
            command = timm_command(method, images, args, output)
        elif method.name in (*PEERS, "floor"):
            command = script_command(method, images, args)
        else:
            command = our_command(method, images, args, output)
        points, ended, seconds = watch(command, 60 * args.minutes)
    same = (args.folder.name, args.limit, args.minutes, args.threads)
    return Row(*same, word, points, ended, seconds, command)


def read_rows(path: Path) -> list[Row]:
    return [Row.of_line(line) for line in path.read_text().splitlines()] if path.is_file() else []


def add_row(path: Path, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="a competition")
    add("--methods", nargs="+", required=True, metavar="NAME[+weights][:EPOCHS]")
    add("--targets", nargs="+", type=float, required=True, help="accuracies to reach")
    add("--rows", type=Path, required=True, metavar="FILE", help="JSON lines, read and added to")
    add("--limit", type=int, default=0, metavar="N", help="use only N images, stratified (all)")
    add("--minutes", type=float, default=5, help="budget of a method (5)")
    add("--threads", type=int, default=1)
    add("--weights", metavar="FILE", help="safetensors, named as timm's network is")
    add("--timm", type=Path, metavar="CHECKOUT")
    add("--fastai", metavar="PYTHON", help="an interpreter with fastai and timm")
    add("--autogluon", metavar="PYTHON", help="an interpreter with autogluon.multimodal")
    args = parser.parse_args()
    for word in args.methods:
        method = Method.of(word)
        if method.name in PEERS and not (method.epochs and getattr(args, method.name)):
            parser.error(f"{word} needs --{method.name} and its epochs: {word.partition(':')[0]}:4")
        if method.borrowed and not args.weights:
            parser.error(f"{word} needs --weights")
    args.weights = str(Path(args.weights).resolve()) if args.weights else None
    return args


def main() -> None:
    args = parse()
    os.environ |= {"OMP_NUM_THREADS": str(args.threads), "NO_ALBUMENTATIONS_UPDATE": "1"}
    os.environ["HF_HUB_OFFLINE"] = "1"  # a network that is not at hand costs no time
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        images = link_images(args.folder, args.limit, Path(folder))
        same = (args.folder.name, args.limit, args.minutes, args.threads)
        rows = {row.method: row for row in read_rows(args.rows) if row.same == same}
        for word in [word for word in args.methods if word not in rows]:
            rows[word] = run_method(word, images, args)
            add_row(args.rows, rows[word])
            print(" | ".join(rows[word].cells(args.targets)), flush=True)
    header = (
        "method",
        "at the end",
        "after s (processor)",
        "best",
        *(f"s to {target:.0%}" for target in args.targets),
    )
    title = f"{args.folder.name}, {args.minutes:g} minutes a method, threads: {args.threads}"
    show_table(title, (*header, ""), [rows[word].cells(args.targets) for word in args.methods])


if __name__ == "__main__":
    main()
