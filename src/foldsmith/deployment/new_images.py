"""Image files that a run has not seen: single ones, and those of folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foldsmith.competition.found import load_found
from foldsmith.competition.listing import list_folder
from foldsmith.competition.stacks import join_files
from foldsmith.data.images import image_files
from foldsmith.errors import InputError, first_of
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_samples


@dataclass(frozen=True)
class NewImages:
    """The paths of images, and sentences on files that are left out.

    An image of several files is one path with braces, such as `ID_{red,green}.png`.
    """

    paths: list[Path]
    notes: list[str]


def find_images(words: Sequence[Path], run: RunPaths) -> NewImages:
    """Return the images that words name: files, and folders with all below them in natural order.

    Files of folders are joined to images as those of the run are. Raise InputError for a word that is
    neither, and for a folder without images.
    """
    paths: list[Path] = []
    notes: list[str] = []
    patterns = patterns_of(run)
    for word in words:
        if not word.is_dir():
            absent = [file for file in image_files(word) if not file.exists()]
            if absent:
                raise InputError(f"{absent[0]} is not there; name image files, or folders of them.")
            paths.append(word)
            continue
        listing = list_folder(word)
        if not listing.images:
            raise InputError(f"{word} holds no image files; name a folder of images, or the files.")
        images = join_files(listing.images, patterns, word) if patterns else listing.images
        paths += [word / image for image in images]
        others = [*listing.tables, *listing.archives, *listing.unsupported, *listing.others]
        if others:
            notes.append(f"{word}: no image files, left out: {len(others):,} ({first_of(others)})")
    return NewImages(list(dict.fromkeys(paths)), notes)


def patterns_of(run: RunPaths) -> tuple[str, ...]:
    """Return the names of the files of one image, such as `{id}_red.png`; none for images of one file."""
    first = Path(load_samples(run.samples)["path"].iloc[0])
    names = [file.name for file in image_files(first)]
    if len(names) == 1:
        return ()
    stem = first.name.partition("{")[0].rstrip("_")
    return load_found(run.found).files or tuple("{id}" + name.removeprefix(stem) for name in names)
