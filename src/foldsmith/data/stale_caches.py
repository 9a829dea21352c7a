"""Stale pixel caches: those that no run uses any more."""

import shlex
from pathlib import Path

from foldsmith.process.files import load_json


def find_stale_caches(caches: Path) -> list[Path]:
    """Return the caches that no run beside them was prepared with: other sizes, or files changed since."""
    used = {load_json(stamp).get("cache") for stamp in caches.parent.glob("*/stamps/prepare.json")}
    return sorted(path for path in caches.glob("[!.]*") if path.name not in used)


def describe_removal(stale: list[Path]) -> str:
    """Return in words how much room they take, and the command that removes them.

    They are never removed unasked: another process may have decoded one for a run that is not stamped yet.
    """
    size = sum(file.stat().st_size for path in stale for file in path.glob("*"))
    caches = "an older pixel cache" if len(stale) == 1 else f"{len(stale)} older pixel caches"
    return f"{caches}, {size / 1e6:,.0f} MB: rm -r {shlex.join(map(str, stale))}"
