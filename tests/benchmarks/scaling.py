"""Measure CPU seconds and peak memory of every stage by the number of images: is the cost linear?

.venv/bin/python tests/benchmarks/scaling.py
.venv/bin/python tests/benchmarks/scaling.py --counts 2000 32000 320000 --folder output/drawn
.venv/bin/python tests/benchmarks/scaling.py --counts 100000 1000000 --links 4000 --until split

Writes competitions of that many random JPEG files of 32 x 32 pixels in ten classes, and a tenth as many test
images, and runs the stages on each, with one fold trained for one epoch. With --links the files are hard
links to that many distinct ones, so that nearly all images are exact duplicates. Words after -- are options
of the stages. Memory is the maximum resident set size of a stage, in which mapped files count. The last lines
are each stage's growth from the fewest images to the most: milliseconds and bytes for each further image.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SRC = Path(__file__).parents[2] / "src"
STAGES = ("prepare", "split", "train", "validate", "infer", "submit", "examine", "report")
CLASSES, SIDE = 10, 32


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of the processor, and peak memory in MB."""

    clock: float
    processor: float
    memory: float


def write_competition(folder: Path, count: int, links: int) -> None:
    """Write random images, each of 8 x 8 patches enlarged smoothly: no two are near-duplicates.

    With `links` above 0 only so many are distinct, and the others are hard links to them.
    """
    draws = np.random.default_rng(0)
    first: list[Path] = []
    for subset, images in (("train", count), ("test", count // 10)):
        (folder / subset).mkdir(parents=True)
        for index in range(images):
            path = folder / subset / f"{index}.jpg"
            if links and len(first) == links:
                os.link(first[index % links], path)
                continue
            patches = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            cv2.imwrite(str(path), cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
            first.append(path)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "class"])
        rows.writerows([f"{index}.jpg", index % CLASSES] for index in range(count))


def run(stage: str, words: list[str]) -> Cost:
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(SRC / f"{stage}.py"), *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{stage} ended with {process.returncode}")
    return Cost(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measure(root: Path, count: int, links: int, stages: tuple[str, ...], words: list[str]) -> dict[str, Cost]:
    """Run these stages on a competition of `count` images, which is written unless it is there."""
    folder = root / f"drawn-{count}"
    if not folder.is_dir():
        write_competition(folder, count, links)
    costs = {}
    with tempfile.TemporaryDirectory(dir=root) as output:
        options = [str(folder), "--recipe", "quick", "--epochs", "1", "--holdout", "0.2", "--device", "cpu"]
        for stage in stages:
            cost = costs[stage] = run(stage, [*options, *words, "--output", output])
            print(f"{stage:10s} {count:9,d} {cost.clock:9.2f} {cost.processor:9.2f} "
                  f"{1000 * cost.processor / count:9.3f} {cost.memory:8,.0f}", flush=True)  # fmt: skip
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 8000, 32000])
    parser.add_argument("--links", type=int, default=0, metavar="FILES")
    parser.add_argument("--folder", type=Path, help="keeps the competitions for another measurement")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    parser.add_argument("words", nargs="*", help="after --: options of the stages")
    typed = parser.parse_args()
    stages = STAGES[: STAGES.index(typed.until) + 1]
    print(f"{'stage':10s} {'images':>9s} {'seconds':>9s} {'CPU, s':>9s} {'CPU ms':>9s} {'peak MB':>8s}")
    with tempfile.TemporaryDirectory() as temporary:
        root = typed.folder or Path(temporary)
        costs = [measure(root, count, typed.links, stages, typed.words) for count in typed.counts]
    fewest, most = typed.counts[0], typed.counts[-1]
    if most > fewest:
        print(f"for each image from {fewest:,} to {most:,}: CPU milliseconds, bytes of memory")
        for stage in stages:
            processor, memory = (
                (getattr(costs[-1][stage], name) - getattr(costs[0][stage], name)) / (most - fewest)
                for name in ("processor", "memory")
            )
            print(f"{stage:10s} {1000 * processor:9.3f} {2**20 * memory:8,.0f}")


if __name__ == "__main__":
    main()
