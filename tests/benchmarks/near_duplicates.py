"""Add altered copies of images to a competition's own, and measure how many are found, and false positives.

.venv/bin/python tests/benchmarks/near_duplicates.py input/tiny80
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SRC = Path(__file__).parents[2] / "src"


def save_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def resize(picture: Image.Image, factor: float) -> Image.Image:
    size = max(1, round(factor * picture.width)), max(1, round(factor * picture.height))
    return picture.resize(size, Image.Resampling.BICUBIC)


MIRRORED, TURNED = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90
COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda picture: picture.copy(),
    "JPEG, quality 75": lambda picture: save_jpeg(picture, 75),
    "JPEG, quality 30": lambda picture: save_jpeg(picture, 30),
    "resized to 50 %": lambda picture: resize(picture, 0.5),
    "resized to 70 %, JPEG 75": lambda picture: save_jpeg(resize(picture, 0.7), 75),
    "resized to 160 %": lambda picture: resize(picture, 1.6),
    "mirrored, JPEG 80": lambda picture: save_jpeg(picture.transpose(MIRRORED), 80),
    "turned, JPEG 80": lambda picture: save_jpeg(picture.transpose(TURNED), 80),
    "15 % brighter": lambda picture: picture.point(lambda value: min(255, round(1.15 * value))),
    "border of 2.5 % cut off": lambda picture: picture.crop(
        (
            round(0.025 * picture.width),
            round(0.025 * picture.height),
            round(0.975 * picture.width),
            round(0.975 * picture.height),
        )
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a competition folder")
    parser.add_argument("--count", type=int, default=1000, help="copies of each kind (1000; 0: none)")
    parser.add_argument("--bits", type=int, default=7, help="bits in which hashes may differ (7)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(SRC))
    from foldsmith.data.cache import THUMBNAIL
    from foldsmith.data.duplicates import join_pairs
    from foldsmith.data.images import decode_image, resize_image
    from foldsmith.data.near_duplicates import find_near_duplicates

    paths = sorted(path for subset in ("train", "test") for path in (arguments.folder / subset).rglob("*.*"))
    thumbnails = np.stack([resize_image(decode_image(path), THUMBNAIL) for path in paths])
    begun = time.monotonic()
    before = find_near_duplicates(thumbnails, arguments.bits)
    print(f"{len(paths):,} images of {arguments.folder}: {len(before)} pairs before copies are added, "
          f"{time.monotonic() - begun:.1f} s")  # fmt: skip
    for one, other in before[:20]:
        print(f"  {paths[one]} {paths[other]}")
    print(f"the largest group has {np.bincount(join_pairs(before, len(paths))).max():,} images")
    if arguments.count == 0:
        return
    chosen = np.sort(np.random.default_rng(0).choice(len(paths), arguments.count, replace=False))
    pictures = [Image.open(paths[row]).convert("RGB") for row in chosen]
    for kind, copy in COPIES.items():
        planted = np.stack([resize_image(np.asarray(copy(picture)), THUMBNAIL) for picture in pictures])
        pairs = find_near_duplicates(np.concatenate([thumbnails, planted]), arguments.bits)
        groups = join_pairs(pairs, len(paths) + len(planted))
        found = groups[len(paths) :] == groups[chosen]
        elsewhere = groups[len(paths) :] < len(paths)  # in a group of other images
        print(
            f"{kind}: found {found.mean():.1%} of {arguments.count}, "
            f"{(elsewhere & ~found).sum()} false positives"
        )


if __name__ == "__main__":
    main()
