"""Stale pixel caches: those that no run uses any more."""

import shlex
from pathlib import Path

from foldsmith.competition.archives import UNPACKED
from foldsmith.process.files import load_json


def find_stale_caches(caches: Path) -> list[Path]:
    """Return the caches in `caches` that no run of this competition uses: of other sizes or changed files."""
    used = {load_json(stamp).get("cache") for stamp in caches.parent.glob("*/stamps/prepare.json")}
    caches_of_pixels = (path for path in caches.glob("[!.]*") if not path.name.startswith(UNPACKED))
    return sorted(path for path in caches_of_pixels if path.name not in used)


def removal_advice(caches: list[Path]) -> str:
    """Return a message with the size of stale caches and the command that removes them.

    They are never removed automatically: another process may have built one for a run that has no stamp yet.
    """
    size = sum(file.stat().st_size for path in caches for file in path.glob("*"))
    these = (
        "a pixel cache that no run uses takes"
        if len(caches) == 1
        else (f"{len(caches)} pixel caches that no run uses take")
    )
    return f"{these} {size / 1e6:,.0f} MB; to remove: rm -r {shlex.join(map(str, caches))}"
