"""Every kind of image file through prepare.py, with its expected outcome."""

import csv
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming
from PIL import Image, ImageOps

import prepare
from foldsmith.data.cache import open_cache
from foldsmith.data.images import decode_image, facts_of
from foldsmith.errors import InputError
from foldsmith.process.files import load_json
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_problems, load_samples

HEIGHT, WIDTH = 24, 40
USED = ""  # outcome of an image decoded as by PIL; any other is a detail in problems.csv


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Return a picture without symmetries, so that a wrong orientation shows."""
    down, across = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([across * 6 % 256, down * 9 % 256, (across + down) % 256], 2).astype("u1")
    )


def saved(image: Image.Image, form: str, **words: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **words)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture(), "JPEG", quality=95, exif=exif)


def deep_png() -> bytes:
    """Return a grey PNG of 16 bits whose two bytes are equal, so that its 8 upper bits are known."""
    grey = np.asarray(picture().convert("L"))
    rows = b"".join(b"\0" + np.repeat(row, 2).tobytes() for row in grey)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )


def png_that_claims(width: int, height: int) -> bytes:
    honest = saved(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return honest[:12] + header + struct.pack(">I", zlib.crc32(header)) + honest[33:]


def jpeg_that_claims(width: int, height: int) -> bytes:
    honest = saved(picture(), "JPEG", progressive=True)
    start = honest.index(b"\xff\xc2") + 5
    return honest[:start] + struct.pack(">HH", height, width) + honest[start + 4 :]


def gif_that_claims(width: int, height: int) -> bytes:
    honest = saved(Image.new("L", (1, 1)), "GIF")
    return honest[:6] + struct.pack("<HH", width, height) + honest[10:]


def see_through_palette() -> bytes:
    return saved(picture().quantize(64), "PNG", transparency=bytes(range(0, 256, 4)))


def see_through(form: str) -> bytes:
    image = picture()
    image.putalpha(Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8) * 6, (HEIGHT, 1))))
    return saved(image, form)


@dataclass(frozen=True)
class Kind:
    """One image file of the zoo.

    `outcome` is USED, or a substring of the detail in problems.csv. `close` is the maximum difference of a
    pixel from PIL's.
    """

    make: Callable[[], bytes]
    outcome: str = USED
    name: str = ""
    close: int = 0


def named(name: str) -> Kind:
    return Kind(lambda: saved(picture(), "PNG"), name=name)


ZOO: dict[str, Kind] = {
    "nothing": Kind(lambda: b"", "the file is empty"),
    **{
        f"a JPEG cut at {tenth}0 %": Kind(
            lambda tenth=tenth: (whole := saved(picture(), "JPEG"))[: len(whole) * tenth // 10], "cut off"
        )
        for tenth in range(1, 10)
    },
    **{
        f"a PNG cut at {tenth}0 %": Kind(
            lambda tenth=tenth: (whole := saved(picture(), "PNG"))[: len(whole) * tenth // 10], "cut off"
        )
        for tenth in range(1, 10)
    },
    "a PNG called .jpg": Kind(lambda: saved(picture(), "PNG"), name="wrong.jpg"),
    "a WebP called .png": Kind(lambda: saved(picture(), "WEBP", lossless=True), name="wrong.png"),
    "a text called .jpg": Kind(lambda: b"404: Not Found\n", "no image", "text.jpg"),
    "a pickle called .jpg": Kind(lambda: b"\x80\x04\x95\x0b\0\0\0\0\0\0\0]\x94.", "no image", "pickle.jpg"),
    "CMYK": Kind(lambda: saved(picture().convert("CMYK"), "JPEG", quality=95), close=1),
    "16 bits": Kind(deep_png),
    "a palette with transparency": Kind(see_through_palette),
    "an RGBA TIFF, blended onto black": Kind(lambda: see_through("TIFF"), close=1),
    "an RGBA PNG, transparency dropped": Kind(lambda: see_through("PNG")),
    "an animated GIF": Kind(
        lambda: saved(picture(), "GIF", save_all=True, append_images=[picture().rotate(180)])
    ),
    "a progressive JPEG": Kind(lambda: saved(picture(), "JPEG", progressive=True)),
    **{f"EXIF orientation {turn}": Kind(lambda turn=turn: turned(turn)) for turn in range(1, 9)},
    "1 x 1": Kind(lambda: saved(picture(1, 1), "PNG")),
    "1 x 5000": Kind(lambda: saved(picture(1, 5000), "PNG")),
    "5000 x 1": Kind(lambda: saved(picture(5000, 1), "PNG")),
    "a PNG bomb": Kind(lambda: png_that_claims(20_000, 20_000), "more than the limit"),
    "a huge PNG bomb": Kind(lambda: png_that_claims(2**31 - 1, 2**31 - 1), "more than the limit"),
    "a JPEG bomb": Kind(lambda: jpeg_that_claims(65_000, 65_000), "more than the limit"),
    "a GIF bomb": Kind(lambda: gif_that_claims(65_535, 65_535), "more than the limit"),
    "a GIF bomb without a picture": Kind(lambda: gif_that_claims(65_535, 65_535)[:13], "cut off"),
    "a space": named("a b  c.png"),
    "unicode": named("Käfer 猫 🐈.png"),
    "decomposed unicode": named("Ka\u0308fer.png"),
    "a newline": named("one\ntwo.png"),
    "a carriage return": named("one\rtwo.png"),
    "quotes and commas": named("\"it's\", they said.png"),
    "a leading dash": named("-rf.png"),
    "a formula": named("=HYPERLINK(1).png"),
    "markup": named("<script>alert(1)<.png"),
    "255 bytes": named("x" * 251 + ".png"),
    "a word for nothing": named("NA.png"),
    "capitals": named("UPPER.PNG"),
}  # fmt: skip


def name_of(kind: str) -> str:
    return ZOO[kind].name or f"{list(ZOO).index(kind)}.img.png"


@dataclass(frozen=True)
class Prepared:
    folder: Path
    samples: pd.DataFrame
    problems: pd.DataFrame
    pixels: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def zoo(make_competition: MakeCompetition, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare a competition that has all kinds, links, pipes and folders among its training images."""
    folder = make_competition(labels="csv", sample=None)
    with (folder / "labels.csv").open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for number, kind in enumerate(ZOO):
            (folder / "train" / name_of(kind)).write_bytes(ZOO[kind].make())
            rows.writerow([name_of(kind), f"kind {number % 3}"])
        outside = folder.parent / "outside.png"
        picture(9, 9).save(outside)
        (folder / "train" / "link.png").symlink_to(outside)
        os.mkfifo(folder / "train" / "pipe.png")
        (folder / "train" / "zeros.png").symlink_to("/dev/zero")
        with (folder / "train" / "huge.png").open("wb") as huge:
            huge.truncate(10**12)  # a sparse file, which takes no disk space
        (folder / "train" / "folder.jpg").mkdir()
        picture(8, 8).save(folder / "train" / "folder.jpg" / "inside.png")
        for name in ("link.png", "pipe.png", "zeros.png", "huge.png", "folder.jpg/inside.png"):
            rows.writerow([name, "kind 0"])
    output = tmp_path_factory.mktemp("zoo")
    words = [str(folder), "--recipe", "quick", "--image-size", "16", "--set", "max_unreadable=1"]
    assert prepare.main([*words, "--output", str(output), "--name", "run"]) == 0
    run = RunPaths(output / "tiny" / "run")
    cache = open_cache(output / "tiny/cache" / load_json(run.stamp("prepare"))["cache"], folder, 16)
    pixels = dict(zip(cache.index["path"], cache.pixels, strict=True))
    return Prepared(folder, load_samples(run.samples), load_problems(run.problems), pixels)


