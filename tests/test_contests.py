"""One contest of each kind as downloaded, from its folder to the submission that its rules ask for."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import draw
from PIL import Image

import run
from foldsmith.process.files import load_json

SIZE, TRAIN, TEST = 16, 36, 8
WORDS = ["--recipe", "quick", "--image-size", "16", "--epochs", "2", "--folds", "2", "--until", "submit"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu", "--name", "run"]


def image_bytes(label: int, index: int, num_classes: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(draw(label, num_classes, SIZE, False, np.random.default_rng(index))).save(stream, "PNG")
    return stream.getvalue()


def write_images(folder: Path, names: list[str], labels: list[int], num_classes: int = 3) -> None:
    folder.mkdir(parents=True)
    for index, (name, label) in enumerate(zip(names, labels, strict=True)):
        (folder / name).write_bytes(image_bytes(label, index, num_classes))


def names_of(kind: str, count: int) -> list[str]:
    return [f"{kind}{index:03d}.png" for index in range(count)]


def in_zips(folder: Path) -> None:
    """Write zipped images, 0 or 1 as labels, and a sample of 0.5: the area under the ROC curve."""
    for subset, count in (("train", TRAIN), ("test", TEST)):
        with zipfile.ZipFile(folder / f"{subset}.zip", "w") as archive:
            for index, name in enumerate(names_of(subset, count)):
                archive.writestr(f"{subset}/{name}", image_bytes(index % 2, index))
    train = pd.DataFrame({"id": names_of("train", TRAIN), "has_cat": np.arange(TRAIN) % 2})
    train.to_csv(folder / "train.csv", index=False)
    pd.DataFrame({"id": names_of("test", TEST), "has_cat": 0.5}).to_csv(
        folder / "sample_submission.csv", index=False
    )


def of_tags(folder: Path) -> None:
    """Write sets of labels in one cell, also in the sample."""
    labels = np.arange(TRAIN) % 3
    write_images(folder / "train-png", names_of("train_", TRAIN), labels.tolist())
    write_images(folder / "test-png", names_of("test_", TEST), [0] * TEST)
    sets = ["clear", "clear water", "haze", "water haze", "water"]
    tags = [sets[index % 5] for index in range(TRAIN)]
    stems = [name.removesuffix(".png") for name in names_of("train_", TRAIN)]
    pd.DataFrame({"image_name": stems, "tags": tags}).to_csv(folder / "train_v2.csv", index=False)
    stems = [name.removesuffix(".png") for name in names_of("test_", TEST)]
    pd.DataFrame({"image_name": stems, "tags": "clear water"}).to_csv(
        folder / "sample_submission_v2.csv", index=False
    )


def of_grades(folder: Path) -> None:
    """Write grades, which their column's name tells from classes."""
    labels = np.arange(TRAIN) % 3
    write_images(folder / "train_images", names_of("a", TRAIN), labels.tolist())
    write_images(folder / "test_images", names_of("b", TEST), [1] * TEST)
    stems = [name.removesuffix(".png") for name in names_of("a", TRAIN)]
    pd.DataFrame({"id_code": stems, "diagnosis": labels}).to_csv(folder / "train.csv", index=False)
    tests = pd.DataFrame({"id_code": [name.removesuffix(".png") for name in names_of("b", TEST)]})
    tests.to_csv(folder / "test.csv", index=False)
    tests.assign(diagnosis=0).to_csv(folder / "sample_submission.csv", index=False)


def of_numbers(folder: Path) -> None:
    """Write a number an image beside features that the test has as well."""
    labels = np.arange(TRAIN) % 3
    write_images(folder / "train", names_of("a", TRAIN), labels.tolist())
    write_images(folder / "test", names_of("b", TEST), [1] * TEST)
    train = pd.DataFrame({"Id": names_of("a", TRAIN), "blur": 0, "score": labels * 10 + 0.5})
    train.to_csv(folder / "train.csv", index=False)
    tests = pd.DataFrame({"Id": names_of("b", TEST), "blur": 1})
    tests.to_csv(folder / "test.csv", index=False)
    tests[["Id"]].assign(score=np.arange(TEST) + 0.25).to_csv(folder / "sample_submission.csv", index=False)


