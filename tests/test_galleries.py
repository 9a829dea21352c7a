"""The images of the page against plain sorting, and thumbnails against the cached pixels."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from foldsmith.data.cache import PixelCache
from foldsmith.report import galleries
from foldsmith.report.pictures import LONGEST, Pictures, encode_picture

NAMES = ["ant", "bee", "cat"]


def make_predictions(count: int = 60) -> galleries.HeldOut:
    draws = np.random.default_rng(0)
    paths = np.array([f"train/{row}.png" for row in range(count)])
    labels, probabilities = draws.integers(0, 3, count), draws.dirichlet(np.ones(3), count).astype(np.float32)
    return galleries.HeldOut(paths, labels, probabilities.argmax(axis=1), probabilities, NAMES, Pictures())


def test_mistakes_are_the_most_confident_and_close_calls_have_the_smallest_margins() -> None:
    held_out = make_predictions()
    paths, labels, probabilities = held_out.paths, held_out.labels, held_out.probabilities
    predicted = probabilities.argmax(axis=1)
    wrong = [row for row in range(60) if predicted[row] != labels[row]]
    wrong.sort(key=lambda row: -probabilities[row].max())
    cards = galleries.confident_mistakes(held_out)
    assert [card["path"] for card in cards] == [paths[row] for row in wrong][: galleries.MISTAKES]
    first = wrong[0]
    assert cards[0]["lines"] == (
        f"label {NAMES[labels[first]]} {probabilities[first, labels[first]]:.0%}",
        f"predicted {NAMES[predicted[first]]} {probabilities[first].max():.0%}",
    )
    margins = np.sort(probabilities, axis=1)
    close = sorted(range(60), key=lambda row: margins[row, -1] - margins[row, -2])
    cards = galleries.close_calls(held_out)
    assert [card["path"] for card in cards] == [paths[row] for row in close][: galleries.CLOSE_CALLS]
    assert galleries.close_calls(replace(held_out, probabilities=probabilities[:, :1])) == []


def test_a_pair_shows_confused_images_and_correct_ones_of_the_predicted_class() -> None:
    held_out = make_predictions()
    paths, labels, probabilities = held_out.paths, held_out.labels, held_out.probabilities
    pairs = pd.DataFrame({"true": ["bee"], "predicted": ["cat"], "true_label": [1], "predicted_label": [2]})
    (pair,) = galleries.pair_examples(pairs, held_out)
    predicted = dict(zip(paths.tolist(), probabilities.argmax(axis=1).tolist(), strict=True))
    true = dict(zip(paths.tolist(), labels.tolist(), strict=True))
    assert 0 < len(pair["confused"]) <= galleries.EXAMPLES and 0 < len(pair["correct"]) <= galleries.EXAMPLES
    assert all((true[card["path"]], predicted[card["path"]]) == (1, 2) for card in pair["confused"])
    assert all((true[card["path"]], predicted[card["path"]]) == (2, 2) for card in pair["correct"])


def test_duplicates_with_two_labels_come_first_then_those_in_training_and_test() -> None:
    samples = pd.DataFrame(
        {
            "path": list("abcdefg"),
            "class_name": ["ant", "ant", "bee", "cat", "ant", "cat", "cat"],
            "near": ["a", "a", "c", "c", "e", "", ""],
            "digest": ["1", "1", "2", "3", "4", "5", "5"],
        }
    )
    test = pd.DataFrame({"path": ["t"], "near": ["e"], "digest": ["6"]})
    copies = galleries.find_copies(samples, test)
    ranked = galleries.rank_groups(copies)
    groups = galleries.duplicate_groups(copies, ranked, Pictures())
    assert [[card["path"] for card in group["cards"]] for group in groups] == [
        ["c", "d"], ["e", "t"], ["a", "b"], ["f", "g"],
    ]  # fmt: skip
    assert [len(group["labels"]) for group in groups] == [2, 1, 1, 1]
    assert ranked["labels"].tolist() == [2, 1, 1, 1] and ranked["count"].tolist() == [2] * 4
    assert ranked["across"].tolist() == [False, True, False, False]
    assert ranked["exact"].tolist() == [False, False, True, True]
    assert "2 labels" in groups[0]["words"]
    unique = galleries.find_copies(samples.assign(near="", digest=list("1234567")), None)
    assert len(galleries.rank_groups(unique)) == 0


def test_only_the_groups_on_the_page_are_drawn() -> None:
    drawn: list[str] = []

    class CountedPictures(Pictures):
        def uri(self, path: str) -> str:
            drawn.append(path)
            return ""

    paths = [str(row) for row in range(400)]
    samples = pd.DataFrame(
        {"path": paths, "class_name": "ant", "near": "", "digest": [f"{int(path) // 2}" for path in paths]}
    )
    copies = galleries.find_copies(samples, None)
    galleries.duplicate_groups(copies, galleries.rank_groups(copies), CountedPictures())
    assert drawn == paths[: 2 * galleries.DUPLICATE_GROUPS]


def test_the_example_of_a_class_is_its_most_probable_image() -> None:
    held_out = make_predictions()
    paths, labels, probabilities = held_out.paths, held_out.labels, held_out.probabilities
    pixels = np.repeat(np.arange(60, dtype=np.uint8), 8 * 8 * 3).reshape(60, 8, 8, 3) * 4
    pictures = Pictures(PixelCache(Path("cache"), pixels, pd.DataFrame({"path": paths})))
    examples = galleries.class_examples(replace(held_out, pictures=pictures))
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        best = rows[probabilities[rows, label].argmax()]
        assert examples[label] == pictures.uri(paths[best])


def test_a_picture_is_a_small_jpeg_of_the_cached_pixels() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((144, 144), Image.Resampling.BICUBIC))
    uri = encode_picture(pixels)
    head, _, body = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert head == "data:image/jpeg;base64" and image.format == "JPEG" and image.size == (LONGEST, LONGEST)
    expected = np.asarray(Image.fromarray(pixels).resize((LONGEST, LONGEST), Image.Resampling.BOX), float)
    assert np.abs(np.asarray(image.convert("RGB"), float) - expected).mean() < 4
    assert uri == encode_picture(pixels.copy()) and len(uri) < 6000
    assert Pictures().uri("anything") == ""
