"""Archives of a contest's download, unpacked once beside the pixel cache, safely.

No member leaves the folder, links are refused, and an archive that claims to grow beyond the free disk or by
more than `MAX_RATIO` is not unpacked.
"""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from foldsmith.competition.cached_folder import fill_once, link_rest
from foldsmith.competition.listing import ARCHIVE_SUFFIXES, is_system, list_folder
from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.process.files import digest_of
from foldsmith.process.terminal import printable, progress, say

UNPACKED = "unpacked-"  # prefix of the folders in the cache that archives are unpacked into
MAX_RATIO = 1000  # of unpacked bytes to the archive's; images shrink by less than 10, tables by less than 100
MAX_MEMBERS = 20_000_000
MAX_DEPTH = 3  # archives within archives
ALLOWED_GROWTH = 2**27  # bytes that any archive may grow to, whatever its ratio
STREAMS: dict[bytes, Callable[[Path], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError,
    NotImplementedError, ValueError,
)  # fmt: skip


class DamagedArchive(InputError):
    """An archive cannot be read to its end; fetched again it may be whole."""


@dataclass(frozen=True)
class Member:
    """A file in an archive; `size` is its length in bytes unpacked, None if only unpacking tells."""

    path: str
    size: int | None


@dataclass(frozen=True)
class Archive:
    """An archive and its files; `target` is the folder, below the root, that they are unpacked into."""

    path: Path
    members: list[Member]
    target: PurePosixPath

    @property
    def files(self) -> list[str]:
        """Return the paths of the unpacked files below the root."""
        return [(self.target / member.path).as_posix() for member in self.members]


def unpack_archives(folder: Path, archives: list[str], cache: Path) -> tuple[Path, list[str]]:
    """Return the root that holds the contents of the archives, and sentences on what was unpacked.

    The root is `folder` if it holds the contents of all its archives already; else a folder in `cache` that
    holds them, and links to the rest of `folder`. Raise InputError for an archive that is damaged or unsafe.
    """
    opened = [read_archive(folder, path) for path in archives]
    needed = [archive for archive in opened if not _is_unpacked(folder, archive)]
    if not needed:
        return folder, []
    root = cache / f"{UNPACKED}{_digest(folder, needed)[:16]}"
    said = fill_once(root, "unpacks these archives", lambda target: _unpack_all(folder, needed, target))
    if said:
        say(f"prepare: {said} into {root}")
    names = ", ".join(archive.path.name for archive in needed[:5]) + (", …" if len(needed) > 5 else "")
    return root, [f"{names} {'is' if len(needed) == 1 else 'are'} unpacked in {root}"]


def _digest(folder: Path, archives: list[Archive]) -> str:
    """Return the digest of the archives' names, lengths, times and contents, and of the folder's entries."""
    states = []
    for archive in archives:
        state = archive.path.stat()
        listing = digest_of([[member.path, member.size] for member in archive.members])
        states.append(
            [archive.path.relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns, listing]
        )
    entries = sorted(os.fsencode(entry.name).hex() for entry in folder.iterdir())
    return digest_of([os.fsencode(folder.resolve()).hex(), states, entries])


def _unpack_all(folder: Path, archives: list[Archive], root: Path) -> str:
    """Unpack the archives into an empty folder, link the rest of `folder`, and return what was done."""
    with progress("unpacking", sum(len(archive.members) for archive in archives), "files") as advance:
        for archive in archives:
            unpack(archive, root, advance)
    _unpack_nested(root)
    link_rest(folder, root, {archive.path for archive in archives})
    return f"unpacked {len(archives)} archive{'s' if len(archives) > 1 else ''}"


def _unpack_nested(root: Path) -> None:
    """Unpack archives that came out of archives, in place. Raise InputError beyond MAX_DEPTH."""
    for _ in range(MAX_DEPTH):
        found = list_folder(root).archives
        if not found:
            return
        for path in found:
            archive = read_archive(root, path)
            unpack(archive, root, lambda count: None)
            archive.path.unlink()
    if list_folder(root).archives:
        raise InputError(
            f"{found[0]} holds archives in archives, more than {MAX_DEPTH} deep; unpack it yourself."
        )


def read_archive(root: Path, name: str) -> Archive:
    """Return an archive's files, system files left out. Raise InputError if it is damaged or unsafe."""
    path = root / name
    with _reporting(path):
        members = [
            member for member in _read_members(path)
            if not any(is_system(word) for word in PurePosixPath(member.path).parts)
        ]  # fmt: skip
    _refuse_unsafe(path, members)
    return Archive(path, members, _target_of(PurePosixPath(name), members))


def _target_of(name: PurePosixPath, members: list[Member]) -> PurePosixPath:
    """Return the folder to unpack into: `train.zip` holds `train/…`, or the contents of `train/`."""
    stem = name.name
    while PurePosixPath(stem).suffix.lower() in ARCHIVE_SUFFIXES:
        stem = stem[: -len(PurePosixPath(stem).suffix)]
    tops = {PurePosixPath(member.path).parts[0] for member in members}
    single = len(members) == 1 and "/" not in members[0].path
    return name.parent if single or tops == {stem} else name.parent / stem


def _refuse_unsafe(path: Path, members: list[Member]) -> None:
    """Raise InputError for members that would leave the folder, and for a bomb."""
    for member in members:
        inside = PurePosixPath(member.path)
        if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0] or "\0" in member.path:
            raise InputError(
                f"{path} holds '{printable(member.path)}', a path outside the folder; it is not unpacked. "
                "Remove the archive, or unpack it yourself."
            )
    total, length = sum(member.size or 0 for member in members), path.stat().st_size
    if len(members) > MAX_MEMBERS or total > max(ALLOWED_GROWTH, MAX_RATIO * length):
        raise InputError(
            f"{path} would unpack {length:,} bytes to {len(members):,} files of {total:,} bytes, like a "
            "decompression bomb; if you trust it, unpack it yourself."
        )


