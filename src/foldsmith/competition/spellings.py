"""How tables write images: by path, by name, with or without ending, and how ids are matched to images."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from foldsmith.competition.listing import is_image
from foldsmith.errors import InputError, first_of

UNITS = 0.99  # share of ids that must have images, if an id stands for several
Spelling = Callable[[str], str | None]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _bare(path: str) -> str:
    """Return a path or name without the ending of its last component, as pathlib's `with_suffix`."""
    name = _name(path)
    dot = name.rfind(".")
    return path[: dot - len(name)] if 0 < dot < len(name) - 1 else path


def _below(depth: int) -> Spelling:
    """Return the spelling without the first folders; of a path with fewer it is None."""

    def spell(path: str) -> str | None:
        components = path.split("/", depth)
        return components[depth] if len(components) > depth else None

    return spell


def _below_bare(depth: int) -> Spelling:
    spell = _below(depth)
    return lambda path: None if (inside := spell(path)) is None else _bare(inside)


# how label files and sample submissions write an image, with and without the folders above it; of pathlib,
# which is many times slower, tables of a million rows would take minutes
SPELLINGS: tuple[Spelling, ...] = (
    _below(1),
    _below_bare(1),
    _name,
    lambda path: _bare(_name(path)),
    lambda path: path,
    _bare,
    *(spelling(depth) for depth in (2, 3, 4) for spelling in (_below, _below_bare)),
)
# readings that are tried only where every id has to be read so
LOOSE: dict[str, tuple[Spelling, Callable[[str], str]]] = {
    "in other upper and lower case": (
        lambda path: _name(path).lower(),
        lambda name: _name(name).lower(),
    ),
    "with another ending": (
        lambda path: _bare(_name(path)),
        lambda name: _bare(_name(name)) if is_image(name) else "",
    ),
    "without leading zeros": (
        lambda path: _bare(_name(path)).lstrip("0") or "0",
        lambda name: name.lstrip("0") or "0",
    ),
}


def plain_path(image: str) -> str:
    """Return an image's path as tables may spell it: without the braces of an image of several files."""
    return re.sub(r"[ _.-]?\{[^{}/]*,[^{}/]*\}", "", image) if "{" in image else image


def normal_path(name: str) -> str:
    """Return a path without `./`, doubled or trailing slashes, and with slashes for backslashes."""
    usual = "\\" not in name and "//" not in name and "./" not in name and not name.endswith(("/", "/."))
    return name if usual and name else PurePosixPath(name.replace("\\", "/")).as_posix()


def _texts(cells: Iterable[str]) -> list[str]:
    """Return cells as a list; those of a column, which is slow to iterate over, are converted at once."""
    return cells.tolist() if hasattr(cells, "tolist") else list(cells)


class Names:
    """The file names of images, to tell which cells of a table name one."""

    def __init__(self, images: Iterable[str]) -> None:
        self.images = list(images)

    @cached_property
    def full(self) -> set[str]:
        """Return the names with ending."""
        return {_name(plain_path(image)) for image in self.images}

    @cached_property
    def bare(self) -> set[str]:
        """Return the names without ending."""
        return {_bare(name) for name in self.full}

    def share(self, cells: Iterable[str]) -> tuple[float, float]:
        """Return the shares of cells whose last component is a file name, and with ending or without one."""
        last = [_name(cell.strip().replace("\\", "/")) for cell in _texts(cells)]
        if not last:
            return 0.0, 0.0
        named = sum(name in self.full for name in last)
        either = sum(name in self.full or name in self.bare for name in last)
        return named / len(last), either / len(last)

    @cached_property
    def shapes(self) -> set[str]:
        """Return the names without ending, case and leading zeros: what all readings have in common."""
        return {_shape(name) for name in self.bare}

    def could_name(self, cell: str) -> bool:
        """Return whether a cell names an image in some reading, also in another case or ending."""
        name = _name(cell.strip().replace("\\", "/"))
        return name in self.full or _shape(name) in self.shapes

    def share_loosely(self, cells: Iterable[str]) -> float:
        """Return the share of cells that are file names with ending, also in another case or ending."""
        named = [is_image(cell) and self.could_name(cell) for cell in cells]
        return sum(named) / max(len(named), 1)


