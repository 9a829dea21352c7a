"""A folder in the cache that is filled once from a competition folder, and links to the rest of it."""

import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from foldsmith.competition.listing import is_system
from foldsmith.process.locks import wait_for_lock


def fill_once(target: Path, what: str, fill: Callable[[Path], str]) -> str:
    """Fill a folder that does not exist yet, whole or not at all, and return the sentence of `fill`.

    `fill` writes into an empty folder, which is then renamed to `target`. `what` says to another process that
    waits what is done. Return an empty text if the folder exists already.
    """
    if target.is_dir():
        return ""
    with wait_for_lock(target.with_name(f".{target.name}.lock"), what):
        if target.is_dir():
            return ""
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            sentence = fill(temporary)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return sentence


def link_rest(folder: Path, root: Path, used: Collection[Path]) -> None:
    """Link the entries of `folder` into `root`, without the `used` files; what `root` holds comes first."""
    for entry in folder.iterdir():
        target = root / entry.name
        if entry in used or is_system(entry.name):
            continue
        holds_used = entry.is_dir() and any(entry in path.parents for path in used)
        if holds_used or (entry.is_dir() and target.is_dir() and not target.is_symlink()):
            target.mkdir(exist_ok=True)
            link_rest(entry, target, used)
        elif not target.exists():
            target.symlink_to(entry.resolve())
