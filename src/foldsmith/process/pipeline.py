"""All stages of a run, in a process of their own, which run.sh starts."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from foldsmith.process.signals import Interrupted, asked_to_stop


def run_stages(program: Path, words: Sequence[str]) -> int:
    """Return the exit status of `program`, which is run.sh, with these words.

    Interrupted, this process passes the signal on, and ends after it.
    """
    stages = None
    try:
        # a signal that comes while the process begins would leave it to itself: nobody holds it yet
        with asked_to_stop() as asked:
            stages = subprocess.Popen([program, *words])
        if asked.signal:
            raise Interrupted(asked.signal)
        return stages.wait()
    except KeyboardInterrupt:
        if stages is not None:
            stages.send_signal(signal.SIGTERM)
            stages.wait()
        raise
