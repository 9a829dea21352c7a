"""Pixel cache: every image decoded once into one uint8 array at the recipe's size, shared by runs.

With `cache=off` the cache holds the index and the thumbnails only, and images are streamed from their files.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pandas as pd

from foldsmith.competition.found import load_found
from foldsmith.data.dicom import SUFFIXES as DICOM
from foldsmith.data.images import DEPTH, FOUR, ImageFacts, decode_image, facts_of, file_state, resize_image
from foldsmith.data.pixels import NewPixels, Pixels, StoredPixels, StreamedPixels
from foldsmith.data.sources import Source, save_sources, source_of
from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.process.files import (
    digest_of,
    digest_of_file,
    is_being_written,
    load_json,
    save_csv,
    save_json,
)
from foldsmith.process.locks import is_locked, wait_for_lock
from foldsmith.run.paths import RunPaths

FACTS = ("width", "height", "grey", "digest", "problem")
RECORD = "record.json"  # digest and state of the cache's other files, as built
FILES = ("index.csv", "pixels.npy", "thumbnails.npy", RECORD)
STREAMED_FILES = ("index.csv", "states.npy", "thumbnails.npy", RECORD)
LOCK = ".lock"  # held while a cache is built
# changes with what is decoded from the same bytes, so that caches of earlier versions are built again
DECODER = 2
STREAMED = "streamed"  # prefix of the name of a cache without pixels
SUBMITTED = 1024  # images that threads decode, or that wait for one, at a time
TOGETHER = 8  # of them that a thread gets at once
THUMBNAIL = 16  # pixels; side of the thumbnails for near-duplicate detection, the same for every image size


@dataclass(frozen=True)
class PixelCache:
    """The images of a competition at one size.

    `pixels` yields rows of uint8 (N, size, size, C): RGB, or the four files of an image. Row i is the image
    `index.path[i]`. `index` has the columns path, width, height, grey, digest and problem. The pixels of an
    unreadable image are all zero.
    """

    path: Path
    pixels: Pixels
    index: pd.DataFrame

    @property
    def thumbnails(self) -> StoredPixels:
        """Return the images at 16 x 16, uint8 (N, 16, 16, C), independent of the size of `pixels`."""
        return StoredPixels(self.path / "thumbnails.npy")

    def rows(self, paths: Sequence[str]) -> np.ndarray:
        """Return the rows of these images, int64 (len(paths),). Raise InputError if one is not cached."""
        rows = pd.Index(self.index["path"]).get_indexer(pd.Index(paths))
        if (rows < 0).any():
            missing = paths[int(np.flatnonzero(rows < 0)[0])]
            raise InputError(
                f"the pixel cache {self.path} does not hold {missing}; run src/prepare.py --again."
            )
        return rows.astype(np.int64)


def listing_digest(folder: Path, images: Sequence[str]) -> str:
    """Return the digest of names, lengths and times of image files. Raise InputError for a broken link."""
    states = _states_of(folder, images)
    return digest_of([(image, *state) for image, state in zip(images, states, strict=True)])


def _states_of(folder: Path, images: Sequence[str]) -> list[tuple[int, int]]:
    states = []
    for image in images:
        try:
            states.append(file_state(folder / image))
        except OSError as error:
            raise InputError(f"{folder / image} cannot be read: {error.strerror}.") from error
    return states


def cache_name(
    listing: str,
    images: Sequence[str],
    size: int,
    stored: bool = True,
    depth: int = DEPTH,
    channels: int = 3,
) -> str:
    """Return the cache folder's name, a digest of what pixels depend on: files, images, size, decoder.

    Where 16-bit images use fewer bits, or images have FOUR channels, the name says how many (`depth_of`,
    `channels_of`).
    """
    kind = f"-{channels}ch" if channels == FOUR else ""
    kind += f"-{depth}bit" if depth < DEPTH else ""
    decoder = [cv2.__version__, DECODER]
    if any(PurePosixPath(image).suffix.lower() in DICOM for image in images):
        with suppress(PackageNotFoundError):  # decoding says so
            decoder.append(version("pydicom"))
    if not stored:
        return f"{STREAMED}{kind}-{digest_of([listing, *images, *decoder, STREAMED_FILES])[:16]}"
    return f"{size}px{kind}-{digest_of([listing, *images, size, *decoder, FILES])[:16]}"


def depth_of(path: Path) -> int:
    """Return the bits of 16-bit images that a cache of that name maps to 8 (see `find_depth`)."""
    match = re.search(r"-(\d+)bit-", path.name)
    return int(match[1]) if match else DEPTH


def channels_of(path: Path) -> int:
    """Return the channels of the images in a cache of that name: 3 or FOUR."""
    return FOUR if f"-{FOUR}ch-" in path.name else 3


def open_cache(path: Path, folder: Path, size: int) -> PixelCache:
    """Open a complete cache of the images in `folder`, which are read only if the cache holds no pixels.

    Raise InputError if the cache is missing or changed since it was built.
    """
    if not is_cached(path):
        raise InputError(f"the pixel cache {path} is missing; run src/prepare.py (or ./run.sh) again.")
    changed = changed_files(path)
    if changed:
        raise InputError(
            f"the pixel cache {path} is damaged: {', '.join(changed)} changed since the images were decoded; "
            "run src/prepare.py (or ./run.sh) again to rebuild it."
        )
    text = {"path": str, "digest": str, "problem": str}
    try:
        index = pd.read_csv(path / "index.csv", dtype=text, keep_default_na=False)
        pixels = (
            StoredPixels(path / "pixels.npy") if is_stored(path) else _streamed(path, index, folder, size)
        )
    except (ValueError, OSError, EOFError) as error:  # pandas' own errors are ValueErrors
        raise InputError(
            f"the pixel cache {path} is damaged ({error}); "
            "remove it and run src/prepare.py (or ./run.sh) again."
        ) from error
    if len(index) != len(pixels):
        raise InputError(
            f"the pixel cache {path} is damaged: {len(index)} rows, {len(pixels)} images; "
            "remove it and run src/prepare.py (or ./run.sh) again."
        )
    return PixelCache(path, pixels, index)


def open_run_cache(run: RunPaths, folder: Path, size: int) -> PixelCache:
    """Open the cache that the run's prepare stage built or found. Raise InputError as open_cache does.

    Images that are streamed are read from `folder`, or from where its archives were unpacked.
    """
    unpacked = load_found(run.found).root
    return open_cache(run_cache_path(run), run.cache_root / unpacked if unpacked else folder, size)


def run_cache_path(run: RunPaths) -> Path:
    """Return the path of the cache that the run's prepare stage built or found."""
    return run.cache_root / load_json(run.stamp("prepare"))["cache"]


def _streamed(path: Path, index: pd.DataFrame, folder: Path, size: int) -> StreamedPixels:
    files = [folder / image for image in index["path"]]
    states = np.load(path / "states.npy", allow_pickle=False)
    if states.shape != (len(files), 2):
        raise ValueError(f"{len(files)} rows, {len(states)} states of files")
    readable = index["problem"].to_numpy() == ""
    return StreamedPixels(files, readable, states, size, depth=depth_of(path), channels=channels_of(path))


def is_stored(path: Path) -> bool:
    """Return whether a cache of that name holds pixels."""
    return not path.name.startswith(STREAMED)


def files_of(path: Path) -> tuple[str, ...]:
    """Return the names of the cache's files."""
    return FILES if is_stored(path) else STREAMED_FILES


def is_cached(path: Path) -> bool:
    """Return whether the cache has all its files; `changed_files` says whether they are intact."""
    return all((path / name).is_file() for name in files_of(path))


def changed_files(path: Path) -> list[str]:
    """Return the files of a complete cache that changed since it was built.

    A file with the recorded length, time and inode is trusted, which costs nothing. For another, such as a
    copy, the digest is compared; if it is right, the record gets the file's new state.
    """
    record = _read_record(path)
    states = {name: _state_of(path / name) for name in files_of(path) if name != RECORD}
    lost = [name for name in states if name not in record]
    if lost:  # somebody changed the record
        return lost
    doubtful = [name for name, state in states.items() if record[name]["state"] != state]
    changed = [name for name in doubtful if digest_of_file(path / name) != record[name]["digest"]]
    if doubtful and not changed:
        _note_states(path, record, states)
    return changed


def _note_states(path: Path, record: dict[str, dict[str, Any]], states: dict[str, list[int]]) -> None:
    """Write the files' present states into the record, unless the cache is read-only."""
    if os.access(path, os.W_OK):
        save_json(path / RECORD, {name: {**record[name], "state": state} for name, state in states.items()})


def _read_record(path: Path) -> dict[str, dict[str, Any]]:
    """Return digest and state of the files as they were built, of those whose entry is whole."""
    record = load_json(path / RECORD)
    if not isinstance(record, dict):
        return {}
    return {
        name: entry
        for name, entry in record.items()
        if isinstance(entry, dict) and {"state", "digest"} <= set(entry)
    }


def _state_of(path: Path) -> list[int]:
    return [*file_state(path), path.stat().st_ino]


def _write_record(path: Path, names: Sequence[str]) -> None:
    record = {
        name: {"digest": digest_of_file(path / name), "state": _state_of(path / name)} for name in names
    }
    save_json(path / RECORD, record)


def build_cache(
    path: Path,
    folder: Path,
    images: Sequence[str],
    size: int,
    advance: Callable[[int], None] = lambda count: None,
) -> PixelCache:
    """Decode images of `folder` into a new cache, in parallel, and call `advance(1)` after each.

    The folder is renamed to `path` only when it is complete. The name `path` decides whether pixels are
    stored, and their channels. An unreadable image is recorded in the index, never replaced by another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path.parent)
    stored_size = size if is_stored(path) else 0
    _refuse_small_disk(path.parent, len(images) * channels_of(path) * (stored_size**2 + THUMBNAIL**2))
    # the process id keeps apart two processes that build the same cache
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        with wait_for_lock(temporary / LOCK, "builds this cache"):
            _fill_cache(temporary, folder, images, stored_size, advance)
            (temporary / LOCK).unlink()
            shutil.rmtree(path, ignore_errors=True)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_cache(path, folder, size)


def _remove_orphans(caches: Path) -> None:
    """Remove incomplete caches of processes that no longer run; each can take gigabytes.

    A process of another machine or container has no number here, and holds the lock.
    """
    for orphan in caches.glob(".*.part"):
        ours = re.fullmatch(r"\..+\.[0-9]+\.part", orphan.name)
        if ours and not is_being_written(orphan) and not is_locked(orphan / LOCK):
            shutil.rmtree(orphan, ignore_errors=True)


def _refuse_small_disk(folder: Path, needed: int) -> None:
    """Raise MachineError if the pixels do not fit on the disk, before an hour of decoding."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{folder}: the decoded pixels take {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free; "
            "free disk space, use a smaller --image-size, another --output, or --set cache=off"
        )


def _fill_cache(
    cache: Path, folder: Path, images: Sequence[str], size: int, advance: Callable[[int], None]
) -> None:
    """Write index, thumbnails and pixels; if `size` is 0 the states of the image files instead of pixels."""
    if not size:
        np.save(cache / "states.npy", np.array(_states_of(folder, images), np.int64).reshape(-1, 2))
    sides = {"thumbnails.npy": THUMBNAIL} | ({"pixels.npy": size} if size else {})
    depth, channels = depth_of(cache), channels_of(cache)
    arrays = [NewPixels(cache / name, (len(images), side, side, channels)) for name, side in sides.items()]

    def fill(row: int) -> tuple[ImageFacts, Source]:
        image = folder / images[row]
        source = source_of(image)
        try:
            decoded = decode_image(image, depth=depth, channels=channels)
        except ValueError as error:
            return ImageFacts(0, 0, False, "", str(error)), source
        for array in arrays:
            array.write(row, resize_image(decoded, array.shape[1]))
        return facts_of(decoded), source

    def fill_all(rows: range) -> list[tuple[ImageFacts, Source]]:
        return [fill(row) for row in rows]

    facts: list[ImageFacts] = []
    sources: dict[str, Source] = {}
    # decoding, resizing and hashing release the GIL, so threads suffice; OpenCV must not start its own
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor() as pool:
            # in parts: `map` submits all that it gets at once, which takes kilobytes each
            for start in range(0, len(images), SUBMITTED):
                rows = range(start, min(start + SUBMITTED, len(images)))
                blocks = [rows[first : first + TOGETHER] for first in range(0, len(rows), TOGETHER)]
                for block, filled in zip(blocks, pool.map(fill_all, blocks), strict=True):
                    for row, (fact, source) in zip(block, filled, strict=True):
                        facts.append(fact)
                        sources[images[row]] = source
                        advance(1)
    finally:
        cv2.setNumThreads(threads)
    columns = {name: [getattr(fact, name) for fact in facts] for name in FACTS}
    save_csv(cache / "index.csv", pd.DataFrame({"path": list(images), **columns}))
    save_sources(cache, sources)
    _write_record(cache, ["index.csv", *sides, *([] if size else ["states.npy"])])
