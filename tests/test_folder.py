"""A competition folder's layout, settings, images and ids, against plain loops over what was written."""

import codecs
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from conftest import MakeCompetition, naming
from hypothesis import given, settings
from hypothesis import strategies as st

from foldsmith.competition.folder import read_competition
from foldsmith.competition.listing import list_folder
from foldsmith.competition.settings import Settings, read_settings
from foldsmith.competition.spellings import SPELLINGS, match_ids, normal_path
from foldsmith.competition.tables import read_table
from foldsmith.data.cache import listing_digest
from foldsmith.errors import InputError
from foldsmith.natural_order import natural_key
from foldsmith.tasks.metrics import METRICS


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# --- layout


def test_a_folder_is_read_as_it_was_written(make_competition: MakeCompetition) -> None:
    folder = make_competition(num_classes=2, per_class=6, test_per_class=2)
    competition = read_competition(folder)
    assert competition.folder == folder
    assert competition.settings == Settings()
    assert competition.train_images == [f"train/{index}.png" for index in range(12)]
    assert competition.test_images == [f"test/{index}.png" for index in range(4)]


def test_a_missing_folder_is_refused_with_its_neighbours(tmp_path: Path) -> None:
    for name in ("tiny80", "cifar10"):
        (tmp_path / name).mkdir()
    (tmp_path / "a-file").touch()
    with pytest.raises(InputError) as caught:
        read_competition(tmp_path / "tiny8")
    assert str(tmp_path / "tiny8") in str(caught.value)
    assert "cifar10, tiny80" in str(caught.value)
    assert "a-file" not in str(caught.value)


@pytest.mark.parametrize("name", ["a-file", "absent/deeper"])
def test_a_file_or_a_folder_in_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(InputError, match=name):
        read_competition(tmp_path / name)


@pytest.mark.parametrize(
    ("subset", "instead", "key"),
    [
        ("train", None, "train_images"),
        ("test", None, "test_images"),
        ("test", "test", "test_images"),
        ("train", "train/notes.txt", "train_images"),
        ("test", "test/.0.jpg", "test_images"),
        ("test", "test/0.jpg/notes.txt", "test_images"),
    ],
)
def test_a_folder_without_train_or_test_images_is_refused(
    make_competition: MakeCompetition, subset: str, instead: str | None, key: str
) -> None:
    folder = make_competition(per_class=1, test_per_class=1)
    shutil.rmtree(folder / subset)
    if instead:
        touch(folder, instead)
    with pytest.raises(InputError, match=key) as caught:
        read_competition(folder)
    assert str(folder) in str(caught.value)


# --- images


def test_images_are_found_at_any_depth_whatever_the_case_of_their_extension(tmp_path: Path) -> None:
    images = ["1.jpg", "2.JPEG", "a/b/c/3.Png", "a/4.webp", "b c/ü 5.TIFF", "b c/6.tar.gif"]
    touch(tmp_path / "train", *images)
    assert set(list_folder(tmp_path).images) == {f"train/{image}" for image in images}


def test_hidden_files_other_files_and_folders_named_like_images_are_skipped(tmp_path: Path) -> None:
    train = tmp_path / "train"
    touch(
        train, "0.jpg", ".1.jpg", "._2.jpg", ".hidden/3.jpg", "Thumbs.db", "read.me", "4.jpg.txt", "jpg", "5."
    )
    (train / "6.jpg").mkdir()
    touch(train, "6.jpg/7.jpg")
    touch(tmp_path / "test", "0.jpg")
    competition = read_competition(tmp_path)
    assert competition.train_images == ["train/0.jpg", "train/6.jpg/7.jpg"]
    assert competition.other_files == [
        "train/4.jpg.txt",
        "train/5.",
        "train/jpg",
        "train/read.me",
    ]


def test_a_file_that_is_no_image_may_have_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.jpg", "test/1.jpg", os.fsdecode(b"train/\xff.txt"))
    assert read_competition(tmp_path).other_files == ["train/\\udcff.txt"]


@pytest.mark.parametrize(
    "ordered",
    [
        ["2.jpg", "10.jpg", "100.jpg"],
        ["a1b2.jpg", "a1b10.jpg", "a2b1.jpg"],
        ["007.jpg", "7.jpg", "8.jpg"],
        ["9/1.jpg", "10/0.jpg"],
        ["1.jpg", "a.jpg", "ä.jpg"],
    ],
)
def test_numbers_in_names_sort_as_numbers(ordered: list[str]) -> None:
    assert sorted(ordered[::-1], key=natural_key) == ordered


@settings(max_examples=60)
@given(st.lists(st.integers(0, 10**30), unique=True))
def test_bare_numbers_sort_as_python_sorts_them(numbers: list[int]) -> None:
    names = [f"{number}.jpg" for number in numbers]
    assert sorted(names, key=natural_key) == [f"{number}.jpg" for number in sorted(numbers)]


