"""Writes the submission and checks it against the sample submission and the test folder: submission.csv.

.venv/bin/python src/submit.py input/tiny80 --recipe resnet64
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.interruption import stop_at_once

    stop_at_once()

from foldsmith.command import read_command, run_main
from foldsmith.competition import read_competition
from foldsmith.evaluation.predictions import class_prior
from foldsmith.files import digest_of_file, load_npz, written_whole
from foldsmith.stamps import check_claim, digests_of_trained, is_current, require_from, write_stamp
from foldsmith.submission import check_submission, fill_submission, read_submission_form, write_submission
from foldsmith.tables import load_classes, load_folds
from foldsmith.terminal import say


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    require_from(run.stamp("infer"), "infer", digests_of_trained(run, command.folds_to_use))
    competition, classes = read_competition(command.folder), load_classes(run.classes)
    form = read_submission_form(competition, classes)
    inputs = {
        "test": digest_of_file(run.test),
        "columns": form.columns,
        "ids": form.ids,
        "values": form.values,
    }
    if not command.again and is_current(run.stamp("submit"), inputs):
        say(f"submit: {run.submission} is up to date")
        return 0

    predicted = load_npz(run.test)
    probabilities = dict(zip(predicted["path"].tolist(), predicted["probabilities"], strict=True))
    prior = class_prior(load_folds(run.folds)["label"], len(classes))
    table = fill_submission(form, probabilities, prior)
    # checked before it takes its name: a submission.csv that is there is one that was accepted
    with written_whole(run.submission) as temporary:
        write_submission(temporary, table)
        disagreements = check_submission(temporary, competition, classes)
    for line in disagreements:
        say(f"submit: {line}")
    write_stamp(run.stamp("submit"), inputs, [run.submission])
    say(f"submit: {run.submission} ({len(table):,} rows, checked)")
    return 0


if __name__ == "__main__":
    run_main(main)
