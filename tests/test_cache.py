"""The pixel cache: every image under its own path; a cache is complete or absent."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import prepare
import split
import train
from foldsmith.data import cache as cache_module
from foldsmith.data.cache import (
    PixelCache,
    build_cache,
    cache_name,
    changed_files,
    is_cached,
    listing_digest,
    open_cache,
)
from foldsmith.errors import InputError

SIZE = 16
BROKEN = ["train/4.png", "train/11.png", "test/0.png"]


def images_of(folder: Path) -> list[str]:
    """Return every image of a folder, in an order that no other code produces."""
    images = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    random.Random(0).shuffle(images)
    return images


def pil_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    """Write a competition of images of the cache's size, with an empty file, a text and a truncated image."""
    folder = make_competition(size=SIZE)
    (folder / BROKEN[0]).write_bytes(b"")
    (folder / BROKEN[1]).write_text("no image")
    (folder / BROKEN[2]).write_bytes((folder / "test/1.png").read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def cache(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelCache:
    return build_cache(tmp_path_factory.mktemp("cache") / "16px", folder, images_of(folder), SIZE)


def test_row_i_holds_the_pixels_of_image_i(folder: Path, cache: PixelCache) -> None:
    images = images_of(folder)
    assert list(cache.index["path"]) == images
    assert (cache.pixels[:].dtype, cache.pixels.shape) == (np.uint8, (len(images), SIZE, SIZE, 3))
    for row, image in enumerate(images):
        if image not in BROKEN:
            np.testing.assert_array_equal(cache.pixels[row], pil_pixels(folder / image), err_msg=image)


def test_the_index_records_the_properties_of_each_image(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "train/colour.png")
    Image.new("L", (7, 50), 90).save(tmp_path / "train/grey.png")
    shutil.copy(tmp_path / "train/grey.png", tmp_path / "train/NA.png")
    images = ["train/colour.png", "train/grey.png", "train/NA.png"]
    index = build_cache(tmp_path / "cache", tmp_path, images, 8).index
    assert list(index.columns) == ["path", "width", "height", "grey", "digest", "problem"]
    assert index["width"].tolist() == [30, 7, 7]
    assert index["height"].tolist() == [20, 50, 50]
    assert index["grey"].tolist() == [False, True, True]
    assert index["problem"].tolist() == ["", "", ""]
    assert index["digest"].nunique() == 2 and index["digest"][1] == index["digest"][2]


def test_an_unreadable_image_is_marked_and_its_pixels_are_blank(folder: Path, cache: PixelCache) -> None:
    index = cache.index.set_index("path")
    assert set(index.index[index["problem"] != ""]) == set(BROKEN)
    assert "empty" in index["problem"][BROKEN[0]]
    for image in BROKEN:
        assert not cache.pixels[images_of(folder).index(image)].any()
        assert (index["width"][image], index["height"][image], index["digest"][image]) == (0, 0, "")
    assert cache.pixels[:].reshape(len(index), -1).any(axis=1).sum() == len(index) - len(BROKEN)


@given(st.data())
def test_rows_are_found_by_path_in_any_order(cache: PixelCache, data: st.DataObject) -> None:
    paths = data.draw(st.lists(st.sampled_from(list(cache.index["path"]))))
    rows = cache.rows(paths)
    assert rows.dtype == np.int64
    assert [cache.index["path"][row] for row in rows] == paths


@pytest.mark.parametrize("absent", ["train/99.png", "0.png", ""])
def test_a_path_that_is_not_cached_is_refused(cache: PixelCache, absent: str) -> None:
    with pytest.raises(InputError, match=naming(absent, "prepare.py")):
        cache.rows(["train/0.png", absent])


def test_cached_pixels_are_read_as_copies(cache: PixelCache) -> None:
    before = cache.pixels[:]
    with pytest.raises(TypeError):
        cache.pixels[0] = 0
    images = cache.pixels[np.arange(3)]
    images[:] = 0  # a copy
    np.testing.assert_array_equal(cache.pixels[:], before)


def test_the_cache_is_the_same_when_it_is_opened_and_when_it_is_built_again(
    folder: Path, cache: PixelCache, tmp_path: Path
) -> None:
    opened, again = (
        open_cache(cache.path, folder, SIZE),
        build_cache(tmp_path / "again", folder, images_of(folder), SIZE),
    )
    for other in (opened, again):
        np.testing.assert_array_equal(other.pixels[:], cache.pixels[:])
        assert other.index.equals(cache.index)
    assert (again.path / "index.csv").read_bytes() == (cache.path / "index.csv").read_bytes()


def test_every_decoded_image_is_counted_once_as_progress(folder: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    build_cache(tmp_path / "cache", folder, images_of(folder), SIZE, counted.append)
    assert sum(counted) == len(images_of(folder))


def test_opencv_keeps_its_threads(folder: Path, tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            build_cache(tmp_path / "cache", folder, ["train/0.png"], SIZE)
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)


def test_a_failure_midway_leaves_no_cache_and_the_next_attempt_builds_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, images, before = tmp_path / "cache", images_of(folder), cv2.getNumThreads()

    def fail_later(count: int) -> None:
        done.append(count)
        if len(done) == 5:
            raise KeyboardInterrupt

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        build_cache(path, folder, images, SIZE, fail_later)
    assert not is_cached(path) and not path.exists()
    assert cv2.getNumThreads() == before

    def disk_full(destination: Path, table: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(cache_module, "save_csv", disk_full)
        with pytest.raises(OSError, match="No space left"):
            build_cache(path, folder, images, SIZE)
    assert not is_cached(path)

    assert list(build_cache(path, folder, images, SIZE).index["path"]) == images
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"]


def test_a_failure_leaves_an_older_cache_as_it_was(folder: Path, tmp_path: Path) -> None:
    def fail(count: int) -> None:
        raise KeyboardInterrupt

    older = build_cache(tmp_path / "cache", folder, ["train/0.png"], SIZE)
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "cache", folder, images_of(folder), SIZE, fail)
    assert list(open_cache(older.path, folder, SIZE).index["path"]) == ["train/0.png"]


@pytest.mark.parametrize("lost", ["index.csv", "pixels.npy", "thumbnails.npy", "record.json", ""])
def test_a_missing_or_incomplete_cache_is_refused(folder: Path, tmp_path: Path, lost: str) -> None:
    path = tmp_path / "cache"
    if lost:
        build_cache(path, folder, ["train/0.png"], SIZE)
        (path / lost).unlink()
    assert not is_cached(path)
    with pytest.raises(InputError, match="prepare.py"):
        open_cache(path, folder, SIZE)


def test_only_leftovers_of_killed_processes_are_removed(folder: Path, tmp_path: Path) -> None:
    kept = [f".16px-ab.{os.getppid()}.part", ".part", ".x.part", ".16px-ab.lock", "16px-ab"]
    for name in [*kept, ".16px-ab.999999999.part", f".16px-ab.{os.getpid()}.part"]:
        (tmp_path / name).mkdir()
    build_cache(tmp_path / "cache", folder, ["train/0.png"], SIZE)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "cache"}


def test_a_cache_that_another_machine_builds_is_kept(folder: Path, tmp_path: Path) -> None:
    # its process has no number here, and holds the lock
    building = tmp_path / ".16px-ab.999999999.part"
    building.mkdir()
    holds = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(building / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        build_cache(tmp_path / "cache", folder, ["train/0.png"], SIZE)
        assert building.is_dir()
        other.stdin.close()
    build_cache(tmp_path / "cache", folder, ["train/0.png"], SIZE)
    assert not building.exists() and not (tmp_path / "cache" / ".lock").exists()


def test_a_cache_of_another_decoder_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {cache_name("listing", ["a.png"], SIZE), cache_name("listing", ["a.dcm"], SIZE)}
    monkeypatch.setattr(cache_module, "DECODER", cache_module.DECODER + 1)
    names |= {cache_name("listing", ["a.png"], SIZE), cache_name("listing", ["a.png"], SIZE, stored=False)}
    assert len(names) == 4


# --- integrity checks when a cache is opened


@pytest.fixture
def kept(folder: Path, tmp_path: Path) -> PixelCache:
    return build_cache(tmp_path / "cache", folder, images_of(folder), SIZE)


def change_one_byte(file: Path, position: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    with file.open("rb+") as same:  # keep the inode
        same.write(content)


@pytest.mark.parametrize("changed", ["pixels.npy", "thumbnails.npy", "index.csv"])
def test_a_cache_with_one_changed_byte_is_refused_with_the_remedy(
    folder: Path, kept: PixelCache, changed: str
) -> None:
    written = (kept.path / changed).stat()
    change_one_byte(kept.path / changed)
    # another modification time, however fast this test is
    os.utime(kept.path / changed, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    with pytest.raises(InputError, match=naming(changed, "prepare.py")):
        open_cache(kept.path, folder, SIZE)
    assert changed_files(kept.path) == [changed]


def test_a_file_of_the_same_length_time_and_inode_is_trusted_and_not_read(
    folder: Path, kept: PixelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(cache_module, "digest_of_file", refuse)
    assert open_cache(kept.path, folder, SIZE).index.equals(kept.index)


@pytest.mark.parametrize("differs", ["time", "inode"])
def test_a_file_with_another_time_or_inode_is_checked_once_and_trusted_afterwards(
    folder: Path, kept: PixelCache, differs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kept.path / "pixels.npy"
    if differs == "time":
        os.utime(file, ns=(1, 1))
    else:
        shutil.copy2(file, file.with_name("copy"))
        file.with_name("copy").replace(file)
    read, digest = [], cache_module.digest_of_file
    monkeypatch.setattr(cache_module, "digest_of_file", lambda path: read.append(path) or digest(path))
    for _ in range(2):
        np.testing.assert_array_equal(open_cache(kept.path, folder, SIZE).pixels[:], kept.pixels[:])
    assert read == [file]


@pytest.mark.parametrize("entry", [None, {}, {"state": [0, 0, 0]}, 7])
def test_a_file_missing_from_the_record_is_named(kept: PixelCache, entry: dict | int | None) -> None:
    record = json.loads((kept.path / "record.json").read_text())
    record.pop("pixels.npy")
    (kept.path / "record.json").write_text(
        json.dumps(record if entry is None else record | {"pixels.npy": entry})
    )
    assert changed_files(kept.path) == ["pixels.npy"]
    (kept.path / "record.json").write_text("[]")
    assert set(changed_files(kept.path)) == {"pixels.npy", "thumbnails.npy", "index.csv"}


def test_the_record_holds_the_sha256_of_every_other_file(kept: PixelCache) -> None:
    record = json.loads((kept.path / "record.json").read_text())
    others = [file for file in kept.path.iterdir() if file.suffix != ".json"]
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in others} == {
        name: entry["digest"] for name, entry in record.items()
    }


def test_prepare_rebuilds_a_damaged_cache_and_other_stages_refuse_it(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(make_competition()), "--recipe", "quick", "--output", str(tmp_path), "--folds", "2"]
    assert prepare.main(words) == 0 and split.main(words) == 0
    (file,) = tmp_path.rglob("pixels.npy")
    before = file.read_bytes()
    change_one_byte(file, len(before) // 2)
    os.utime(file, ns=(1, 1))
    capsys.readouterr()
    with pytest.raises(InputError, match="pixels.npy"):
        train.main([*words, "--device", "cpu"])
    assert prepare.main(words) == 0 and "decoded" in capsys.readouterr().out
    assert file.read_bytes() == before
    assert prepare.main(words) == 0 and "is up to date" in capsys.readouterr().out


# --- what a cache depends on


def test_thumbnails_are_those_of_the_whole_image_whatever_the_size_of_the_cache(
    folder: Path, cache: PixelCache, tmp_path: Path
) -> None:
    larger = build_cache(tmp_path / "cache", folder, images_of(folder), 2 * SIZE)
    np.testing.assert_array_equal(larger.thumbnails[:], cache.thumbnails[:])
    np.testing.assert_array_equal(cache.thumbnails[:], cache.pixels[:])  # the images are of that size


def test_the_listing_changes_with_names_lengths_and_times_and_with_nothing_else(tmp_path: Path) -> None:
    def write(name: str, content: bytes, time: int = 10**18) -> None:
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ns=(time, time))

    listings = []

    def note(*images: str) -> None:
        listings.append(listing_digest(tmp_path, images))

    write("a.png", b"one")
    write("b.png", b"two")
    note("a.png", "b.png")
    note("a.png")
    note("b.png")
    write("a.png", b"longer")
    note("a.png", "b.png")
    write("a.png", b"one", time=10**18 + 1)
    note("a.png", "b.png")
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    note("a.png", "c.png")
    assert len(set(listings)) == len(listings)

    (tmp_path / "c.png").rename(tmp_path / "b.png")
    write("a.png", b"one")
    write("unlisted.png", b"x")
    # the digest depends neither on content nor on the folder's path
    (tmp_path / "a.png").read_bytes()
    assert listing_digest(tmp_path, ["a.png", "b.png"]) == listings[0]
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert listing_digest(tmp_path / "elsewhere", ["a.png", "b.png"]) == listings[0]


def test_a_cache_is_named_by_size_and_listing() -> None:
    arguments = [
        (listing, files, size) for listing in ("one", "two") for files in ("a", "b") for size in (32, 64)
    ]
    names = {cache_name(listing, [files], size) for listing, files, size in arguments}
    assert len(names) == 8
    assert cache_name("one", ["a"], 32).startswith("32px-")
    assert cache_name("one", ["a"], 32) == cache_name("one", ["a"], 32)
    assert all(re.fullmatch("[0-9]+px-[0-9a-f]+", name) for name in names)


@pytest.fixture
def prepared(make_competition: MakeCompetition, tmp_path: Path) -> tuple[Path, list[str]]:
    """Return a folder of images, all files of one length, and the words of the command that prepared it."""
    folder = make_competition(per_class=4)
    for image in folder.rglob("*.png"):
        cv2.imwrite(str(image.with_suffix(".bmp")), cv2.imread(str(image)))
        image.unlink()
    for table in (folder / "answer.json", folder / "sample_submission.csv"):
        table.write_text(table.read_text().replace(".png", ".bmp"))
    words = [str(folder), "--recipe", "quick", "--output", str(tmp_path)]
    assert prepare.main(words) == 0
    return folder, words


def test_an_image_replaced_by_one_of_the_same_length_and_time_is_other_data(
    prepared: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = prepared
    others = [*words, "--name", "other"]
    assert prepare.main(others) == 0
    (file, other), table = (folder / "test" / f"{index}.bmp" for index in (0, 5)), "test_samples.csv"
    before = file.stat()
    shutil.copyfile(other, file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    for _ in range(2):
        with pytest.raises(InputError, match=naming("quick", "data", "--again")):
            prepare.main(words)
    assert prepare.main([*words, "--again"]) == 0
    digests = pd.read_csv(tmp_path / folder.name / "quick" / table, index_col="path")["digest"]
    assert digests["test/0.bmp"] == digests["test/5.bmp"]
    capsys.readouterr()
    assert prepare.main(words) == 0 and "is up to date" in capsys.readouterr().out
    # the other run has the same cache, whose pixels are the present ones by now; its tables are older
    with pytest.raises(InputError, match=naming("other", "data", "--again")):
        prepare.main(others)


def test_a_copied_or_touched_folder_has_the_same_samples(
    prepared: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = prepared
    (samples,) = tmp_path.rglob("samples.csv")
    before = samples.read_bytes()
    folder.rename(folder.with_name("moved"))
    shutil.copytree(folder.with_name("moved"), folder)  # as cp -a
    capsys.readouterr()
    for _ in range(2):
        assert prepare.main(words) == 0 and "is up to date" in capsys.readouterr().out
    for image in folder.rglob("*.bmp"):
        os.utime(image, ns=(1, 1))
    assert prepare.main(words) == 0 and "decoded" in capsys.readouterr().out
    assert samples.read_bytes() == before
    assert prepare.main(words) == 0 and "is up to date" in capsys.readouterr().out


def test_images_that_are_submitted_in_parts_keep_their_rows(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(folder)
    whole = build_cache(tmp_path / f"{SIZE}px-whole", folder, images, SIZE)
    monkeypatch.setattr(cache_module, "SUBMITTED", 4)
    parts = build_cache(tmp_path / f"{SIZE}px-parts", folder, images, SIZE)
    for name in ("index.csv", "pixels.npy", "thumbnails.npy", "sources.json"):
        assert (parts.path / name).read_bytes() == (whole.path / name).read_bytes()
