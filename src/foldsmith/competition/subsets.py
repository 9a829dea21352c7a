"""Which images are training and which are test images: by settings, folders, tables and file names."""

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from foldsmith.competition.listing import (
    UNSUPPORTED,
    Listing,
    folder_subset,
    pieces_of_archives,
    subset_of,
    words_of,
)
from foldsmith.competition.roles import (
    image_columns,
    images_of_rows,
    is_sample_name,
    is_test_name,
    subset_cells,
    subset_column,
)
from foldsmith.competition.settings import FILE_NAME, Settings
from foldsmith.competition.spellings import Names, match_ids
from foldsmith.competition.tables import Catalog
from foldsmith.errors import InputError, first_of

LISTED = 0.9  # share of the lines of a text file that name images, if it is a list of them
Split = tuple[list[str], list[str], list[str]]  # training images, test images, evidence


def split_subsets(folder: Path, listing: Listing, settings: Settings, catalog: Catalog) -> Split:
    """Return training images, test images, and sentences on how they were told apart.

    Raise InputError if either is missing, or if nothing tells them apart.
    """
    images = listing.images
    if settings.train_images or settings.test_images:
        train, test, evidence = _by_settings(folder, images, settings)
    elif any(map(folder_subset, images)):
        train, test, evidence = _by_folders(images, catalog)
    else:
        found = _by_lists(listing, catalog.root) or _by_tables(images, catalog) or _by_file_names(images)
        train, test, evidence = found or ([], [], [])
    if not train and not test and images:
        raise InputError(_nothing_tells(folder, images))
    for name, found in (("train", train), ("test", test)):
        if not found:
            raise InputError(_nothing_found(folder, name, listing))
    return train, test, evidence


def _nothing_found(folder: Path, name: str, listing: Listing) -> str:
    """Return the message for a folder without training or test images."""
    images = listing.images
    if message := pieces_of_archives(listing):
        return message
    kind = "training" if name == "train" else "test"
    closed = [path for path in listing.unsupported if subset_of(PurePosixPath(path).name) == name]
    if closed:
        what = UNSUPPORTED[PurePosixPath(closed[0]).suffix.lower()]
        return (
            f"{folder} has no {kind} images: {closed[0]} is {what}, which foldsmith does not read; convert "
            f"it to image files in {name}/."
        )
    held = [f"{path}/ ({count:,})" for path, count in folders_of(images).items()]
    what = f"images lie in {first_of(held, 5)}" if held else "there are no image files"
    return (
        f"{folder} has no {kind} images: no folder's name says {name}/, and no table names them; {what}. Set "
        f'{name}_images = ["FOLDER"] in {folder / FILE_NAME}.'
    )


def _nothing_tells(folder: Path, images: list[str]) -> str:
    """Return the message for images of which nothing says whether they are training or test images."""
    held = [f"{path or '.'}/ ({count:,})" for path, count in folders_of(images).items()]
    return (
        f"{folder}: nothing tells training images from test images: the name of no folder or file says train "
        f"or test, and no table or list names the test images alone; images lie in {first_of(held, 5)}. Set "
        f'train_images = ["FOLDER"] and test_images = ["FOLDER"] in {folder / FILE_NAME} (a pattern such as '
        '"images/9*.jpg" will do), or put the images to be predicted into a folder test/.'
    )


def folders_of(images: Iterable[str], depth: int = 2) -> dict[str, int]:
    """Return the top folders of images, at most `depth` deep and as deep as they say a subset, and counts."""
    counts: Counter[str] = Counter()
    for folder, count in Counter(map(os.path.dirname, images)).items():
        parents = PurePosixPath(folder).parts[:depth]
        said = [index for index, name in enumerate(parents) if subset_of(name)]
        counts["/".join(parents[: said[0] + 1] if said else parents[:1])] += count
    return dict(counts)


def folder_names(images: Iterable[str]) -> set[str]:
    """Return the names of all folders above images."""
    return {name for folder in set(map(os.path.dirname, images)) for name in PurePosixPath(folder).parts}


def common_folder(images: Iterable[str]) -> str:
    """Return the innermost folder that all images lie in; empty if that is the competition's."""
    return os.path.commonpath(folders) if (folders := set(map(os.path.dirname, images))) - {""} else ""


