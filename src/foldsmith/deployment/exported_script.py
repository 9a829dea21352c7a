"""The text of an export's predict.py: reading an image, and deciding, without torch and without foldsmith."""

import json
from typing import Any

from foldsmith.data.images import DEPTH
from foldsmith.deployment.answers import AnswerForm
from foldsmith.evaluation.decisions import Decision
from foldsmith.inference.predictor import ImageForm

HEAD = '''"""Predict image files with the exported model: python predict.py IMAGE… > answers.csv

It needs onnxruntime, numpy and opencv-python-headless (4.11 or later). preprocess.json has the settings.
"""

import csv
import functools
import json
import sys
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(__file__).parent
SETTINGS = json.loads((FOLDER / "preprocess.json").read_text(encoding="utf-8"))
SIZE = SETTINGS["image_size"]


def decode(path):
    """Return the pixels of a file, uint8 (H, W, 3), RGB."""
    if Path(path).is_dir():
        raise SystemExit(f"{path} is a folder; name image files")
    if not Path(path).is_file():
        raise SystemExit(f"{path} is not there")
    data = np.fromfile(path, np.uint8)
    flags = cv2.IMREAD_COLOR_RGB
@REDUCED@    pixels = cv2.imdecode(data, flags) if len(data) else None
    if pixels is None:
        raise SystemExit(f"{path} cannot be decoded by OpenCV")
@DEPTH@    if not np.ptp(pixels):  # an image of one colour may have its shape in the transparency
        whole = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if whole.ndim == 3 and whole.shape[2] == 4 and np.ptp(whole[..., 3]):
            alpha = whole[..., 3] if whole.dtype == np.uint8 else (whole[..., 3] >> 8).astype(np.uint8)
            return np.repeat(alpha[..., None], 3, axis=2)
    return pixels


@FILES@def read(path):
    """Return an image as the model takes it, uint8 (SIZE, SIZE, C)."""
    pixels = @DECODE@(path)
    shrinks = pixels.shape[0] * pixels.shape[1] > SIZE * SIZE
    return cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


@functools.cache
def sessions():
    """Return the models, ready to run."""
    import onnxruntime

    return [onnxruntime.InferenceSession(FOLDER / name) for name in SETTINGS["models"]]


def predict(paths):
    """Return the predictions of image files, float32 (n, K): means over the models."""
    images = np.stack([read(str(path)) for path in paths])
    return np.mean([session.run(None, {"images": images})[0] for session in sessions()], axis=0)


def decide(predictions):
    """Return predictions as they are submitted, and the answers."""
@DECIDE@

def main():
    names, paths = SETTINGS["names"], sys.argv[1:]
    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "answer", *names])
    for row in range(len(paths)):  # image by image, so that memory does not grow with their number
        predictions, answers = decide(predict(paths[row : row + 1]))
        writer.writerow([paths[row], @ANSWER@, *predictions[0].tolist()])


if __name__ == "__main__":
    main()
'''
REDUCED = """    if data[:2].tobytes() == b"\\xff\\xd8":  # a JPEG is decoded no larger than needed
        side = min(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).shape[:2])
        factors = ((8, cv2.IMREAD_REDUCED_GRAYSCALE_8), (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
                   (2, cv2.IMREAD_REDUCED_GRAYSCALE_2))
        flags |= next((flag for factor, flag in factors if side >= factor * SIZE), 0)
"""
DEEP = """    deep = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    if deep.dtype == np.uint16:  # of 16 bits the images use @BITS@
        return np.minimum(deep >> (@BITS@ - 8), 255).astype(np.uint8)
"""
FILES = '''def decode_files(path):
    """Return the pixels of an image of several files, such as ID_{red,green}.png, a file a channel."""
    if path.count("{") != 1 or path.count("}") != 1:
        raise SystemExit(f"{path} is one file; name all files of an image, as in ID_{{red,green,blue}}.png")
    start, words, end = path.replace("}", "{").split("{")
    layers = [decode(start + word + end) for word in words.split(",")][:@CHANNELS@]
    layers = [cv2.cvtColor(layer, cv2.COLOR_RGB2GRAY) for layer in layers]
    return np.dstack([*layers, *[np.zeros_like(layers[0])] * (@CHANNELS@ - len(layers))])


'''
# the rule that decides -> the lines of `decide`; `values` are the parameters in decision.json
VALUES = (
    '    values = np.array(json.loads((FOLDER / "decision.json").read_text(encoding="utf-8"))["values"])\n'
)
GRADES = "    grades = predictions.astype(np.float64) @ np.arange(predictions.shape[1])\n"
DECIDING = {
    "multiclass": "    return predictions, predictions.argmax(axis=1)\n",
    "binary": "    return predictions, predictions.argmax(axis=1)\n",
    "multilabel": "    return predictions, predictions >= 0.5\n",
    "ordinal": GRADES + "    return predictions, np.floor(grades + 0.5).astype(int)\n",
    "regression": "    return predictions, predictions\n",
    "threshold": VALUES + "    return predictions, predictions >= values\n",
    "class_thresholds": VALUES + "    return predictions, predictions >= values\n",
    "binary_threshold": VALUES + "    return predictions, (predictions[:, 1] >= values[0]).astype(int)\n",
    "hard_threshold": VALUES
    + "    positive = (predictions[:, 1] >= values[0]).astype(np.float32)\n"
    + "    return np.stack([1 - positive, positive], axis=1), positive.astype(int)\n",
    "cut_points": VALUES + GRADES + '    return predictions, np.searchsorted(values, grades, side="right")\n',
    "most_probable": "    return predictions, predictions.argmax(axis=1)\n",
    "unknown_class": VALUES
    + "    raised, unknown = predictions.astype(np.float64), int(values[1])\n"
    + "    raised[:, unknown] = np.maximum(raised[:, unknown], values[0])\n"
    + "    return raised / raised.sum(axis=1, keepdims=True), raised.argmax(axis=1)\n",
    "temperature": VALUES
    + "    powers = predictions.astype(np.float64) ** (1 / values[0])\n"
    + "    scaled = np.maximum(powers / powers.sum(axis=1, keepdims=True), 2.0**-22)\n"
    + "    scaled /= scaled.sum(axis=1, keepdims=True)\n"
    + "@DEFAULT@",
    "set_temperature": VALUES
    + "    yes = predictions.astype(np.float64) ** (1 / values[0])\n"
    + "    no = (1 - predictions.astype(np.float64)) ** (1 / values[0])\n"
    + "    scaled = np.clip(yes / (yes + no), 2.0**-23, 1 - 2.0**-23)\n"
    + "@DEFAULT@",
}
ANSWERS = {
    "multilabel": "@SEPARATOR@.join(name for name, is_in in zip(names, answers[0]) if is_in)",
    "regression": '" ".join(map(str, answers[0].tolist()))',
}


def script_of(answers: AnswerForm, form: ImageForm, decision: Decision | None, several_files: bool) -> str:
    """Return the text of predict.py for a run's images and its kept decision, None for the task's own."""
    task = answers.task
    default = DECIDING[task.name]
    deciding = default if decision is None else DECIDING[decision.kind]
    changes: dict[str, Any] = {
        "@REDUCED@": REDUCED if form.streamed and not several_files else "",
        "@DEPTH@": DEEP if form.depth < DEPTH else "",
        "@FILES@": FILES if several_files else "",
        "@DECODE@": "decode_files" if several_files else "decode",
        "@DECIDE@": deciding.replace("@DEFAULT@", default.replace("predictions", "scaled")),
        "@ANSWER@": ANSWERS.get(task.name, "names[answers[0]]"),
        "@SEPARATOR@": json.dumps(answers.separator),
        "@BITS@": form.depth,
        "@CHANNELS@": form.channels,
    }
    text = HEAD
    for mark, replacement in changes.items():
        text = text.replace(mark, str(replacement))
    return text
