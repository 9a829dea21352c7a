"""The report of a whole run: its figures against their source files, duplicates and shifts."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming
from PIL import Image
from sklearn.metrics import confusion_matrix

import examine
import infer
import prepare
import report
import split
import train
import validate
from foldsmith.errors import InputError
from foldsmith.process.files import load_npz

STAGES = (prepare, split, train, validate, infer, examine, report)
WORDS = ["--recipe", "quick", "--image-size", "16", "--epochs", "3", "--batch-size", "8", "--folds", "2"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu", "--name", "run"]


def picture(label: int, draws: np.random.Generator) -> Image.Image:
    """Return a random smooth picture in the colour of its class."""
    coarse = draws.integers(0, 120, (5, 5, 3))
    coarse[..., label] += 130
    return Image.fromarray(coarse.astype(np.uint8)).resize((24, 24), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    """Write three classes: train/0 and 1 are one picture with two labels, test/0 is train/2 resized."""
    folder, draws = make_competition(num_classes=3, per_class=8, test_per_class=5), np.random.default_rng(0)
    for subset, count in (("train", 24), ("test", 15)):
        for index in range(count):
            picture(index % 3, draws).save(folder / subset / f"{index}.png")
    shutil.copy(folder / "train" / "0.png", folder / "train" / "1.png")
    Image.open(folder / "train" / "2.png").resize((18, 18)).save(folder / "test" / "0.png")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output")
    words = [str(folder), *WORDS, "--output", str(output)]
    for stage in STAGES:
        assert stage.main(words) == 0
    return output / folder.name / "run"


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_views_are_predicted_for_all_held_out_images_and_their_mean_is_the_oof(run: Path) -> None:
    views, oof = load_npz(run / "views.npz"), load_npz(run / "oof.npz")
    assert sorted(views["path"]) == sorted(oof["path"])
    assert views["view"].tolist() == ["identity", "hflip"] and views["prediction"].shape == (2, 24)
    index = {path: row for row, path in enumerate(views["path"].tolist())}
    rows = [index[path] for path in oof["path"].tolist()]
    label_probabilities = oof["probabilities"][np.arange(24), oof["label"]]
    np.testing.assert_allclose(views["given"][:, rows].mean(axis=0), label_probabilities, atol=1e-5)


def test_features_are_of_held_out_images_of_one_fold_and_of_the_test(run: Path) -> None:
    features, folds = load_npz(run / "features.npz"), pd.read_csv(run / "folds.csv")
    held_out = set(folds.loc[folds["fold"] == 0, "path"])
    assert set(features["path"][~features["is_test"]]) == held_out
    assert features["is_test"].sum() == 15
    assert features["features"].shape == (len(features["path"]), 256)  # what enters quick-cnn's head


def test_near_duplicates_are_listed_kept_in_one_fold_and_shown(run: Path) -> None:
    problems = pd.read_csv(run / "problems.csv").set_index("path")
    assert problems.loc["train/1.png", "problem"] == "same pixels as another image with another label"
    assert problems.loc["test/0.png", "problem"] == "near-duplicate of a training image"
    folds = pd.read_csv(run / "folds.csv").set_index("path")["fold"]
    assert folds["train/0.png"] == folds["train/1.png"]
    page = text_of((run / "report.html").read_text())
    assert "1 picture has two labels." in page and "1 picture is in training and test." in page


def test_the_confusion_matrix_of_few_classes_has_its_numbers_on_paper(run: Path) -> None:
    page, oof = (run / "report.html").read_text(), load_npz(run / "oof.npz")
    written = sorted(map(int, re.findall(r'<text class="count[^"]*"[^>]*>(\d+)</text>', page)))
    counts = confusion_matrix(oof["label"], oof["probabilities"].argmax(axis=1))
    assert written == sorted(counts[counts > 0].tolist())


def test_figures_of_the_page_are_those_of_the_files(run: Path) -> None:
    page, oof = text_of((run / "report.html").read_text()), load_npz(run / "oof.npz")
    cv = json.loads((run / "cv.json").read_text())
    correct = oof["probabilities"].argmax(axis=1) == oof["label"]
    assert f"{correct.mean():.4f}" in page and f"± {cv['standard_error']:.4f}" in page
    predicted = np.bincount(load_npz(run / "test.npz")["probabilities"].argmax(axis=1), minlength=3)
    for label, count in enumerate(predicted):
        assert re.search(rf"kind {label} 33\.3% [\d.]+% {100 * count / 15:.1f}% {count} ", page)
    issues = pd.read_csv(run / "label_issues.csv")
    assert set(issues["path"]) == set(oof["path"][~correct])


def test_a_report_without_later_stages_names_them(folder: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent, tmp_path / folder.name)
    early = tmp_path / folder.name / "run"
    for name in ("views.npz", "features.npz", "test.npz"):
        (early / name).unlink()
    words = [str(folder), *WORDS, "--output", str(tmp_path)]
    assert report.main(words) == 0
    page = text_of((early / "report.html").read_text())
    assert "src/infer.py" in page and "src/examine.py" in page
    (early / "oof.npz").write_bytes(b"changed")
    with pytest.raises(InputError, match=naming("oof.npz", "validate.py")):
        report.main(words)


def test_the_same_report_is_not_written_twice(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder), *WORDS, "--output", str(run.parent.parent)]
    for stage in (examine, report):
        assert stage.main(words) == 0
    assert capsys.readouterr().out.count("up to date") == 2


def test_heat_maps_are_shown_where_they_are_asked_for(folder: Path, run: Path) -> None:
    words = [str(folder), *WORDS, "--output", str(run.parents[1])]
    assert report.main([*words, "--why"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count('class="heat"') > 0
    # near-duplicates show test images too, which no decision of a fold is about
    with_heat = re.findall(r'alt="([^"]*)"[^>]*><img class="heat"', page)
    assert with_heat and all(path.startswith("train/") for path in with_heat)
    assert report.main(words) == 0  # and no longer where they are not
    assert 'class="heat"' not in (run / "report.html").read_text(encoding="utf-8")
