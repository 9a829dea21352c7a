"""A competition folder: its settings, its training and test images, and its tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from foldsmith.competition.archives import unpack_archives
from foldsmith.competition.listing import Listing, list_folder, refuse_unsupported
from foldsmith.competition.pixel_tables import find_pixel_tables, write_pixel_tables
from foldsmith.competition.settings import FILE_NAME, Settings, read_settings
from foldsmith.competition.stacks import stack_files
from foldsmith.competition.subsets import split_subsets
from foldsmith.competition.tables import Catalog
from foldsmith.errors import InputError, first_of
from foldsmith.process.terminal import printable


@dataclass(frozen=True)
class Competition:
    """A folder with training images, test images and labels.

    Images are named by their POSIX path below `root`, such as `train/0.jpg`: the folder itself, or the one
    its archives were unpacked into, `unpacked`. `other_files` are the files beside the images that are
    neither images nor tables. `evidence` are sentences on how the images were found.
    """

    folder: Path
    settings: Settings
    train_images: list[str]
    test_images: list[str]
    other_files: Sequence[str] = ()
    unpacked: Path | None = None
    table_paths: Sequence[str] | None = None
    evidence: Sequence[str] = ()

    @property
    def root(self) -> Path:
        return self.unpacked or self.folder

    @property
    def settings_path(self) -> Path:
        return self.folder / FILE_NAME

    @cached_property
    def catalog(self) -> Catalog:
        """Return the tables, read from disk when they are first needed."""
        paths = list_folder(self.root).tables if self.table_paths is None else list(self.table_paths)
        return Catalog(self.root, paths)


def read_competition(folder: Path, cache: Path | None = None) -> Competition:
    """List a competition folder; unpack its archives into `cache`. Raise InputError if it is not one.

    Without a cache archives are left alone.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.{_neighbours_of(folder)}")
    settings, listing, root, evidence = read_settings(folder), list_folder(folder), folder, []
    if listing.archives and cache:
        root, evidence = unpack_archives(folder, listing.archives, cache)
        listing = list_folder(root)
    pixel_tables = find_pixel_tables(root, listing) if cache else []
    if pixel_tables:
        root, written = write_pixel_tables(folder, root, pixel_tables, cache)
        listing, evidence = list_folder(root), [*evidence, *written]
    refuse_unsupported(root, listing)
    catalog = Catalog(root, listing.tables)
    _refuse_images_in_tables(root, listing, catalog)
    images, stacked = stack_files(listing.images, settings.files, catalog, folder / FILE_NAME)
    listing, evidence = replace(listing, images=images), [*evidence, *stacked]
    train, test, sentences = split_subsets(folder, listing, settings, catalog)
    others = _files_beside([*train, *test], listing)
    unpacked = None if root == folder else root
    competition = Competition(
        folder, settings, train, test, others, unpacked, listing.tables, [*evidence, *sentences]
    )
    competition.__dict__["catalog"] = catalog  # the tables that were read already
    return competition


def _neighbours_of(folder: Path) -> str:
    """Return a sentence that lists the folders beside a missing folder; empty if there are none."""
    parent = folder.parent
    near = sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []
    return f" {parent} holds: {', '.join(near)}." if near else ""


def _files_beside(images: list[str], listing: Listing) -> list[str]:
    """Return the files that are no images, in the top folders of the images."""
    tops = {PurePosixPath(image).parts[0] for image in images if "/" in image}
    files = [path for path in listing.others if "/" in path and PurePosixPath(path).parts[0] in tops]
    return [printable(path) for path in files]


def _refuse_images_in_tables(root: Path, listing: Listing, catalog: Catalog) -> None:
    """Raise InputError if there are no image files, naming a table that holds the numbers of images."""
    if listing.images:
        return
    for path in listing.tables:
        table = catalog.read(path)
        if table is None or table.empty:
            continue
        for column in dict.fromkeys(table.columns):
            count = len(str(table.iloc[0, list(table.columns).index(column)]).split())
            if count >= 64:
                raise InputError(
                    f"{root / path} holds images as numbers (column '{column}', {count:,} numbers a "
                    "row), which "
                    "foldsmith does not read; convert them to image files (PNG) in train/ and test/, "
                    "and a CSV "
                    "with the columns id,label."
                )
    held = first_of([*listing.tables, *listing.others], 5) or "nothing"
    raise InputError(
        f"{root} has no images (it holds {held}); add training images in train/ and test images in test/."
    )
