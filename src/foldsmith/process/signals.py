"""Ctrl-C and SIGTERM: a stage that is asked to stop says how to go on, and ends with 130 or 143."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop, by signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def advice() -> str:
    """How to go on: --again would begin anew."""
    again = ", without --again, which begins anew" if "--again" in sys.argv else ""
    return f"the same command goes on from here{again}."


def stop_at_once() -> None:
    """From here on a signal ends the process in one sentence; for the seconds in which it only imports.

    A library may swallow an exception raised in the midst of its import, and there is nothing to tidy up.
    """
    for number in SIGNALS:
        signal.signal(number, _end)


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


def _end(number: int, frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno(), f"stopped; {advice()}\n".encode())
    os._exit(128 + number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block a signal raises Interrupted, so that half-written files are removed.

    After the first one only the same again is heard: on Ctrl-C the terminal sends one signal, and a study
    that started this process another. An error that follows from it, such as a library's import that was cut
    short, becomes an Interrupted too.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number == received[0]:
            raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    except BaseException as error:
        if received and not isinstance(error, Interrupted):
            raise Interrupted(received[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Asked:
    """Whether the process was asked to stop within a block, and by which signal; 0 for none."""

    signal = 0


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """Within the block a signal only sets `signal`, so that the work comes to a place where it can be saved.

    Asked again by the same signal, it raises Interrupted at once.
    """
    asked = Asked()

    def note(number: int, frame: FrameType | None) -> None:
        if asked.signal == number:
            raise Interrupted(number)
        asked.signal = asked.signal or number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
