"""Run every stage on a competition folder in one process: from checking it to a scored submission.

.venv/bin/python src/run.py input/tiny80 --recipe resnet64

Every stage is also a script of its own, with the same options.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import sys
from importlib import import_module

from foldsmith.process.exit import run_main
from foldsmith.process.signals import stopping_at_once
from foldsmith.run.command import STAGES, read_command


def main(argv: list[str] | None = None) -> int:
    """Run the stages up to the first that fails; return its exit status, or 0."""
    words = sys.argv[1:] if argv is None else argv
    # raises InputError for wrong options, and answers --help, before any stage
    command = read_command(words, __doc__)
    last = STAGES.index(command.until or STAGES[-1])
    for name in STAGES[: last + 1]:
        with stopping_at_once():  # a library's import may swallow the exception of a signal
            stage = import_module(name)
        status = stage.main(words)
        if status:
            return status
    return 0


if __name__ == "__main__":
    run_main(main)
