"""Image files that are none of the data set's own: a second copy of the download, and masks of the images."""

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

from foldsmith.competition.listing import Listing, words_of
from foldsmith.errors import first_of

# plural, since `mask` is the name of a class in data sets of faces
MASK_WORDS = {"masks", "trimaps", "segmentations", "groundtruth", "groundtruths"}
COMPARED = 20  # pairs of files whose bytes are compared
TWINS = 0.9  # share of the files of a folder of masks that are called like images


def leave_out_copies_and_masks(root: Path, listing: Listing) -> tuple[Listing, list[str]]:
    """Return the listing without copies and masks of images, and a sentence on each kind."""
    images, evidence = _without_copies(root, listing.images)
    images, said = _without_masks(images)
    return replace(listing, images=images), [*evidence, *said]


def _without_copies(root: Path, images: list[str]) -> tuple[list[str], list[str]]:
    """Return the images without a second copy of them all, in a folder of the same name or in other case.

    Downloads have chest_xray/chest_xray/ inside chest_xray/, or Train/ beside train/.
    """
    first: dict[tuple[str, ...], str] = {}
    pairs = []
    for image in sorted(images, key=lambda path: path.count("/")):
        known = first.setdefault(_plain_parts(image), image)
        if known != image:
            pairs.append((known, image))
    if not pairs or any((root / one).stat().st_size != (root / other).stat().st_size for one, other in pairs):
        return images, []
    sample = pairs[:: max(1, len(pairs) // COMPARED)]
    if any((root / one).read_bytes() != (root / other).read_bytes() for one, other in sample):
        return images, []
    copies = {copy for _, copy in pairs}
    known, copy = pairs[0]
    said = f"{len(copies):,} images are second copies of others and not used (first: {copy}, of {known})"
    return [image for image in images if image not in copies], [said]


def _plain_parts(image: str) -> tuple[str, ...]:
    """Return the components of a path in lower case, a folder inside one of the same name left out."""
    parts = image.lower().split("/")
    return tuple(name for index, name in enumerate(parts) if index == 0 or name != parts[index - 1])


def _without_masks(images: list[str]) -> tuple[list[str], list[str]]:
    """Return the images without the folders of masks, whose files are called like the images."""
    folders = {folder: any(MASK_WORDS & set(words_of(name)) for name in folder.split("/"))
               for folder in set(map(os.path.dirname, images))}  # fmt: skip
    masks = [image for image in images if folders[os.path.dirname(image)]]
    if not masks:
        return images, []
    left_out = set(masks)
    others = {PurePosixPath(image).stem for image in images if image not in left_out}
    twins = [image for image in masks if _plain_stem(image) in others]
    if len(twins) < TWINS * len(masks):
        return images, []
    names = first_of(dict.fromkeys(map(os.path.dirname, masks)))
    said = f"{names} ({len(masks):,} images): masks of other images, not used"
    return [image for image in images if image not in left_out], [said]


def _plain_stem(image: str) -> str:
    """Return a mask's name without the word for a mask at its end."""
    stem = PurePosixPath(image).stem
    head, _, tail = stem.rpartition("_")
    return head if head and tail.lower() in ("mask", "masks", "segmentation", "seg", "trimap") else stem