def _by_settings(folder: Path, images: list[str], settings: Settings) -> Split:
    """Return the images that train_images and test_images name; the rest is for the one that is not set."""
    chosen = {}
    for key in ("train_images", "test_images"):
        patterns = [pattern.rstrip("/") for pattern in getattr(settings, key)]
        chosen[key] = [image for image in images if any(_matches(image, pattern) for pattern in patterns)]
        empty = [pattern for pattern in patterns if not any(_matches(image, pattern) for image in images)]
        if empty:
            raise InputError(
                f"{folder / FILE_NAME}: {key} names {first_of(empty)}, and no image lies there; images lie "
                f"in {first_of(folders_of(images), 5)}."
            )
    both = set(chosen["train_images"]) & set(chosen["test_images"])
    if both:
        raise InputError(
            f"{folder / FILE_NAME}: train_images and test_images share {len(both)} images (first: "
            f"{min(both)})."
        )
    train, test = chosen["train_images"], chosen["test_images"]
    used = {*train, *test}
    rest = [image for image in images if image not in used]
    if not settings.train_images:
        train = [image for image in rest if folder_subset(image) != "test"]
    if not settings.test_images:
        named = [image for image in rest if folder_subset(image) == "test"]
        test = named or rest
    return train, test, [f"{FILE_NAME} names the training or test images"]


def _matches(image: str, pattern: str) -> bool:
    return image == pattern or image.startswith(f"{pattern}/") or fnmatch.fnmatchcase(image, pattern)


def _by_folders(images: list[str], catalog: Catalog) -> Split:
    """Return the images by the words train, val and test in the names of their folders."""
    common = len(PurePosixPath(os.path.commonpath(set(map(os.path.dirname, images)))).parts)
    subsets = {image: folder_subset(image, common) for image in images}
    if not any(subsets.values()):
        subsets = {image: folder_subset(image) for image in images}
    by: dict[str, list[str]] = {name: [] for name in ("train", "val", "test", "")}
    for image, subset in subsets.items():
        by[subset].append(image)
    evidence = []
    if not by["test"] and by["train"]:
        wanted = _named_by_samples([*by[""], *by["val"]], catalog)
        if wanted:
            by["test"] = wanted
            evidence.append(f"the sample submission names {len(wanted):,} images, which are the test images")
        elif by["val"]:
            by["test"], by["val"] = by["val"], []
            evidence.append("there is no test folder: the validation images are predicted as the test images")
    if not by["train"] and by["test"]:
        by["train"], by[""] = by[""] or by["val"], []
        by["val"] = [] if by["train"] is by["val"] else by["val"]
    if by["val"]:
        evidence.append(
            f"{first_of(folders_of(by['val']))} ({len(by['val']):,} images): validation images with "
            "labels are "
            "training images as well, split into the same folds"
        )
    unused = sorted({*by[""]} - {*by["test"]})
    if unused:
        held = [folder or "the folder itself" for folder in folders_of(unused)]
        evidence.append(
            f"{first_of(held)} ({len(unused):,} images): neither train nor test by name, not used"
        )
    order = {image: index for index, image in enumerate(images)}
    return sorted([*by["train"], *by["val"]], key=order.get), sorted(by["test"], key=order.get), evidence


def _named_by_samples(images: list[str], catalog: Catalog) -> list[str]:
    """Return the images that a sample submission or a test list names."""
    names, found = Names(images), set()
    for path in catalog.paths:
        if is_sample_name(path) or is_test_name(path):
            found |= _images_named(catalog, path, names)
    return [image for image in images if image in found]


def _images_named(catalog: Catalog, path: str, names: Names) -> set[str]:
    """Return the images that a table names in the first column that names any."""
    table = catalog.read(path)
    if table is None or table.empty:
        return set()
    columns = image_columns(table, names)
    if not columns:
        return set()
    return {image for row in images_of_rows(table, columns[0], names.images) for image in row}


def _by_lists(listing: Listing, root: Path) -> Split | None:
    """Return the images by text files with an image a line, such as train_val_list.txt and test_list.txt.

    Of numbered splits (train1.txt, test1.txt, train2.txt …) the first is taken where they differ. Raise
    InputError if lists without such numbers contradict each other.
    """
    names, lists = Names(listing.images), []
    for path in listing.others:
        subset = subset_of(PurePosixPath(path).stem)
        if subset and PurePosixPath(path).suffix.lower() == ".txt":
            found = _images_of_list(root / path, names)
            if found:
                lists.append((path, "test" if subset == "test" else "train", found))
    numbers = sorted({number for path, _, _ in lists if (number := _number_of(path))}, key=int)
    evidence = []
    if numbers and (torn := _contradiction(lists)):
        evidence = [f"{torn[0]} and {torn[1]} differ: split {numbers[0]} of {len(numbers)} is used"]
        lists = [entry for entry in lists if _number_of(entry[0]) in ("", numbers[0])]
    if torn := _contradiction(lists):
        raise InputError(
            f"{torn[0]} and {torn[1]} list one image ({torn[2]}) as a training and as a test image; remove "
            f"one of them, or set train_images and test_images in {FILE_NAME}."
        )
    said = {image: subset for _, subset, found in lists for image in found}
    train, test = ([image for image in names.images if said.get(image) == name] for name in ("train", "test"))
    if not train or not test:
        return None
    paths = first_of([path for path, _, _ in lists])
    return train, test, [f"{paths} list the training and test images", *evidence]


