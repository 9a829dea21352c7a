"""Stale caches of pixels and features: those that no run uses any more."""

import shlex
from pathlib import Path

from foldsmith.competition.archives import UNPACKED
from foldsmith.data.feature_store import FEATURES, RECORD
from foldsmith.process.files import load_json


def find_stale_caches(caches: Path) -> list[Path]:
    """Return the caches in `caches` that no run of this competition uses: of other sizes or changed files."""
    used = {load_json(stamp).get("cache") for stamp in caches.parent.glob("*/stamps/prepare.json")}
    probes = [load_json(run).get("probe") for run in caches.parent.glob("*/fold*/run.json")]
    extractors = {digest for probe in probes if probe for digest in probe["extractors"]}
    found = [path for path in caches.glob("[!.]*") if not path.name.startswith(UNPACKED)]
    return sorted(path for path in found if not _is_used(path, used, extractors))


def _is_used(path: Path, used: set[str | None], extractors: set[str]) -> bool:
    """Return whether a run uses a cache of pixels, or features by its extractor of such a cache."""
    if not path.name.startswith(FEATURES):
        return path.name in used
    facts = load_json(path / RECORD) if (path / RECORD).is_file() else {}
    return facts.get("pixels") in used and facts.get("weights") in extractors


def removal_advice(caches: list[Path]) -> str:
    """Return a message with the size of stale caches and the command that removes them.

    They are never removed automatically: another process may have built one for a run that has no stamp yet.
    """
    size = sum(file.stat().st_size for path in caches for file in path.glob("*"))
    these = (
        "a cache of pixels or features that no run uses takes"
        if len(caches) == 1
        else (f"{len(caches)} caches of pixels or features that no run uses take")
    )
    return f"{these} {size / 1e6:,.0f} MB; to remove: rm -r {shlex.join(map(str, caches))}"
