"""New images predicted as a run predicts its test images, by one run or several, and the table of answers."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming
from PIL import Image
from scipy.spatial.distance import cdist

import blend
import examine
import infer
import predict
import prepare
import split
import submit
import train
import validate
from foldsmith.deployment.combination import read_combination
from foldsmith.deployment.image_predictor import ImagePredictor
from foldsmith.deployment.unknown import KnownImages
from foldsmith.errors import InputError
from foldsmith.inference import predictor as predictor_module
from foldsmith.inference.predictor import RunPredictor
from foldsmith.process.files import load_json, load_npz, save_npz
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import require_trained, trained_folds

SIZE = 32
STAGES = (prepare, split, train, validate, infer)
RECIPES = {
    "plain": ["--recipe", "quick", "--epochs", "1", "--set", "seeds=2", "--set", "views=identity,hflip"],
    "streamed": ["--recipe", "quick", "--epochs", "1", "--set", "cache=off"],
    "probe": ["--recipe", "probe", "--set", "model=timm:test_resnet", "--set", "pretrained=false",
              "--set", "views=identity,hflip"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    """Return a competition whose test images are JPEGs of several sizes, and none of the run's."""
    folder = make_competition(num_classes=3, per_class=8, test_per_class=3, size=40, suffix=".jpg")
    for index, path in enumerate(sorted((folder / "test").iterdir())):
        Image.open(path).resize((70 + 17 * index, 150 - 9 * index)).save(path)
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunPaths]:
    """Return trained runs with their test predictions, a blend and an average of them."""
    output = tmp_path_factory.mktemp("output")
    shared = [str(folder), "--folds", "2", "--image-size", str(SIZE), "--output", str(output)]
    shared += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]
    for name, words in RECIPES.items():
        for stage in (*STAGES, submit, examine) if name == "plain" else STAGES:
            assert stage.main([*shared, "--name", name, *words]) == 0
    root = output / folder.name
    members = [str(root / "plain"), str(root / "probe")]
    assert submit.main([*members, "--folder", str(folder), "--name", "average"]) == 0
    assert blend.main([*members, "--folder", str(folder), "--name", "blend"]) == 0
    return {name: RunPaths(root / name) for name in (*RECIPES, "average", "blend")}


def test_images(folder: Path) -> list[Path]:
    return sorted((folder / "test").iterdir(), key=lambda path: int(path.stem))


test_images.__test__ = False


def predictor_of(run: RunPaths) -> RunPredictor:
    return RunPredictor.of_run(run, require_trained(run, trained_folds(run)), "cpu", "fp32")


def by_name(run: RunPaths) -> dict[str, np.ndarray]:
    """Return the rows of test.npz by file name."""
    stored = load_npz(run.test)
    return {
        Path(path).name: row
        for path, row in zip(stored["path"].tolist(), stored["probabilities"], strict=True)
    }


# --- one run


