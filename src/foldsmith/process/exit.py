"""Exit status of a stage, and the one sentence it prints if it cannot finish."""

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from foldsmith.errors import InputError
from foldsmith.process.faults import GPU_FAILED, machine_fault
from foldsmith.process.signals import interruptible, resume_advice
from foldsmith.process.terminal import printable


def run_main(main: Callable[[], int], stopped: str | None = None) -> NoReturn:
    """Run `main` and exit with its status. Print one sentence if it cannot finish.

    The status is 2 for wrong input, 1 for a fault of the machine, 130 or 143 after Ctrl-C or SIGTERM, 141 if
    the reader of the output has ended. After a signal `stopped` replaces the advice how to resume.
    """
    try:
        with interruptible():
            status = main()
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt as error:
        print(f"stopped; {resume_advice()}\n" if stopped is None else stopped, end="", file=sys.stderr)
        status = 128 + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        status = _status_of(error)
    # under torchrun, communication threads whose peer has left cannot be joined, which sys.exit would try;
    # after a success as well, if the other process ends first
    if "RANK" in os.environ:
        _exit_without_cleanup(status)
    sys.exit(status)


def _status_of(error: Exception) -> int:
    """Return the status after a fault of the machine, with its sentence printed. Raise any other error again.

    Nothing is printed if it is the program that reads the standard output which has ended, as in `| head -1`.
    """
    if isinstance(error, BrokenPipeError) and _reader_has_left():
        return 128 + signal.SIGPIPE
    fault = machine_fault(error)
    if fault is None:
        raise error
    print(f"error: {printable(fault)}. Once that is fixed, {resume_advice()}", file=sys.stderr)
    # Memory of a GPU that failed cannot be freed, and trying aborts the process. Python would try once
    # this error, which references the tensors of the training, goes out of scope.
    if fault.startswith(GPU_FAILED):
        _exit_without_cleanup(1)
    return 1


def _reader_has_left() -> bool:
    """Return whether the program that reads the standard output has ended. If so, nothing more is printed."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    left = any(event & select.POLLERR for _, event in output.poll(0))
    if left:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return left


def _exit_without_cleanup(status: int) -> NoReturn:
    """Exit at once: no memory is freed, no thread is joined."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
