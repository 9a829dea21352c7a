"""Measure seconds and peak memory of every stage at 2,000, 8,000 and 32,000 images: is the cost linear?

.venv/bin/python tests/benchmarks/scaling.py
.venv/bin/python tests/benchmarks/scaling.py --counts 2000 128000 --recipe resnet64

Writes competitions of that many random JPEG files of 64 x 64 pixels in ten classes, and runs the stages on
each, with one fold trained for one epoch. Memory is the maximum resident set size of a stage. The last line
is the growth of each stage's peak memory from the fewest images to the most.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

SRC = Path(__file__).parents[2] / "src"
STAGES = ("prepare", "split", "train", "validate", "infer", "submit", "examine", "report")
CLASSES, SIDE = 10, 64


def write_competition(folder: Path, count: int) -> None:
    """Write random images, each of 8 x 8 patches enlarged smoothly: no two are near-duplicates."""
    draws = np.random.default_rng(0)
    for subset, images in (("train", count), ("test", count // 10)):
        (folder / subset).mkdir(parents=True)
        for index in range(images):
            patches = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            picture = cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / subset / f"{index}.jpg"), picture)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "class"])
        rows.writerows([f"{index}.jpg", index % CLASSES] for index in range(count))


def run(stage: str, words: list[str]) -> tuple[float, float]:
    """Run one stage; return its seconds and its peak memory in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(SRC / f"{stage}.py"), *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{stage} ended with {process.returncode}")
    return time.perf_counter() - begun, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 8000, 32000])
    parser.add_argument("--recipe", default="quick")
    typed = parser.parse_args()
    peaks: dict[str, list[float]] = {stage: [] for stage in STAGES}
    print(f"{'stage':10s} {'images':>8s} {'seconds':>9s} {'ms/image':>9s} {'peak MB':>8s}")
    for count in typed.counts:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "drawn"
            write_competition(folder, count)
            words = [str(folder), "--recipe", typed.recipe, "--epochs", "1", "--holdout", "0.2"]
            words += ["--output", f"{root}/output"]
            for stage in STAGES:
                seconds, memory = run(stage, words)
                peaks[stage].append(memory)
                print(f"{stage:10s} {count:8,d} {seconds:9.2f} {1000 * seconds / count:9.3f} {memory:8,.0f}",
                      flush=True)  # fmt: skip
    growth = [f"{stage} {memory[-1] / memory[0] - 1:+.0%}" for stage, memory in peaks.items()]
    print(f"peak memory, {typed.counts[-1]:,} images compared with {typed.counts[0]:,}: {', '.join(growth)}")


if __name__ == "__main__":
    main()
