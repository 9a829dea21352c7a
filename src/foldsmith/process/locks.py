"""Locks: one process at a time on a run, and on a pixel cache that is being built."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.process.terminal import say

# lock file -> descriptor of a lock that this process holds until it ends, and whether it is shared. POSIX
# record locks end with the process, however it ends, and forked workers do not inherit them. A process that
# closes any descriptor of a file loses its locks on it.
_held: dict[Path, tuple[int, bool]] = {}


def lock_until_exit(path: Path, what: str, shared: bool = False) -> None:
    """Lock `path` until this process ends. Raise InputError if another process holds the lock.

    Several processes may hold a `shared` lock. `what` names the locked thing in the message. The folder of
    `path` must exist. Locking again what this process holds does nothing, unless the lock was shared.
    """
    held, is_shared = _held.get(path, (None, False))
    if held is not None and path.exists() and os.fstat(held).st_ino == path.stat().st_ino:
        if shared or not is_shared:
            return
    else:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _held.pop(path, None)
    owner = f"process {os.getpid()}".encode()
    try:
        fcntl.lockf(held, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(held, 100, 0).decode(errors="replace")
        if path not in _held:
            os.close(held)
        raise InputError(f"another process ({holder}) works on {what}; wait until it ends.") from None
    if os.pread(held, 100, 0) != owner:
        os.ftruncate(held, 0)
        os.pwrite(held, owner, 0)
    _held[path] = held, shared


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock `path`, which this process must not hold itself."""
    if path in _held or not path.exists():
        return False
    with path.open("rb+") as file:
        # asked for, not tried: a lock held for a moment would refuse the process that wants it meanwhile
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack("hhqqi", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK


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
