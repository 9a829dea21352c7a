"""The demo competition: its properties, read back by independent code."""

import hashlib
import json
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import naming
from PIL import Image

from demo import main
from foldsmith.data.drawings import CLASS_NAMES, CLASSES, COLOURS, SHAPES, draw
from foldsmith.errors import InputError


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input") / "demo80"
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def labels(demo: Path) -> dict[str, int]:
    answer = json.loads((demo / "answer.json").read_text())
    return {entry["file_name"]: entry["category"] for entry in answer["annotations"]}


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.parent.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder.parent)): hashlib.md5(path.read_bytes()).hexdigest() for path in files
    }


def truth_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder.parent / "demo80-truth.csv")


def test_a_damaged_demo_is_refused_and_writing_it_again_gives_the_same_bytes(
    demo: Path, tmp_path: Path
) -> None:
    (tmp_path / "demo80" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="--again"):
        main([str(tmp_path / "demo80")])
    assert main([str(tmp_path / "demo80"), "--again"]) == 0
    assert digests(tmp_path / "demo80") == digests(demo)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo80", "demo80-truth.csv"]
    assert sorted(path.name for path in (tmp_path / "demo80").iterdir()) == [
        "answer.json",
        "sample_submission.csv",
        "test",
        "train",
    ]


def test_every_class_has_thirty_training_and_five_test_images(demo: Path, labels: dict[str, int]) -> None:
    assert Counter(labels.values()) == dict.fromkeys(range(80), 30)
    assert Counter(truth_of(demo)["class"]) == dict.fromkeys(range(80), 5)


def test_the_categories_name_the_labels(demo: Path) -> None:
    categories = json.loads((demo / "answer.json").read_text())["categories"]
    assert [category["id"] for category in categories] == list(range(80))
    assert [category["name"] for category in categories] == list(CLASS_NAMES)
    assert len(set(CLASS_NAMES)) == 80


def test_the_labels_name_every_training_image_but_one(demo: Path, labels: dict[str, int]) -> None:
    files = {path.name for path in (demo / "train").iterdir()}
    assert files == {f"{number}.jpg" for number in range(2401)}
    assert len(labels) == 2400
    assert len(files - labels.keys()) == 1
    assert labels.keys() <= files


def test_the_sample_submission_lists_the_test_images_in_natural_order(demo: Path) -> None:
    sample = pd.read_csv(demo / "sample_submission.csv")
    assert list(sample.columns) == ["filename", "class"]
    assert list(sample["filename"]) == [f"{number}.jpg" for number in range(400)]
    assert set(sample["filename"]) == {path.name for path in (demo / "test").iterdir()}
    assert set(sample["class"]) == {0}
    assert list(truth_of(demo)["filename"]) == list(sample["filename"])


def test_file_numbers_say_nothing_of_the_class(demo: Path, labels: dict[str, int]) -> None:
    for classes in (list(labels.values()), list(truth_of(demo)["class"])):
        assert abs(np.corrcoef(np.arange(len(classes)), classes)[0, 1]) < 0.1
        assert np.mean([left == right for left, right in pairwise(classes)]) < 0.05


def test_the_demo_has_the_planted_flaws_and_no_others(demo: Path, labels: dict[str, int]) -> None:
    modes, sizes, cut, names_of = Counter(), Counter(), [], {}
    for path in sorted(demo.glob("t*/*.jpg")):
        content = path.read_bytes()
        names_of.setdefault(content, []).append(path.relative_to(demo).as_posix())
        with Image.open(path) as image:
            modes[path.parent.name, image.mode] += 1
            sizes[image.size] += 1
        if not content.endswith(b"\xff\xd9"):  # JPEG's end-of-image marker
            cut.append(path)
    assert modes == {("train", "L"): 2, ("train", "RGB"): 2399, ("test", "RGB"): 400}
    assert sizes == {(64, 64): 2801}

    (twins,) = (names for names in names_of.values() if len(names) > 1)
    first, second = (Path(name) for name in twins)
    assert first.parent.name == second.parent.name == "train"
    assert labels[first.name] == labels[second.name]

    (truncated,) = cut
    assert truncated.parent.name == "train"
    assert truncated.name in labels
    with Image.open(truncated) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_a_complete_demo_is_not_written_again(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("demo.write_competition", lambda folder: pytest.fail("wrote it again"))
    assert main([str(demo)]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_a_failed_write_leaves_existing_files_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        raise OSError("the disk is full")

    monkeypatch.setattr("demo.write_competition", fail)
    (tmp_path / "demo80" / "train").mkdir(parents=True)
    with pytest.raises(OSError, match="full"):
        main([str(tmp_path / "demo80"), "--again"])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "demo80",
        "demo80/train",
    ]


@pytest.mark.parametrize("name", ["mine.txt", "train/cat.jpg"])
def test_a_folder_of_that_name_with_other_content_is_not_replaced(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "demo80" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match=naming(tmp_path / "demo80", "--again")):
        main([str(tmp_path / "demo80"), "--again"])
    assert mine.read_text() == "mine"


def test_other_competitions_are_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "flowers"), "--again"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_drawing_is_a_function_of_its_generator() -> None:
    for shape, colour in CLASSES:
        first, same, other = (draw(shape, colour, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first.shape == (64, 64, 3) and first.dtype == np.uint8, (shape, colour)
        assert np.array_equal(first, same) and not np.array_equal(first, other), (shape, colour)


def test_the_colour_stands_out_from_the_background_and_from_the_other_colours() -> None:
    names = list(COLOURS)
    paints = np.array([COLOURS[name] for name in names])
    for (shape, colour), seed in product(CLASSES, range(5)):
        pixels = draw(shape, colour, np.random.default_rng(seed)).reshape(-1, 3).astype(float)
        distances = np.linalg.norm(pixels[:, None] - paints, axis=2)  # (4096, 8)
        near = distances.min(axis=1) < 60
        nearest = Counter(distances[near].argmin(axis=1).tolist()).most_common(1)[0][0]
        background = np.median(pixels[~near], axis=0)
        case = shape, colour, seed
        assert 0.04 < near.mean() < 0.6, case
        assert names[nearest] == colour, case
        assert np.linalg.norm(background - COLOURS[colour]) > 70, case


def test_an_unknown_shape_or_colour_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=naming("'stars'", "'star'")):
        draw("stars", "red", np.random.default_rng(0))
    with pytest.raises(InputError, match=naming("'mauve'", "cyan")):
        draw(next(iter(SHAPES)), "mauve", np.random.default_rng(0))
