"""A competition folder: its settings, its training and test images, and its tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from foldsmith.competition.archives import unpack_archives
from foldsmith.competition.array_shapes import image_axes
from foldsmith.competition.left_out import leave_out_copies_and_masks
from foldsmith.competition.listing import Listing, list_folder, refuse_unsupported
from foldsmith.competition.long_form import widen_tables
from foldsmith.competition.pixel_tables import find_pixel_tables, names_tables, write_pixel_tables
from foldsmith.competition.settings import FILE_NAME, Settings, read_settings
from foldsmith.competition.stacks import stack_files
from foldsmith.competition.subsets import split_subsets
from foldsmith.competition.tables import Catalog
from foldsmith.competition.text_tables import read_text_tables
from foldsmith.errors import InputError, first_of, nearest_name
from foldsmith.process.terminal import printable

if TYPE_CHECKING:
    from foldsmith.competition.sample import Sample


FEWEST_ARRAYS = 10  # fewer hold many images each


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
    evidence: Sequence[str] = ()
    tables: Catalog | None = None

    @property
    def root(self) -> Path:
        return self.unpacked or self.folder

    @cached_property
    def sample(self) -> "Sample | None":
        """Return the sample submission, found once. Raise InputError if several tables could be it."""
        from foldsmith.competition.sample import find_sample  # which needs this module

        return find_sample(self)

    @property
    def settings_path(self) -> Path:
        return self.folder / FILE_NAME

    @cached_property
    def catalog(self) -> Catalog:
        """Return the tables, listed when they are first needed if nobody has read them."""
        return self.tables or Catalog(self.root, list_folder(self.root).tables)


def read_competition(
    folder: Path, cache: Path | None = None, settings: Settings | None = None
) -> Competition:
    """List a competition folder; unpack its archives into `cache`. Raise InputError if it is not one.

    Without a cache archives are left alone. `settings` replace those of the folder's competition.toml.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.{_neighbours_of(folder)}")
    settings = settings or read_settings(folder)
    listing, root, evidence = list_folder(folder), folder, []
    if listing.archives and cache:
        root, evidence = unpack_archives(folder, listing.archives, cache)
        listing = list_folder(root)
    pixel_tables = find_pixel_tables(root, listing, settings) if cache else []
    if pixel_tables:
        root, written = write_pixel_tables(folder, root, pixel_tables, cache)
        listing, evidence = list_folder(root), [*evidence, *written]
    listing, said = _choose_images(root, listing)
    evidence += said
    texts = read_text_tables(root, listing.others, listing.images)
    catalog = Catalog(root, listing.tables, texts)
    _refuse_images_in_tables(root, listing, catalog)
    evidence += widen_tables(catalog, listing.images)
    images, stacked = stack_files(listing.images, settings.files, catalog, folder / FILE_NAME)
    listing = replace(listing, images=images)
    decided = (
        replace(settings, train_images=(), test_images=())
        if names_tables(settings, pixel_tables)
        else settings
    )
    train, test, sentences = split_subsets(folder, listing, decided, catalog)
    listing = replace(listing, others=[path for path in listing.others if path not in texts])
    return Competition(
        folder,
        settings,
        train,
        test,
        other_files=_files_beside([*train, *test], listing),
        unpacked=None if root == folder else root,
        evidence=[*evidence, *stacked, *sentences],
        tables=catalog,
    )


def _choose_images(root: Path, listing: Listing) -> tuple[Listing, list[str]]:
    """Return the listing with the files that are images of the data set, and sentences.

    Arrays are images where there are no image files. Raise InputError if there is nothing that can be read.
    """
    arrays = [path for path in listing.unsupported if path.lower().endswith(".npy")]
    if not listing.images and len(arrays) >= FEWEST_ARRAYS and image_axes(_shape_of(root / arrays[0])):
        said = f"{len(arrays):,} arrays of numpy are the images (first: {arrays[0]})"
        return replace(listing, images=arrays), [said]
    refuse_unsupported(root, listing)
    return leave_out_copies_and_masks(root, listing)


def _shape_of(path: Path) -> tuple[int, ...]:
    """Return the shape of a saved array, of which only the header is read; empty if there is none."""
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, OSError, EOFError):
        return ()


def _neighbours_of(folder: Path) -> str:
    """Return a sentence with the nearest of the folders beside a missing one, and all; empty without any."""
    parent = folder.parent
    beside = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    visible = sorted(name for name in beside if not name.startswith("."))
    nearest = nearest_name(folder.name, visible)
    hint = f" Did you mean {parent / nearest}?" if nearest else ""
    place = "this folder" if parent == Path() else parent
    return f"{hint} In {place} there are: {', '.join(visible)}." if visible else ""


def _files_beside(images: list[str], listing: Listing) -> list[str]:
    """Return the files that are no images, in the top folders of the images."""
    tops = {image.partition("/")[0] for image in images if "/" in image}
    used = set(images)
    files = [*listing.others, *(path for path in listing.unsupported if path not in used)]
    return [printable(path) for path in files if "/" in path and PurePosixPath(path).parts[0] in tops]


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
