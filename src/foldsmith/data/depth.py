"""The bits that the 16-bit images of a data set use: medical and scientific ones rarely use all."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from foldsmith.data.headers import claimed_size
from foldsmith.data.images import DEPTH, bits_of, has_16_bits, image_files, read_image_file

SAMPLE_SIZE = 256  # images, evenly spaced in name order
SUFFIXES = {".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2"}


class Depth(NamedTuple):
    """Bits of the 16-bit images of a data set: those that are mapped to 8, and those that most images need.

    Where there is no such image both are DEPTH: values are then divided by 256 as they are.
    """

    used: int
    usual: int


def find_depth(folder: Path, images: Sequence[str]) -> Depth:
    """Return the bits that the largest value of the 16-bit training images needs, at least 8, by a sample.

    The usual bits are the median over the images.
    """
    count, bits = min(len(images), SAMPLE_SIZE), list[int]()
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
                bits.append(bits_of(data))
    return Depth(max(bits, default=DEPTH), sorted(bits)[len(bits) // 2] if bits else DEPTH)
