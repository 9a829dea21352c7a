"""The bytes of the image files that a pixel cache was decoded from, by which a replaced file is noticed.

Names, lengths and modification times name the cache. But a file may be replaced by another of the same length
and time: unpacking restores times, and raw images of one camera have one length.
"""

import hashlib
import json
import os
from pathlib import Path

from foldsmith.data.images import image_files, refusal_of
from foldsmith.process.files import atomic_write, digest_of, load_json

SOURCES = "sources.json"  # of a cache: mark and digest of each image by its path
Source = list[str]  # mark and digest; both are empty for an image that cannot be read


def mark_of(image: Path) -> str:
    """Return inode and change time (ns) of an image's files; empty if it cannot be read.

    No tool restores a change time. It changes with a copy or a new name too, so that another mark is only a
    reason to compare the bytes.
    """
    try:
        states = [file.stat() for file in image_files(image)]
    except OSError:
        return ""
    return " ".join(f"{state.st_ino}:{state.st_ctime_ns}" for state in states)


def source_of(image: Path) -> Source:
    """Return mark and digest of an image."""
    mark = mark_of(image)  # first, so that a file that is replaced meanwhile is compared again
    try:
        # a pipe blocks, a device never ends: such a file is not decoded either
        if any(refusal_of(file.stat()) for file in image_files(image)):
            return ["", ""]
        # at once: an image is decoded whole as well, and reading in pieces takes twice as long
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in image_files(image)]
        return [mark, digest_of(digests)]
    except OSError:
        return ["", ""]


def changed_sources(cache: Path, folder: Path) -> list[str]:
    """Return the images whose files have other bytes than those that the cache was decoded from.

    A file with the recorded mark is trusted, which costs nothing. Others, such as those of a copy, are read;
    if no bytes changed, the record gets their new marks. A cache of an older version has no record and is
    trusted.
    """
    if not (cache / SOURCES).is_file():
        return []
    record: dict[str, Source] = load_json(cache / SOURCES)
    doubtful = [image for image, (mark, _) in record.items() if mark_of(folder / image) != mark]
    present = {image: source_of(folder / image) for image in doubtful}
    changed = [image for image, (_, digest) in present.items() if digest != record[image][1]]
    if doubtful and not changed and os.access(cache, os.W_OK):
        save_sources(cache, record | present)
    return changed


def save_sources(cache: Path, sources: dict[str, Source]) -> None:
    """Save the record of a cache, on one line: indented, which Python writes slowly, it takes seconds."""
    with atomic_write(cache / SOURCES) as temporary:
        temporary.write_text(json.dumps(sources, ensure_ascii=False), encoding="utf-8")


def sources_digest(cache: Path) -> str:
    """Return a digest of the images and their bytes; empty for a cache without a record."""
    if not (cache / SOURCES).is_file():
        return ""
    return digest_of({image: digest for image, (_, digest) in load_json(cache / SOURCES).items()})
