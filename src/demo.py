"""Write the demo competition: 80 classes of drawn images, their labels, and the true test labels.

    .venv/bin/python src/demo.py

It has planted flaws of kinds that occur in real data: two grey training images, one exact duplicate under
another name (same label), one truncated training file, and one training image without a label.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from foldsmith.data.drawings import CLASS_NAMES, CLASSES, draw
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.files import save_csv, save_json
from foldsmith.process.terminal import say
from foldsmith.run.command import read_command
from foldsmith.run.paths import truth_path
from foldsmith.seeding import derive_seed

NAME = "demo80"
SAMPLE = "sample_submission.csv"
SEED = 80
TRAIN_PER_CLASS = 30
TEST_PER_CLASS = 5
JPEG_QUALITY = 92

Drawing = tuple[int, int]  # label, index among that label's drawings

# the flawed drawings; white and black shapes can be grey and keep a true label
GREY: tuple[Drawing, ...] = ((CLASS_NAMES.index("white star"), 3), (CLASS_NAMES.index("black ring"), 11))
ORIGINAL: Drawing = (CLASS_NAMES.index("cyan cross"), 5)
DUPLICATE: Drawing = (CLASS_NAMES.index("cyan cross"), 20)
TRUNCATED: Drawing = (CLASS_NAMES.index("blue square"), 17)
UNLABELLED: Drawing = (CLASS_NAMES.index("green disc"), TRAIN_PER_CLASS)


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    folder = command.folder
    if folder.name != NAME:
        return 0  # run.sh passes every stage the user's arguments; other competitions are the user's
    if folder.exists() and not command.again:
        check_whole(folder)
        say(f"{folder} exists already: nothing to do.")
        return 0
    if folder.exists() and not is_ours(folder):
        raise InputError(
            f"{folder} holds other files than the demo's, so --again does not replace it; move it away."
        )
    if not command.dataset_recipe:
        # imported here: torch takes seconds, which a demo that exists already should not pay
        from foldsmith.training.check import check_recipe

        check_recipe(command.recipe, command.device, command.precision)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as scratch:
        new_folder = Path(scratch) / NAME
        truth = write_competition(new_folder)
        save_csv(truth_path(folder), truth)
        if folder.exists():
            os.rename(folder, Path(scratch) / "replaced")
        os.rename(new_folder, folder)
    num_train = len(CLASSES) * TRAIN_PER_CLASS
    say(f"{folder}: {len(CLASSES)} classes, {num_train} labelled training and {len(truth)} test images.")
    return 0


def is_ours(folder: Path) -> bool:
    """Return whether a folder holds nothing but files of the demo."""
    return {entry.name for entry in folder.iterdir()} <= {"train", "test", "answer.json", SAMPLE} and all(
        image.suffix == ".jpg" and image.stem.isdecimal() for image in folder.glob("t*/*")
    )


def check_whole(folder: Path) -> None:
    """Raise InputError if files of the demo were deleted; it is written atomically."""
    expected = [folder / "answer.json", folder / SAMPLE, truth_path(folder)]
    expected += [folder / "train" / f"{n}.jpg" for n in range(len(CLASSES) * TRAIN_PER_CLASS + 1)]
    expected += [folder / "test" / f"{n}.jpg" for n in range(len(CLASSES) * TEST_PER_CLASS)]
    missing = [path for path in expected if not path.is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of its files (first: {missing[0]}); run again with --again to "
            "rewrite it."
        )


def write_competition(folder: Path) -> pd.DataFrame:
    """Write the competition folder and return the true test labels: filename, class."""
    labels = range(len(CLASSES))
    drawings = [(label, index) for label in labels for index in range(TRAIN_PER_CLASS)]
    train = write_images(folder / "train", [*drawings, UNLABELLED])
    plant_flaws(folder / "train", train)
    annotations = [
        {"file_name": name, "category": label}
        for name, (label, index) in train.items()
        if (label, index) != UNLABELLED
    ]
    categories = [{"id": label, "name": CLASS_NAMES[label]} for label in labels]
    save_json(folder / "answer.json", {"annotations": annotations, "categories": categories})

    test = write_images(
        folder / "test", [(label, index) for label in labels for index in range(TEST_PER_CLASS)]
    )
    truth = pd.DataFrame([(name, label) for name, (label, _) in test.items()], columns=["filename", "class"])
    save_csv(folder / SAMPLE, truth.assign(**{"class": 0}))
    return truth


def write_images(folder: Path, drawings: list[Drawing]) -> dict[str, Drawing]:
    """Write drawings under shuffled numbers; return the drawing of each file, by name in natural order."""
    folder.mkdir(parents=True)
    split = folder.name
    order = np.random.default_rng(derive_seed(SEED, split, "order")).permutation(len(drawings))
    drawing_of = {f"{number}.jpg": drawings[position] for number, position in enumerate(order)}
    for name, (label, index) in drawing_of.items():
        image = draw(*CLASSES[label], np.random.default_rng(derive_seed(SEED, split, label, index)))
        (folder / name).write_bytes(as_jpeg(image[..., ::-1]))
    return drawing_of


def plant_flaws(folder: Path, drawing_of: dict[str, Drawing]) -> None:
    """Replace the files of the flawed drawings; `drawing_of` is what `write_images` returned."""
    paths = {drawing: folder / name for name, drawing in drawing_of.items()}
    for drawing in GREY:
        paths[drawing].write_bytes(as_jpeg(cv2.imread(str(paths[drawing]), cv2.IMREAD_GRAYSCALE)))
    paths[DUPLICATE].write_bytes(paths[ORIGINAL].read_bytes())
    whole = paths[TRUNCATED].read_bytes()
    paths[TRUNCATED].write_bytes(whole[: len(whole) // 2])


def as_jpeg(image: np.ndarray) -> bytes:
    """Return the bytes of a JPEG file of an image uint8, (H, W, 3) in BGR order or (H, W) grey."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


if __name__ == "__main__":
    run_main(main)
