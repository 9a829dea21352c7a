"""Scores submission.csv where the true labels are at hand, as <FOLDER>-truth.csv beside the folder.

.venv/bin/python src/score.py input/demo80
"""

import pandas as pd

from foldsmith.command import read_command, run_main
from foldsmith.competition import read_table
from foldsmith.paths import truth_path
from foldsmith.stamps import require
from foldsmith.terminal import say


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    truth = truth_path(command.folder)
    require(command.run.submission, "submit")
    if truth.is_file():
        share = accuracy(read_table(truth), read_table(command.run.submission))
        say(f"score: true test accuracy {share:.4f} ({truth})")
    say(f"report:     {command.run.report}")
    say(f"submission: {command.run.submission}")
    return 0


def accuracy(truth: pd.DataFrame, submission: pd.DataFrame) -> float:
    """The share of the truth's rows (id, label) whose label the submission gives, or finds most probable."""
    labels = submission.iloc[:, 1]
    if len(submission.columns) > 2:
        labels = submission.iloc[:, 1:].astype(float).idxmax(axis=1)
    given = dict(zip(submission.iloc[:, 0], labels, strict=True))
    return sum(
        given.get(name) == label for name, label in zip(truth.iloc[:, 0], truth.iloc[:, 1], strict=True)
    ) / len(truth)


if __name__ == "__main__":
    run_main(main)
