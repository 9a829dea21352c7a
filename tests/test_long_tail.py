"""The long-tail benchmark: its training and test images, and its figures."""

import json
from pathlib import Path

import long_tail
import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming

import prepare
from foldsmith.competition.settings import read_settings
from foldsmith.process.files import load_json, save_npz
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_classes, load_samples

LABELS = np.tile(np.arange(5), 110)  # 110 images of each class


def test_counts_fall_by_the_same_factor_from_class_to_class() -> None:
    # 1, 1/2, 1/4, 1/8, 1/16 of 160
    assert long_tail.tail_counts(5, 160, 16).tolist() == [160, 80, 40, 20, 10]
    # 100^(-1/2) is a tenth
    assert long_tail.tail_counts(3, 500, 100).tolist() == [500, 50, 5]
    assert long_tail.tail_counts(4, 30, 1).tolist() == [30] * 4
    assert long_tail.tail_counts(2, 3, 1_000).tolist() == [3, 1]


def test_test_images_are_balanced_and_training_images_long_tailed() -> None:
    train, test = long_tail.choose(LABELS, factor=81, held_out=29, seed=0)
    assert np.bincount(LABELS[test]).tolist() == [29] * 5
    assert sorted(np.bincount(LABELS[train]), reverse=True) == [81, 27, 9, 3, 1]
    assert not set(train) & set(test)
    assert len(set(train)) == len(train) and len(set(test)) == len(test)


def test_the_smallest_class_limits_the_most_frequent_one() -> None:
    train, _ = long_tail.choose(np.repeat([0, 1, 2], [500, 40, 90]), factor=4, held_out=20, seed=0)
    assert sorted(np.bincount(np.repeat([0, 1, 2], [500, 40, 90])[train])) == [5, 10, 20]


def test_the_images_depend_on_the_seed_alone() -> None:
    chosen = [long_tail.choose(LABELS, 81, 29, seed) for seed in (0, 0, 1, 2, 3)]
    assert np.array_equal(chosen[0][0], chosen[1][0]) and np.array_equal(chosen[0][1], chosen[1][1])
    rarest = {int(np.bincount(LABELS[train], minlength=5).argmin()) for train, _ in chosen}
    assert len(rarest) > 1


def test_a_class_without_training_images_is_refused() -> None:
    with pytest.raises(SystemExit, match=naming(110)):
        long_tail.choose(LABELS, 2, 110, 0)


@pytest.mark.parametrize("labels", ["answer", "csv", "folders"])
def test_the_thinned_folder_is_a_competition_of_links_with_true_labels(
    labels: str, make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder, target = make_competition(num_classes=3, per_class=10, labels=labels), tmp_path / "tailed"
    long_tail.thin(folder, target, factor=4, held_out=2, seed=0)
    entries = json.loads((target / "answer.json").read_text())["annotations"]
    truth = pd.read_csv(tmp_path / "tailed-truth.csv")
    named = [("train", entry["file_name"], entry["category"]) for entry in entries]
    named += [("test", row.filename, row._2) for row in truth.itertuples()]
    images = [target / subset / name for subset, name, _ in named]
    assert all(image.is_symlink() for image in images)
    sources = [image.resolve() for image in images]
    assert len(set(sources)) == len(sources) == 8 + 4 + 2 + 6
    # image i of the competition is of class i modulo 3
    assert [int(source.stem) % 3 for source in sources] == [label for *_, label in named]
    assert truth["class"].value_counts().tolist() == [2, 2, 2]
    assert read_settings(target).metric == "balanced_accuracy"

    words = [str(target), "--recipe", "quick", "--image-size", "16", "--output", str(tmp_path / "output")]
    assert prepare.main(words) == 0
    run = RunPaths(tmp_path / "output" / "tailed" / "quick")
    samples = load_samples(run.samples)
    assert sorted(samples["label"].value_counts()) == [2, 4, 8]
    assert list(load_classes(run.classes)["class_name"]) == ["kind 0", "kind 1", "kind 2"]
    assert "data" in load_json(run.identity)


def write_run(root: Path, paths: list[str], predicted: list[int]) -> None:
    """Write a run of two classes, named 7 and 5, with certain predictions."""
    root.mkdir(parents=True)
    save_npz(root / "test.npz", path=np.array(paths), probabilities=np.eye(2, dtype=np.float32)[predicted])
    classes = pd.DataFrame({"label": [0, 1], "category": ["7", "5"], "class_name": ["seven", "five"]})
    classes.to_csv(root / "classes.csv", index=False)
    folds = pd.DataFrame({"path": list("abcd"), "label": [1, 1, 1, 0], "fold": 0})
    folds.to_csv(root / "folds.csv", index=False)


def test_runs_are_scored_on_the_same_images_whatever_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth = {"filename": ["0.jpg", "1.jpg", "2.jpg", "3.jpg"], "class": [7, 7, 5, 5]}
    pd.DataFrame(truth).to_csv(tmp_path / "tailed-truth.csv", index=False)
    # the first run predicts one image of class 7 (label 0) as a 5, the second run none
    write_run(tmp_path / "out" / "plain", [f"test/{number}.jpg" for number in (3, 1, 0, 2)], [1, 1, 0, 1])
    write_run(tmp_path / "out" / "better", [f"test/{number}.jpg" for number in (0, 1, 2, 3)], [0, 0, 1, 1])
    long_tail.measure(tmp_path / "tailed", tmp_path / "out", ["plain", "better"])
    printed = capsys.readouterr().out
    # F1: of class 7 2/3, of class 5 4/5
    assert "plain: 0.7500, 0.7333, 1.0000, 0.5000" in printed and "better: 1.0000, 1.0000" in printed
    assert "balanced_accuracy +0.2500 ±" in printed and "macro_f1 +0.2667 ±" in printed


def test_classes_are_grouped_by_their_number_of_images() -> None:
    training = np.repeat([4, 2, 0, 1, 3, 5], [60, 50, 40, 30, 20, 10])
    assert [group.tolist() for group in long_tail.frequency_groups(training)] == [[4, 2], [0, 1], [3, 5]]
