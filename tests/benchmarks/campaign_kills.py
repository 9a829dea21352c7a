"""Whether a campaign that is killed at random moments hands in what it hands in without: bytes are compared.

.venv/bin/python tests/benchmarks/campaign_kills.py input/demo80 --budget 5m --kills 5 --limit 800

The campaign runs once without a stop. Then its plan is kept, all else is removed, and the same command is
killed with SIGKILL so many times, after times drawn at random, and started again each time. Both hand in a
submission.csv; beside it the names of the runs that are kept are compared, and the held-out predictions of
all runs. Words that are not this benchmark's are the campaign's. OUTPUT must be an empty or a new folder.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CAMPAIGN = Path(__file__).resolve().parents[2] / "src" / "campaign.py"


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, str(CAMPAIGN), *words], stdout=output, stderr=subprocess.STDOUT
        )


def results(runs: Path) -> dict[str, bytes]:
    """Return what is compared, by file: the submission, the runs kept, and all held-out predictions."""
    found = {"submission.csv": (runs / "campaign" / "submission.csv").read_bytes()}
    entries = json.loads((runs / "campaign" / "journal.json").read_text())["entries"]
    told = [(one["slot"], one["run"], one["state"], one["score"], one["kept"]) for one in entries]
    found["journal.json"] = json.dumps(told).encode()
    for file in sorted(runs.glob("*/oof.npz")):
        found[str(file.relative_to(runs))] = file.read_bytes()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("output/kills"))
    typed, words = parser.parse_known_args()
    runs = typed.output / typed.folder.name
    if runs.exists():
        parser.error(f"{runs} is there already; name another --output")
    typed.output.mkdir(parents=True, exist_ok=True)
    words = [str(typed.folder), *words, "--output", str(typed.output)]
    begun = time.monotonic()
    if start(words, typed.output / "whole.log").wait():
        parser.error(f"the campaign failed; see {typed.output / 'whole.log'}")
    took, whole = time.monotonic() - begun, results(runs)
    plan = (runs / "campaign" / "plan.json").read_bytes()
    shutil.rmtree(runs)
    (runs / "campaign").mkdir(parents=True)
    (runs / "campaign" / "plan.json").write_bytes(plan)
    times = np.random.default_rng(typed.seed).dirichlet(np.ones(typed.kills + 1))[:-1] * took
    log = typed.output / "killed.log"
    for seconds in times:
        process = start(words, log)
        try:
            process.wait(seconds)
            print(f"ended by itself within {seconds:.0f} s, status {process.returncode}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            journal = runs / "campaign" / "journal.json"
            entries = json.loads(journal.read_text())["entries"] if journal.is_file() else []
            doing = f"{entries[-1]['slot']}, {entries[-1]['state']}" if entries else "before the first step"
            print(f"killed after {seconds:.0f} s: {doing}", flush=True)
    status = start(words, log).wait()
    killed = results(runs)
    same = [name for name, content in whole.items() if killed.get(name) == content]
    print(f"status {status}; {len(same)} of {len({*whole, *killed})} files are the same bytes")
    for name in sorted({*whole, *killed} - {*same}):
        print(f"  differs: {name}")
    return int(len(same) < len({*whole, *killed}))


if __name__ == "__main__":
    sys.exit(main())
