"""Label files of every form: read to the same samples, or refused in one sentence."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import MakeCompetition, naming, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from foldsmith.competition.folder import Competition, read_competition
from foldsmith.competition.labels import Metadata, read_metadata
from foldsmith.competition.settings import Settings
from foldsmith.errors import InputError

IMAGES = [f"train/{index}.png" for index in range(12)]
LABELS = [index % 3 for index in range(12)]
ROWS = [[index, index % 3] for index in range(12)]
DOCUMENT: dict[str, Any] = {
    "annotations": [{"file_name": f"{index}.png", "category": label} for index, label in enumerate(LABELS)],
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "eel"}],
}


def read(folder: Path, train_images: list[str] = IMAGES, **settings: str) -> Metadata:
    """Return the metadata of a folder; reading it opens no image, so paths suffice."""
    return read_metadata(Competition(folder, Settings(**settings), train_images, ["test/0.png"]))


def read_document(folder: Path, document: Any, **settings: str) -> Metadata:
    (folder / "answer.json").write_text(json.dumps(document), encoding="utf-8")
    return read(folder, **settings)


def write_text(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def read_csv(folder: Path, text: str, **settings: str) -> Metadata:
    return read(write_text(folder / "labels.csv", text).parent, **settings)


def labels_of(metadata: Metadata) -> dict[str, int]:
    samples = metadata.samples
    return dict(zip(samples["path"], samples["label"].tolist(), strict=True))


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def check_consistent(metadata: Metadata, images: list[str] = IMAGES) -> None:
    """Assert the invariants that every reader of metadata relies on."""
    samples, classes = metadata.samples, metadata.classes
    assert list(samples.columns) == ["path", "label", "class_name", "category", "group"]
    assert list(classes["label"]) == list(range(len(classes)))
    assert len(classes) >= 2 and classes["category"].is_unique
    assert 0 < len(samples) == samples["path"].nunique()
    assert set(samples["path"]) <= set(images)
    assert [image for image in images if image in set(samples["path"])] == list(samples["path"])
    for column in ("category", "class_name"):
        by_label = dict(zip(classes["label"], classes[column], strict=True))
        assert [by_label[label] for label in samples["label"]] == list(samples[column])
    assert all(isinstance(cell, str) for cell in samples["group"])


# --- the four forms


@pytest.mark.parametrize("labels", ["answer", "coco", "csv", "folders"])
def test_all_forms_give_the_samples_that_were_written(make_competition: MakeCompetition, labels: str) -> None:
    competition = read_competition(make_competition(labels=labels, num_classes=12, per_class=2))
    metadata = read_metadata(competition)
    check_consistent(metadata, competition.train_images)
    # image i is of class i modulo 12, and class 10 comes after class 9
    assert {int(Path(path).stem): label for path, label in labels_of(metadata).items()} == {
        index: index % 12 for index in range(24)
    }
    assert list(metadata.classes["class_name"]) == [f"kind {label}" for label in range(12)]
    numbered = labels in ("answer", "coco")
    words = [str(label) if numbered else f"kind {label}" for label in range(12)]
    assert list(metadata.classes["category"]) == words
    assert metadata.repeated == []


def test_the_file_that_was_read_is_named(make_competition: MakeCompetition) -> None:
    sources = {
        labels: read_metadata(read_competition(make_competition(labels=labels, per_class=2))).source
        for labels in ("answer", "coco", "csv", "folders")
    }
    assert sources == {
        "answer": "answer.json",
        "coco": "train.json",
        "csv": "labels.csv",
        "folders": "the folders under train/",
    }


@pytest.mark.parametrize("write", [int, str, lambda label: f" {label} ", lambda label: f"00{label}"])
def test_a_category_is_an_integer_or_its_decimal_string(tmp_path: Path, write: Callable) -> None:
    document = changed(
        lambda document: [
            entry.update(category=write(entry["category"])) for entry in document["annotations"]
        ]
    )
    metadata = read_document(tmp_path, document)
    assert labels_of(metadata) == dict(zip(IMAGES, LABELS, strict=True))
    assert list(metadata.classes["category"]) == ["0", "1", "2"]


@pytest.mark.parametrize("numbers", [[10, 9, 100], [-1, 0, 1], [7, 1000000, 70]])
def test_classes_are_in_the_order_of_their_numbers(tmp_path: Path, numbers: list[int]) -> None:
    annotations = [
        {"file_name": f"{index}.png", "category": numbers[label]} for index, label in enumerate(LABELS)
    ]
    metadata = read_document(tmp_path, {"annotations": annotations})
    assert [int(category) for category in metadata.classes["category"]] == sorted(numbers)
    assert list(metadata.classes["class_name"]) == list(metadata.classes["category"])


def test_a_category_without_images_is_a_class(tmp_path: Path) -> None:
    document = changed(lambda document: document["categories"].append({"id": 7, "name": "yak"}))
    metadata = read_document(tmp_path, document)
    assert list(metadata.classes["class_name"]) == ["cat", "dog", "eel", "yak"]
    assert 3 not in labels_of(metadata).values()


@pytest.mark.parametrize("categories", [None, []])
def test_categories_may_be_left_out(tmp_path: Path, categories: list | None) -> None:
    metadata = read_document(tmp_path, {**DOCUMENT, "categories": categories})
    assert list(metadata.classes["class_name"]) == ["0", "1", "2"]


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.sampled_from(["answer", "csv"]))
def test_the_order_of_entries_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, shuffler: random.Random, form: str
) -> None:
    folder = tmp_path_factory.mktemp("shuffled")
    document = copy.deepcopy(DOCUMENT)
    shuffler.shuffle(document["annotations"])
    shuffler.shuffle(document["categories"])
    if form == "answer":
        metadata = read_document(folder, document)
        assert list(metadata.classes["class_name"]) == ["cat", "dog", "eel"]
    else:
        rows = [[entry["file_name"], entry["category"]] for entry in document["annotations"]]
        write_rows(folder / "labels.csv", ["id", "label"], rows)
        metadata = read(folder)
    assert list(metadata.samples["path"]) == IMAGES
    assert list(metadata.samples["label"]) == LABELS
    check_consistent(metadata)


@pytest.mark.parametrize(
    "spell", ["{}.png", "train/{}.png", "./{}.png", "train/{}", "{}", ".\\{}.png", "train\\{}.png"]
)
def test_images_may_be_named_in_any_usual_way(tmp_path: Path, spell: str) -> None:
    annotations = [
        {"file_name": spell.format(index), "category": label} for index, label in enumerate(LABELS)
    ]
    assert labels_of(read_document(tmp_path, {"annotations": annotations})) == dict(
        zip(IMAGES, LABELS, strict=True)
    )


def test_images_without_a_label_are_left_out(tmp_path: Path) -> None:
    metadata = read_document(tmp_path, changed(lambda document: document["annotations"].pop(4)))
    assert list(metadata.samples["path"]) == [image for image in IMAGES if image != "train/4.png"]


def test_a_file_listed_twice_with_one_label_is_used_once_and_reported(tmp_path: Path) -> None:
    document = changed(
        lambda document: document["annotations"].extend(
            {"file_name": f"{index}.png", "category": str(LABELS[index])} for index in (10, 2, 2)
        )
    )
    metadata = read_document(tmp_path, document)
    assert metadata.repeated == ["train/2.png", "train/10.png"]
    assert list(metadata.samples["path"]) == IMAGES


# --- CSV columns


@pytest.mark.parametrize(
    "header",
    [
        "id,label",
        "filename,class",
        "Image,Target",
        "image_id,category_id",
        "label,id",
        "photo,species",
        "path,y",
    ],
)
def test_the_id_and_the_label_column_are_found_by_name_or_by_elimination(tmp_path: Path, header: str) -> None:
    id_first = header != "label,id"
    rows = [(f"{index}.png", f"kind {label}") for index, label in enumerate(LABELS)]
    text = "\n".join([header, *(",".join(row if id_first else row[::-1]) for row in rows)])
    assert labels_of(read_csv(tmp_path, text)) == dict(zip(IMAGES, LABELS, strict=True))


def test_settings_name_columns_that_cannot_be_guessed(tmp_path: Path) -> None:
    text = "a,b,c\n" + "".join(f"x,{index},kind {label}\n" for index, label in enumerate(LABELS))
    metadata = read_csv(tmp_path, text, id_column="b", label_column="c")
    assert labels_of(metadata) == dict(zip(IMAGES, LABELS, strict=True))


def test_settings_choose_among_label_files(tmp_path: Path) -> None:
    write_rows(tmp_path / "clean.csv", ["id", "label"], [[index, 2 - label] for index, label in ROWS])
    write_rows(tmp_path / "noisy.csv", ["id", "label"], ROWS)
    assert list(read(tmp_path, labels="noisy.csv").samples["label"]) == LABELS
    assert list(read(tmp_path, labels="clean.csv").samples["label"]) == [2 - label for label in LABELS]


def test_a_csv_that_names_no_training_image_is_no_label_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "labels.csv", ["id", "label"], ROWS)
    write_rows(tmp_path / "test_sizes.csv", ["id", "width"], [["t0", 5], ["t1", 6]])
    write_rows(tmp_path / "sample_submission.csv", ["id", "label"], [[0, 0], [1, 0]])
    assert read(tmp_path).source == "labels.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_and_windows_line_ends_are_accepted(
    tmp_path: Path, encoding: str, newline: str
) -> None:
    lines = ["id,label", *(f"{index}.png,Käfer {label}" for index, label in enumerate(LABELS))]
    (tmp_path / "labels.csv").write_bytes(newline.join(lines).encode(encoding))
    assert list(read(tmp_path).classes["category"]) == ["Käfer 0", "Käfer 1", "Käfer 2"]
    text = json.dumps(DOCUMENT, indent=1).replace("\n", newline)
    (tmp_path / "answer.json").write_bytes(text.encode(encoding))
    assert list(read(tmp_path).classes["class_name"]) == ["cat", "dog", "eel"]


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "true", "1e5", "0x1F", "007"])
def test_a_label_that_looks_like_something_else_stays_a_word(tmp_path: Path, word: str) -> None:
    text = "id,label\n" + "".join(f"{index},{'b' if label else word}\n" for index, label in enumerate(LABELS))
    assert set(read_csv(tmp_path, text).classes["category"]) == {word, "b"}


# --- groups


def test_groups_come_from_a_csv_column(tmp_path: Path) -> None:
    rows = [[f"{index}.png", label, f"patient {index // 4}"] for index, label in enumerate(LABELS)]
    write_rows(tmp_path / "labels.csv", ["id", "label", "patient"], rows)
    metadata = read(tmp_path, group_column="patient")
    assert list(metadata.samples["group"]) == [f"patient {index // 4}" for index in range(12)]


def test_groups_come_from_a_json_key_as_text(tmp_path: Path) -> None:
    document = changed(
        lambda document: [
            annotation.update(patient=index // 4) for index, annotation in enumerate(document["annotations"])
        ]
    )
    metadata = read_document(tmp_path, document, group_column="patient")
    assert list(metadata.samples["group"]) == [str(index // 4) for index in range(12)]


def test_without_a_group_column_no_image_has_a_group(tmp_path: Path) -> None:
    assert set(read_document(tmp_path, DOCUMENT).samples["group"]) == {""}


def test_an_image_whose_group_is_null_has_no_group(tmp_path: Path) -> None:
    document = changed(
        lambda document: [annotation.update(patient=None) for annotation in document["annotations"]]
    )
    assert set(read_document(tmp_path, document, group_column="patient").samples["group"]) == {""}


@pytest.mark.parametrize("form", ["answer.json", "labels.csv"])
def test_a_group_column_that_is_not_there_is_refused(tmp_path: Path, form: str) -> None:
    with pytest.raises(InputError, match=naming(form, "'patient'")):
        if form == "answer.json":
            read_document(tmp_path, DOCUMENT, group_column="patient")
        else:
            read_csv(tmp_path, "id,label\n0,a\n1,b\n", group_column="patient")


def test_one_image_in_two_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming("group", "train/0.png")):
        read_csv(tmp_path, "id,label,g\n0,a,x\n1,b,x\n0,a,y\n", group_column="g")
    visits = [[index % 12, f"patient {index // 12}"] for index in range(24)]
    write_rows(tmp_path / "visits.csv", ["id", "patient"], visits)
    with pytest.raises(InputError, match=naming("visits.csv", "train/0.png", "patient 0", "patient 1")):
        read_csv(tmp_path, GOOD_CSV, group_column="patient")


# --- malformed metadata


def annotations(*changes: tuple[int, dict[str, Any]], drop: str = "") -> dict[str, Any]:
    """Return the document with some annotations updated, or without the key `drop`."""

    def change(document: dict[str, Any]) -> None:
        for index, values in changes:
            document["annotations"][index].update(values)
            document["annotations"][index].pop(drop, None)

    return changed(change)


def appended(**annotation: Any) -> dict[str, Any]:
    return changed(lambda document: document["annotations"].append(annotation))


def categories(*entries: Any) -> dict[str, Any]:
    return changed(lambda document: document["categories"].extend(entries))


COCO: dict[str, Any] = {
    "images": [{"id": 100 + index, "file_name": f"{index}.png"} for index in range(12)],
    "annotations": [{"image_id": 100 + index, "category_id": label} for index, label in enumerate(LABELS)],
}

BAD_DOCUMENTS: dict[str, tuple[Any, list[object]]] = {
    "a list": ([1, 2], ["'annotations'"]),
    "a number": (3, ["'annotations'"]),
    "null": (None, ["'annotations'"]),
    "an empty object": ({}, ["'annotations'"]),
    "another key": ({"annotation": []}, ["'annotations'"]),
    "no annotations": ({"annotations": []}, ["'annotations'"]),
    "annotations null": ({"annotations": None}, ["'annotations'"]),
    "annotations an object": ({"annotations": {"0.png": 1}}, ["'annotations'", "dict"]),
    "annotations a text": ({"annotations": "0.png"}, ["'annotations'"]),
    "entries no objects": ({"annotations": ["0.png", 1, {}]}, [2, 3, "'annotations'"]),
    "no file name": (annotations((3, {}), (5, {}), drop="file_name"), [2, 12, "'file_name'", 3]),
    "no category": (annotations((11, {}), drop="category"), [1, 12, "'category'", 11]),
    "category 1.0": (annotations((2, {"category": 1.0})), [1, 12, 2, "2.png", "1.0"]),
    "category true": (annotations((2, {"category": True})), [1, 12, 2, "2.png", "True"]),
    "category null": (annotations((2, {"category": None})), [1, 12, 2, "2.png", "None"]),
    "category x": (annotations((2, {"category": "x"}), (3, {"category": "y"})), [2, 12, "2.png", "'x'"]),
    "category 1.5": (annotations((2, {"category": "1.5"})), [1, 12, 2, "'1.5'"]),
    "category 1e0": (annotations((2, {"category": "1e0"})), [1, 12, 2, "'1e0'"]),
    "category empty": (annotations((2, {"category": ""})), [1, 12, 2, "2.png", "''"]),
    "category a list": (annotations((2, {"category": [1]})), [1, 12, 2, "[1]"]),
    "category an object": (annotations((2, {"category": {"id": 1}})), [1, 12, 2]),
    "category nan": (annotations((2, {"category": float("nan")})), [1, 12, 2, "nan"]),
    "category huge": (annotations((2, {"category": 10**30})), [1, 12, 2, "2.png"]),
    "category Arabic": (annotations((2, {"category": "٣"})), [1, 12, 2, "'٣'"]),
    "file name a number": (annotations((4, {"file_name": 4})), [1, 12, 4]),
    "file name empty": (annotations((4, {"file_name": " "})), [1, 12, 4]),
    "two labels": (appended(file_name="0.png", category=1), [1, "train/0.png", 0]),
    "two labels, two spellings": (appended(file_name="./0.png", category=1), ["train/0.png", 0, 1]),
    "not there": (appended(file_name="99.png", category=1), [1, 13, "'99.png'"]),
    "a folder": (appended(file_name=".", category=1), [1, 13]),
    "a zero byte": (appended(file_name="\0", category=1), [1, 13]),
    "leaving by ..": (appended(file_name="../test/0.png", category=1), [1, 13, "'../"]),
    "leaving deep": (appended(file_name="a/../../x.png", category=1), [1, 13, "'a/.."]),
    "leaving by ..\\": (appended(file_name="..\\test\\0.png", category=1), [1, 13, "train/"]),
    "leaving by /": (appended(file_name="/etc/passwd", category=1), [1, 13, "/etc/passwd"]),
    "leaving by C:": (appended(file_name="C:\\0.png", category=1), [1, 13, "C:\\0.png"]),
    "category not listed": (annotations((6, {"category": 9})), [1, 12, "'categories'", 6]),
    "category id twice": (categories({"id": "01", "name": "cow"}), ["'categories'", 1]),
    "category without id": (categories({"name": "cow"}), [1, 4, "'id'"]),
    "category id a float": (categories({"id": 3.0}), [1, 4, "'id'"]),
    "category id a bool": (categories({"id": True}), [1, 4, "'id'"]),
    "categories texts": ({**DOCUMENT, "categories": ["cat", "dog"]}, [2, "'categories'"]),
    "categories an object": ({**DOCUMENT, "categories": {"0": "cat"}}, ["'categories'"]),
    "one class": (
        {"annotations": [{"file_name": "0.png", "category": 4}, {"file_name": "1.png", "category": "4"}]},
        ["class", 4],
    ),
    "COCO image not listed": ({**COCO, "images": COCO["images"][:10]}, [2, 12, "'images'", 10]),
    "COCO image id of another type": (
        {**COCO, "images": [{**image, "id": str(image["id"])} for image in COCO["images"]]},
        [12, "'image_id'", 0],
    ),
    "COCO images no objects": ({**COCO, "images": [1]}, [1, "'images'"]),
    "COCO images without id": ({**COCO, "images": [{"file_name": "0.png"}]}, [1, "'id'"]),
    "COCO images a text": ({**COCO, "images": "x"}, ["'images'"]),
    "COCO without category_id": (
        {**COCO, "annotations": [{"image_id": 100}]},
        [1, "'category_id'", 0],
    ),
    "COCO two labels": (
        {**COCO, "annotations": [*COCO["annotations"], {"image_id": 100, "category_id": 2}]},
        [1, "train/0.png", 0, 2],
    ),
    "COCO file name a number": (
        {**COCO, "images": [{"id": 100 + index, "file_name": index} for index in range(12)]},
        [12, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_a_bad_document_is_refused_with_file_count_and_first_example(tmp_path: Path, name: str) -> None:
    document, keys = BAD_DOCUMENTS[name]
    with pytest.raises(InputError, match=naming(tmp_path / "answer.json", *keys)):
        read_document(tmp_path, document)


def test_a_coco_document_that_is_whole_is_read(tmp_path: Path) -> None:
    assert labels_of(read_document(tmp_path, COCO)) == dict(zip(IMAGES, LABELS, strict=True))


def test_a_coco_image_id_listed_twice_is_refused(tmp_path: Path) -> None:
    document = copy.deepcopy(COCO)
    document["annotations"].pop()
    # otherwise annotation 0 would silently belong to the second file
    document["images"].append({"id": 100, "file_name": "11.png"})
    with pytest.raises(InputError, match=naming(100)):
        read_document(tmp_path, document)


GOOD_CSV = "id,label\n" + "".join(f"{index}.png,kind {label}\n" for index, label in enumerate(LABELS))

BAD_TABLES: dict[str, tuple[bytes, list[object]]] = {
    "empty": (b"", ["CSV"]),
    "blank lines": (b"\n\n\n", ["CSV"]),
    "header only": (b"id,label\n", []),
    "a row too long": (f"{GOOD_CSV}0.png,kind 0,x\n".encode(), [1, 13, "line 14"]),
    "all rows too long": (GOOD_CSV.replace("\n", ",1\n").replace("l,1", "l").encode(), [12]),
    "a row too short": (f"{GOOD_CSV}0.png\n".encode(), [1, 13, "line 14"]),
    "no label cell": (GOOD_CSV.replace("kind 2", " ").encode(), [4, 12, "'label'", "line 4"]),
    "no id cell": (GOOD_CSV.replace("\n0.png", "\n").encode(), [1, 12, "'id'", "line 2"]),
    "no label column": (b"a,b,c\n0.png,1,2\n", ["a, b, c"]),
    "one column": (b"id\n0.png\n", ["id"]),
    "an open quote": (f'{GOOD_CSV}"0.png,kind 0\n'.encode(), ["CSV"]),
    "UTF-16": (GOOD_CSV.encode("utf-16-le"), ["CSV"]),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\xff", ["CSV"]),
    "two labels": (f"{GOOD_CSV}0.png,kind 1\n".encode(), [1, "train/0.png", "kind 0", "kind 1"]),
    "not there": (f"{GOOD_CSV}99.png,kind 1\n98.png,kind 1\n".encode(), [2, 14, "'99.png'"]),
    "leaving": (f"{GOOD_CSV}../0.png,kind 1\n".encode(), [1, 13, "'../0.png'"]),
    "one class": (b"id,label\n0.png,a\n1.png,a\n", ["class", "(a)"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_refused_with_file_count_and_first_example(tmp_path: Path, name: str) -> None:
    content, keys = BAD_TABLES[name]
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=naming(tmp_path / "labels.csv", *keys)):
        read(tmp_path)


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    # its first row would be read as the header, and the first image would be lost
    with pytest.raises(InputError, match="header"):
        read_csv(tmp_path, GOOD_CSV.removeprefix("id,label\n"))


def test_a_list_of_classes_beside_class_folders_is_no_label_file(tmp_path: Path) -> None:
    # its ids 0, 1, 2 name classes, and are the stems of images by coincidence
    images = [f"train/kind {label}/{index}.png" for index, label in enumerate(LABELS)]
    write_rows(tmp_path / "classes.csv", ["id", "name"], [[label, f"kind {label}"] for label in range(3)])
    assert len(read(tmp_path, sorted(images)).samples) == 12


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["bus", "car", "train"], {"bus", "car", "train"}),
        (["valid", "invalid"], {"valid", "invalid"}),
        (["train/cat", "train/dog"], {"cat", "dog"}),  # an archive that was unpacked into its own name
        (["train/cat", "train/dog", "val/cat", "val/dog"], {"cat", "dog"}),
    ],
)
def test_a_class_may_be_called_train_or_valid(names: list[str], classes: set[str], tmp_path: Path) -> None:
    images = sorted(f"train/{name}/{index}.png" for name in names for index in range(4))
    samples = read(tmp_path, images).samples
    assert len(samples) == 4 * len(names) and set(samples["class_name"]) == classes


@pytest.mark.parametrize("image", ["site {site}/{index}", "{index}", "camera_{site}_{index}"])
@pytest.mark.parametrize("damage", ["cells", "rows", "encoding"])
@pytest.mark.parametrize("place", ["labels.csv", "tables/labels.csv"])
def test_a_label_table_that_is_damaged_is_not_replaced_by_folders_or_names(
    place: str, damage: str, image: str, tmp_path: Path
) -> None:
    names = [image.format(site="AB"[index % 2], index=index) for index in range(12)]
    rows = [f"{name.rpartition('/')[2]},{'cat' if index % 3 else 'dog'}" for index, name in enumerate(names)]
    rows[4] += ",more" if damage == "cells" else ""
    rows += [f"lost{index},cat" for index in range(30 if damage == "rows" else 0)]
    (tmp_path / place).parent.mkdir(exist_ok=True)
    text = "".join(f"{row}\n" for row in ["id,label", *rows])
    (tmp_path / place).write_text(text, encoding="utf-16-le" if damage == "encoding" else "utf-8")
    with pytest.raises(InputError, match="labels.csv"):
        read(tmp_path, [f"train/{name}.png" for name in names])


@pytest.mark.parametrize(("written", "file"), [("a7.jpg", "a7.JPG"), ("caf\u00e9.jpg", "cafe\u0301.jpg")])
def test_a_row_whose_file_differs_in_capitals_or_accents_alone_names_it(
    written: str, file: str, tmp_path: Path
) -> None:
    others = "".join(f"{index}.jpg,{'ab'[index % 2]}\n" for index in range(8))
    images = [f"photos/train/{file}", *(f"photos/train/{index}.jpg" for index in range(8))]
    with pytest.raises(InputError, match=naming("photos/train", written, file)):
        read(write_text(tmp_path / "labels.csv", f"id,label\n{written},a\n{others}").parent, images)


def test_grades_of_the_settings_order_words_and_cover_all_labels(tmp_path: Path) -> None:
    words = ("mild", "severe", "none")
    text = "id,label\n" + "".join(f"{index},{words[index % 3]}\n" for index in range(12))
    metadata = read_csv(tmp_path, text, grades=("none", "mild", "severe"))
    assert metadata.task == "ordinal" and list(metadata.classes["category"]) == ["none", "mild", "severe"]
    assert labels_of(metadata)["train/1.png"] == 2
    for keys, named in (
        ({"grades": ("none", "mild")}, "severe"),
        ({"grades": ("none", "mild", "severe"), "task": "multiclass"}, "multiclass"),
        ({"task": "ordinal"}, "grades"),
    ):
        with pytest.raises(InputError, match=naming(named)):
            read_csv(tmp_path, text, **keys)


def test_numbers_of_either_sign_are_no_spellings_of_one_label(tmp_path: Path) -> None:
    rows = "".join(f"{index},{(index - 6) / 8}\n" for index in range(12))
    metadata = read_csv(tmp_path, "id,label\n" + rows)
    assert metadata.task == "regression"


@pytest.mark.parametrize(("first", "named"), [(0, True), (1, False)])
def test_a_list_of_names_names_classes_only_if_all_of_its_lines_are_classes(
    first: int, named: bool, tmp_path: Path, make_competition: MakeCompetition
) -> None:
    # labels from 1 on of which the last does not occur would have the names of their neighbours
    folder = make_competition(num_classes=4, labels="csv", sample=None)
    table = pd.read_csv(folder / "labels.csv")
    label = table["label"].str.removeprefix("kind ").astype(int) + first
    table.assign(label=label).to_csv(folder / "labels.csv", index=False)
    names = ["ant", "bee", "cat", "dog", "eel"][: 4 + first]
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    found = set(read_metadata(read_competition(folder)).classes["class_name"].astype(str))
    assert found == (set(names) if named else {"1", "2", "3", "4"})


@pytest.mark.parametrize("name", ["._labels.csv", "._labels.json", "folder.csv/x", "folder.json/x"])
def test_hidden_files_and_folders_are_no_label_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\x00\x05\x16\x07\xff")
    assert len(read_csv(tmp_path, GOOD_CSV).samples) == 12


def test_a_label_column_of_the_settings_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="species"):
        read_csv(tmp_path, GOOD_CSV, label_column="species")


def test_two_tables_that_could_be_the_labels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(GOOD_CSV)
    with pytest.raises(InputError, match=naming("a.csv", "b.csv", "labels = ")):
        read(tmp_path)


def test_a_folder_without_any_labels_is_refused_with_all_forms(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming(tmp_path, "answer.json", "COCO", "CSV")):
        read(tmp_path)


@pytest.mark.parametrize("name", ["absent.csv", "../labels.csv", "/etc/passwd", ".", "..", "deep"])
def test_the_label_file_of_the_settings_must_lie_in_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.csv").write_text(GOOD_CSV)
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/labels.csv").write_text(GOOD_CSV)
    with pytest.raises(InputError, match=naming("labels", f"'{name}'")):
        read(tmp_path / "in", labels=name)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "{'annotations': []}",
        '{"annotations": [1,]}',
        "",
        "\x00",
        "[" * 100_000,
        '{"annotations": [{"file_name": "0.png", "category": ' + "1" * 5000 + "}]}",
    ],
    ids=[
        "words",
        "single quotes",
        "a trailing comma",
        "empty",
        "a zero byte",
        "nested deep",
        "a huge number",
    ],
)
def test_text_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "answer.json").write_text(text)
    with pytest.raises(InputError, match=naming("answer.json", "JSON")):
        read(tmp_path)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_json_that_is_not_utf8_is_refused(tmp_path: Path, encoding: str) -> None:
    text = json.dumps({**DOCUMENT, "by": "Käte"}, ensure_ascii=False)
    (tmp_path / "answer.json").write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=naming("answer.json", "UTF-8")):
        read(tmp_path)


@pytest.mark.parametrize("tenth", range(10))
def test_json_cut_off_anywhere_is_refused(tmp_path: Path, tenth: int) -> None:
    content = json.dumps(DOCUMENT).encode()
    (tmp_path / "answer.json").write_bytes(content[: len(content) * tenth // 10])
    with pytest.raises(InputError, match=naming("answer.json", "JSON")):
        read(tmp_path)


# --- arbitrary files: read to a consistent table or refused, never a traceback

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 13)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["0", "1", "0.png", "1.png", "train/2.png", "../0.png", "/", ".", "id", "01", "1.0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "file_name", "category", "image_id"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


def nodes(value: Any, trail: tuple = ()) -> list[tuple]:
    """Return the path of keys and indices to every node of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [trail, *(deep for key, child in inner for deep in nodes(child, (*trail, key)))]


def replaced(value: Any, trail: tuple, new: Any) -> Any:
    if not trail:
        return new
    value = copy.copy(value)
    value[trail[0]] = replaced(value[trail[0]], trail[1:], new)
    return value


@settings(max_examples=200)
@given(st.data())
def test_a_document_with_any_node_replaced_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir(exist_ok=True)
    document = data.draw(st.sampled_from([DOCUMENT, COCO]))
    for _ in range(data.draw(st.integers(1, 3))):
        trail = data.draw(st.sampled_from(nodes(document)))
        document = replaced(document, trail, data.draw(VALUES))
    try:
        metadata = read_document(folder, document, group_column=data.draw(st.sampled_from(["", "category"])))
    except InputError as error:
        assert str(folder / "answer.json") in str(error)
        return
    check_consistent(metadata)


@given(st.sampled_from([json.dumps(DOCUMENT).encode(), GOOD_CSV.encode()]), st.data())
def test_a_file_with_any_bytes_replaced_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(start + 20, len(content))))
    damaged = content[:start] + data.draw(st.binary(max_size=5)) + content[stop:]
    path = folder / ("answer.json" if content.startswith(b"{") else "labels.csv")
    path.write_bytes(damaged)
    try:
        metadata = read(folder)
    except InputError as error:
        assert str(path) in str(error)
        return
    check_consistent(metadata)


def test_a_column_of_row_numbers_is_not_taken_for_the_ids(tmp_path: Path) -> None:
    # row 0 is about 11.png, and "0" is the stem of 0.png
    rows = [[row, f"{11 - row}.png", f"kind {LABELS[11 - row]}"] for row in range(12)]
    write_rows(tmp_path / "labels.csv", ["id", "filename", "label"], rows)
    samples = read(tmp_path).samples
    assert dict(zip(samples["path"], samples["class_name"], strict=True)) == {
        image: f"kind {label}" for image, label in zip(IMAGES, LABELS, strict=True)
    }


def test_columns_that_could_both_be_meant_are_refused(tmp_path: Path) -> None:
    for header in (["id", "image", "label"], ["id", "class", "label"]):
        write_rows(tmp_path / "labels.csv", header, [[row, (row + 1) % 12, row % 3] for row in range(12)])
        with pytest.raises(InputError, match=naming("labels.csv", *header)):
            read(tmp_path)


def test_a_table_of_groups_beside_class_folders_is_not_taken_for_labels(tmp_path: Path) -> None:
    images = sorted(f"train/kind {label}/{index}.png" for index, label in enumerate(LABELS))
    write_rows(
        tmp_path / "patients.csv", ["image", "patient"], [[f"{row}.png", row // 2] for row in range(12)]
    )
    metadata = read(tmp_path, images)
    assert set(metadata.samples["class_name"]) == {"kind 0", "kind 1", "kind 2"}
    assert any("patients.csv names their images too" in note for note in metadata.notes)
    by_word = read(tmp_path, images, labels="train")
    assert not any("names their images too" in note for note in by_word.notes)
    write_rows(tmp_path / "patients.csv", ["place", "count"], [["north", 1], ["south", 2]])
    assert not any("patients" in note for note in read(tmp_path, images).notes)
    write_rows(
        tmp_path / "patients.csv", ["image", "patient"], [[f"{row}.png", row // 2] for row in range(12)]
    )
    groups = read(tmp_path, images, group_column="patient").samples.set_index("path")["group"]
    assert groups.to_dict() == {image: str(int(Path(image).stem) // 2) for image in images}
    with pytest.raises(InputError, match=naming("group_column", "'doctor'", "patient")):
        read(tmp_path, images, group_column="doctor")


def test_a_label_with_two_signs_is_a_name(tmp_path: Path) -> None:
    write_rows(tmp_path / "labels.csv", ["id", "label"], [[row, ["--1", "2"][row % 2]] for row in range(12)])
    assert set(read(tmp_path).samples["class_name"]) == {"--1", "2"}


@pytest.mark.parametrize(
    ("name", "content"), [("labels.csv", GOOD_CSV[:-2] + ",x,y\n"), ("train.json", '{"annotations": [{"im')]
)
def test_a_damaged_label_file_never_makes_folders_the_labels(tmp_path: Path, name: str, content: str) -> None:
    images = [f"train/camera {index % 2}/{index}.png" for index in range(12)]
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name):
        read(tmp_path, images)
    assert read(tmp_path, images, labels="train").source == "the folders under train/"
