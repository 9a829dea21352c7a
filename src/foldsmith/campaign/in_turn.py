"""Run the steps of a campaign as processes of this machine, in turn."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from foldsmith.campaign.journal import CUT, DONE, FAILED
from foldsmith.campaign.place import Place
from foldsmith.campaign.steps import Step
from foldsmith.errors import InputError
from foldsmith.grid.jobs import end_with_parent, last_error
from foldsmith.process.terminal import in_time

SOURCE = Path(__file__).parents[2]  # src/
LOOKS = 2.0  # seconds after which a running step's time is looked at and written down


class Runner(Protocol):
    """Runs the stages of steps; once `is_stopped` it begins none."""

    is_stopped: bool

    def prepare(self, steps: Sequence[Step], seconds: float, save: Callable[[], None]) -> bool:
        """Run the steps of a wave side by side and return True, if it can; `save` is called meanwhile."""
        ...

    def run(self, step: Step, seconds: float, save: Callable[[], None]) -> tuple[str, str]:
        """Return the state of a step that was run, and a reason if it is not done."""
        ...

    def stop(self) -> None:
        """End what is left of processes and connections."""
        ...


class InTurn:
    """Runs a step's stages as a process of this machine, at most until its time is over."""

    is_stopped = False

    def __init__(self, place: Place, one_fold: bool) -> None:
        self._place, self._one_fold = place, one_fold

    def prepare(self, steps: Sequence[Step], seconds: float, save: Callable[[], None]) -> bool:
        """Do nothing before the steps of a wave, which are run in turn, and return False."""
        return False

    def run(self, step: Step, seconds: float, save: Callable[[], None]) -> tuple[str, str]:
        """Return the state of the step afterwards, and a reason; `save` is called while it runs.

        After `seconds` it is asked to stop, which saves its checkpoint. An interruption is passed on to it.
        """
        if seconds <= 0:
            return CUT, "the time was over"
        try:
            self._place.copy_folds(step)
        except (InputError, OSError) as error:
            return FAILED, str(error)
        log = self._place.own / "logs" / f"{step.run}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, str(SOURCE / "run.py"), *self._place.words_of(step, self._one_fold)]
        waited, status = 0.0, None
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                words, stdout=output, stderr=subprocess.STDOUT, preexec_fn=end_with_parent
            )
            try:
                while status is None and waited < seconds:
                    try:
                        status = process.wait(LOOKS)
                    except subprocess.TimeoutExpired:
                        waited += LOOKS
                        save()
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    process.wait()
        if status is None:
            return CUT, f"its time, {in_time(seconds)}, was over"
        return (DONE, "") if status == 0 else (FAILED, reason_of(status, log.read_bytes()[begin:]))

    def stop(self) -> None:
        """Do nothing at the end: no process is left."""


def reason_of(status: int, output: bytes) -> str:
    """Return why a process failed: a signal, or the last error of its output."""
    if status < 0:
        killed = signal.Signals(-status).name
        return f"it was ended by {killed}" + (", most likely memory ran out" if killed == "SIGKILL" else "")
    return last_error(output.decode(errors="replace")) or f"exit status {status}"