@pytest.mark.parametrize("name", RECIPES)
def test_files_are_predicted_as_the_test_images_of_the_run(
    runs: dict[str, RunPaths], folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(predictor_module, "CHUNK", 4)  # nine images: chunks of 4, 4 and 1
    predictor, files = predictor_of(runs[name]), test_images(folder)
    assert len(predictor.networks) == (4 if name == "plain" else 2)
    counts: list[int] = []
    chunks = list(predictor.read_chunks(files, counts.append))
    assert counts == [4, 4, 1] and not any(problem for _, problems in chunks for problem in problems)
    predicted = np.concatenate([predictor.mean(pixels) for pixels, _ in chunks])
    expected = by_name(runs[name])
    np.testing.assert_allclose(predicted, [expected[file.name] for file in files], atol=2e-6, rtol=0)


def test_probes_on_one_frozen_network_share_it_and_other_networks_share_nothing(
    runs: dict[str, RunPaths],
) -> None:
    extractors = {id(network.model.extractor) for network in predictor_of(runs["probe"]).networks}
    assert len(extractors) == 1
    weights = {network.model.head.weight.data_ptr() for network in predictor_of(runs["plain"]).networks}
    assert len(weights) == 4


def test_a_file_that_cannot_be_decoded_is_told_and_the_others_are_predicted(
    runs: dict[str, RunPaths], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    whole, predictor = test_images(folder)[0], predictor_of(runs["plain"])
    ((pixels, problems),) = predictor.read_chunks([tmp_path / "text.png", whole])
    assert problems[0] and not problems[1] and not pixels[0].any()
    expected = by_name(runs["plain"])[whole.name]
    np.testing.assert_allclose(predictor.mean(pixels)[1], expected, atol=2e-6, rtol=0)


# --- several runs


@pytest.mark.parametrize("name", ["plain", "average", "blend"])
def test_a_combination_of_runs_predicts_files_as_its_test_images(
    runs: dict[str, RunPaths], folder: Path, name: str
) -> None:
    files, expected = test_images(folder), by_name(runs[name])
    predictor = ImagePredictor.of_run(runs[name], "cpu", "fp32")
    (chunk,) = predictor.chunks(files)
    np.testing.assert_allclose(chunk.predictions, [expected[file.name] for file in files], atol=2e-6, rtol=0)


def test_the_members_of_an_average_are_those_of_its_file(runs: dict[str, RunPaths]) -> None:
    combination = read_combination(runs["average"])
    assert [member.root.name for member in combination.members] == ["plain", "probe"]
    np.testing.assert_allclose(combination.weights, 0.5)


def test_a_member_that_is_gone_is_named(runs: dict[str, RunPaths], tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "average"
    shutil.copytree(runs["average"].root, alone)
    entries = load_json(alone / "blend.json")["runs"]
    assert all(not Path(entry["run"]).is_dir() for entry in entries), "names, found beside the average"
    with pytest.raises(InputError, match=naming("plain", alone)):
        read_combination(RunPaths(alone))


def test_a_member_that_was_predicted_again_is_refused(runs: dict[str, RunPaths], tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    for name in ("plain", "probe", "average"):
        shutil.copytree(runs[name].root, root / name)
    predicted = load_npz(root / "probe" / "test.npz")
    save_npz(root / "probe" / "test.npz", **{**predicted, "probabilities": predicted["probabilities"][::-1]})
    with pytest.raises(InputError, match=naming(root / "probe", root / "average")):
        ImagePredictor.of_run(RunPaths(root / "average"), "cpu", "fp32")


# --- the table


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def photos(folder: Path, tmp_path: Path) -> Path:
    """Return a folder with two test images, one of them deep inside, and two files that are no images."""
    photos = tmp_path / "photos"
    (photos / "=more").mkdir(parents=True)
    shutil.copy(folder / "test" / "0.jpg", photos / "10.jpg")
    shutil.copy(folder / "test" / "1.jpg", photos / "=more" / "2.jpg")
    (photos / "9.png").write_bytes(b"broken")
    (photos / "notes.txt").write_text("notes")
    return photos


def test_the_table_has_a_row_an_image_with_answer_and_probabilities_or_a_problem(
    runs: dict[str, RunPaths], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "answers.csv"
    words = [str(photos), "--output", str(output), "--device", "cpu", "--precision", "fp32"]
    assert predict.main([str(runs["plain"].root), *words]) == 0
    rows, expected = read_rows(output), by_name(runs["plain"])
    assert [row["path"] for row in rows] == [
        str(photos / name) for name in ("9.png", "10.jpg", "=more/2.jpg")
    ]
    assert rows[0]["problem"] and not any(
        value for column, value in rows[0].items() if column not in ("path", "problem")
    )
    submitted = dict(pd.read_csv(runs["plain"].submission, dtype=str).to_numpy().tolist())
    for row, name in zip(rows[1:], ("0.jpg", "1.jpg"), strict=True):
        probabilities = [float(row[f"probability_kind {label}"]) for label in range(3)]
        np.testing.assert_allclose(probabilities, expected[name], atol=2e-6, rtol=0)
        assert row["answer"] == f"kind {submitted[name]}" and row["problem"] == ""
        assert float(row["confidence"]) == pytest.approx(max(probabilities))
        assert 0 <= float(row["unknown"]) <= 1
    said = capsys.readouterr().out
    assert "notes.txt" in said and "9.png" in said


def test_a_path_that_a_spreadsheet_would_run_is_guarded(
    runs: dict[str, RunPaths], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    words = ["=more", "10.jpg", "--output", str(tmp_path / "a.csv"), "--device", "cpu"]
    assert predict.main([str(runs["streamed"].root), *words]) == 0
    assert [row["path"] for row in read_rows(tmp_path / "a.csv")] == ["'=more/2.jpg", "10.jpg"]


def test_without_features_of_held_out_images_the_column_is_left_out_and_its_stage_named(
    runs: dict[str, RunPaths], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [str(photos / "10.jpg"), "--output", str(tmp_path / "a.csv"), "--device", "cpu"]
    assert predict.main([str(runs["probe"].root), *words]) == 0
    assert "unknown" not in read_rows(tmp_path / "a.csv")[0]
    assert "src/examine.py" in capsys.readouterr().out


def test_a_stopped_prediction_leaves_no_table(
    runs: dict[str, RunPaths], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor_module, "CHUNK", 1)
    calls: list[int] = []

    def stop(*words: object) -> pd.DataFrame:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return pd.DataFrame({"path": ["x"]})

    monkeypatch.setattr(predict, "rows_of", stop)
    with pytest.raises(KeyboardInterrupt):
        predict.main([str(runs["plain"].root), str(photos), "--output", str(tmp_path / "a.csv")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_words_that_name_no_image_are_refused(runs: dict[str, RunPaths], tmp_path: Path, kind: str) -> None:
    if kind == "empty":
        (tmp_path / kind).mkdir()
    with pytest.raises(InputError, match=naming(tmp_path / kind)):
        predict.main([str(runs["plain"].root), str(tmp_path / kind)])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming(tmp_path)):
        predict.main([str(tmp_path), str(tmp_path)])


# --- unknown


def test_unknown_is_the_share_of_held_out_images_that_are_less_far() -> None:
    draws = np.random.default_rng(0)
    features, new = draws.normal(size=(400, 6)) + 1, draws.normal(size=(30, 6))
    known = KnownImages.of_features(features, num_outputs=3)
    k = 400 // (4 * 10)
    distances = np.sort(cdist(features, features, "cosine"), axis=1)[:, k]  # column 0 is the image itself
    expected = [(distances < far).mean() for far in np.sort(cdist(new, features, "cosine"), axis=1)[:, k - 1]]
    np.testing.assert_allclose(known.unknown(new), expected, atol=1 / 400)


def test_held_out_images_themselves_are_spread_evenly_and_opposite_ones_are_unknown() -> None:
    features = np.random.default_rng(0).normal(size=(500, 4)) + 2
    known = KnownImages.of_features(features[:400], num_outputs=2)
    assert known.unknown(features[400:]).mean() == pytest.approx(0.5, abs=0.1)
    assert (known.unknown(-features[:5]) == 1).all()
