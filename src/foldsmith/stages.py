"""All stages of a run, in the order of run.sh and in a process of their own."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_stages(program: Path, words: Sequence[str]) -> int:
    """The status of `program`, which is run.sh, with these words.

    Asked to stop, this process passes that on, and ends after it.
    """
    with subprocess.Popen([program, *words]) as stages:
        try:
            return stages.wait()
        except KeyboardInterrupt:
            stages.send_signal(signal.SIGTERM)
            stages.wait()
            raise