@settings(max_examples=60)
@given(st.lists(st.text(alphabet="ab01٣²-/.", max_size=6), unique=True), st.randoms(use_true_random=False))
def test_any_names_have_one_order(names: list[str], shuffler: random.Random) -> None:
    shuffled = list(names)
    shuffler.shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)


def test_images_in_linked_folders_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/0.jpg", "train/1.jpg")
    (tmp_path / "train/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train/linked/above").symlink_to(tmp_path / "train")
    assert list_folder(tmp_path / "train").images == ["1.jpg", "linked/0.jpg"]


def test_a_link_that_leads_nowhere_is_refused_by_name(make_competition: MakeCompetition) -> None:
    folder = make_competition(per_class=1)
    (folder / "train/9.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(InputError, match="9.png"):
        listing_digest(folder, read_competition(folder).train_images)


def test_a_file_name_that_is_not_utf8_is_refused(make_competition: MakeCompetition) -> None:
    folder = make_competition(per_class=1)
    Path(os.fsdecode(os.fsencode(folder / "train") + b"/caf\xe9.png")).touch()
    with pytest.raises(InputError, match="caf"):
        read_competition(folder)


# --- ids

IMAGES = ["train/2.jpg", "train/10.jpg", "train/deep/er/3.png", "train/v1.5 x.jpg"]


@pytest.mark.parametrize(
    "spell",
    [
        lambda image: image,
        lambda image: os.path.splitext(image)[0],
        lambda image: image.removeprefix("train/"),
        lambda image: os.path.splitext(image.removeprefix("train/"))[0],
        lambda image: os.path.basename(image),
        lambda image: os.path.splitext(os.path.basename(image))[0],
    ],
    ids=["path", "path, no extension", "in part", "in part, no extension", "name", "stem"],
)
def test_ids_in_every_spelling_name_their_images(spell: Callable[[str], str]) -> None:
    ids = [spell(image) for image in reversed(IMAGES)]
    assert match_ids(ids, IMAGES) == IMAGES[::-1]
    assert match_ids([*ids, "nothing"], IMAGES) == [*IMAGES[::-1], None]
    assert match_ids([ids[0], ids[0]], IMAGES) == [IMAGES[-1], IMAGES[-1]]


def test_ids_that_name_nothing_are_none_and_no_ids_are_no_images() -> None:
    assert match_ids(["x", "train", "", "."], IMAGES) == [None] * 4
    assert match_ids([], IMAGES) == []


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("0", ["train/0.jpg", "train/0.png"]),
        ("0.jpg", ["train/cat/0.jpg", "train/dog/0.jpg"]),
        ("0", ["train/cat/0.jpg", "train/dog/0.jpg"]),
    ],
)
def test_an_id_that_could_name_two_images_is_refused_with_both(name: str, images: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        match_ids([name], images)
    assert f"'{name}'" in str(caught.value)
    assert all(image in str(caught.value) for image in images)


def test_the_folder_or_the_extension_distinguishes_images_of_one_name() -> None:
    images = ["train/cat/0.jpg", "train/dog/0.jpg", "train/dog/0.png"]
    for ids in (images, [image.removeprefix("train/") for image in images]):
        assert match_ids(ids, images) == images
    # a bare name that is a full path matches that path
    images = ["train/0.jpg", "train/dog/0.jpg"]
    assert match_ids(["0.jpg", "nothing"], images) == ["train/0.jpg", None]


NAMES = st.text(alphabet="ab1.", min_size=1, max_size=4).filter(lambda name: name.strip("."))


@given(
    st.lists(st.tuples(st.sampled_from(["", "x/", "y/z/"]), NAMES), unique=True, max_size=6),
    st.lists(NAMES, max_size=4),
)
def test_an_id_matches_only_an_image_that_it_spells(names: list[tuple[str, str]], others: list[str]) -> None:
    images = [f"train/{folder}{name}.jpg" for folder, name in names]
    ids = [f"{name}.jpg" for _, name in names] + others
    try:
        matched = match_ids(ids, images)
    except InputError:
        spellings = [PurePosixPath(image).name for image in images]
        spellings += [PurePosixPath(image).stem for image in images]
        spellings += [os.path.splitext(image.removeprefix("train/"))[0] for image in images]
        assert any(spellings.count(name) > 1 for name in ids)
        return
    for name, image in zip(ids, matched, strict=True):
        assert image is None or image.endswith((f"/{name}", f"/{name}.jpg"))


# --- settings


def write_settings(folder: Path, text: str) -> Path:
    path = folder / "competition.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_are_read_and_the_others_keep_their_defaults(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == Settings()
    write_settings(tmp_path, '# what counts\nmetric = "macro_f1"\ngroup_column = "patient"\n')
    assert read_settings(tmp_path) == Settings(metric="macro_f1", group_column="patient")


@pytest.mark.parametrize("metric", [*METRICS, "f2_samples", "map_at_5", "top3_accuracy"])
def test_every_metric_can_be_set(tmp_path: Path, metric: str) -> None:
    write_settings(tmp_path, f'metric = "{metric}"')
    assert read_settings(tmp_path).metric == metric


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('metrik = "accuracy"', ["'metrik'", "'metric'", "labels, id_column"]),
        ('[metric]\nname = "accuracy"', ["metric"]),
        ("label_column = 3", ["label_column", 3]),
        ("group_column = true", ["group_column", "True"]),
        ('id_column = ["id"]', ["id_column", "['id']"]),
        ('metric = "acuracy"', ["'acuracy'", "'accuracy'", "log_loss"]),
        ('metric = ""', ["metric", "accuracy"]),
        ('metric = "own.py:score"', ["own.py:score", "--metric"]),
        ("metric = accuracy", ["TOML", "line 1"]),
        ('metric = "accuracy', ["TOML"]),
        ('metric = "accuracy"\nmetric = "log_loss"', ["TOML"]),
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, text: str, keys: list[object]) -> None:
    path = write_settings(tmp_path, text)
    with pytest.raises(InputError, match=naming(path, *keys)):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('test_images = ["test", "nope"]', ["test_images", "nope"]),
        ('files = ["{id}_red.png", "{id}_green.png"]', ["files", "{id}_red.png"]),
        ("label_columns = []", ["label_columns", "empty"]),
        ('label_separator = ""', ["label_separator", "empty"]),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(
    text: str, keys: list[str], make_competition: MakeCompetition
) -> None:
    folder = make_competition(per_class=2)
    path = write_settings(folder, text)
    with pytest.raises(InputError, match=naming(path, *keys)):
        read_competition(folder)