def _shape(name: str) -> str:
    stem = name.lower()
    stem = stem.rpartition(".")[0] if is_image(stem) else stem
    return stem.lstrip("0") or "0"


def match_ids(ids: Iterable[str], images: Iterable[str], source: Path | None = None) -> list[str | None]:
    """Return the image that each id names, or None.

    Ids are paths or bare names, with or without extension. All are read in the spelling that matches most of
    them. An id that matches nothing is tried again without `./` and with slashes for backslashes. If no id
    matches, they are read in other case, with another ending or without leading zeros, where that names an
    image for every one of them. Raise InputError, naming the `source` of the ids, if an id matches two.
    """
    ids, paths = _texts(ids), list(images)
    plain = [normal_path(name) for name in ids]
    found: list[list[str]] = [[]] * len(ids)
    most = 0
    for spelling in SPELLINGS:
        named = _group_by_spelling(paths, spelling)
        spelled = [named.get(name) or named.get(other, []) for name, other in zip(ids, plain, strict=True)]
        matched = sum(map(bool, spelled))
        if matched > most:
            found, most = spelled, matched
        if most == len(ids):
            break
    _refuse_ambiguous(ids, found, source)
    if not most and ids:
        loose = loose_reading(plain, paths)
        return loose[1] if loose else [None] * len(ids)
    return [meant[0] if meant else None for meant in found]


def loose_reading(ids: Sequence[str], paths: Sequence[str]) -> tuple[str, list[str | None]] | None:
    """Return how ids are spelled that no usual spelling matches, and their images; None if in no one way.

    Every id must name exactly one image, and no two ids the same one.
    """
    for words, (spelling, respell) in LOOSE.items():
        named = _group_by_spelling(paths, spelling)
        meant = [named.get(respell(name), []) for name in ids]
        images = {names[0] for names in meant if len(names) == 1}
        if len(images) == len(set(ids)) and all(len(names) == 1 for names in meant):
            return words, [names[0] for names in meant]
    return None


def how_loosely(ids: Iterable[str], images: Iterable[str]) -> str:
    """Return in which unusual way `match_ids` reads these ids; empty for one of the usual spellings."""
    ids, paths = _texts(ids), list(images)
    plain = [normal_path(name) for name in ids]
    for spelling in SPELLINGS:
        named = _group_by_spelling(paths, spelling)
        if any(name in named or other in named for name, other in zip(ids, plain, strict=True)):
            return ""
    loose = loose_reading(plain, paths)
    return loose[0] if loose else ""


def _group_by_spelling(paths: Iterable[str], spelling: Spelling) -> dict[str, list[str]]:
    """Return the images by their spelling, without those that have fewer folders than it leaves out."""
    named: dict[str, list[str]] = {}
    for path in paths:
        spelled = spelling(plain_path(path))
        if spelled is not None:
            named.setdefault(spelled, []).append(path)
    return named


def _refuse_ambiguous(ids: Sequence[str], found: Sequence[Sequence[str]], source: Path | None) -> None:
    """Raise InputError if an id names two images."""
    for name, meant in zip(ids, found, strict=True):
        if len(meant) > 1:
            where = f"{source}: " if source else ""
            raise InputError(
                f"{where}the id '{name}' matches {first_of(meant)}; write ids with folder and extension."
            )


def images_by_folder(ids: Sequence[str], images: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    """Return the images of each id: those below a folder of its name, or whose names are the id and a number.

    Ids may lack leading zeros. Return None unless nearly all ids have images, and no image belongs to two.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for image in images:
        path = PurePosixPath(image)
        numbered = re.fullmatch(r"(.+)[-_ ]\d+", path.stem)
        for name in {*path.parts[:-1], *([numbered[1]] if numbered else [])}:
            below[name].append(image)
    plain = Counter(name.lstrip("0") for name in below)
    zeros = {name.lstrip("0"): name for name in below if plain[name.lstrip("0")] == 1}
    named = {name: name if name in below else zeros.get(name.lstrip("0"), "") for name in ids}
    found = {name: tuple(below[known]) for name, known in named.items() if known}
    flat = [image for group in found.values() for image in group]
    if not ids or len(found) < UNITS * len(named) or len(set(flat)) < len(flat):
        return None
    return found
