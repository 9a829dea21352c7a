"""The files of a folder, classified by name: images, tables, archives, and forms that cannot be read."""

import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NoReturn

from foldsmith.errors import InputError
from foldsmith.natural_order import natural_key

IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2", ".ppm",
    ".pgm", ".dcm", ".dicom",
}  # fmt: skip
TABLE_SUFFIXES = {".csv", ".tsv", ".json", ".jsonl", ".ndjson"}
ARCHIVE_SUFFIXES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z"}
SYSTEM_FOLDERS = {"__macosx"}
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db"}
NUMPY = (".npy", ".npz")
# a form of data that holds images and is not read -> what it is, and how it is opened
UNSUPPORTED = {
    ".bson": "BSON",
    **dict.fromkeys((".tfrec", ".tfrecord", ".tfrecords"), "TFRecord"),
    **dict.fromkeys(NUMPY, "arrays of numpy"),
    **dict.fromkeys((".h5", ".hdf5"), "HDF5"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"), "video"),
    ".rar": "a RAR archive",
    ".mat": "a MATLAB file (scipy.io.loadmat opens it)",
    **dict.fromkeys((".pkl", ".pickle"), "a pickle of Python (it can run code: open only one you trust)"),
    ".bin": "binary arrays (numpy.fromfile reads them)",
    **dict.fromkeys((".nii", ".mha", ".nrrd"), "a volume of medical images"),
    ".mdb": "LMDB",
    ".rec": "RecordIO",
    ".arrow": "Arrow",
}
PICKLE = re.compile(rb"\x80[\x02-\x05]")  # the first bytes of a pickle, whatever it is called
# words in the name of a folder or file -> what it holds
WORDS = {
    "train": ("train", "training", "trainset", "trainval"),
    "val": ("val", "valid", "validation", "valset"),
    "test": ("test", "testing", "testset"),
}


@dataclass(frozen=True)
class Listing:
    """The visible files under a root, as POSIX paths in natural order, by what their names say they are."""

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def list_folder(root: Path) -> Listing:
    """Return the visible files under `root`, at any depth and through links.

    Hidden and system files are left out. Raise InputError for a folder without read permission, whose files
    would be missed, and for an image or table whose name is not UTF-8, which no file can spell.
    """
    listing = Listing()
    kinds = {
        **dict.fromkeys(IMAGE_SUFFIXES, listing.images),
        **dict.fromkeys(TABLE_SUFFIXES, listing.tables),
        **dict.fromkeys(ARCHIVE_SUFFIXES, listing.archives),
        **dict.fromkeys(UNSUPPORTED, listing.unsupported),
    }
    for path in sorted(_walk(root), key=natural_key):
        kind = kinds.get(os.path.splitext(path)[1].lower(), listing.others)
        if kind is not listing.others:
            _refuse_undecodable(root, path)
        kind.append(path)
    return listing


def _walk(root: Path) -> list[str]:
    found, entered = [], set()
    for parent, directories, names in os.walk(root, onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:  # a link to a folder above it
            directories.clear()
            continue
        entered.add(real)
        directories[:] = [name for name in directories if not is_system(name)]
        inside = Path(parent).relative_to(root).as_posix()
        folder = "" if inside == "." else f"{inside}/"
        found += [f"{folder}{name}" for name in names if not is_system(name)]
    return found


def is_system(name: str) -> bool:
    """Return whether a file or folder is hidden, or left behind by an operating system."""
    hidden = name.startswith(".") and name not in (".", "..")
    return hidden or name.lower() in SYSTEM_FILES | SYSTEM_FOLDERS


def is_left_behind(name: str) -> bool:
    """Return whether a file's name is known to be left behind by an operating system, such as .DS_Store.

    A table that names another hidden file may have a damaged id.
    """
    return name.lower() in {".ds_store", *SYSTEM_FILES} or name.startswith("._")


def _refuse_undecodable(root: Path, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{root} has a file whose name is not UTF-8: {path!r}; rename it.") from None


def _refuse_folder(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error


def is_image(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES


def words_of(name: str) -> list[str]:
    """Return the words of a file or folder name in lower case: `TrainImages_v2` has train, images, v."""
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+", separated.lower())


def subset_of(name: str) -> str:
    """Return "train", "val" or "test" if a name has that word, else an empty text.

    Training and validation together are training images; training and test together say nothing.
    """
    words = set(words_of(name))
    said = {subset for subset, known in WORDS.items() if words & set(known)}
    if said == {"train", "val"}:
        return "train"
    return said.pop() if len(said) == 1 else ""


def folder_subset(image: str, skip: int = 0) -> str:
    """Return the subset that the image's folders say; the first one that says any, after the first `skip`."""
    return _subset_of_folders(image.rpartition("/")[0], skip)


@lru_cache(maxsize=4096)  # many images lie in one folder
def _subset_of_folders(folder: str, skip: int) -> str:
    return next(filter(None, map(subset_of, PurePosixPath(folder).parts[skip:])), "")


def pieces_of_archives(listing: Listing) -> str:
    """Return the message for pieces of archives, such as train.zip.001; empty if there are none."""
    pieces = [path for path in listing.others if re.fullmatch(r".+\.(\d{3}|z\d\d)", path.lower())]
    wholes = list(dict.fromkeys(path.rpartition(".")[0] for path in pieces))
    if not pieces:
        return ""
    commands = "; ".join(f"cat {whole}.* > {whole}" for whole in wholes[:4])
    return (
        f"{pieces[0]} is a piece of an archive, which cannot be unpacked alone; join the pieces, as in "
        f"`{commands}`, and remove them."
    )


def refuse_unsupported(root: Path, listing: Listing) -> None:
    """Raise InputError if the folder's images are in a form that cannot be read."""
    if listing.images:
        return
    if message := pieces_of_archives(listing):
        raise InputError(message)
    pickles = [path for path in listing.others if PICKLE.match(_first_bytes(root / path))]
    for path in [*listing.unsupported[:1], *pickles[:1]]:
        kind = UNSUPPORTED.get(PurePosixPath(path).suffix.lower(), UNSUPPORTED[".pkl"])
        raise InputError(
            f"{root / path} is {kind}, which foldsmith does not read, and the folder has no image files; "
            "convert it to image files (PNG or JPEG) in train/ and test/, and a CSV with the columns "
            "id,label."
        )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)
