"""Labels in the folders or in the file names of the training images."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from foldsmith.competition.listing import folder_subset, subset_of
from foldsmith.errors import InputError, first_of

# a folder called by such a word and a number holds a piece of a download, and is no class
PIECES = (
    "part",
    "batch",
    "chunk",
    "fold",
    "split",
    "shard",
    "set",
    "subset",
    "folder",
    "dir",
    "group",
    "images",
)


@dataclass(frozen=True)
class NameLabels:
    """The class of every image that folders or file names say, by image, and by which evidence.

    `pieces` says that the folders may be pieces of a download rather than classes.
    """

    labels: dict[str, str]
    evidence: str
    pieces: bool = False


def folders_below(images: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the folders of each image below the one that says train or validation, of images with any.

    A second one directly below, as in train/train/cat, says it too, but not beside folders that say nothing:
    of train/bus, train/car and train/train each may be a class.
    """
    folders = {
        folder: PurePosixPath(folder).parts for folder in {image.rpartition("/")[0] for image in images}
    }
    beside = defaultdict(set)  # the folders in each folder
    for parts in folders.values():
        for level, name in enumerate(parts):
            beside[parts[:level]].add(name)
    below = {folder: parts[_levels_said(parts, beside) :] for folder, parts in folders.items()}
    return {image: inner for image in images if (inner := below[image.rpartition("/")[0]])}


def _levels_said(parts: tuple[str, ...], beside: Mapping[tuple[str, ...], set[str]]) -> int:
    """Return the number of folders down to the one that says train or validation; 0 if none does."""
    said = [index for index, name in enumerate(parts) if subset_of(name) in ("train", "val")]
    if not said:
        return 0
    level = said[0] + 1
    while level in said and all(map(subset_of, beside[parts[:level]])):
        level += 1
    return level


def read_class_folders(images: list[str], words: Collection[str], where: str) -> NameLabels | None:
    """Return the classes by folders; None if no image lies in one below train/.

    `words` are the classes that the sample submission names. Folders that all images share are no classes.
    Validation images whose folders are none of the training classes (`val/images/`) get no label here. Raise
    InputError, with the lines for competition.toml `where`, if two levels could be the class.
    """
    held = folders_below(images)
    # the classes are those of the training images
    below = {image: folders for image, folders in held.items() if folder_subset(image) != "val"} or held
    if not below:
        return None
    depth = min(map(len, below.values()))
    values = [Counter(folders[level] for folders in below.values()) for level in range(depth)]
    levels = [level for level in range(depth) if len(values[level]) > 1] or [0]
    level, why = _class_level(below, levels, words, where)
    rest = {image: folders for image, folders in held.items() if image not in below}
    named = [len(folders) > level and folders[level] in values[level] for folders in rest.values()]
    if sum(named) >= len(named) / 2:
        below = {image: folders for image, folders in held.items() if len(folders) > level}
    labels = {image: folders[level] for image, folders in below.items()}
    shown = first_of(values[level], 3)
    return NameLabels(labels, f"folders are classes ({shown}){why}", all(map(_is_piece, values[level])))


def _class_level(
    below: dict[str, tuple[str, ...]], levels: list[int], words: Collection[str], where: str
) -> tuple[int, str]:
    """Return the level of the class folders and the reason. Raise InputError if two levels could be it."""
    if len(levels) == 1:
        return levels[0], ""
    for level in levels:
        if {folders[level] for folders in below.values()} <= set(words):
            return level, "; the sample submission names them"
    whole = [level for level in levels if not all(_is_piece(folders[level]) for folders in below.values())]
    if len(whole) == 1:
        return whole[0], "; the folders beside that level are pieces of the download"
    first, *deeper = whole or levels
    candidates = [first, *(level for level in deeper if _repeats(below, level))]
    if len(candidates) == 1:
        return first, "; the folders in them are not"
    examples = [
        first_of(dict.fromkeys(folders[level] for folders in below.values()), 2) for level in candidates
    ]
    lines = [f'labels = "{_pattern(below, level)}"' for level in candidates]
    raise InputError(
        f"the training images lie in folders of several levels that repeat, {' and '.join(examples)}, and "
        f"any could be the class; write {' or '.join(lines)} into {where}."
    )


def _repeats(below: dict[str, tuple[str, ...]], level: int) -> bool:
    """Return whether each folder of a level lies in two folders or more of the levels above."""
    parents = defaultdict(set)
    for folders in below.values():
        parents[folders[level]].add(folders[:level])
    return all(len(above) > 1 for above in parents.values())


def _pattern(below: dict[str, tuple[str, ...]], level: int) -> str:
    """Return the folder pattern with `{label}` at a level below train."""
    image, folders = next(iter(below.items()))
    above = PurePosixPath(image).parts[: -1 - len(folders)]
    return "/".join([*above, *["*"] * level, "{label}"])


def are_pieces(images: list[str]) -> bool:
    """Return whether all folders of the images are called like pieces of a download."""
    return all(_is_piece(name) for image in images for name in folders_below(image))


def says_piece(name: str) -> bool:
    """Return whether a folder is called by a word for a piece, not by a number alone."""
    words = re.fullmatch(r"([A-Za-z]+?)[ _.-]*([0-9]+|[A-Za-z])?", name)
    return words is not None and words[1].lower() in PIECES


def _is_piece(name: str) -> bool:
    """Return whether a folder is called like a piece of a download: part1, batch_b, 003, a7."""
    return says_piece(name) or bool(re.fullmatch(r"[0-9]+|[0-9a-fA-F]{1,2}", name))


def read_pattern(images: list[str], pattern: str, where: str) -> NameLabels:
    """Return the classes by a pattern of folders such as `train/*/{label}`.

    Raise InputError if no image lies in such folders.
    """
    regex = "/".join(
        "(?P<label>[^/]+)" if word == "{label}" else re.escape(word).replace(r"\*", "[^/]*")
        for word in pattern.strip("/").split("/")
    )
    found = {image: match["label"] for image in images if (match := re.match(f"{regex}/", image))}
    if not found:
        raise InputError(f"{where}: labels is '{pattern}', and no training image lies in such folders.")
    return NameLabels(found, f"folders are classes, by the pattern {pattern}")


def read_file_names(images: list[str]) -> NameLabels | None:
    """Return the classes by the words before or after the number in file names, as in cat.0.jpg.

    None unless all names have a number and the words of two classes or more, each of two images or more.
    """
    stems = {image: PurePosixPath(image).stem for image in images}
    for pattern, what in (
        (r"(?P<label>.*[^\W\d].*?)[ ._()-]+[0-9]+\)?", "before"),
        (r"(?P<label>[^\W\d]+)[0-9]+", "before"),
        (r"[0-9]+[ ._-]+(?P<label>.*[^\W\d].*)", "after"),
    ):
        matches = {image: re.fullmatch(pattern, stem) for image, stem in stems.items()}
        if not all(matches.values()):
            continue
        labels = {image: match["label"] for image, match in matches.items()}
        counts = Counter(labels.values())
        if 2 <= len(counts) <= len(images) / 2 and min(counts.values()) >= 2:
            names = first_of(sorted(counts), 3)
            return NameLabels(labels, f"the words {what} the number in file names are classes ({names})")
    return None
