"""Seconds and peak memory of every stage for 2,000, 8,000 and 32,000 images: an image must cost the same.

.venv/bin/python tests/benchmarks/scaling.py
.venv/bin/python tests/benchmarks/scaling.py --counts 2000 128000 --recipe resnet64

Draws competitions of that many JPEG files of 64 pixels, ten classes, and runs the stages on each, one fold
trained for one epoch. Memory is the largest resident set that the kernel saw of a stage; below stands how
much more a stage takes with the most images than with the fewest.
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
    """Each picture is eight by eight patches drawn anew, made smooth: none is like another."""
    draws = np.random.default_rng(0)
    for part, images in (("train", count), ("test", count // 10)):
        (folder / part).mkdir(parents=True)
        for index in range(images):
            patches = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            picture = cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / part / f"{index}.jpg"), picture)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "class"])
        rows.writerows([f"{index}.jpg", index % CLASSES] for index in range(count))


def run(stage: str, words: list[str]) -> tuple[float, float]:
    """Seconds, and peak memory in MB, of one stage."""
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
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / "drawn"
            write_competition(folder, count)
            words = [str(folder), "--recipe", typed.recipe, "--epochs", "1", "--holdout", "0.2"]
            words += ["--output", f"{made}/output"]
            for stage in STAGES:
                seconds, memory = run(stage, words)
                peaks[stage].append(memory)
                print(f"{stage:10s} {count:8,d} {seconds:9.2f} {1000 * seconds / count:9.3f} {memory:8,.0f}",
                      flush=True)  # fmt: skip
    growth = [f"{stage} {each[-1] / each[0] - 1:+.0%}" for stage, each in peaks.items()]
    print(f"peak memory, {typed.counts[-1]:,} images against {typed.counts[0]:,}: {', '.join(growth)}")


if __name__ == "__main__":
    main()
