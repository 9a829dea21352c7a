"""What test_processes.py runs in other processes; it imports no torch, so that some of them start fast."""

import os
import runpy
import signal
import sys
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from foldsmith.process.devices import spread
from foldsmith.process.exit import run_main


def work(bad: str, device: str, item: int) -> None:
    """Print the item and wait for a signal; item 1 opens the file `bad` first, where there is a name."""
    if bad and item == 1:
        Path(bad).read_bytes()
    # signal.pause() would not see a signal that came just before it
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    os.write(1, f"item {item} on {device}\n".encode())  # whole, even if Python's output is unbuffered
    while True:
        os.read(reader, 1)


def run_script(
    script: str, program: str, words: list[str], environment: dict[str, str], streams: list[Connection]
) -> None:
    """Run `program`, or else `script`, as `python` would; `streams` are its output and its errors."""
    os.environ.update(environment)
    for descriptor, stream in enumerate(streams, start=1):
        os.dup2(stream.fileno(), descriptor)
        stream.close()
    # a server started by an unbuffered Python is unbuffered too, and would cut off long lines
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = [script, *words]
    try:
        if program:
            exec(compile(program, "program", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_path(script, run_name="__main__")
    finally:
        sys.stdout.flush()


def main() -> int:
    """Spread two items that never end."""
    return spread(partial(work, ""), [0, 1], ["cpu", "cpu"], 1)


if __name__ == "__main__":
    run_main(main)