def of_ranks(folder: Path) -> None:
    """Write one label an image, and a sample with three labels a row."""
    labels = np.arange(TRAIN) % 4
    words = ["w_a", "w_b", "w_c", "w_d"]
    write_images(folder / "train", names_of("a", TRAIN), labels.tolist(), 4)
    write_images(folder / "test", names_of("b", TEST), [0] * TEST, 4)
    train = pd.DataFrame({"Image": names_of("a", TRAIN), "Id": [words[label] for label in labels]})
    train.to_csv(folder / "train.csv", index=False)
    pd.DataFrame({"Image": names_of("b", TEST), "Id": "w_a w_b w_c"}).to_csv(
        folder / "sample_submission.csv", index=False
    )


def of_file_names(folder: Path) -> None:
    """Write labels in file names, and a sample of one probability a row."""
    names = [f"{'cat' if index % 2 else 'dog'}.{index}.png" for index in range(TRAIN)]
    write_images(folder / "train", names, [index % 2 for index in range(TRAIN)])
    write_images(folder / "test", [f"{index}.png" for index in range(1, TEST + 1)], [1] * TEST)
    pd.DataFrame({"id": range(1, TEST + 1), "label": 0.5}).to_csv(
        folder / "sample_submission.csv", index=False
    )


def of_columns(folder: Path) -> None:
    """Write 0/1 columns, one folder for both subsets, and a sample of fewer columns in another order."""
    labels = np.arange(TRAIN) % 3
    names = [f"Train_{index}.png" for index in range(TRAIN)] + [f"Test_{index}.png" for index in range(TEST)]
    write_images(folder / "images", names, [*labels.tolist(), *[0] * TEST])
    flags = {"rust": labels > 0, "scab": labels == 2, "mould": labels < 2}
    train = pd.DataFrame({"image_id": [name.removesuffix(".png") for name in names[:TRAIN]]})
    train.assign(**{name: flag.astype(int) for name, flag in flags.items()}).to_csv(
        folder / "train.csv", index=False
    )
    tests = pd.DataFrame({"image_id": [name.removesuffix(".png") for name in names[TRAIN:]]})
    tests.assign(mould=0, rust=0).to_csv(folder / "sample_submission.csv", index=False)


def are_probabilities(cells: pd.DataFrame) -> bool:
    return cells.map(float).stack().between(0, 1).all() and cells.map(float).stack().nunique() > 2


Write = Callable[[Path], None]
Check = Callable[[pd.DataFrame], bool]
# kind -> how it is written, task, metric, and whether the cells beside the id are what its rules ask for
KINDS: dict[str, tuple[Write, str, str, Check]] = {
    "zips": (in_zips, "binary", "roc_auc", are_probabilities),
    "tags": (
        of_tags,
        "multilabel",
        "f1_samples",
        lambda cells: {word for cell in cells["tags"] for word in cell.split()} <= {"clear", "water", "haze"},
    ),
    "grades": (
        of_grades,
        "ordinal",
        "quadratic_weighted_kappa",
        lambda cells: set(cells["diagnosis"]) <= {"0", "1", "2"},
    ),
    "numbers": (
        of_numbers,
        "regression",
        "rmse",
        lambda cells: cells["score"].map(float).between(-10, 40).all(),
    ),
    "ranks": (
        of_ranks,
        "multiclass",
        "map_at_3",
        lambda cells: cells["Id"].map(lambda cell: len(set(cell.split())) == 3).all(),
    ),
    "file names": (of_file_names, "binary", "roc_auc", are_probabilities),
    "columns": (of_columns, "multilabel", "roc_auc", are_probabilities),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_contest_as_downloaded_ends_in_the_submission_that_its_rules_ask_for(
    kind: str, tmp_path: Path
) -> None:
    write, task, metric, is_right = KINDS[kind]
    folder = tmp_path / "input" / kind.replace(" ", "-")
    folder.mkdir(parents=True)
    write(folder)
    assert run.main([str(folder), *WORDS, "--output", str(tmp_path / "output")]) == 0
    root = tmp_path / "output" / folder.name / "run"
    found = load_json(root / "found.json")
    assert (found["task"], found["metric"]) == (task, metric)
    sample = pd.read_csv(next(folder.glob("sample*.csv")), dtype=str, keep_default_na=False)
    written = pd.read_csv(root / "submission.csv", dtype=str, keep_default_na=False)
    assert list(written.columns) == list(sample.columns)
    assert written.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    assert is_right(written.iloc[:, 1:])
    cv = json.loads((root / "cv.json").read_text())
    assert cv["metric"] == metric and cv["oof"] is not None