def test_settings_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "competition.toml").write_bytes('label_column = "Gerät"'.encode("latin-1"))
    with pytest.raises(InputError, match=naming("competition.toml", "UTF-8")):
        read_settings(tmp_path)


# --- tables


def test_every_cell_of_a_table_is_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes('\ufeff id ,label\r\n007,NA\r\n"a,b",\r\n1e5,nan\r\n'.encode())
    table = read_table(path)
    assert list(table.columns) == [" id ", "label"]
    assert table.to_numpy().tolist() == [["007", "NA"], ["a,b", ""], ["1e5", "nan"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.csv", b"sep=;\r\nid;a,b\r\n1;x\r\n"),
        ("table.csv", 'id,"a,b"\n1,x\n'.encode("utf-16")),
        ("table.csv", codecs.BOM_UTF16_BE + 'id,"a,b"\n1,x\n'.encode("utf-16-be")),
        ("table.tsv", b"id\ta,b\n1\tx\n"),
    ],
)
def test_tables_as_spreadsheets_write_them_are_read(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name)
    assert list(table.columns) == ["id", "a,b"] and table.to_numpy().tolist() == [["1", "x"]]


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"", "CSV"),
        (b"\n\n", "CSV"),
        (b"id,label\n1,2\n3,4,5\n", "line 3"),
        (b"id,label\n1,2,3\n4,5,6\n", "header"),
        (b'id,label\n"1,2\n', "CSV"),
        ("id,label\n1,2\n".encode("utf-16-le"), "CSV"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "CSV"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path, content: bytes, key: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=key) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_folder_without_permission_is_refused_and_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "train/a/0.png", "train/b/1.png")
    true_scandir = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return true_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=naming("train/b", "Permission denied")):
        list_folder(tmp_path)


def test_an_id_that_could_name_two_images_is_refused_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming("labels.csv", "'0'", "train/0.jpg", "train/0.png")):
        match_ids(["0"], ["train/0.jpg", "train/0.png"], Path("labels.csv"))


WORDS = st.text("ab01._- ", min_size=1, max_size=5).filter(lambda word: word.strip(".") != "")


@given(st.lists(WORDS, min_size=1, max_size=6).map("/".join))
def test_spellings_are_those_of_pathlib(image: str) -> None:
    path = PurePosixPath(image)
    bare = path.with_suffix("").as_posix()
    expected = [path.name, path.stem, image, bare]
    below = [PurePosixPath(*path.parts[depth:]) for depth in (1, 2, 3, 4)]
    pairs = [
        (inside.as_posix(), inside.with_suffix("").as_posix()) if inside.name else (None, None)
        for inside in below
    ]
    assert [spelling(image) for spelling in SPELLINGS] == [
        *pairs[0], *expected, *(spelled for pair in pairs[1:] for spelled in pair),
    ]  # fmt: skip


@given(st.text("ab./\\", max_size=9))
def test_a_path_is_normal_as_in_pathlib(name: str) -> None:
    assert normal_path(name) == PurePosixPath(name.replace("\\", "/")).as_posix()
