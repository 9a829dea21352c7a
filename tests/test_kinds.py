"""Layouts of public data sets and contests: what is read of each, against expectations written by hand."""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import naming, write_rows
from PIL import Image

from foldsmith.competition.folder import Competition, read_competition
from foldsmith.competition.labels import Metadata, read_metadata
from foldsmith.competition.submission import check_submission, fill_submission, read_submission_form
from foldsmith.data.images import decode_image
from foldsmith.errors import InputError
from foldsmith.tasks import build_task

WORDS = ("cat", "dog")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)  # the same name is the same file


def lines(folder: Path, name: str, *rows: object) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"{row}\n" for row in rows))


def table(folder: Path, name: str, header: str, *rows: list[object]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_rows(folder / name, header.split(","), list(rows))


def word(number: int) -> str:
    return WORDS[number % 2]


def plain(folder: Path, *suffixes: str, count: int = 8) -> None:
    touch(folder, *(f"train/{n}{s}" for n in range(count) for s in suffixes or (".png",)))
    touch(folder, *(f"test/t{n}{s}" for n in range(4) for s in suffixes or (".png",)))


# --- training and test images


def split_lists(folder: Path) -> None:
    touch(folder, *(f"images/{word(n)}/{n}.png" for n in range(12)))
    names = [f"{word(n)}/{n}.png" for n in range(12)]
    for number, first in ((1, 0), (2, 4)):
        lines(folder, f"labels/train{number}.txt", *names[first : first + 8])
        lines(folder, f"labels/test{number}.txt", *names[:first], *names[first + 8 :])


def partition_codes(folder: Path) -> None:
    touch(folder, *(f"img/img/{n}.png" for n in range(12)))
    rows = [[f"{n}.png", 2 * (n % 2) - 1, 1 - 2 * (n // 2 % 2)] for n in range(12)]
    table(folder, "list_attr.csv", "image_id,Smiling,Bald", *rows)
    table(
        folder,
        "list_partition.csv",
        "image_id,partition",
        *([f"{n}.png", (n > 5) + (n > 7)] for n in range(12)),
    )


def validation_flags(folder: Path) -> None:
    touch(folder, *(f"images/{n}.png" for n in range(12)))
    rows = [[f"{n}.png", word(n), n >= 8] for n in range(12)]
    table(folder, "data.csv", "fname,labels,is_valid", *rows)


def numbered_lists(folder: Path) -> None:
    names = [f"00{1 + n % 2}.{word(n)}/{word(n)}_{n:04d}.jpg" for n in range(12)]
    touch(folder, *(f"CUB/images/{name}" for name in names))
    lines(folder, "CUB/images.txt", *(f"{n + 1} {name}" for n, name in enumerate(names)))
    lines(folder, "CUB/image_class_labels.txt", *(f"{n + 1} {1 + n % 2}" for n in range(12)))
    lines(folder, "CUB/train_test_split.txt", *(f"{n + 1} {int(n < 8)}" for n in range(12)))
    lines(folder, "CUB/bounding_boxes.txt", *(f"{n + 1} 60.0 27.0 325.0 304.0" for n in range(12)))
    lines(folder, "CUB/classes.txt", "1 001.cat", "2 002.dog")


def copies(folder: Path) -> None:
    for root in ("x", "x/x"):
        touch(folder, *(f"{root}/train/{word(n)}/{n}.png" for n in range(8)))
        touch(folder, *(f"{root}/test/t{n}.png" for n in range(4)))
    for path in (folder / "x/x").rglob("*.png"):
        path.write_bytes((folder / "x" / path.relative_to(folder / "x/x")).read_bytes())


def masks(folder: Path) -> None:
    names = [f"{word(n)}_{n}" for n in range(12)]
    touch(folder, *(f"images/{name}.jpg" for name in names), *(f"notes/trimaps/{name}.png" for name in names))
    rows = [f"{name} {1 + n % 2} 1 {1 + n % 2}" for n, name in enumerate(names)]
    lines(folder, "notes/trainval.txt", *rows[:8])
    lines(folder, "notes/test.txt", *rows[8:])
    lines(folder, "notes/list.txt", "#Image CLASS-ID SPECIES BREED ID", *rows)


# --- labels


def validation_beside_classes(folder: Path) -> None:
    touch(folder, *(f"train/{word(n)}/images/{word(n)}_{n}.jpg" for n in range(6)))
    touch(
        folder, "val/images/val_6.jpg", "val/images/val_7.jpg", *(f"test/images/t{n}.jpg" for n in range(4))
    )
    lines(folder, "val/val_annotations.txt", *(f"val_{n}.jpg\t{word(n)}\t0\t32\t44\t62" for n in (6, 7)))
    lines(folder, "wnids.txt", *WORDS)


def text_labels(folder: Path) -> None:
    plain(folder)
    lines(folder, "train.txt", *(f"{n}.png {n % 2}" for n in range(8)))
    lines(folder, "classes.txt", *WORDS)


def boxes_of_some(folder: Path) -> None:
    plain(folder, count=12)
    rows = [[f"{n}.png", "cat|dog" if n == 0 else word(n), n // 2, "M"] for n in range(12)]
    table(folder, "entries.csv", "Image Index,Finding Labels,Patient,Sex", *rows)
    table(
        folder,
        "boxes.csv",
        "Image Index,Finding Label,x,y,w,h",
        *([f"{n}.png", "cat", n, 2, 3, 4] for n in range(3)),
    )


def several_subsets(folder: Path) -> None:
    touch(folder, *(f"all/{word(n)}/{n}.png" for n in range(16)))
    for name, numbers in (("train", range(8)), ("validation", range(8, 12)), ("test", range(12, 16))):
        rows = [[n, f"{word(n)}/{n}.png", n % 2, word(n)] for n in numbers]
        table(folder, f"all/{name}.csv", ",Filename,Label,ClassName", *rows)


def class_ids(folder: Path) -> None:
    touch(folder, *(f"Train/{n % 2}/{n}.png" for n in range(8)), *(f"Test/t{n}.png" for n in range(4)))
    rows = [[32, 5, 20, n % 2, f"Train/{n % 2}/{n}.png"] for n in range(8)]
    table(folder, "Train.csv", "Width,Roi.X1,Roi.X2,ClassId,Path", *rows)


def lists_of_classes(folder: Path) -> None:
    plain(folder)
    document = {name: [f"{n}.png" for n in range(8) if word(n) == name] for name in WORDS}
    lines(folder, "classes.json", json.dumps(document))


def lists_of_subsets(folder: Path) -> None:
    touch(folder, *(f"images/{word(n)}/{n}.png" for n in range(12)))
    document = {"train": [f"{n}.png" for n in range(8)], "test": [f"{n}.png" for n in range(8, 12)]}
    lines(folder, "splits.json", json.dumps(document))


def lists_of_labels(folder: Path) -> None:
    plain(folder)
    lines(folder, "tags.json", json.dumps({f"{n}.png": WORDS[: 1 + n % 2] for n in range(8)}))


def system_rows(folder: Path) -> None:
    plain(folder)
    table(
        folder, "train.csv", "image,cultivar", *([f"{n}.png", word(n)] for n in range(8)), [".DS_Store", ""]
    )


def several_rows(folder: Path) -> None:
    plain(folder)
    rows = [[f"{n}.png", "cat", 1, 2, 3, 4] for n in range(8)] + [
        [f"{n}.png", "dog", 5, 6, 7, 8] for n in range(4)
    ]
    table(folder, "boxes.csv", "filename,class,xmin,ymin,xmax,ymax", *rows)


def several_annotations(folder: Path) -> None:
    plain(folder)
    pairs = [(n, k) for n in range(8) for k in range(2) if k == 0 or n % 2]
    document = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(8)],
        "annotations": [{"image_id": n, "category_id": k, "bbox": [1, 2, 3, 4]} for n, k in pairs],
        "categories": [{"id": k, "name": name} for k, name in enumerate(WORDS)],
    }
    lines(folder, "instances.json", json.dumps(document))


def otherwise_spelled(folder: Path) -> None:
    touch(folder, *(f"train/{n:06d}.png" for n in range(1, 9)), *(f"test/t{n}.png" for n in range(4)))
    table(folder, "train.csv", "id,label", *([n, word(n)] for n in range(1, 9)))


def photos_of_units(folder: Path) -> None:
    touch(folder, *(f"train_photos/{n}.jpg" for n in range(16)))
    touch(folder, *(f"test_photos/{n}.jpg" for n in range(20, 24)))
    table(folder, "photo_ids.csv", "photo_id,business_id", *([n, 1000 + n // 2] for n in range(16)))
    table(folder, "test_ids.csv", "photo_id,business_id", *([n, 1000 + n // 2] for n in range(20, 24)))
    table(folder, "train.csv", "business_id,kind", *([1000 + n, word(n)] for n in range(8)))
    table(folder, "sample_submission.csv", "business_id,kind", *([1000 + n, "cat"] for n in (10, 11)))


def numbered_photos(folder: Path) -> None:
    touch(folder, *(f"train_images/p{n // 2}-{n}.jpg" for n in range(16)))
    touch(folder, *(f"test_images/p{n // 2}-{n}.jpg" for n in range(20, 24)))
    table(folder, "train/train.csv", "Age,PetID,Speed", *([n % 5, f"p{n}", word(n)] for n in range(8)))
    table(folder, "test/sample_submission.csv", "PetID,Speed", *([f"p{n}", "cat"] for n in (10, 11)))


def photo_word(number: int) -> str:
    return word(number // 2)


# --- the sample


def label_and_probability(folder: Path) -> None:
    plain(folder, count=9)
    table(folder, "train.csv", "id,landmark_id", *([n, 100 + n % 3] for n in range(9)))
    table(folder, "sample_submission.csv", "id,landmarks", *([f"t{n}", "101 0.5"] for n in range(4)))


def long_ids(folder: Path) -> None:
    touch(folder, *(f"train/ID_{n}.png" for n in range(8)), *(f"test/ID_{n}.png" for n in range(20, 24)))
    kinds = ("any", "in_part")
    rows = [[f"ID_{n}_{kind}", n % 2 if kind == "any" else n // 2 % 2] for n in range(8) for kind in kinds]
    table(folder, "train.csv", "ID,Label", *rows)
    table(
        folder,
        "sample_submission.csv",
        "ID,Label",
        *([f"ID_{n}_{k}", 0.5] for n in range(20, 24) for k in kinds),
    )


def long_list_of_folders(folder: Path) -> None:
    touch(
        folder,
        *(f"train/s{n // 2}/{n}.png" for n in range(16)),
        *(f"test/s{n // 2}/{n}.png" for n in range(40, 44)),
    )
    table(folder, "train.csv", "study,C1,C2", *([f"s{n}", n % 2, n // 2 % 2] for n in range(8)))
    rows = [[f"row {study} {kind}", study, kind] for study in ("s20", "s21") for kind in ("C1", "C2")]
    table(folder, "test.csv", "row_id,study,kind", *rows)
    table(folder, "sample_submission.csv", "row_id,fractured", *([row[0], 0.5] for row in rows))


# --- images inside other files


def arrays(folder: Path) -> None:
    for subset, numbers in (("train", range(8)), ("test", range(20, 24))):
        (folder / subset).mkdir(parents=True)
        for n in numbers:
            np.save(folder / subset / f"{n}.npy", np.full((6, 5, 4), n, np.float16))
    table(folder, "train.csv", "id,label", *([n, word(n)] for n in range(8)))


def idx_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, count in (("train", 8), ("t10k", 4)):
        header = struct.pack(">IIII", 0x803, count, 9, 8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + bytes(range(72)) * count)
        labels = bytes((n + 1) % 2 for n in range(count))  # images are numbered from 1
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)


def stray_images(folder: Path) -> None:
    touch(folder, "signs.png")
    for subset, count in (("train", 8), ("test", 4)):
        rows = [[(n + 1) % 2, *([n] * 64)] for n in range(count)]
        for path in (f"sign_{subset}.csv", f"sign_{subset}/sign_{subset}.csv"):  # twice, as downloaded
            table(folder, path, ",".join(["label", *(f"pixel{n}" for n in range(64))]), *rows)


@dataclass(frozen=True)
class Expected:
    """What is read: the class names of image number n, the numbers of images, and words of the notes."""

    class_name: Callable[[int], str] = word
    train: int = 8
    test: int = 4
    task: str = "multiclass"
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=WORDS)


def number_word(number: int) -> str:
    return str(number % 2)


def attributes(number: int) -> str:
    return " ".join(name for name, on in (("Smiling", number % 2), ("Bald", not number // 2 % 2)) if on)


def either(number: int) -> str:
    return " ".join(name for name, on in (("any", number % 2), ("in_part", number // 2 % 2)) if on)


def of_study(number: int) -> str:
    study = number // 2
    return " ".join(name for name, on in (("C1", study % 2), ("C2", study // 2 % 2)) if on)


KINDS: dict[str, tuple[Callable[[Path], None], Expected]] = {
    "numbered splits in lists": (split_lists, Expected(notes=("labels/test1.txt", "split 1 of 2"))),
    "a partition of 0, 1 and 2, and attributes of -1 and 1": (
        partition_codes,
        Expected(attributes, task="multilabel", notes=("'partition'", "1 is val", "-1 (no)"), names=()),
    ),
    "a column is_valid": (
        validation_flags, Expected(notes=("'is_valid'", "True is val", "validation images")),
    ),
    "numbered lists": (
        numbered_lists,
        Expected(lambda n: f"00{1 + n % 2}.{word(n)}", notes=("1 is train", "classes.txt"), names=()),
    ),
    "a second copy inside": (copies, Expected(notes=("12 images", "second copies", "x/x/"))),
    "masks, and classes in file names": (masks, Expected(notes=("trimaps", "12 images", "'column 2'"))),
    "validation images beside class folders": (
        validation_beside_classes, Expected(notes=("val/val_annotations.txt", "2 of 2", "'column 2'")),
    ),
    "labels in a text file, names in another": (text_labels, Expected(notes=("train.txt", "classes.txt"))),
    "a table of the boxes of some images": (
        boxes_of_some,
        Expected(lambda n: "cat dog" if n == 0 else word(n), 12, 4, "multilabel", ("Finding Labels",)),
    ),
    "a table for each subset": (
        several_subsets, Expected(number_word, 12, notes=("validation.csv",), names=()),
    ),
    "a class id that the folders repeat": (
        class_ids, Expected(number_word, notes=("ClassId", "agree"), names=()),
    ),
    "JSON lists of the images of each class": (lists_of_classes, Expected(notes=("classes.json",))),
    "JSON lists of the images of each subset": (
        lists_of_subsets, Expected(notes=("'split' of splits.json",)),
    ),
    "JSON lists of the labels of each image": (
        lists_of_labels,
        Expected(lambda n: "cat dog" if n % 2 else "cat", task="multilabel", notes=("tags.json", "4 of 8")),
    ),
    "a row about a system file": (system_rows, Expected(notes=("1 rows of train.csv", ".DS_Store"))),
    "several rows an image": (
        several_rows,
        Expected(lambda n: "cat dog" if n < 4 else "cat", task="multilabel", notes=("4 of 8", "multiclass")),
    ),
    "several annotations an image": (
        several_annotations,
        Expected(lambda n: "cat dog" if n % 2 else "cat", task="multilabel", notes=("4 of 8", "multiclass")),
    ),
    "ids without leading zeros": (otherwise_spelled, Expected(notes=("train.csv", "leading zeros", "'1'"))),
    "a label and its probability": (
        label_and_probability,
        Expected(lambda n: str(100 + n % 3), 9, notes=("'101 0.5'", 'submission = "labels"'), names=()),
    ),
    "ids of image and label": (
        long_ids,
        Expected(either, task="multilabel", notes=("train.csv has a row for each image",), names=()),
    ),
    "a list of folder and label": (
        long_list_of_folders,
        Expected(of_study, 16, task="multilabel", notes=("label by test.csv", "are folders"), names=()),
    ),
    "a list of the photos of businesses": (
        photos_of_units, Expected(photo_word, 16, notes=("'business_id' in photo_ids.csv", "8 ids")),
    ),
    "several photos a pet": (numbered_photos, Expected(photo_word, 16, notes=("beginnings of names",))),
    "arrays": (arrays, Expected(notes=("12 arrays",))),
    "idx files": (idx_files, Expected(number_word, notes=("t10k-images-idx3-ubyte",), names=())),
    "stray images beside tables of pixels": (
        stray_images, Expected(number_word, notes=("the folder itself (1 images)",), names=()),
    ),
}  # fmt: skip


def read(folder: Path) -> tuple[Competition, Metadata]:
    competition = read_competition(folder, folder.parent / "cache")
    return competition, read_metadata(competition)


def number_of(path: str) -> int:
    return int(re.findall(r"\d+", Path(path).stem)[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_download_is_read_and_said(kind: str, tmp_path: Path) -> None:
    write, expected = KINDS[kind]
    write(tmp_path / "contest")
    competition, metadata = read(tmp_path / "contest")
    names = dict(zip(metadata.samples["path"], metadata.samples["class_name"], strict=True))
    assert names == {path: expected.class_name(number_of(path)) for path in names}
    assert (len(names), len(competition.test_images)) == (expected.train, expected.test)
    assert metadata.task == expected.task
    if expected.names:
        assert set(metadata.classes["class_name"]) == set(expected.names)
    said = "\n".join([*competition.evidence, *metadata.notes])
    assert all(words in said for words in expected.notes), said


@pytest.mark.parametrize(
    ("write", "first"),
    [(label_and_probability, "101 0.7"), (long_ids, "0.3"), (long_list_of_folders, "0.3")],
)
def test_a_submission_in_an_unusual_form_is_written_and_checked(
    write: Callable[[Path], None], first: str, tmp_path: Path
) -> None:
    write(tmp_path / "contest")
    competition, metadata = read(tmp_path / "contest")
    classes, task = metadata.classes, build_task(metadata.task, len(metadata.classes))
    form = read_submission_form(competition, classes, task, metadata.target.cell_form)
    row = np.array([0.2, 0.7, 0.1] if len(classes) == 3 else [0.3, 0.8], np.float32)
    written = fill_submission(form, dict.fromkeys(competition.test_images, row), row)
    sample = pd.read_csv(tmp_path / "contest/sample_submission.csv", dtype=str)
    assert list(written.columns) == list(sample.columns)
    assert list(written.iloc[:, 0]) == list(sample.iloc[:, 0])
    assert str(written.iloc[0, 1]).startswith(first)
    path = tmp_path / "submission.csv"
    written.to_csv(path, index=False)
    check_submission(path, form, competition)
    wrong = written.astype(str)
    wrong.iloc[1, 1] = "2.5"
    wrong.to_csv(path, index=False)
    with pytest.raises(InputError, match=naming(path)):
        check_submission(path, form, competition)


# --- refused, with the cause and what to do


def with_sample(cell: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        plain(folder)
        table(folder, "train.csv", "id,label", *([f"{n}.png", word(n)] for n in range(8)))
        table(folder, "sample_submission.csv", "id,label", *([f"t{n}.png", cell] for n in range(4)))

    return write


def one_hot_cells(folder: Path) -> None:
    plain(folder)
    rows = [[f"{n}.png", f"[{n % 2}, {1 - n % 2}, 0, 0]", word(n)] for n in range(8)]
    table(folder, "train.csv", "filename,target,kind", *rows)


def two_stages(folder: Path) -> None:
    touch(folder, *(f"train/{word(n)}/{n}.png" for n in range(8)))
    touch(folder, *(f"test_stg{1 + n // 2}/t{n}.png" for n in range(4)))
    first, second = ["t0.png", "t1.png"], ["test_stg2/t2.png", "test_stg2/t3.png"]
    for stage, ids in ((1, first), (2, [*first, *second])):
        rows = [[name, 0.5, 0.5] for name in ids]
        table(folder, f"sample_submission_stg{stage}.csv", "image,cat,dog", *rows)


def parts_and_studies(folder: Path) -> None:
    names = [f"{('elbow', 'hand')[n // 8]}/patient{n}/study_{word(n)}/{n}.png" for n in range(16)]
    touch(folder, *(f"train/{name}" for name in names), "test/a.png")


def pixel_tables_twice(folder: Path) -> None:
    pixels = " ".join(["7"] * 64)
    for name, usages in (("all.csv", ("Training", "PublicTest")), ("train.csv", None), ("test.csv", None)):
        rows = [[n, pixels, *([usages[n % 2]] if usages else [])] for n in range(4)]
        table(folder, name, "emotion,pixels" + (",Usage" if usages else ""), *rows)


def files(*names: str, content: bytes = b"") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(content)

    return write


def rectangles(folder: Path) -> None:
    header = ",".join(f"pixel{n}" for n in range(70))
    for subset in ("train", "test"):
        table(folder, f"{subset}.csv", header, *([n] * 70 for n in range(3)))


def torn_lists(folder: Path) -> None:
    touch(folder, *(f"images/{word(n)}/{n}.png" for n in range(8)))
    lines(folder, "train.txt", *(f"{n}.png" for n in range(6)))
    lines(folder, "test.txt", *(f"{n}.png" for n in range(5, 8)))


def many_columns(folder: Path) -> None:
    plain(folder)
    rows = [[f"{n}.png", n % 3, word(n), ("red", "blue", "red")[n % 3], n + 0.5] for n in range(8)]
    table(folder, "train.csv", "image,size,species,colour,price", *rows)


def cleaned_images(folder: Path) -> None:
    touch(folder, *(f"{name}/{n}.png" for name in ("train", "train_cleaned") for n in range(8)), "test/a.png")


REFUSED: dict[str, tuple[Callable[[Path], None], list[object]]] = {
    "a sample of boxes": (
        with_sample("0.5 0 0 100 100"),
        ["sample_submission.csv", "boxes", "0.5 0 0 100 100"],
    ),
    "a sample of labelled boxes": (with_sample("cat 1 0 0 1 1"), ["boxes", 'submission = "labels"']),
    "a sample of lists": (with_sample("[cat dog]"), ["brackets", "[cat dog]"]),
    "vectors in cells": (one_hot_cells, ["train.csv", "'target'", "0 and 1", 'label_columns = ["kind"]']),
    "tables of pixels twice": (pixel_tables_twice, ["all.csv", "'Usage'", 'train_images = ["train.csv"]']),
    "rows of pixels that are no square": (rectangles, [70, "pixel_0_13"]),
    "lists that contradict each other": (torn_lists, ["train.txt", "test.txt", "5.png"]),
    "no label column": (many_columns, ["train.csv", 'label_columns = ["species"]', "species, colour"]),
    "images as labels": (cleaned_images, ["train/", "train_cleaned/", 8]),
    "samples of two stages": (two_stages, ['sample = "sample_submission_stg2.csv"', "2 more"]),
    "levels of which the deepest repeats": (
        parts_and_studies,
        ['"train/{label}"', '"train/*/*/{label}"', "study_cat"],
    ),
    "MATLAB": (files("train_32x32.mat"), ["train_32x32.mat", "loadmat"]),
    "pickles": (files("data_batch_1", content=b"\x80\x04."), ["data_batch_1", "pickle"]),
    "pieces": (files("train.zip.001", "test.zip.001"), ["cat train.zip.*", "cat test.zip.*"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_is_not_read_is_refused_with_the_way_out(kind: str, tmp_path: Path) -> None:
    write, keys = REFUSED[kind]
    write(tmp_path / "contest")
    with pytest.raises(InputError, match=naming(*keys)):
        read(tmp_path / "contest")


def test_tables_of_pixels_that_competition_toml_names_are_used_alone(tmp_path: Path) -> None:
    pixel_tables_twice(tmp_path / "contest")
    lines(tmp_path, "contest/competition.toml", 'train_images = ["train.csv"]', 'test_images = ["test.csv"]')
    competition = read_competition(tmp_path / "contest", tmp_path / "cache")
    assert len(competition.train_images) == len(competition.test_images) == 4


# --- pixels


@pytest.mark.parametrize("planes", [False, True])
def test_colours_of_pixel_tables_are_told_by_the_smoother_reading(planes: bool, tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 3)).astype(np.uint8)
    images = np.stack([np.asarray(Image.fromarray(image).resize((8, 8), Image.BILINEAR)) for image in coarse])
    rows = (images.transpose(0, 3, 1, 2) if planes else images).reshape(5, -1)
    for subset in ("train", "test"):
        frame = pd.DataFrame(rows, columns=[f"pixel{n:04d}" for n in range(192)])
        (tmp_path / "contest").mkdir(exist_ok=True)
        frame.assign(label=0).to_csv(tmp_path / f"contest/{subset}.csv", index=False)
    competition = read_competition(tmp_path / "contest", tmp_path / "cache")
    for name, image in zip(competition.train_images, images, strict=True):
        np.testing.assert_array_equal(decode_image(competition.root / name), image)


def test_the_names_of_pixel_columns_say_the_sides(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 7, 10)).astype(np.uint8)
    cells = [(y, x) for y in range(7) for x in range(10)]
    order = np.random.default_rng(1).permutation(len(cells))
    for subset in ("train", "test"):
        columns = [f"pixel_{cells[k][0]}_{cells[k][1]}" for k in order]
        (tmp_path / "contest").mkdir(exist_ok=True)
        pd.DataFrame(images.reshape(3, -1)[:, order], columns=columns).to_csv(
            tmp_path / f"contest/{subset}.csv", index=False
        )
    competition = read_competition(tmp_path / "contest", tmp_path / "cache")
    for name, image in zip(competition.train_images, images, strict=True):
        np.testing.assert_array_equal(decode_image(competition.root / name)[..., 0], image)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(12).reshape(3, 4)),
        (np.arange(24, dtype=np.int64).reshape(6, 2, 2), np.arange(24).reshape(12, 2)),
        (np.eye(4, dtype=bool), np.eye(4) * 255),
        (np.linspace(-2, 2, 16).reshape(4, 4), np.rint(np.linspace(0, 255, 16)).reshape(4, 4)),
    ],
)
def test_an_array_is_a_grey_image(array: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(decode_image(tmp_path / "a.npy"), np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7, 3), (5, 7, 4)])
def test_an_array_of_colours_keeps_the_first_three(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    expected = array.transpose(1, 2, 0) if shape[0] == 3 else array[..., :3]
    np.testing.assert_array_equal(decode_image(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize("array", [np.zeros((40, 28, 28)), np.array(["a"]), np.full((4, 4), np.nan)])
def test_an_array_that_is_no_image_has_a_reason(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match="array"):
        decode_image(tmp_path / "a.npy")
