"""Estimate image size and greyness of a data set from a sample of its images."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from foldsmith.data.headers import claimed_size
from foldsmith.data.images import collected_warnings, decode_image, facts_of, image_files
from foldsmith.errors import InputError
from foldsmith.recipes import DatasetFacts

SAMPLE_SIZE = 256  # images, evenly spaced in name order; decoding them takes a fraction of a second
MIN_SIDE = 32  # pixels, to which large JPEGs may be reduced when decoded: greyness shows at any size


def survey_images(folder: Path, images: Sequence[str], channels: int = 3) -> DatasetFacts:
    """Return number, median size and greyness of the images of a competition folder, from a sample of them.

    `channels` is how many the images can have (`most_channels`). Unreadable images are skipped. Raise
    InputError if the whole sample is unreadable.
    """
    count = min(len(images), SAMPLE_SIZE)
    sides, grey, reasons = [], True, []
    # decoders' warnings are discarded here: prepare.py prints them when it decodes all images
    with collected_warnings():
        for index in range(count):
            path = folder / images[index * len(images) // count]
            try:
                facts = facts_of(decode_image(path, MIN_SIDE, channels=channels))
                width, height = claimed_size(image_files(path)[0].read_bytes()) or (facts.width, facts.height)
            except ValueError as error:
                reasons.append(f"{path}: {error}")
                continue
            sides.append((width * height) ** 0.5)
            grey = grey and facts.grey
    if not sides:
        raise InputError(
            f"none of {count} training images can be read (first: {reasons[0]}); "
            f"check the images in {folder}."
        )
    return DatasetFacts(len(images), side=round(median(sides)), grey=grey, channels=channels)
