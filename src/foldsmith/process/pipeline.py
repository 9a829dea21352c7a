"""All stages of a run as a subprocess of run.sh."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from foldsmith.process.signals import Interrupted, deferred_stop


def run_stages(program: Path, words: Sequence[str]) -> int:
    """Run `program`, which is run.sh, with these words and return its exit status.

    Forward Ctrl-C and SIGTERM to it and wait until it ends.
    """
    stages = None
    try:
        # a signal while the process starts would orphan it: `stages` is not assigned yet
        with deferred_stop() as request:
            stages = subprocess.Popen([program, *words])
        if request.signal:
            raise Interrupted(request.signal)
        return stages.wait()
    except KeyboardInterrupt:
        if stages is not None:
            stages.send_signal(signal.SIGTERM)
            stages.wait()
        raise
