"""Work that test_processes.py spreads over processes; it imports no torch, so that they start fast."""

import os
import signal
from functools import partial
from pathlib import Path

from foldsmith.process.devices import spread
from foldsmith.process.exit import run_main


def work(bad: str, device: str, item: int) -> None:
    """Print the item and wait for a signal; item 1 opens the file `bad` first, where there is a name."""
    if bad and item == 1:
        Path(bad).read_bytes()
    os.write(1, f"item {item} on {device}\n".encode())  # whole, even if Python's output is unbuffered
    while True:
        signal.pause()


def main() -> int:
    """Spread two items that never end."""
    return spread(partial(work, ""), [0, 1], ["cpu", "cpu"])


if __name__ == "__main__":
    run_main(main)
