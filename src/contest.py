"""Download a contest of Kaggle into input/SLUG, and run every stage on it.

./run.sh kaggle SLUG --recipe probe

All words after SLUG are those of the stages. A contest that is there is not downloaded again. The same is
.venv/bin/python src/contest.py SLUG
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import shlex
import sys
from pathlib import Path

from foldsmith.deployment.download import fetch_contest
from foldsmith.deployment.kaggle_client import check_slug, connect
from foldsmith.process.exit import run_main
from foldsmith.process.files import load_json
from foldsmith.process.pipeline import run_stages
from foldsmith.process.terminal import format_score, say
from foldsmith.run.command import read_command
from foldsmith.run.first_word import INPUT
from foldsmith.run.paths import RunPaths

RUN = Path(__file__).resolve().parents[1] / "run.sh"


def main(argv: list[str] | None = None) -> int:
    typed = sys.argv[1:] if argv is None else argv
    if not typed or typed[0] in ("--help", "-h"):
        print(f"{__doc__}\nThe words of the stages: ./run.sh --help")
        return 0
    slug, words = typed[0], typed[1:]
    check_slug(slug)
    folder = INPUT / slug
    command = read_command([str(folder), *words], __doc__)  # wrong words are refused before hours of download
    if folder.is_dir():
        say(f"kaggle: {folder} is there, so nothing is downloaded")
        takes_files = True  # as far as is known; src/submit.py asks
    else:
        takes_files = not fetch_contest(connect(), slug, folder).takes_notebooks_only
    # a process of its own: run.sh starts src/run.py, which knows the stages
    status = run_stages(RUN, [str(folder), *words])
    if status == 0 and command.run.submission.is_file():
        line = line_that_submits(command.run, slug)
        say(f"kaggle: submit it with  {line}" if takes_files else line_that_bundles(command.run, slug))
    return status


def line_that_submits(run: RunPaths, slug: str) -> str:
    """Return the shell command that sends a run's submission.csv; its text tells the run and its score."""
    message = run.root.name
    if run.cv.is_file():
        cv = load_json(run.cv)
        message += f", {cv['metric']} {format_score(cv['mean'])}"
    return shlex.join([".venv/bin/python", "src/submit.py", str(run.root), "--kaggle", slug, "-m", message])


def line_that_bundles(run: RunPaths, slug: str) -> str:
    """Return a sentence with the shell command that writes a notebook, for a contest that takes no files."""
    line = shlex.join([".venv/bin/python", "src/bundle.py", str(run.root), "--contest", slug])
    return f"kaggle: {slug} takes notebooks, no files; write one with  {line}"


if __name__ == "__main__":
    run_main(main)