def _images_of_list(path: Path, names: Names) -> list[str]:
    """Return the images that the lines of a text file name; none if it is no list of images."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    whole = [line.strip().lstrip("/") for line in lines if line.strip()]
    cells = [words[0] for line in whole if (words := re.split(r"[\s,;]+", line)) and words[0]]
    for entries in (cells, whole):  # names may hold spaces
        if entries and max(names.share(entries)) >= LISTED:
            try:
                return [image for image in match_ids(entries, names.images) if image is not None]
            except InputError:
                return []
    return []


def _number_of(path: str) -> str:
    """Return the number at the end of a list's name, as in train1.txt; empty without one."""
    match = re.search(r"(\d+)$", PurePosixPath(path).stem)
    return match[1] if match else ""


def _contradiction(lists: list[tuple[str, str, list[str]]]) -> tuple[str, str, str] | None:
    """Return a training list and a test list that share an image, and that image; None if none do."""
    for path, subset, images in lists:
        for other, second, listed in lists:
            if subset == "train" and second == "test" and (shared := set(images) & set(listed)):
                return path, other, min(shared)
    return None


def _by_tables(images: list[str], catalog: Catalog) -> Split | None:
    """Return the images of one folder for both by what the sample submission, test lists and labels name."""
    names = Names(images)
    split = _by_subset_column(images, names, catalog)
    if split:
        return split
    test = set(_named_by_samples(images, catalog))
    if not test:
        return None
    sources = [path for path in catalog.paths if is_sample_name(path) or is_test_name(path)]
    labelled: set[str] = set()
    for path in catalog.paths:
        if path not in sources:
            labelled |= _images_named(catalog, path, names)
    train = labelled - test or set(images) - test
    evidence = [f"one folder holds training and test images; {first_of(sources)} names the test images"]
    unused = [image for image in images if image not in train and image not in test]
    if unused:
        evidence.append(f"{len(unused):,} images are named by no table and not used (first: {unused[0]})")
    return (
        [image for image in images if image in train],
        [image for image in images if image in test],
        evidence,
    )


def _by_subset_column(images: list[str], names: Names, catalog: Catalog) -> Split | None:
    """Return the images by a column of a table that says train, val or test for each.

    Without the word test the validation images are those to be predicted.
    """
    for path in catalog.paths:
        table = catalog.read(path)
        if table is None or table.empty:
            continue
        column, ids = subset_column(table), image_columns(table, names)
        if not column or not ids:
            continue
        cells, said = subset_cells(table, column), {}
        for row, subset in zip(images_of_rows(table, ids[0], images), cells, strict=True):
            said |= dict.fromkeys(row, subset)
        predicted = "test" if "test" in said.values() else "val"
        train = [image for image in images if said.get(image) in {"train", "val"} - {predicted}]
        test = [image for image in images if said.get(image) == predicted]
        if train and test:
            return train, test, [_sentence_on(column, path, table[column], cells, predicted)]
    return None


def _sentence_on(column: str, path: str, cells: Iterable[str], said: list[str], predicted: str) -> str:
    """Return how a column tells training from test images, with the meaning of its cells."""
    meanings = {cell.strip(): subset for cell, subset in zip(cells, said, strict=True)}
    coded = [f"{cell} is {subset}" for cell, subset in sorted(meanings.items()) if cell.lower() != subset]
    shown = f" ({first_of(coded, 5)})" if coded else ""
    instead = "; without test images the validation images are predicted" if predicted == "val" else ""
    return f"the column '{column}' of {path} says which images are training and test images{shown}{instead}"


def _by_file_names(images: list[str]) -> Split | None:
    """Return the images by the word train or test at the start of their file names."""
    first = {image: (words_of(PurePosixPath(image).name) or [""])[0] for image in images}
    train = [image for image, word in first.items() if subset_of(word) in ("train", "val")]
    test = [image for image, word in first.items() if subset_of(word) == "test"]
    if not train or not test:
        return None
    return train, test, ["the names of the files say which are training and test images"]
