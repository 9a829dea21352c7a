"""The channels of a competition's images: three, or four where every image is four files."""

from collections.abc import Sequence
from pathlib import Path

from foldsmith.data.images import FOUR, image_files
from foldsmith.errors import InputError
from foldsmith.recipes import Recipe


def most_channels(images: Sequence[str]) -> int:
    """Return the channels that all these images have: FOUR if every one is four files, otherwise 3."""
    return FOUR if images and all(_count_files(image) == FOUR for image in images) else 3


def check_channels(recipe: Recipe, images: Sequence[str]) -> None:
    """Raise InputError if the recipe takes FOUR channels, and an image is not four files."""
    fewer = [image for image in images if recipe.channels == FOUR and _count_files(image) != FOUR]
    if fewer:
        count = _count_files(fewer[0])
        raise InputError(
            f"recipe '{recipe.name}': channels={FOUR} is for images of four files each, and {fewer[0]} is "
            f"{'one file' if count == 1 else f'{count} files'}; --set channels=3."
        )


def describe_dropped(recipe: Recipe, images: Sequence[str]) -> list[str]:
    """Return a sentence if images have a fourth file that the recipe does not use."""
    longer = [image for image in images if recipe.channels < FOUR and _count_files(image) == FOUR]
    if not longer:
        return []
    kept = "--set channels=4 keeps it" if len(longer) == len(images) else "some images have fewer"
    fourth = image_files(Path(longer[0]))[FOUR - 1]
    return [f"channels={recipe.channels} drops the fourth file of an image, such as {fourth} ({kept})"]


def _count_files(image: str) -> int:
    return len(image_files(Path(image))) if "{" in image else 1
