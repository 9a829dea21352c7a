"""Run every contest in a folder as downloaded, and judge the submissions: one table.

PYTHONPATH=src .venv/bin/python tests/benchmarks/contests.py CONTESTS --judge JUDGE.py --output FOLDER

CONTESTS holds one folder per contest and `NAME-private` folders with the answers, which only the judge
reads. JUDGE.py is called as `JUDGE.py CONTESTS NAME SUBMISSION`, and exits with 0 for one that its contest
accepts and that reaches its floor. Each contest is run by `./run.sh CONTESTS/NAME` with the words after `--`.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

RUN = Path(__file__).resolve().parents[2] / "run.sh"


@dataclass(frozen=True)
class Outcome:
    """One contest's row: what was found, the scores, the seconds, and whether the judge is satisfied."""

    name: str
    found: str
    out_of_fold: str
    judged: str
    seconds: float
    accepted: bool


def run_contest(folder: Path, output: Path, words: list[str]) -> tuple[int, float, str]:
    """Return the exit status of a run, its seconds, and the last line that it printed."""
    started = time.monotonic()
    command = ["bash", str(RUN), str(folder), "--output", str(output), "--name", "run", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    (output / f"{folder.name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    return done.returncode, time.monotonic() - started, lines[-1]


def outcome_of(folder: Path, judge: Path, output: Path, words: list[str]) -> Outcome:
    """Run a contest and judge its submission, or its refusal."""
    status, seconds, last = run_contest(folder, output, words)
    run = output / folder.name / "run"
    submission = run / "submission.csv"
    judged = subprocess.run(
        [sys.executable, str(judge), str(folder.parent), folder.name, str(submission)],
        capture_output=True,
        text=True,
        check=False,
    )
    sentence = judged.stdout.removeprefix(folder.name).strip() or judged.stderr.strip()
    if status:
        sentence = f"exit status {status}: {last} ({sentence})"
    found, score = "-", "-"
    if (run / "cv.json").is_file():
        cv = json.loads((run / "cv.json").read_text(encoding="utf-8"))
        found = f"{cv['task']}, {cv['metric']}"
        score = "-" if cv["oof"] is None else f"{cv['oof']:.4f} ± {cv['standard_error'] or 0:.4f}"
    accepted = judged.returncode == 0 and status in (0, 2)
    return Outcome(folder.name, found, score, sentence, seconds, accepted)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contests", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    typed_words = sys.argv[1:] if argv is None else argv
    cut = typed_words.index("--") if "--" in typed_words else len(typed_words)
    typed, words = parser.parse_args(typed_words[:cut]), typed_words[cut + 1 :] or ["--recipe", "quick"]
    folders = sorted(
        path for path in typed.contests.iterdir() if path.is_dir() and not path.name.endswith("-private")
    )
    folders = [path for path in folders if not typed.only or path.name in typed.only]
    typed.output.mkdir(parents=True, exist_ok=True)
    print("| contest | task, metric | out-of-fold | judge | seconds |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    outcomes = []
    for folder in folders:
        row = outcome_of(folder.resolve(), typed.judge, typed.output.resolve(), words)
        outcomes.append(row)
        cells = (row.name, row.found, row.out_of_fold, row.judged, f"{row.seconds:.0f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    good = sum(row.accepted for row in outcomes)
    print(f"\n{good} of {len(outcomes)} accepted and above their floor, or refused as they should be")
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
