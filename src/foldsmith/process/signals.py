"""Ctrl-C and SIGTERM: an interrupted stage prints how to resume and exits with 130 or 143."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The process was interrupted by signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def resume_advice() -> str:
    """Return what to type to resume."""
    if "--again" in sys.argv:
        return "run the same command without --again to resume (with it, the stage starts over)."
    return "run the same command again to resume."


def stop_at_once() -> None:
    """Make a signal end the process at once, with one sentence. For the seconds in which a stage imports.

    An exception would not do: a library may swallow one that is raised during its import. There is nothing to
    clean up yet.
    """
    for number in SIGNALS:
        signal.signal(number, _exit)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Within the block a signal ends the process as after `stop_at_once`; after it, as before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop_at_once()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno(), f"stopped; {resume_advice()}\n".encode())
    os._exit(128 + number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block a signal raises Interrupted, so that half-written files are removed.

    After the first signal, other signals are ignored and only the same one raises again: on Ctrl-C the
    terminal sends SIGINT, and a study that started this process SIGTERM. An error caused by the interruption,
    such as an import that was cut short, becomes an Interrupted too.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number == received[0]:
            raise Interrupted(number)

    handlers = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    except BaseException as error:
        if received and not isinstance(error, Interrupted):
            raise Interrupted(received[0]) from error
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class StopRequest:
    """The signal received within a block; 0 for none."""

    signal = 0


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """Within the block a signal only sets `signal`, so that the work can reach a point where it is saved.

    The same signal a second time raises Interrupted at once.
    """
    request = StopRequest()

    def record(number: int, frame: FrameType | None) -> None:
        if request.signal == number:
            raise Interrupted(number)
        request.signal = request.signal or number

    handlers = {number: signal.signal(number, record) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
