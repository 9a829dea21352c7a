"""How a stage's process ends: its exit status, and one sentence where it could not finish."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from foldsmith.errors import InputError
from foldsmith.process.faults import GPU_FAILED, machine_fault
from foldsmith.process.signals import advice, interruptible
from foldsmith.process.terminal import printable


def run_main(main: Callable[[], int], stopped: str | None = None) -> NoReturn:
    """Ends the process with the status of `main`, and with one sentence where it could not finish.

    2 for bad input, 1 for a fault of the machine, 130 or 143 when a person or the system asked it to stop,
    where `stopped` is said instead of how to go on.
    """
    try:
        with interruptible():
            status = main()
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt as error:
        print(f"stopped; {advice()}\n" if stopped is None else stopped, end="", file=sys.stderr)
        status = 128 + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        print(f"error: {printable(fault)}. Once that is mended {advice()}", file=sys.stderr)
        status = 1
        # what a GPU that failed was given cannot be freed any more, which Python would try, and abort: as
        # soon as this error is gone, for it holds the tensors of the whole training
        if fault.startswith(GPU_FAILED):
            _end_at_once(status)
    # threads between processes that parted in the midst cannot be joined, which Python's own end would try
    if status and "RANK" in os.environ:
        _end_at_once(status)
    sys.exit(status)


def _end_at_once(status: int) -> NoReturn:
    """Ends the process without Python's own end: nothing is freed, no thread joined."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
