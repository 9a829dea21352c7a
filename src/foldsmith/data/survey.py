"""A look at some of the training images, which tells of all."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from foldsmith.data.headers import claimed_size
from foldsmith.data.images import collected_warnings, decode_image, facts_of
from foldsmith.errors import InputError
from foldsmith.recipes import DatasetFacts

LOOKED_AT = 256  # images, evenly spaced in the order of their names: a fraction of a second
LEAST = 32  # pixels; large JPEGs are decoded at an eighth, which has their colours


def look_at(folder: Path, images: Sequence[str]) -> DatasetFacts:
    """The facts of these images of a competition folder.

    Unreadable ones tell nothing. Raises InputError if all that are looked at are.
    """
    count = min(len(images), LOOKED_AT)
    sides, grey, reasons = [], True, []
    # what decoders warn of is told when all images are decoded
    with collected_warnings():
        for place in range(count):
            path = folder / images[place * len(images) // count]
            try:
                facts = facts_of(decode_image(path, LEAST))
                width, height = claimed_size(path.read_bytes()) or (facts.width, facts.height)
            except ValueError as reason:
                reasons.append(f"{path}: {reason}")
                continue
            sides.append((width * height) ** 0.5)
            grey = grey and facts.grey
    if not sides:
        raise InputError(f"none of {count} training images can be read (first: {reasons[0]}).")
    return DatasetFacts(num_images=len(images), side=round(median(sides)), grey=grey)
