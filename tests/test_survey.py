"""The survey of training images: their number, median size and greyness."""

from pathlib import Path

import numpy as np
import pytest
from conftest import naming
from PIL import Image

from foldsmith.data.survey import SAMPLE_SIZE, survey_images
from foldsmith.errors import InputError
from foldsmith.recipes import DatasetFacts


def save(folder: Path, name: str, size: tuple[int, int], mode: str = "RGB") -> str:
    """Save noise of that size (width, height); mode `grey RGB` has three equal channels. Return `name`."""
    width, height = size
    draws = np.random.default_rng(0)
    grey = draws.integers(0, 256, (height, width), dtype=np.uint8)
    if mode == "L":
        picture = Image.fromarray(grey)
    elif mode == "grey RGB":
        picture = Image.fromarray(grey).convert("RGB")
    else:
        picture = Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    picture.save(folder / name)
    return name


def test_the_side_is_that_of_a_square_of_the_median_area(tmp_path: Path) -> None:
    sizes = [(10, 10), (100, 50), (400, 300)]  # the square root of 5,000 pixels is 70.7
    images = [save(tmp_path, f"{number}.png", size) for number, size in enumerate(sizes)]
    assert survey_images(tmp_path, images) == DatasetFacts(num_images=3, side=71, grey=False)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_large_images_keep_their_size_though_they_are_decoded_small(suffix: str, tmp_path: Path) -> None:
    assert survey_images(tmp_path, [save(tmp_path, f"a{suffix}", (600, 600))]) == DatasetFacts(1, 600, False)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("mode", ["L", "grey RGB"])
def test_images_without_a_colour_are_grey_however_they_are_stored(
    suffix: str, mode: str, tmp_path: Path
) -> None:
    images = [save(tmp_path, f"{number}{suffix}", (300, 300), mode) for number in range(3)]
    assert survey_images(tmp_path, images).grey


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK"])
def test_one_image_with_a_colour_is_enough(mode: str, tmp_path: Path) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    images = [save(tmp_path, "a.png", (20, 20), "L"), save(tmp_path, f"b{suffix}", (20, 20), mode)]
    assert not survey_images(tmp_path, images).grey


def test_of_many_images_an_evenly_spread_sample_is_read(tmp_path: Path) -> None:
    small, large = save(tmp_path, "small.png", (10, 10)), save(tmp_path, "large.png", (30, 30))
    read: list[str] = []

    class Listing(list):
        def __getitem__(self, index: int) -> str:
            read.append(index)
            return super().__getitem__(index)

    images = Listing([small] * 30_000 + [large] * 10_000)
    assert survey_images(tmp_path, images) == DatasetFacts(40_000, 10, False)
    assert len(read) == SAMPLE_SIZE and read == sorted(set(read))
    gaps = np.diff([-1, *read, len(images)])
    assert gaps.max() <= 2 * len(images) / SAMPLE_SIZE
    assert survey_images(tmp_path, [small] * 10_000 + [large] * 30_000).side == 30


def test_unreadable_images_are_ignored(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    good = [save(tmp_path, f"{number}.png", (40, 40), "L") for number in range(2)]
    (tmp_path / "cut.png").write_bytes((tmp_path / good[0]).read_bytes()[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert survey_images(tmp_path, [*good, "cut.png", "empty.jpg", "gone.jpg"]) == DatasetFacts(5, 40, True)
    with pytest.raises(InputError, match=naming(2, "empty.jpg")):
        survey_images(tmp_path, ["empty.jpg", "gone.jpg"])
    assert capfd.readouterr().err == ""
