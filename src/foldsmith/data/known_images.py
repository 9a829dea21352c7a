"""Images that the network of the initial weights has seen: signs of ImageNet's, and those of our runs."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.recipes.weight_names import trained_here
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_folds, load_samples

# names of ImageNet's files, and of its classes, which are WordNet ids
IMAGE_NAME = re.compile(r"ILSVRC20\d\d_\w+|n\d{8}_\d+")
CLASS_ID = re.compile(r"n\d{8}")
LEAST_SHARE = 0.5  # of the classes that are ImageNet's
LEAST_CLASSES = 2  # one name is the same by chance


def find_known_images(paths: Iterable[str], classes: pd.DataFrame) -> str:
    """Return a sentence with the signs that training images are ImageNet's; empty without any.

    `paths` are those of the training images, `classes` is classes.csv. Signs are file names, and at least
    half of the classes named by a WordNet id or as a class of ImageNet-1k.
    """
    signs = [*_sign_of_files(list(paths)), *_sign_of_classes(classes)]
    if not signs:
        return ""
    return (
        f"{' and '.join(signs)}: the network of the pretrained weights may have seen these very images, so "
        "the score may be too good."
    )


def find_trained_images(weights: Path, digests: Iterable[str]) -> str:
    """Return a sentence if a fold of an earlier run, whose `weights` these are, was trained on these images.

    `digests` are those of the training images. Empty for other weights.
    """
    trained = trained_here(weights)
    if trained is None:
        return ""
    run = RunPaths(trained.fold.parent)
    if not (run.samples.is_file() and run.folds.is_file()):
        return ""
    folds = load_folds(run.folds)
    paths = set(folds.loc[folds["fold"].map(run.fold) != trained.fold, "path"])
    samples = load_samples(run.samples)
    seen = set(samples.loc[samples["path"].isin(paths), "digest"])
    known = [digest in seen for digest in digests]
    if not any(known):
        return ""
    return (
        f"{sum(known):,} of {len(known):,} training images are among those that {weights} was trained on, so "
        "the score is too good: start from weights of other images."
    )


def _sign_of_files(paths: Sequence[str]) -> list[str]:
    named = [path for path in paths if IMAGE_NAME.fullmatch(PurePosixPath(path).stem)]
    if not named:
        return []
    return [f"{len(named):,} of {len(paths):,} training images are named like ImageNet's (first: {named[0]})"]


def _sign_of_classes(classes: pd.DataFrame) -> list[str]:
    """Return the sign of the classes' names, categories or folders, whichever says more."""
    if "class_name" not in classes or "category" not in classes:
        return []
    names = list(classes["class_name"].astype(str))
    ids = [word for word in classes["category"].astype(str) if CLASS_ID.fullmatch(word)]
    ids = ids or [name for name in names if CLASS_ID.fullmatch(name)]
    if _enough(ids, names):
        return [f"{len(ids):,} of {len(names):,} classes have WordNet ids (first: {ids[0]})"]
    known = imagenet_names()
    shared = [name for name in names if _plain(name) in known]
    if _enough(shared, names):
        return [f"{len(shared):,} of {len(names):,} class names are ImageNet-1k's (first: {shared[0]})"]
    return []


def _enough(known: Sequence[str], names: Sequence[str]) -> bool:
    return len(known) >= LEAST_CLASSES and len(known) >= LEAST_SHARE * len(names)


def imagenet_names() -> set[str]:
    """Return every name of every class of ImageNet-1k, as timm lists them, in plain spelling."""
    from timm.data import ImageNetInfo

    descriptions = ImageNetInfo("imagenet-1k").label_descriptions()
    return {_plain(name) for description in descriptions for name in description.split(",")}


def _plain(name: str) -> str:
    """Return a name in lower case, with spaces between its words."""
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
