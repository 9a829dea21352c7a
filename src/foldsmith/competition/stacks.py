"""Images of several files, such as ID_red.png and ID_green.png: one name with braces for all of them."""

import re
from collections import defaultdict
from pathlib import PurePosixPath

import pandas as pd

from foldsmith.competition.roles import column
from foldsmith.competition.tables import Catalog
from foldsmith.errors import InputError, first_of
from foldsmith.natural_order import natural_key

MAX_FILES = 4  # of one image
FIRST = ("red", "green", "blue")  # the order of the files whose names are colours


def stack_files(
    images: list[str], patterns: tuple[str, ...], catalog: Catalog, source: object
) -> tuple[list[str], list[str]]:
    """Return the images, those of several files as one name `ID_{red,green}.png`, and a sentence on them.

    Files are one image where `patterns`, the `files` of competition.toml, say so; or where all names have one
    ending of the same two to four, as words after `_`, and a table names them without it while none names the
    single files. Raise InputError, naming `source`, if a file of the patterns is missing.
    """
    if patterns:
        return join_files(images, patterns, source), []
    named = re.compile(r"(.+)_([A-Za-z]+)(\.[^./]+)")
    if not images or not all(map(named.fullmatch, images)):
        return images, []
    parts = {image: named.fullmatch(image) for image in images}
    words: dict[tuple[str, str], set[str]] = defaultdict(set)
    for match in parts.values():
        words[match[1], match[3]].add(match[2])
    channels = next(iter(words.values()))
    if not 2 <= len(channels) <= MAX_FILES or any(found != channels for found in words.values()):
        return images, []
    ids = {PurePosixPath(stem).name for stem, _ in words}
    files = {name for image in images for name in (PurePosixPath(image).name, PurePosixPath(image).stem)}
    tables = [table for path in catalog.paths if (table := catalog.read(path)) is not None]
    if any(_names(table, files) for table in tables) or not any(_names(table, ids) for table in tables):
        return images, []
    order = sorted(
        channels, key=lambda word: (FIRST.index(word.lower()) if word.lower() in FIRST else 3, word)
    )
    fourth = "; the fourth is used with channels=4, which the recipe default chooses"
    sentence = f"an image is {len(order)} files, its channels: {', '.join(order)}"
    sentence += fourth if len(order) > 3 else ""
    stacked = [f"{stem}_{{{','.join(order)}}}{suffix}" for stem, suffix in words]
    return sorted(stacked, key=natural_key), [sentence]


def _names(table: pd.DataFrame, ids: set[str]) -> bool:
    """Return whether half of the distinct cells of a table's column are such ids, and not only a few ids."""
    cells = [set(column(table, name)) for name in dict.fromkeys(table.columns)]
    return any(len(words & ids) >= max(len(words) / 2, len(ids) / 10, 1) for words in cells)


def join_files(images: list[str], patterns: tuple[str, ...], source: object) -> list[str]:
    """Return the images with the files that patterns such as `{id}_red.png` name joined, in their order.

    Raise InputError, naming `source`, for patterns that do not begin alike, and if a file of them is missing.
    """
    pieces = [pattern.partition("{id}") for pattern in patterns]
    starts, ends = {start for start, _, _ in pieces}, [end for _, _, end in pieces]
    if len(starts) > 1 or not all(between for _, between, _ in pieces) or len(patterns) > MAX_FILES:
        raise InputError(
            f"{source}: files is {first_of(patterns)}; write up to {MAX_FILES} names that begin "
            "alike, such as "
            '["{id}_red.png", "{id}_green.png"].'
        )
    known, stacked, used = set(images), [], set()
    for image in images:
        folder, _, name = image.rpartition("/")
        if name.endswith(ends[0]):
            stem = f"{folder}/{name.removesuffix(ends[0])}".lstrip("/")
            lacking = [stem + end for end in ends if stem + end not in known]
            if lacking:
                raise InputError(f"{source}: files names {lacking[0]}, which is missing; download it again.")
            used |= {stem + end for end in ends}
            stacked.append(stem + _braces(ends))
    if not stacked:
        raise InputError(f"{source}: files is {first_of(patterns)}, and no image is named so; correct it.")
    return sorted([*stacked, *(known - used)], key=natural_key)


def _braces(ends: list[str]) -> str:
    """Return `_{red,green}.png` for `_red.png` and `_green.png`."""
    suffix = PurePosixPath(f"x{ends[0]}").suffix
    words = [end.removesuffix(suffix) for end in ends]
    shared = words[0][
        : next((k for k, letters in enumerate(zip(*words, strict=False)) if len({*letters}) > 1), 0)
    ]
    return f"{shared}{{{','.join(word.removeprefix(shared) for word in words)}}}{suffix}"