@pytest.mark.parametrize("kind", ZOO)
def test_every_kind_has_its_expected_outcome(zoo: Prepared, kind: str) -> None:
    path = f"train/{name_of(kind)}"
    sample = zoo.samples[zoo.samples["path"] == path]
    problem = zoo.problems[(zoo.problems["path"] == path) & (zoo.problems["problem"] == "unreadable")]
    if ZOO[kind].outcome == USED:
        assert len(sample) == 1 and problem.empty
        with Image.open(io.BytesIO(ZOO[kind].make())) as image:
            if image.mode.startswith("I;16"):  # which PIL clips at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode == "P":  # via RGBA, as PIL would warn of dropped transparency
                image = image.convert("RGBA")
            if image.format == "TIFF":
                image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert (sample["height"].item(), sample["width"].item()) == expected.shape[:2]
        if ZOO[kind].close:
            decoded = decode_image(zoo.folder / path).astype(int)
            np.testing.assert_allclose(decoded, expected.astype(int), atol=ZOO[kind].close)
        else:
            assert sample["digest"].item() == facts_of(expected).digest
    else:
        assert sample.empty and problem["action"].tolist() == ["left out"]
        assert ZOO[kind].outcome in problem["detail"].item()
        assert not zoo.pixels[path].any()


def test_a_link_out_of_the_folder_is_followed(zoo: Prepared) -> None:
    linked = zoo.samples[zoo.samples["path"] == "train/link.png"]
    assert linked["digest"].tolist() == [facts_of(np.asarray(picture(9, 9))).digest]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("pipe.png", "no regular file"),
        ("zeros.png", "no regular file"),
        ("huge.png", "1,000,000,000,000 bytes, more than 178,956,970 pixels take"),
    ],
)
def test_pipes_devices_and_huge_files_are_no_images(zoo: Prepared, name: str, key: str) -> None:
    row = zoo.problems[zoo.problems["path"] == f"train/{name}"]
    assert row["detail"].tolist() == [key]


def test_a_folder_named_like_an_image_is_a_folder(zoo: Prepared) -> None:
    listed = {*zoo.samples["path"], *zoo.problems["path"]}
    assert "train/folder.jpg" not in listed and "train/folder.jpg/inside.png" in listed


def test_a_link_to_nowhere_is_refused_by_name(make_competition: MakeCompetition, tmp_path: Path) -> None:
    folder = make_competition()
    (folder / "train" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=naming("train/lost.png", "No such file")):
        prepare.main([str(folder), "--recipe", "quick", "--output", str(tmp_path / "output")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_reported(tmp_path: Path) -> None:
    picture().save(tmp_path / "secret.png")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ValueError, match="Permission denied"):
        decode_image(tmp_path / "secret.png")


def test_a_file_that_the_system_refuses_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    picture().save(tmp_path / "secret.png")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match="Permission denied"):
        decode_image(tmp_path / "secret.png")
