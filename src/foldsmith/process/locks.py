"""Locks: one process at a time on a run, and on a pixel cache that is being built."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.process.terminal import say

# lock file -> descriptor of a lock that this process holds until it ends. POSIX record locks end with the
# process, however it ends, and forked workers do not inherit them.
_held: dict[Path, int] = {}


def lock_until_exit(path: Path, what: str) -> None:
    """Lock `path` until this process ends. Raise InputError if another process holds the lock.

    `what` names the locked thing in the message. The folder of `path` must exist. Locking again what this
    process holds does nothing.
    """
    held = _held.get(path)
    if held is not None and path.exists() and os.fstat(held).st_ino == path.stat().st_ino:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    owner = f"process {os.getpid()}".encode()
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 100, 0).decode(errors="replace")
        os.close(descriptor)
        raise InputError(f"another process ({holder}) works on {what}; wait until it ends.") from None
    if os.pread(descriptor, 100, 0) != owner:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, owner, 0)
    _held[path] = descriptor


@contextmanager
def wait_for_lock(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock `path` within the block. If another process holds it, print so and wait.

    `doing` says in that message what the other process does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process {doing}; waiting for it")
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield
