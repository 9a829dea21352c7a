"""Images that the pretraining may have seen are pointed out, with the evidence."""

import re

import pandas as pd
import pytest
import timm.data
from conftest import naming

from foldsmith.data.known_images import find_known_images


def classes_of(names: list[str], categories: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"category": categories or names, "class_name": names})


OWN = classes_of(["kind 0", "kind 1", "kind 2", "kind 3"])
SYNSETS = timm.data.ImageNetInfo().label_names()
LEMMAS = timm.data.ImageNetInfo().label_descriptions()


def test_files_named_as_imagenet_names_them_are_counted() -> None:
    paths = ["train/n01440764_10026.JPEG", "train/ILSVRC2012_val_00000293.JPEG", "a/7.jpg", "n123_4.png"]
    assert re.search(naming(2, 4, paths[0]), find_known_images(paths, OWN))


@pytest.mark.parametrize("column", ["category", "class_name"])
def test_classes_with_wordnet_ids_are_counted(column: str) -> None:
    words = [*SYNSETS[:2], "other", "kind"]
    classes = classes_of(words) if column == "class_name" else classes_of(list("abcd"), words)
    assert re.search(naming(2, 4, SYNSETS[0]), find_known_images(["1.jpg"], classes))
    assert find_known_images(["1.jpg"], classes_of([SYNSETS[0], "a", "b", "c"])) == ""


def test_half_of_the_class_names_suffice_in_any_spelling() -> None:
    # the last of a class's names, as another program may spell it
    first, second = (lemma.split(",")[-1].strip() for lemma in LEMMAS[:2])
    names = [first.upper().replace(" ", "_"), f" {second.replace(' ', '-')}", "mine", "yours"]
    assert re.search(naming(2, 4, names[0]), find_known_images(["1.jpg"], classes_of(names)))
    assert find_known_images(["1.jpg"], classes_of([*names, "theirs"])) == ""


@pytest.mark.parametrize(
    "names", [["kind 0", "kind 1"], ["dog", "cat"], ["0", "1", "2"], ["mushroom", "truffle"]]
)
def test_other_classes_are_not_pointed_out(names: list[str]) -> None:
    assert find_known_images(["n01440764.jpg", "train/12.jpg"], classes_of(names)) == ""