def _is_unpacked(folder: Path, archive: Archive) -> bool:
    """Return whether the folder holds the archive's contents already, file by file in the same length."""
    for member, file in zip(archive.members, archive.files, strict=True):
        path = folder / file
        if not path.is_file() or member.size not in (None, path.stat().st_size):
            return False
    return True


def _read_members(path: Path) -> list[Member]:
    """Return the files in an archive, which is recognised by its first bytes, not by its name."""
    if _starts_with(path, SEVEN_ZIP):
        with _open_7z(path) as archive:
            infos = [info for info in archive.list() if not info.is_directory]
            return [Member(_safe_name(path, info.filename), info.uncompressed) for info in infos]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [_zip_member(path, info) for info in archive.infolist() if not info.is_dir()]
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            return [_tar_member(path, info) for info in archive if not info.isdir()]
    if any(_starts_with(path, magic) for magic in STREAMS):
        return [Member(path.stem, None)]
    raise DamagedArchive(
        f"{path} is no archive that foldsmith can read (zip, tar, gz, bz2, xz, 7z); download it again."
    )


def _zip_member(path: Path, info: zipfile.ZipInfo) -> Member:
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        raise _link_refused(path, info.filename)
    if info.flag_bits & 1:
        raise InputError(f"{path} is encrypted; unpack it yourself.")
    return Member(_safe_name(path, info.filename), info.file_size)


def _tar_member(path: Path, info: tarfile.TarInfo) -> Member:
    if not info.isreg():
        raise _link_refused(path, info.name)
    return Member(_safe_name(path, info.name), info.size)


def _link_refused(path: Path, name: str) -> InputError:
    return InputError(
        f"{path} holds '{printable(name)}', a link or device; it is not unpacked. Unpack it yourself."
    )


def _safe_name(path: Path, name: str) -> str:
    """Return a member's path without `./`. Raise InputError if it has no name."""
    plain = name.replace("\\", "/")
    if not PurePosixPath(plain).parts:
        raise InputError(f"{path} holds a file without a name; download it again.")
    return PurePosixPath(plain).as_posix()


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _open_7z(path: Path):  # noqa: ANN202  the class is of an optional package
    """Open a 7z archive. Raise InputError if py7zr is missing."""
    try:
        import py7zr
    except ImportError:
        raise InputError(
            f"{path} needs the package py7zr, which is not installed: .venv/bin/pip install py7zr, or unpack "
            "the archive yourself."
        ) from None
    return py7zr.SevenZipFile(path)


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Raise DamagedArchive for the errors that the libraries of archives raise for a damaged file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not isinstance(error, DAMAGED) and not type(error).__module__.startswith("py7zr"):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedArchive(f"{path} is damaged ({error}); download it again.") from error


def unpack(archive: Archive, root: Path, advance: Callable[[int], None]) -> None:
    """Write the archive's files below `root`.

    Raise MachineError if the disk is too small, DamagedArchive for a file that cannot be read.
    """
    target = root / archive.target
    target.mkdir(parents=True, exist_ok=True)
    needed, free = sum(member.size or 0 for member in archive.members), shutil.disk_usage(root).free
    if needed > free:
        raise MachineError(
            f"{archive.path} unpacks to {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free in {root}; "
            "free disk space, or use another --output"
        )
    with _reporting(archive.path):
        if _starts_with(archive.path, SEVEN_ZIP):
            with _open_7z(archive.path) as opened:
                wanted = {member.path for member in archive.members}
                opened.extract(
                    path=target, targets=[name for name in opened.getnames() if _plain(name) in wanted]
                )
            advance(len(archive.members))
            return
        for name, source in _contents(archive):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with source, path.open("wb") as file:
                _copy(source, file, archive.path)
            advance(1)


def _plain(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _contents(archive: Archive) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of the files of an archive that is not 7z."""
    wanted, path = {member.path for member in archive.members}, archive.path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as opened:
            for info in opened.infolist():
                if not info.is_dir() and _plain(info.filename) in wanted:
                    yield _plain(info.filename), opened.open(info)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as opened:
            for info in opened:
                content = opened.extractfile(info) if info.isreg() and _plain(info.name) in wanted else None
                if content:
                    yield _plain(info.name), content
    else:
        opener = next(opener for magic, opener in STREAMS.items() if _starts_with(path, magic))
        yield archive.members[0].path, opener(path)


def _copy(source: IO[bytes], target: IO[bytes], archive: Path) -> None:
    """Copy in blocks. Raise InputError if a stream without a known length grows like a bomb."""
    limit, written = max(ALLOWED_GROWTH, MAX_RATIO * archive.stat().st_size), 0
    while block := source.read(2**20):
        written += len(block)
        if written > limit:
            raise InputError(
                f"{archive} unpacks to more than {limit:,} bytes, like a decompression bomb; unpack "
                "it yourself."
            )
        target.write(block)
