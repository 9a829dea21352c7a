"""Shared fixtures and helpers: a factory of tiny competition folders, and a pattern for error messages."""

import colorsys
import csv
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# the same examples in every run, on machines of any speed
settings.register_profile("foldsmith", deadline=None, derandomize=True, database=None, max_examples=100)
settings.load_profile("foldsmith")

MakeCompetition = Callable[..., Path]


def pytest_configure() -> None:
    # set before torch is imported: toy networks gain nothing from a second thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # as the recipe's `deterministic` sets it, but before any test uses a GPU: cuBLAS reads it once
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # a background job of a shell ignores SIGINT, and the processes that tests start would inherit that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_competition(tmp_path_factory: pytest.TempPathFactory) -> MakeCompetition:
    """Return a function that writes a competition into a new folder and returns its path.

    Example: `make_competition(num_classes=3, labels="csv")`. The arguments and their defaults are those of
    `write_competition`; `name` is the folder's name. Every call has a parent folder of its own, so tests may
    change the files.
    """

    def make(name: str = "tiny", **words: object) -> Path:
        folder = tmp_path_factory.mktemp("input") / name
        write_competition(folder, **words)
        return folder

    return make


def write_competition(
    folder: Path,
    num_classes: int = 3,
    per_class: int = 6,
    test_per_class: int = 2,
    size: int = 16,
    labels: Literal["answer", "coco", "csv", "folders"] = "answer",
    sample: Literal["label", "names", "probabilities"] | None = "label",
    grey: bool = False,
    suffix: str = ".png",
) -> None:
    """Write `folder` and, beside it, `<folder>-truth.csv`; the same arguments give the same bytes.

    Class k is named `kind k` and has label k. Label files of the forms `answer` and `coco` hold k, and the
    names under `categories`; `csv` (labels.csv) and `folders` hold the names only. Image i is `train/i.png`
    (`train/kind k/i.png` for `folders`) or `test/i.png`. Its class is i modulo the number of classes; its
    colour, or with `grey` its brightness, is that of the class. `sample` is the sample submission's form:
    labels as in the label file (`label`), class names (`names`), a column a class (`probabilities`), or None.
    """
    names = [f"kind {label}" for label in range(num_classes)]
    words = names if labels in ("csv", "folders") else [str(label) for label in range(num_classes)]

    def write_images(subset: str, count: int) -> list[tuple[str, int]]:
        """Write the images of train/ or test/; return their paths in it, and their labels."""
        written = []
        for index in range(count):
            label = index % num_classes
            inside = f"{names[label]}/" if labels == "folders" and subset == "train" else ""
            path = folder / subset / f"{inside}{index}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            draws = np.random.default_rng([index, subset == "test"])
            Image.fromarray(draw(label, num_classes, size, grey, draws)).save(path)
            written.append((f"{inside}{index}{suffix}", label))
        return written

    train = write_images("train", num_classes * per_class)
    test = write_images("test", num_classes * test_per_class)

    categories = [{"id": label, "name": name} for label, name in enumerate(names)]
    if labels == "answer":
        annotations = [{"file_name": name, "category": label} for name, label in train]
        document = {"annotations": annotations, "categories": categories}
        (folder / "answer.json").write_text(json.dumps(document), encoding="utf-8")
    elif labels == "coco":
        images = [{"id": 100 + index, "file_name": name} for index, (name, _) in enumerate(train)]
        annotations = [
            {"image_id": 100 + index, "category_id": label} for index, (_, label) in enumerate(train)
        ]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "train.json").write_text(json.dumps(document), encoding="utf-8")
    elif labels == "csv":
        write_rows(folder / "labels.csv", ["id", "label"], [[name, words[label]] for name, label in train])

    if sample == "probabilities":
        uniform = [1 / num_classes] * num_classes
        rows = [[name, *uniform] for name, _ in test]
        write_rows(folder / "sample_submission.csv", ["id", *words], rows)
    elif sample is not None:
        words = names if sample == "names" else words
        write_rows(folder / "sample_submission.csv", ["id", "label"], [[name, words[0]] for name, _ in test])
    truth = [[name, words[label]] for name, label in test]
    write_rows(folder.parent / f"{folder.name}-truth.csv", ["filename", "class"], truth)


def draw(label: int, num_classes: int, size: int, grey: bool, draws: np.random.Generator) -> np.ndarray:
    """Return a noisy image in the class's colour, uint8 (size, size, 3), or brightness, (size, size)."""
    if grey:
        colour = np.array(30 + 195 * label / max(num_classes - 1, 1))
    else:
        colour = np.array(colorsys.hsv_to_rgb(label / num_classes, 0.8, 0.8)) * 255
    shape = (size, size) if grey else (size, size, 3)
    return np.clip(colour + draws.normal(0, 12, shape), 0, 255).astype(np.uint8)


def naming(*values: object) -> str:
    """Return a pattern for `match=` of messages that contain all values, in any order.

    An int matches a whole number only, not digits of a longer number or of a path.
    """
    patterns = [
        rf"(?<![\w./-]){value}(?![\w/-]|[.,]\d)" if isinstance(value, int) else re.escape(str(value))
        for value in values
    ]
    return r"(?s)\A" + "".join(f"(?=.*{pattern})" for pattern in patterns)


def write_rows(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
