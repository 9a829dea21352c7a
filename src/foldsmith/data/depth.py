"""The bits that the 16-bit images of a data set use: medical and scientific ones rarely use all."""

from collections.abc import Sequence
from pathlib import Path

from foldsmith.data.headers import claimed_size
from foldsmith.data.images import DEPTH, bits_of, has_16_bits, image_files, read_image_file

SAMPLE_SIZE = 256  # images, evenly spaced in name order
SUFFIXES = {".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2"}


def find_depth(folder: Path, images: Sequence[str]) -> int:
    """Return the bits that the largest value of the 16-bit training images needs, at least 8.

    It is estimated from a sample. Without a 16-bit image, or where all bits are used, it is DEPTH: values are
    then divided by 256 as they are.
    """
    count, used = min(len(images), SAMPLE_SIZE), 0
    for index in range(count):
        for path in image_files(folder / images[index * len(images) // count]):
            if path.suffix.lower() not in SUFFIXES:
                continue
            try:
                data = read_image_file(path)
                claimed_size(data)  # a bomb is not decoded
            except ValueError:  # prepare.py says what is wrong with the file
                continue
            if has_16_bits(data):
                used = max(used, bits_of(data))
    return used or DEPTH
