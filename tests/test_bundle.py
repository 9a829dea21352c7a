"""A bundle of runs, and the notebook that predicts with it."""

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming
from PIL import Image
from safetensors.numpy import load_file

import bundle
import infer
import predict
import prepare
import split
import submit
import train
from foldsmith.deployment import hidden_test
from foldsmith.deployment.combination import read_combination
from foldsmith.deployment.hidden_test import HiddenTest, find_contest, predict_hidden_test
from foldsmith.deployment.manifest import load_manifest
from foldsmith.deployment.time_limit import fit_time, passes_of
from foldsmith.deployment.trial import (
    ENVIRONMENT,
    IMAGE,
    build_environment,
    compare_predictions,
    run_notebook,
)
from foldsmith.errors import InputError
from foldsmith.inference.predictor import Network, RunPredictor
from foldsmith.process.files import load_json, load_npz
from foldsmith.run.paths import RunPaths

HOUR = 60.0
FINE = 1e-5  # batches of another length round differently


@pytest.fixture(scope="module")
def contest(make_competition: MakeCompetition) -> Path:
    return make_competition(name="shapes", labels="csv", sample="names")


@pytest.fixture(scope="module")
def run(contest: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Return a run of two folds and two views, with its submission."""
    output = tmp_path_factory.mktemp("output")
    words = [str(contest), "--recipe", "quick", "--epochs", "1", "--folds", "2", "--output", str(output)]
    for stage in (prepare, split, train, infer, submit):
        assert stage.main([*words, "--workers", "0", "--precision", "fp32"]) == 0
    return RunPaths(output / contest.name / "quick")


@pytest.fixture(scope="module")
def bundled(run: RunPaths) -> Path:
    assert bundle.main([str(run.root), "--owner", "someone", "--contest", "the-shapes"]) == 0
    return run.root / "bundle"


def hidden(bundled: Path, mount: Path, output: Path, minutes: float = HOUR) -> HiddenTest:
    return HiddenTest(bundled / "dataset", mount, output, None, minutes, time.monotonic())


def by_path(file: Path) -> dict[str, np.ndarray]:
    saved = load_npz(file)
    return dict(zip(saved["path"].tolist(), saved["probabilities"], strict=True))


def test_the_notebook_writes_the_submission_of_the_run(
    run: RunPaths, contest: Path, bundled: Path, tmp_path: Path
) -> None:
    run_notebook(Path(sys.executable), bundled, contest, tmp_path)
    assert (tmp_path / "submission.csv").read_text() == run.submission.read_text()
    comparison = compare_predictions(run, tmp_path, FINE)
    assert comparison.passes and comparison.agree == 1
    assert comparison.images == len(load_npz(run.test)["path"])


def test_a_larger_hidden_test_is_predicted_whole(
    run: RunPaths, contest: Path, bundled: Path, tmp_path: Path
) -> None:
    mounted = tmp_path / "input" / "deeper" / contest.name
    shutil.copytree(contest, mounted)
    sample = pd.read_csv(mounted / "sample_submission.csv", dtype=str)
    first = next(iter(sorted((mounted / "test").iterdir())))
    Image.open(first).transpose(Image.Transpose.ROTATE_90).save(mounted / "test" / f"hidden{first.suffix}")
    row = sample.iloc[:1].assign(**{sample.columns[0]: f"hidden{first.suffix}"})
    pd.concat([row, sample]).to_csv(mounted / "sample_submission.csv", index=False)
    (tmp_path / "out").mkdir()
    predict_hidden_test(hidden(bundled, tmp_path / "input", tmp_path / "out"), "cpu")
    written = pd.read_csv(tmp_path / "out" / "submission.csv", dtype=str)
    assert list(written.iloc[:, 0]) == [f"hidden{first.suffix}", *sample.iloc[:, 0]]
    predicted, own = by_path(tmp_path / "out" / "predictions.npz"), by_path(run.test)
    assert set(predicted) == {*own, f"test/hidden{first.suffix}"}
    for path, probabilities in own.items():
        np.testing.assert_allclose(predicted[path], probabilities, atol=FINE, rtol=0)


def test_an_unreadable_image_gets_the_prior(
    run: RunPaths, contest: Path, bundled: Path, tmp_path: Path
) -> None:
    mounted = tmp_path / "input" / contest.name
    shutil.copytree(contest, mounted)
    broken = next(iter(sorted((mounted / "test").iterdir())))
    broken.write_bytes(b"cut off")
    (tmp_path / "out").mkdir()
    predict_hidden_test(hidden(bundled, tmp_path / "input", tmp_path / "out"), "cpu")
    labels = pd.read_csv(run.folds)["label"]
    prior = labels.value_counts(normalize=True).sort_index().to_numpy()
    predicted = by_path(tmp_path / "out" / "predictions.npz")
    np.testing.assert_allclose(predicted[f"test/{broken.name}"], prior, atol=1e-6)


def test_after_the_deadline_images_get_the_prior(
    run: RunPaths, contest: Path, bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("inference.predictor", "deployment.hidden_test"):
        monkeypatch.setattr(f"foldsmith.{module}.CHUNK", 4)
    mount = tmp_path / "input"
    mount.mkdir()
    (mount / contest.name).symlink_to(contest)
    late = replace(hidden(bundled, mount, tmp_path), begun=time.monotonic() - 2 * 60 * HOUR)
    predict_hidden_test(late, "cpu")
    predicted, own = load_npz(tmp_path / "predictions.npz"), by_path(run.test)
    labels = pd.read_csv(run.folds)["label"]
    prior = labels.value_counts(normalize=True).sort_index().to_numpy()
    reached = [own[path] for path in predicted["path"][:4].tolist()]
    np.testing.assert_allclose(predicted["probabilities"][:4], reached, atol=FINE)
    np.testing.assert_allclose(predicted["probabilities"][4:], [prior] * (len(own) - 4), atol=1e-6)
    assert (tmp_path / "submission.csv").is_file()


def test_a_test_folder_that_cannot_be_read_is_refused(contest: Path, bundled: Path, tmp_path: Path) -> None:
    mounted = tmp_path / contest.name
    shutil.copytree(contest, mounted)
    for path in (mounted / "test").iterdir():
        path.write_bytes(b"cut off")
    with pytest.raises(InputError, match=naming("test", "cannot be read")):
        predict_hidden_test(hidden(bundled, tmp_path, tmp_path), "cpu")
    assert not (tmp_path / "submission.csv").exists()


def test_predictions_that_overflow_are_computed_again_in_fp32(
    run: RunPaths, contest: Path, bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunPredictor.mean

    def overflowing(self: RunPredictor, pixels: np.ndarray) -> np.ndarray:
        predictions = whole(self, pixels)
        if self.networks[0].compute.precision != "fp32":
            predictions[::2] = np.nan
        return predictions

    build = hidden_test.load_predictors
    monkeypatch.setattr(RunPredictor, "mean", overflowing)
    monkeypatch.setattr(hidden_test, "load_predictors", lambda *words: in_bf16(build(*words)))
    predict_hidden_test(replace(hidden(bundled, tmp_path, tmp_path), contest=contest), "cpu")
    assert compare_predictions(run, tmp_path, 2e-2).passes


def in_bf16(predictors: list[RunPredictor]) -> list[RunPredictor]:
    def rounded(network: Network) -> Network:
        return replace(network, compute=replace(network.compute, precision="bf16"))

    return [one.limited([*map(rounded, one.networks)], one.views) for one in predictors]


def test_a_bundle_holds_what_predicts_and_nothing_of_this_machine(
    run: RunPaths, contest: Path, bundled: Path
) -> None:
    manifest = load_manifest(bundled / "dataset")
    files = {str(path.relative_to(bundled / "dataset")) for path in (bundled / "dataset").rglob("*.*")}
    assert {name for name in files if name.endswith(".safetensors")} == {
        f"runs/0-quick/fold{fold}/weights.safetensors" for fold in (0, 1)
    }
    assert not any("__pycache__" in name or name.endswith(".npz") for name in manifest.files)
    for path in (bundled / "dataset").rglob("*.json"):
        assert str(contest.parent) not in path.read_text() and str(run.root.parent) not in path.read_text()
    kernel = load_json(bundled / "kernel" / "kernel-metadata.json")
    assert kernel["enable_internet"] is False
    assert kernel["competition_sources"] == ["the-shapes"]
    dataset = load_json(bundled / "dataset" / "dataset-metadata.json")
    assert kernel["dataset_sources"] == [dataset["id"]] and dataset["id"].startswith("someone/")
    assert 6 <= len(dataset["title"]) <= 50
    notebook = json.loads((bundled / "kernel" / kernel["code_file"]).read_text())
    compile("".join(notebook["cells"][0]["source"]), "notebook", "exec")


def test_a_damaged_or_incomplete_bundle_is_refused(bundled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "dataset"
    shutil.copytree(bundled / "dataset", copy)
    weights = copy / "runs/0-quick/fold1/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=naming("fold1/weights.safetensors")):
        load_manifest(copy)
    shutil.rmtree(copy / "runs")
    with pytest.raises(InputError, match=naming("runs/0-quick", "--dir-mode zip")):
        load_manifest(copy)


def test_the_contest_is_found_by_its_sample_and_two_are_refused(bundled: Path, tmp_path: Path) -> None:
    manifest = load_manifest(bundled / "dataset")
    with pytest.raises(InputError, match=naming("sample_submission.csv", "CONTEST")):
        find_contest(tmp_path, manifest, tmp_path / "bundle")
    for name in ("one", "deep/two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "sample_submission.csv").touch()
        if name == "one":
            assert find_contest(tmp_path, manifest, tmp_path / "bundle") == tmp_path / "one"
    with pytest.raises(InputError, match=naming("one", "two", "CONTEST")):
        find_contest(tmp_path, manifest, tmp_path / "bundle")
    nameless = replace(manifest, sample="", competition="two")
    assert find_contest(tmp_path, nameless, tmp_path / "bundle") == tmp_path / "deep" / "two"


def test_halved_weights_predict_nearly_as_the_run(run: RunPaths, contest: Path, tmp_path: Path) -> None:
    assert bundle.main([str(run.root), "--fp16", "--output", str(tmp_path / "half")]) == 0
    predict_hidden_test(replace(hidden(tmp_path / "half", tmp_path, tmp_path), contest=contest), "cpu")
    comparison = compare_predictions(run, tmp_path, 2e-2)
    assert comparison.passes and comparison.largest > 0


def test_halved_weights_round_matrices_and_keep_the_rest(run: RunPaths, tmp_path: Path) -> None:
    assert bundle.main([str(run.root), "--fp16", "--output", str(tmp_path / "half")]) == 0
    whole = load_file(run.weights(0))
    half = load_file(tmp_path / "half/dataset/runs/0-quick/fold0/weights.safetensors")
    assert set(half) == set(whole)
    for name, tensor in whole.items():
        expected = tensor.astype(np.float16) if tensor.ndim >= 2 else tensor
        assert half[name].dtype == expected.dtype
        np.testing.assert_array_equal(half[name], expected)


def test_an_average_predicts_the_mean_of_its_members(run: RunPaths, contest: Path, tmp_path: Path) -> None:
    words = [str(contest), "--recipe", "quick", "--epochs", "1", "--folds", "2", "--seed", "1"]
    words += ["--output", str(run.root.parents[1]), "--name", "second"]
    for stage in (prepare, split, train, infer):
        assert stage.main([*words, "--workers", "0", "--precision", "fp32"]) == 0
    second, mean = (RunPaths(run.root.parent / name) for name in ("second", "mean"))
    runs = [str(run.root), str(second.root)]
    assert submit.main([*runs, "--name", "mean", "--folder", str(contest)]) == 0
    assert [member.root.name for member in read_combination(mean).members] == ["quick", "second"]
    for name, bundled_runs in (("mean", [str(mean.root)]), ("both", runs)):
        assert bundle.main([*bundled_runs, "--output", str(tmp_path / name)]) == 0
        (tmp_path / f"{name}-out").mkdir()
        mount = contest.parent
        test = replace(hidden(tmp_path / name, mount, tmp_path / f"{name}-out"), contest=contest)
        predict_hidden_test(test, "cpu")
        assert compare_predictions(mean, tmp_path / f"{name}-out", FINE).passes
    words = [str(contest / "test"), "--output", str(tmp_path / "new.csv"), "--device", "cpu"]
    assert predict.main([str(mean.root), *words]) == 0
    table, own = pd.read_csv(tmp_path / "new.csv"), by_path(mean.test)
    assert len(table) == len(own)
    for row in table.itertuples():
        assert row.confidence == pytest.approx(own[f"test/{Path(row.path).name}"].max(), abs=1e-4)


def test_another_folder_is_not_overwritten(run: RunPaths, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    (tmp_path / "kernel").mkdir()
    with pytest.raises(InputError, match=naming(tmp_path)):
        bundle.main([str(run.root), "--output", str(tmp_path)])
    assert (tmp_path / "mine.txt").is_file()
    assert bundle.main([str(run.root), "--output", str(tmp_path / "new")]) == 0
    assert bundle.main([str(run.root), "--output", str(tmp_path / "new")]) == 0  # its own is replaced


def fake_predictor(networks: int, views: int, shared: bool = False) -> RunPredictor:
    extractor = object()
    models = [
        SimpleNamespace(model=SimpleNamespace(extractor=extractor), is_frozen=shared) for _ in range(networks)
    ]
    names = ["identity", "hflip", "vflip", "rot90"][:views]
    return RunPredictor(task=None, networks=models, views=names, form=None, batch_limit=None)


@pytest.mark.parametrize("available", [10.0, 0.6, 0.3, 0.1, 0.0])
def test_what_fits_into_the_time_is_used(available: float) -> None:
    predictors = [fake_predictor(5, 2), fake_predictor(3, 4), fake_predictor(4, 2, shared=True)]
    passes = [10, 12, 2]
    assert [passes_of(predictor) for predictor in predictors] == passes
    chosen, said = fit_time(predictors, 1.0, available)
    used = sum(map(passes_of, chosen)) / sum(passes)
    fewest = 3 / sum(passes)  # a pass for each run
    assert used <= max(available, fewest)
    assert (said == "") == (available >= 1)
    # heads on one extractor are never left out: they cost nothing
    assert all(chosen_one.networks for chosen_one in chosen)


@pytest.mark.skipif(not (ENVIRONMENT / "installed").is_file(), reason="src/bundle.py --try has not built it")
def test_inference_runs_on_the_versions_of_kaggles_image(
    run: RunPaths, contest: Path, bundled: Path, tmp_path: Path
) -> None:
    interpreter = build_environment(str(ENVIRONMENT / "bin" / "python"), ENVIRONMENT, IMAGE)
    run_notebook(interpreter, bundled, contest, tmp_path)
    assert compare_predictions(run, tmp_path, 1e-4).passes
