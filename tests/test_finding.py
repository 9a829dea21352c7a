"""What is found in folders of many layouts, against expectations written by hand."""

import csv
import gzip
import io
import json
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import naming
from PIL import Image

import prepare
from foldsmith.competition.folder import Competition, read_competition
from foldsmith.competition.labels import Labels, read_labels
from foldsmith.competition.sample import find_sample, rows_of_sample
from foldsmith.competition.submission import read_submission_form
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.tasks import TASKS

CLASSES = ("cat", "dog")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def table(folder: Path, name: str, header: str, rows: list[list[object]], delimiter: str = ",") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header.split(","), *rows])


def numbered(pattern: str, count: int = 8, first: int = 0) -> list[str]:
    """Return `pattern` with {n} for the number and {c} for the class, which alternates."""
    return [pattern.format(n=n, c=CLASSES[n % 2]) for n in range(first, first + count)]


def labelled(pattern: str, count: int = 8) -> list[list[object]]:
    return [[name, CLASSES[n % 2]] for n, name in enumerate(numbered(pattern, count))]


def both(folder: Path, train: str = "train/{n}.png", test: str = "test/t{n}.png") -> None:
    touch(folder, *numbered(train), *numbered(test, 4))


def read(folder: Path) -> tuple[Competition, Labels]:
    competition = read_competition(folder, folder.parent / "cache")
    return competition, read_labels(competition)


def labels_by_name(labels: Labels) -> dict[str, str]:
    return dict(zip(labels.rows["path"], labels.rows[labels.columns[0]], strict=True))


# --- layouts: what is written, and then the training images with their class, and the test images


def two_folders(folder: Path, train: str, test: str) -> None:
    both(folder, f"{train}/{{n}}.png", f"{test}/t{{n}}.png")
    table(folder, "train.csv", "id,label", labelled("{n}"))


def one_folder(folder: Path) -> None:
    touch(folder, *numbered("images/{n}.png", 12))
    table(folder, "train.csv", "id,species,width", [[name, c, 7] for name, c in labelled("{n}")])
    table(folder, "test.csv", "id,width", [[n, 7] for n in range(8, 12)])


def text_lists(folder: Path) -> None:
    touch(folder, *numbered("images_1/images/{n}.png", 6), *numbered("images_2/images/{n}.png", 6, 6))
    write(folder, "train_val_list.txt", "\n".join(numbered("{n}.png")))
    write(folder, "test_list.txt", "\n".join(numbered("{n}.png", 4, 8)))
    table(folder, "data.csv", "Image,label", labelled("{n}.png", 12))


def names_say(folder: Path) -> None:
    touch(folder, *numbered("images/Train_{n}.png"), *numbered("images/Test_{n}.png", 4))
    table(folder, "labels.csv", "image,label", labelled("Train_{n}"))


def column_says(folder: Path) -> None:
    touch(folder, *numbered("all/{n}.png", 12))
    rows = [[f"{n}.png", CLASSES[n % 2] if n < 8 else "", "train" if n < 8 else "test"] for n in range(12)]
    table(folder, "data.csv", "file,label,split", rows)


def class_folders(folder: Path, train: str, test: str) -> None:
    both(folder, f"{train}/{{c}}/{{n}}.png", f"{test}/t{{n}}.png")


def in_names(folder: Path) -> None:
    both(folder, "train/{c}.{n}.png")


def pieces(folder: Path) -> None:
    touch(folder, *(f"train/part{1 + n // 4}/{CLASSES[n % 2]}/{n}.png" for n in range(8)), "test/a.png")


def pieces_of_a_table(folder: Path) -> None:
    touch(folder, *(f"train/part{1 + n % 4 // 2}/{n}.png" for n in range(8)), "test/a.png")
    table(folder, "labels.csv", "id,label", labelled("{n}"))


def siblings(folder: Path) -> None:
    touch(folder, *(f"{c}/{n}.png" for c in CLASSES for n in range(4)), *numbered("Test/{n}.png", 4))


def validation(folder: Path) -> None:
    touch(
        folder,
        *numbered("train/{c}/{n}.png", 4),
        *numbered("val/{c}/{n}.png", 4, 4),
        "test/a.png",
        "extra/b.png",
    )


def coco(folder: Path, key: str = "id", names: str = "images/{n}.png") -> None:
    both(folder, "deep/train/images/{n}.png", "deep/test/images/t{n}.png")
    document = {
        "images": [{key: 50 + n, "file_name": name} for n, name in enumerate(numbered(names))],
        "annotations": [{"image_id": 50 + n, "category_id": n % 2} for n in range(8)],
        "categories": [{key.replace("image", "category"): n, "name": name} for n, name in enumerate(CLASSES)],
    }
    write(folder, "deep/train/metadata.json", json.dumps(document))


def train_and_val_json(folder: Path) -> None:
    touch(folder, *numbered("trainval/{n}.png"), *numbered("test/t{n}.png", 4))
    for name, numbers in (("train", range(5)), ("val", range(5, 8)), ("elsewhere", range(100, 103))):
        document = {
            "images": [{"id": n, "file_name": f"{n}.png"} for n in numbers],
            "annotations": [{"image_id": n, "category_id": n % 2} for n in numbers],
            "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
        }
        write(folder, f"{name}2019.json", json.dumps(document))


def hugging_face(folder: Path, name: str) -> None:
    both(folder)
    if name.endswith(".csv"):
        table(folder, f"train/{name}", "file_name,label", labelled("{n}.png"))
    else:
        lines = [json.dumps({"file_name": n, "label": c}) for n, c in labelled("{n}.png")]
        write(folder, f"train/{name}", "\n".join(lines))


def dialect(folder: Path, name: str, delimiter: str) -> None:
    both(folder)
    table(folder, name, "id,label", labelled("{n}"), delimiter)


def row_numbers(folder: Path) -> None:
    touch(folder, *numbered("train/{n}.png", 9), *numbered("test/t{n}.png", 4))
    table(
        folder,
        "train.csv",
        "id,filepath,label",
        [[n - 1, f"train/{n}.png", CLASSES[n % 2]] for n in range(1, 9)],
    )


def junk(folder: Path) -> None:
    both(folder, "train/{c}/{n}.png")
    touch(folder, "train/__MACOSX/cat/._0.png", "train/cat/._0.png", "train/.ipynb_checkpoints/0.png",
          "test/Thumbs.db",
          "train/desktop.ini", "__MACOSX/train/cat/0.png")  # fmt: skip


def table_agrees(folder: Path) -> None:
    class_folders(folder, "train_images", "test_images")
    table(
        folder,
        "train.csv",
        "image_id,label,age",
        [[name, c, n] for n, (name, c) in enumerate(labelled("{n}.png"))],
    )


def objects(folder: Path, document: Callable[[], object]) -> None:
    both(folder)
    write(folder, "labels.json", json.dumps(document()))


def a_form_to_fill_in(folder: Path) -> None:
    both(folder)
    table(folder, "train.csv", "id,label", labelled("{n}"))
    table(folder, "lookup.csv", "row,id,Location", [[n, n % 8, ""] for n in range(16)])
    table(folder, "sample_submission.csv", "row,Location", [[n, ""] for n in range(16)])


def unusual_names(folder: Path) -> None:
    both(folder)
    rows = [[f"{n}.png", ("sea", "land")[n % 2], CLASSES[n % 2]] for n in range(8)]
    table(folder, "train.csv", "image,place,individual", rows)
    table(folder, "sample_submission.csv", "image,predictions", [[f"t{n}.png", "dog cat"] for n in range(4)])


def subset_beside_label(folder: Path) -> None:
    touch(folder, *numbered("all/{n}.png", 12))
    rows = [[f"all/{n}.png", CLASSES[n % 2], ("train", "val", "test")[n // 4]] for n in range(12)]
    table(folder, "metadata.csv", "image_path,animal,split", rows)


def two_eyes(folder: Path) -> None:
    touch(folder, *(f"train/{n}_{c}.png" for n in range(4) for c in CLASSES))
    touch(folder, *(f"test/{n}_{c}.png" for n in (7, 8) for c in CLASSES))
    rows = [[f"{n}_{c}", CLASSES[n % 2], n] for n in range(4) for c in CLASSES]
    table(folder, "train.csv", "image,label,number", rows)


def nested_ids(folder: Path) -> None:
    touch(
        folder, *(f"train/{n % 2}/{n // 2 % 2}/{n}.png" for n in range(8)), *numbered("test/0/1/t{n}.png", 4)
    )
    table(folder, "train.csv", "id,landmark_id", labelled("{n}"))
    table(folder, "sample_submission.csv", "id,landmarks", [[f"t{n}", "cat 0.5"] for n in range(4)])


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "a table with an empty column that the sample asks for": a_form_to_fill_in,
    "the words of the sample are a column's": unusual_names,
    "a subset beside the only other column": subset_beside_label,
    "two files a patient that a table names": two_eyes,
    "folders of two levels beside a table": nested_ids,
    "Train/ and Test/": lambda folder: two_folders(folder, "Train", "Test"),
    "train_images/": lambda folder: two_folders(folder, "train_images", "test_images"),
    "jpeg/train/": lambda folder: two_folders(folder, "jpeg/train", "jpeg/test"),
    "train-jpg/": lambda folder: two_folders(folder, "train-jpg", "test-jpg-v2"),
    "TrainingSet/": lambda folder: two_folders(folder, "TrainingSet", "TestingSet"),
    "one folder, two tables": one_folder,
    "one folder, lists in text files": text_lists,
    "one folder, file names": names_say,
    "one folder, a column": column_says,
    "imgs/train/CLASS/": lambda folder: class_folders(folder, "imgs/train", "imgs/test"),
    "seg_train/seg_train/CLASS/": lambda folder: class_folders(
        folder, "seg_train/seg_train", "seg_test/seg_test"
    ),
    "classes in file names": in_names,
    "pieces above class folders": pieces,
    "pieces and a table": pieces_of_a_table,
    "sibling folders": siblings,
    "a validation folder": validation,
    "nested COCO": coco,
    "COCO with other keys": lambda folder: coco(folder, key="image_id"),
    "train and val JSON": train_and_val_json,
    "metadata.csv": lambda folder: hugging_face(folder, "metadata.csv"),
    "metadata.jsonl": lambda folder: hugging_face(folder, "metadata.jsonl"),
    "semicolons": lambda folder: dialect(folder, "labels.csv", ";"),
    "tabs": lambda folder: dialect(folder, "labels.tsv", "\t"),
    "row numbers beside file names": row_numbers,
    "system files": junk,
    "a table that agrees with folders": table_agrees,
    "a dictionary": lambda folder: objects(folder, lambda: dict(labelled("{n}.png"))),
    "a list of objects": lambda folder: objects(
        folder, lambda: [{"image": name, "category": c} for name, c in labelled("{n}.png")]
    ),
}


def class_of(image: str, layout: str) -> str:
    """Return the class that the layout was written with: the number's parity, or the folder."""
    path = Path(image)
    if layout == "sibling folders":
        return path.parent.name
    return CLASSES[int("".join(char for char in path.stem if char.isdigit())) % 2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_and_labels_of_a_layout_are_found(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "contest"
    LAYOUTS[layout](folder)
    competition, labels = read(folder)
    found = labels_by_name(labels)
    named = {category: labels.names.get(category, category) for category in found.values()}
    assert len(found) == 8
    assert {image: named[category] for image, category in found.items()} == {
        image: class_of(image, layout) for image in found
    }
    assert competition.test_images and not {*competition.test_images} & {*competition.train_images}
    assert all((folder / image).is_file() for image in [*found, *competition.test_images])
    stems = {Path(image).stem for image in competition.test_images}
    assert len(stems) == len(competition.test_images) and len(stems) in (1, 4)


# --- two readings: refused with both, and the lines of competition.toml decide


def other_table(folder: Path, name: str, header: str) -> None:
    both(folder)
    table(
        folder, "train.csv", "id,breed,age,sex", [[n, c, i, "f"] for i, (n, c) in enumerate(labelled("{n}"))]
    )
    table(folder, name, header, [[n, i % 3] for i, (n, _) in enumerate(labelled("{n}"))])


def contradicting(folder: Path) -> None:
    touch(folder, *(f"train/{CLASSES[n // 4]}/{n}.png" for n in range(8)), "test/a.png")
    table(folder, "photos.csv", "image,category", [[f"{n}.png", ("in", "out")[n % 2]] for n in range(8)])


def two_levels(folder: Path) -> None:
    touch(
        folder,
        *(f"train/{a}/{b}/{n}.png" for a in ("red", "blue") for b in CLASSES for n in "12"),
        "test/a.png",
    )


def two_tables(folder: Path) -> None:
    both(folder)
    table(folder, "a.csv", "id,label", labelled("{n}"))
    table(folder, "b.csv", "id,label", labelled("{n}")[::-1])


def patients(folder: Path) -> None:
    touch(folder, *(f"train/p{n // 2}/{n}.png" for n in range(8)), "test/a.png")
    names = [f"train/p{n // 2}/{n}.png" for n in range(8)]
    rows = [[name, 30 + n % 3, CLASSES[n % 2], ("", "1.0", "-1.0")[n % 3]] for n, name in enumerate(names)]
    table(folder, "train.csv", "Path,Age,Edema,Fracture", rows)


def boxes(folder: Path) -> None:
    both(folder)
    rows = [[name, 32, f"[{n}.0, 2.5, 3, 4]", c, n % 3] for n, (name, c) in enumerate(labelled("{n}"))]
    table(folder, "train.csv", "id,width,bbox,breed,source", rows)


def masks_of_some(folder: Path) -> None:
    both(folder)
    rows = [[f"{n}.png", f"{n + 1} 4 {400 + n} 6" if n % 2 else "", CLASSES[n % 2]] for n in range(8)]
    table(folder, "train.csv", "ImageId,EncodedPixels,kind", rows)
    table(folder, "sample_submission.csv", "ImageId,EncodedPixels", [[f"t{n}.png", ""] for n in range(4)])


def pieces_beside_columns(folder: Path) -> None:
    touch(folder, *(f"train/images_{n % 2}/{n}.png" for n in range(8)), "test/a.png")
    rows = [[f"{n}.png", CLASSES[n % 2], n % 3] for n in range(8)]
    table(folder, "entries.csv", "Image Index,Finding,Visit", rows)


READINGS: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "features beside a table that cannot be guessed": (
        lambda folder: other_table(folder, "train_features.csv", "id,site"),
        ["train.csv", "breed", "age", "label_columns"],
        'labels = "train.csv"\nid_column = "id"\nlabel_columns = ["breed"]',
    ),
    "a test table is never labels": (
        lambda folder: other_table(folder, "test_ages.csv", "id,age"),
        ["train.csv", "breed", "sex", "label_columns"],
        'id_column = "id"\nlabel_columns = "breed"',
    ),
    "a table against folders": (contradicting, ["photos.csv", 'labels = "folders"'], 'labels = "folders"'),
    "two levels of folders": (two_levels, ["train/{label}", "train/*/{label}"], 'labels = "train/*/{label}"'),
    "folders of few images beside a table": (
        patients, ["4 numbered folders", "train.csv", 'labels = "folders"'],
        'labels = "train.csv"\nid_column = "Path"\nlabel_columns = ["Edema"]',
    ),
    "pieces of a download beside columns that cannot be guessed": (
        pieces_beside_columns, ["entries.csv", "Finding", "label_columns"], 'label_columns = ["Finding"]',
    ),
    "masks of some of the images": (
        masks_of_some, ["train.csv", "'EncodedPixels'", "masks", "label_columns"], 'label_columns = ["kind"]',
    ),
    "boxes beside columns that cannot be guessed": (
        boxes, ["train.csv", "'bbox'", "boxes", "label_columns"], 'label_columns = ["breed"]',
    ),
    "two label tables": (two_tables, ["a.csv", "b.csv", 'labels = "a.csv"'], 'labels = "b.csv"'),
    "no word for train and test": (
        lambda folder: touch(folder, *numbered("x/{c}/{n}.png"), "y/a.png"),
        ["x/", "train_images", "competition.toml"],
        'train_images = ["x"]\ntest_images = ["y"]',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READINGS)
def test_two_readings_are_refused_and_the_lines_decide(name: str, tmp_path: Path) -> None:
    layout, keys, lines = READINGS[name]
    layout(tmp_path / "contest")
    with pytest.raises(InputError, match=naming(*keys)):
        read(tmp_path / "contest")
    (tmp_path / "contest/competition.toml").write_text(lines)
    assert set(labels_by_name(read(tmp_path / "contest")[1]).values()) == set(CLASSES)


# --- sample submissions and test lists


@pytest.mark.parametrize(
    "name", ["submission_format.csv", "sample_submission_v2.csv", "kaggle_sample_submission.csv", "form.csv"]
)
def test_a_sample_is_found_by_its_name_or_by_its_ids(name: str, tmp_path: Path) -> None:
    both(tmp_path)
    table(tmp_path, "labels.csv", "id,label", labelled("{n}"))
    table(tmp_path, "test.csv", "id,age", [[f"t{n}", 3] for n in range(4)])
    table(tmp_path, name, "id,cat,dog", [[f"t{n}", 0, 0] for n in range(4)])
    competition = read_competition(tmp_path)
    sample = find_sample(competition)
    assert sample is not None and sample.path == name
    assert rows_of_sample(competition, sample)[0] == [(f"test/t{n}.png",) for n in range(4)]


def test_a_folder_may_have_no_sample(tmp_path: Path) -> None:
    both(tmp_path)
    table(tmp_path, "labels.csv", "id,label", labelled("{n}"))
    table(tmp_path, "test.csv", "id,age", [[f"t{n}", 3] for n in range(4)])
    table(tmp_path, "sample.csv", "id,age", [[f"u{n}", 3] for n in range(4)])
    assert find_sample(read_competition(tmp_path)) is None


def test_a_test_list_says_which_images_the_ids_mean_even_if_they_are_names_of_others(tmp_path: Path) -> None:
    touch(tmp_path, *numbered("train/{n}.png"), *numbered("test/{n}.png", 4))
    table(tmp_path, "labels.csv", "id,label", labelled("{n}"))
    table(tmp_path, "test.csv", "id,file", [[n, f"test/{3 - n}.png"] for n in range(4)])
    table(tmp_path, "sample_submission.csv", "id,label", [[n, "cat"] for n in range(4)])
    competition = read_competition(tmp_path)
    rows, test_list = rows_of_sample(competition, find_sample(competition))
    assert rows == [(f"test/{3 - n}.png",) for n in range(4)] and test_list.path == "test.csv"


def test_an_id_of_image_and_label_and_a_piece_of_an_archive_are_called_so(tmp_path: Path) -> None:
    touch(tmp_path, *numbered("test/t{n}.png", 4), "train.zip.001", "train.zip.002")
    with pytest.raises(InputError, match=naming("train.zip.001", "cat train.zip")):
        read(tmp_path)
    touch(tmp_path, *numbered("train/ID_{n}.png"))
    rows = [[f"ID_{n}_{kind}", n % 2] for n in range(8) for kind in ("any", "left")]
    table(tmp_path, "labels.csv", "id,label", rows)
    with pytest.raises(InputError, match=naming("labels.csv", "'ID_0', 'any'", "column")):
        read(tmp_path)


def test_ids_that_are_folders_stand_for_their_images_and_are_groups(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/p{n // 2}/{n}.png" for n in range(8)), "test/p8/a.png", "test/p8/b.png")
    table(tmp_path, "train.csv", "id,label", [[f"p{n}", CLASSES[n % 2]] for n in range(4)])
    table(tmp_path, "sample_submission.csv", "id,label", [["p8", ""]])
    competition, labels = read(tmp_path)
    assert labels_by_name(labels) == {f"train/p{n // 2}/{n}.png": CLASSES[n // 2 % 2] for n in range(8)}
    assert list(labels.rows["group"]) == [f"p{n // 2}" for n in range(8)]
    assert any("train.csv are folders" in sentence and "8 images" in sentence for sentence in labels.evidence)
    assert rows_of_sample(competition, competition.sample)[0] == [("test/p8/a.png", "test/p8/b.png")]
    table(tmp_path, "sample_submission.csv", "id,label", [["p8", ""], ["p9", ""]])
    with pytest.raises(InputError, match=naming("sample_submission.csv", "p8")):
        read_submission_form(read(tmp_path)[0], pd.DataFrame(), TASKS["multiclass"])


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_row_may_be_about_several_images(form: str, tmp_path: Path) -> None:
    both(tmp_path)
    table(tmp_path, "labels.csv", "id,label", labelled("{n}"))
    rows = [[f"t{n}.png", f"case {n // 2}"] for n in range(4)]
    if form == "csv":
        table(tmp_path, "test.csv", "image,case", rows)
    else:
        write(
            tmp_path, "test_info.json", json.dumps({"images": [{"file_name": a, "case": b} for a, b in rows]})
        )
    table(tmp_path, "sample_submission.csv", "case,label", [["case 1", 0], ["case 0", 0]])
    competition = read_competition(tmp_path)
    found = rows_of_sample(competition, find_sample(competition))[0]
    assert found == [("test/t2.png", "test/t3.png"), ("test/t0.png", "test/t1.png")]


# --- label columns, ids, groups


def test_columns_of_the_test_list_are_features_and_the_sample_names_the_label(tmp_path: Path) -> None:
    both(tmp_path)
    rows = [[name, 1, n % 3, c] for n, (name, c) in enumerate(labelled("{n}"))]
    table(tmp_path, "train.csv", "id,eyes,mood,kind", rows)
    table(tmp_path, "test.csv", "id,eyes,mood", [[f"t{n}", 1, 2] for n in range(4)])
    assert read(tmp_path)[1].columns == ("kind",)
    table(tmp_path, "sample_submission.csv", "id,mood", [[f"t{n}", 1] for n in range(4)])
    assert read(tmp_path)[1].columns == ("mood",)


@pytest.mark.parametrize("sample", [True, False])
def test_columns_of_0_and_1_are_labels(sample: bool, tmp_path: Path) -> None:
    both(tmp_path)
    rows = [[n, n % 2, n // 4, 1, "p"] for n in range(8)]
    header = "id,scab,rust,wet,patient"
    table(
        tmp_path,
        "train.csv",
        header if sample else header[:-8],
        rows if sample else [row[:4] for row in rows],
    )
    if sample:
        table(tmp_path, "sample_submission.csv", "id,rust,scab", [[f"t{n}", 0, 0] for n in range(4)])
    assert set(read(tmp_path)[1].columns) == ({"rust", "scab"} if sample else {"rust", "scab", "wet"})


def test_columns_of_0_and_1_are_labels_where_the_test_images_have_them_too(tmp_path: Path) -> None:
    for subset, numbers in (("train", range(4)), ("valid", range(4, 8)), ("test", range(8, 12))):
        touch(tmp_path, *(f"{subset}/{n}.png" for n in numbers))
        rows = [[f"{n}.png", float(n % 2 == 0), n % 2] for n in numbers]
        table(tmp_path, f"{subset}/_classes.csv", "filename, cat, dog", rows)
    rows = read(tmp_path)[1].rows.set_index("path")
    assert rows["dog"].astype(float).to_dict() == {
        f"{'train' if n < 4 else 'valid'}/{n}.png": n % 2 for n in range(8)
    }
    assert (rows["cat"].astype(float) + rows["dog"].astype(float) == 1).all()


@pytest.mark.parametrize(
    ("file", "spell"),
    [
        ("IMG_{n}.PNG", "IMG_{n}.png"),
        ("{n:06}.png", "{n}"),
        ("img {n}.png", "img {n}.jpg"),
        ("v1.{n}.png", "v1.{n}.png"),
        ("{n}.png", "train\\{n}.png"),
    ],
)
def test_ids_in_another_spelling_name_their_images(file: str, spell: str, tmp_path: Path) -> None:
    files = [file.format(n=n) for n in range(8)]
    touch(tmp_path, *(f"train/{name}" for name in files), "test/t.png")
    table(tmp_path, "train.csv", "id,label", [[spell.format(n=n), CLASSES[n % 2]] for n in range(8)])
    found = labels_by_name(read(tmp_path)[1])
    assert found == {f"train/{name}": CLASSES[n % 2] for n, name in enumerate(files)}


def test_names_of_classes_come_from_a_helper_table(tmp_path: Path) -> None:
    both(tmp_path)
    table(tmp_path, "train.csv", "id,label", [[n, n % 2] for n in range(8)])
    write(tmp_path, "label_num_to_disease_map.json", json.dumps({"0": "rust", "1": "scab", "2": "mould"}))
    assert read(tmp_path)[1].names == {"0": "rust", "1": "scab"}


def test_a_group_is_pointed_out_with_its_counts_and_never_used_unasked(tmp_path: Path) -> None:
    both(tmp_path)
    rows = [[name, c, f"p{n // 2}", n % 2, n] for n, (name, c) in enumerate(labelled("{n}"))]
    table(tmp_path, "train.csv", "id,label,PatientID,wet,order", rows)
    labels = read(tmp_path)[1]
    (note,) = [line for line in labels.evidence if "group_column" in line]
    assert all(word in note for word in ("'PatientID'", "4 values", "8 images", 'group_column = "PatientID"'))
    assert set(labels.rows["group"]) == {""}
    (tmp_path / "competition.toml").write_text('group_column = "PatientID"')
    groups = read(tmp_path)[1].rows.set_index("path")["group"]
    assert groups.to_dict() == {f"train/{n}.png": f"p{n // 2}" for n in range(8)}


def test_a_cell_of_many_characters_and_windows_text_are_read(tmp_path: Path) -> None:
    both(tmp_path)
    rows = [f"{n},{'Käfer' if n % 2 else 'Bär'},{'x' * 200_000}" for n in range(8)]
    (tmp_path / "train.csv").write_bytes("\n".join(["id,label,outline", *rows]).encode("cp1252"))
    competition, labels = read(tmp_path)
    assert set(labels_by_name(labels).values()) == {"Käfer", "Bär"}
    assert any("Windows-1252" in line for line in labels.evidence)


COLOURS = ("green", "red", "blue", "yellow")


@pytest.mark.parametrize("lines", ["", 'files = ["{id}_red.png", "{id}_green.png", "{id}_blue.png"]'])
def test_files_of_one_image_are_one_name(lines: str, tmp_path: Path) -> None:
    colours = COLOURS[:3] if lines else COLOURS
    for name in [*numbered("train/{n}"), *numbered("test/t{n}", 4)]:
        touch(tmp_path, *(f"{name}_{colour}.png" for colour in colours))
    table(tmp_path, "train.csv", "id,label", labelled("{n}"))
    (tmp_path / "competition.toml").write_text(lines)
    competition, labels = read(tmp_path)
    braces = "_{red,green,blue}.png" if lines else "_{red,green,blue,yellow}.png"
    assert labels_by_name(labels) == {f"train/{n}{braces}": CLASSES[n % 2] for n in range(8)}
    assert competition.test_images == [f"test/t{n}{braces}" for n in range(4)]


# --- archives


def pack_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def pack_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def pack_7z(path: Path, files: dict[str, bytes]) -> None:
    import py7zr

    with py7zr.SevenZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(content, name)


PACKERS = {"zip": pack_zip, "tar": pack_tar, "tar.gz": pack_tar, "7z": pack_7z}


@pytest.mark.parametrize("inside", ["", "train/"])
@pytest.mark.parametrize("kind", PACKERS)
def test_archives_are_unpacked_once_beside_the_cache(kind: str, inside: str, tmp_path: Path) -> None:
    folder = tmp_path / "contest"
    touch(folder, *numbered("test/t{n}.png", 4))
    table(folder, "labels.csv", "id,label", labelled("{n}"))
    contents = {f"{inside}{n}.png": f"picture {n}".encode() for n in range(8)}
    PACKERS[kind](folder / f"train.{kind}", {**contents, "__MACOSX/._0.png": b"", f"{inside}Thumbs.db": b""})
    before = sorted(folder.rglob("*"))
    competition, labels = read(folder)
    assert sorted(folder.rglob("*")) == before
    assert competition.root.parent == tmp_path / "cache"
    assert {image: (competition.root / image).read_bytes() for image in labels.rows["path"]} == {
        f"train/{n}.png": f"picture {n}".encode() for n in range(8)
    }
    assert all((competition.root / image).is_file() for image in competition.test_images)
    state = [
        (path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(competition.root.rglob("*"))
    ]
    again = read(folder)[0]
    assert again.root == competition.root
    assert state == [
        (path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(again.root.rglob("*"))
    ]
    assert [path.name for path in (tmp_path / "cache").glob("*.part")] == []


def test_a_whole_contest_in_one_archive_with_archives_in_it_is_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "contest"
    folder.mkdir()
    pack_zip(tmp_path / "train.zip", {f"{n}.png": b"x" for n in range(8)})
    rows = "\n".join(["id,label", *(f"{n},{c}" for n, c in labelled("{n}"))])
    pack_zip(
        folder / "all.zip",
        {
            "train.zip": (tmp_path / "train.zip").read_bytes(),
            "labels.csv.gz": gzip.compress(rows.encode()),
            **{f"test/t{n}.png": b"x" for n in range(4)},
        },
    )
    competition, labels = read(folder)
    assert len(labels.rows) == 8 and len(competition.test_images) == 4


def test_an_archive_whose_contents_lie_beside_it_is_not_unpacked(tmp_path: Path) -> None:
    two_folders(tmp_path / "contest", "train", "test")
    pack_zip(tmp_path / "contest/train.zip", {f"{n}.png": b"" for n in range(8)})
    competition = read(tmp_path / "contest")[0]
    assert competition.root == tmp_path / "contest" and not (tmp_path / "cache").exists()


def zip_link(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("0.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")


def tar_link(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("0.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)


UNSAFE: dict[str, Callable[[Path], None]] = {
    "above": lambda path: pack_zip(path, {"../evil.png": b"x"}),
    "deep above": lambda path: pack_tar(path, {"a/../../evil.png": b"x"}),
    "absolute": lambda path: pack_tar(path, {"/tmp/evil.png": b"x"}),
    "backslashes": lambda path: pack_zip(path, {"..\\evil.png": b"x"}),
    "a drive": lambda path: pack_zip(path, {"C:/evil.png": b"x"}),
    "a link": zip_link,
    "a link in a tar": tar_link,
    "a bomb": lambda path: pack_zip(path, {"0.png": bytes(2**28)}),
    "cut off": lambda path: (pack_zip(path, {"0.png": b"x" * 99}), path.write_bytes(path.read_bytes()[:60])),
    "no archive": lambda path: path.write_bytes(b"text"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_or_damaged_archive_is_refused_by_name_and_leaves_nothing(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "in/contest"
    two_folders(folder, "train", "test")
    UNSAFE[name](folder / "more.zip")
    with pytest.raises(InputError, match="more.zip"):
        read_competition(folder, tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("unpacked*")) and not list(tmp_path.rglob("evil*"))


# --- what cannot be read


@pytest.mark.parametrize(
    ("name", "word"),
    [("train.bson", "BSON"), ("train/0.tfrec", "TFRecord"), ("clips/a.mp4", "video"), ("train.npz", "numpy")],
)
def test_a_form_that_is_not_read_is_named_with_what_to_convert_it_to(
    name: str, word: str, tmp_path: Path
) -> None:
    touch(tmp_path, name)
    table(tmp_path, "sample_submission.csv", "id,label", [[0, 0]])
    with pytest.raises(InputError, match=naming(name, word, "PNG")):
        read_competition(tmp_path)


def test_images_as_numbers_in_json_are_named(tmp_path: Path) -> None:
    write(tmp_path, "train.json", json.dumps([{"id": n, "band_1": [0.5] * 100} for n in range(3)]))
    with pytest.raises(InputError, match=naming("train.json", "band_1", 100, "PNG")):
        read_competition(tmp_path)


# --- the stage


def paint(folder: Path) -> None:
    """Draw pictures into the files of a layout, a colour a class."""
    for path in [path for path in folder.rglob("*.png") if path.is_file()]:
        number = int("".join(char for char in path.stem if char.isdigit()) or 0)
        noise = np.random.default_rng([len(path.parts), number]).integers(0, 90, (8, 8, 3))
        Image.fromarray((noise + [150 * (number % 2), 0, 0]).astype(np.uint8)).save(path)


def test_explain_prints_what_was_found_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_folders(tmp_path / "contest", "jpeg/train", "jpeg/test")
    assert prepare.main([str(tmp_path / "contest"), "--explain", "--output", str(tmp_path / "output")]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("jpeg/train (8)", "jpeg/test (4)", "train.csv", "multiclass"))
    assert not (tmp_path / "output").exists()


def test_prepare_reads_images_from_archives_and_writes_found_json(tmp_path: Path) -> None:
    folder = tmp_path / "contest"
    two_folders(folder, "train_images", "test_images")
    paint(folder)
    for name in ("train_images", "test_images"):
        shutil.make_archive(str(folder / name), "zip", folder / name)
        shutil.rmtree(folder / name)
    words = [str(folder), "--recipe", "quick", "--image-size", "16", "--output", str(tmp_path / "output")]
    assert prepare.main(words) == 0
    run = tmp_path / "output/contest/quick"
    found = json.loads((run / "found.json").read_text())
    assert (run.parent / "cache" / found["root"] / "train_images/0.png").is_file()
    assert (found["labels"], found["id_column"], found["label_columns"]) == ("train.csv", "id", ["label"])
    with (run / "samples.csv").open() as file:
        rows = {row["path"]: row["class_name"] for row in csv.DictReader(file)}
    assert rows == {f"train_images/{n}.png": CLASSES[n % 2] for n in range(8)}


def test_a_form_that_is_not_read_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "contest", "train.bson")
    with pytest.raises(SystemExit) as ended:
        run_main(
            lambda: prepare.main([str(tmp_path / "contest"), "--explain", "--output", str(tmp_path / "out")])
        )
    assert ended.value.code == 2
