"""The seconds of every stage of a run, what of them was training, and of the same command once more.

.venv/bin/python tests/benchmarks/stages.py input/demo80 --recipe quick
.venv/bin/python tests/benchmarks/stages.py input/tiny80 --recipe resnet64 --limit 8000 --folds 2 --epochs 2

Runs the stages in an output folder of its own, in the order of run.sh, with the words given. Neither model
nor input is what a stage spends besides: of train.py the seconds that are not in its epochs, of the rest what
they take when everything is up to date, which is starting, importing and looking.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from foldsmith.process.files import load_json
from foldsmith.run.command import read_command

ROOT = Path(__file__).parents[2]


def stages_of_run_sh() -> list[str]:
    """The order of the stages, which lives in run.sh."""
    text = (ROOT / "run.sh").read_text(encoding="utf-8")
    return re.search(r"^for stage in (.*); do$", text, re.MULTILINE)[1].split()


def seconds_of(stage: str, words: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "src" / f"{stage}.py"), *words], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begun


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    with tempfile.TemporaryDirectory() as output:
        words = [*sys.argv[1:], "--output", output]
        command = read_command(words, __doc__)
        stages = stages_of_run_sh()
        first = {stage: seconds_of(stage, words) for stage in stages}
        again = {stage: seconds_of(stage, words) for stage in stages}
        folds = [load_json(command.run.fold_run(fold)) for fold in command.folds_to_train]
        trained = sum(facts["training_seconds"] for facts in folds)
    print(f"{'stage':10s} {'seconds':>9s} {'once more':>10s}")
    for stage in stages:
        print(f"{stage:10s} {first[stage]:9.2f} {again[stage]:10.2f}")
    total, besides = sum(first.values()), first["train"] - trained
    besides += sum(again[stage] for stage in stages if stage != "train")
    print(f"{'all':10s} {total:9.2f} {sum(again.values()):10.2f}")
    print(
        f"epochs of training {trained:.2f} s; neither model nor input {besides:.2f} s, {besides / total:.1%}"
    )
    print(f"the longest start of a stage that is up to date {max(again.values()):.2f} s")


if __name__ == "__main__":
    main()
