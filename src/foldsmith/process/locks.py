"""One process at a time on a run, and on a pixel cache that is being built."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.process.terminal import say

# lock file -> descriptor of the locks this process holds until it ends. They are the kernel's (POSIX record
# locks): they end with the process, however it ends, and forked workers do not inherit them
_held: dict[Path, int] = {}


def keep_locked(path: Path, what: str) -> None:
    """Keeps others off `what` until this process ends. Raises InputError if another one works on it.

    The folder of `path` must be there. A process may ask again for what it holds.
    """
    held = _held.get(path)
    if held is not None and path.exists() and os.fstat(held).st_ino == path.stat().st_ino:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    told = f"process {os.getpid()}".encode()
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 100, 0).decode(errors="replace")
        os.close(descriptor)
        raise InputError(f"another process ({holder}) works on {what}; wait until it ends.") from None
    if os.pread(descriptor, 100, 0) != told:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, told, 0)
    _held[path] = descriptor


@contextmanager
def waiting_turn(path: Path, doing: str) -> Iterator[None]:
    """Within the block this process alone holds the lock; waits, and says so, as long as another one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process {doing}; waiting for it")
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield
