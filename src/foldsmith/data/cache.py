"""Decoded pixels: every image once, in one uint8 array at the recipe's size, shared by runs.

Where they would not fit on the disk, only what was seen of the images is kept, and they are streamed.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from foldsmith.data.images import ImageFacts, decode_image, facts_of, file_state, resize_image
from foldsmith.data.pixels import Pixels, StoredPixels, StreamedPixels
from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.process.files import digest_of, digest_of_file, load_json, save_csv, save_json
from foldsmith.run.paths import RunPaths

FACTS = ("width", "height", "grey", "digest", "problem")
RECORD = "record.json"  # digest and state of the other files, as they were built
FILES = ("index.csv", "pixels.npy", "thumbnails.npy", RECORD)
STREAMED_FILES = ("index.csv", "states.npy", "thumbnails.npy", RECORD)
STREAMED = "streamed"  # the name of a cache without pixels begins so
THUMBNAIL = 16  # pixels; of the thumbnails that near-duplicates are found by, the same for every image size


@dataclass(frozen=True)
class PixelCache:
    """`pixels` gives rows of uint8 (N, size, size, 3), RGB; row i belongs to `index.path[i]`.

    `index` has path, width, height, grey, digest and problem; the pixels of an unreadable image are all zero.
    """

    path: Path
    pixels: Pixels
    index: pd.DataFrame

    @property
    def thumbnails(self) -> np.ndarray:
        """The whole images at 16 x 16, uint8 (N, 16, 16, 3), whatever the size of `pixels`."""
        return np.load(self.path / "thumbnails.npy", mmap_mode="r", allow_pickle=False)

    def rows(self, paths: Sequence[str]) -> np.ndarray:
        """The rows of these images, int64 (len(paths),). Raises InputError if one is not cached."""
        rows = pd.Index(self.index["path"]).get_indexer(pd.Index(paths))
        if (rows < 0).any():
            absent = paths[int(np.flatnonzero(rows < 0)[0])]
            raise InputError(f"{self.path} does not hold {absent}; run src/prepare.py --again.")
        return rows.astype(np.int64)


def listing_of(folder: Path, images: Sequence[str]) -> str:
    """Digest of the names, lengths and times of image files. Raises InputError for a link to nowhere."""
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


def cache_name(listing: str, images: Sequence[str], size: int, stored: bool = True) -> str:
    """The cache folder's name: pixels depend on the files, which of these are cached, size and decoder."""
    if not stored:
        return f"{STREAMED}-{digest_of([listing, *images, cv2.__version__, STREAMED_FILES])[:16]}"
    return f"{size}px-{digest_of([listing, *images, size, cv2.__version__, FILES])[:16]}"


def open_cache(path: Path, folder: Path, size: int) -> PixelCache:
    """Opens a finished cache of the images in `folder`, which are read only where pixels are not stored.

    Raises InputError if it is not there, or no longer what was built.
    """
    if not is_cached(path):
        raise InputError(f"the pixel cache {path} is not there; run src/prepare.py (or ./run.sh) again.")
    changed = changed_files(path)
    if changed:
        raise InputError(
            f"the pixel cache {path} is damaged: {', '.join(changed)} changed since the images were decoded; "
            "run src/prepare.py (or ./run.sh) again, which decodes them anew."
        )
    text = {"path": str, "digest": str, "problem": str}
    try:
        index = pd.read_csv(path / "index.csv", dtype=text, keep_default_na=False)
        pixels = (
            StoredPixels(path / "pixels.npy") if is_stored(path) else _streamed(path, index, folder, size)
        )
    except (ValueError, OSError, EOFError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"the pixel cache {path} is damaged ({error}); remove it and run again.") from error
    if len(index) != len(pixels):
        raise InputError(
            f"the pixel cache {path} is damaged: {len(index)} rows, {len(pixels)} images; remove it."
        )
    return PixelCache(path, pixels, index)


def open_run_cache(run: RunPaths, folder: Path, size: int) -> PixelCache:
    """Open the cache that the run's prepare stage built or found. Raise InputError as open_cache does."""
    return open_cache(run_cache_path(run), folder, size)


def run_cache_path(run: RunPaths) -> Path:
    """Return the path of the cache that the run's prepare stage built or found."""
    return run.cache_root / load_json(run.stamp("prepare"))["cache"]


def _streamed(path: Path, index: pd.DataFrame, folder: Path, size: int) -> StreamedPixels:
    files = [folder / image for image in index["path"]]
    states = np.load(path / "states.npy", allow_pickle=False)
    if states.shape != (len(files), 2):
        raise ValueError(f"{len(files)} rows, {len(states)} states of files")
    return StreamedPixels(files, index["problem"].to_numpy() == "", states, size)


def is_stored(path: Path) -> bool:
    """Whether a cache of that name holds pixels."""
    return not path.name.startswith(STREAMED)


def files_of(path: Path) -> tuple[str, ...]:
    return FILES if is_stored(path) else STREAMED_FILES


def is_cached(path: Path) -> bool:
    return all((path / name).is_file() for name in files_of(path))


def changed_files(path: Path) -> list[str]:
    """Return the files of a finished cache that are not what was built.

    A file of the same length, time and inode is trusted, which costs nothing. Of another, such as a copy, the
    digest is compared, and where that is right its state is noted for the next time.
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
    """Decodes images of `folder` into a new cache, in parallel; `advance` is told how many are done.

    The cache takes its name only when it is whole, and the name says whether pixels are stored. An unreadable
    image is noted in the index, never replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path.parent)
    stored_size = size if is_stored(path) else 0
    _refuse_small_disk(path.parent, len(images) * 3 * (stored_size**2 + THUMBNAIL**2))
    # a folder of its own for every process: two runs of one size may start at once
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        _fill_cache(part, folder, images, stored_size, advance)
        shutil.rmtree(path, ignore_errors=True)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return open_cache(path, folder, size)


def _remove_orphans(caches: Path) -> None:
    """Removes what processes that were killed left of their caches: each can be gigabytes."""
    for part in caches.glob(".*.part"):
        process = re.fullmatch(r"\..+\.([0-9]+)\.part", part.name)
        if process and (int(process[1]) == os.getpid() or not Path(f"/proc/{process[1]}").exists()):
            shutil.rmtree(part, ignore_errors=True)


def _refuse_small_disk(folder: Path, needed: int) -> None:
    """Raises MachineError if the pixels do not fit: better now than in an hour."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{folder}: the decoded pixels take {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free; "
            "make room, use a smaller --image-size, another --output, or --set cache=off"
        )


def _fill_cache(
    part: Path, folder: Path, images: Sequence[str], size: int, advance: Callable[[int], None]
) -> None:
    """Writes index, thumbnails and pixels; or if `size` is 0 what tells whether a file has changed."""
    if not size:
        np.save(part / "states.npy", np.array(_states_of(folder, images), np.int64).reshape(-1, 2))
    sides = {"thumbnails.npy": THUMBNAIL} | ({"pixels.npy": size} if size else {})
    arrays = [
        np.lib.format.open_memmap(part / name, "w+", np.uint8, (len(images), side, side, 3))
        for name, side in sides.items()
    ]
    for name in sides:
        with (part / name).open("rb+") as file:
            # a map of a file with holes dies of SIGBUS when the disk is full; this fails with the reason
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)

    def fill(row: int) -> ImageFacts:
        try:
            decoded = decode_image(folder / images[row])
        except ValueError as error:
            return ImageFacts(0, 0, False, "", str(error))
        for array in arrays:
            array[row] = resize_image(decoded, array.shape[1])
        return facts_of(decoded)

    facts = []
    # decoding, resizing and hashing leave Python's lock, so threads are enough; OpenCV must not start its own
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor() as pool:
            for fact in pool.map(fill, range(len(images))):
                facts.append(fact)
                advance(1)
    finally:
        cv2.setNumThreads(threads)
    for array in arrays:
        array.flush()
    index = pd.DataFrame([asdict(fact) for fact in facts], columns=list(FACTS))
    index.insert(0, "path", list(images))
    save_csv(part / "index.csv", index)
    _write_record(part, ["index.csv", *sides, *([] if size else ["states.npy"])])
