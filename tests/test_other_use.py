"""A finished run with other views or micro-batches is not trained again and keeps its bytes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeCompetition, naming

import compare
import examine
import infer
import prepare
import report
import score
import split
import submit
import train
import validate
from foldsmith.errors import InputError
from foldsmith.process.files import load_json, load_npz, save_json
from foldsmith.run.paths import RunPaths
from foldsmith.training import loop

STAGES = (prepare, split, train, validate, infer, submit, examine, report, score)
WORDS = ["--recipe", "quick", "--image-size", "16", "--epochs", "2", "--batch-size", "8", "--folds", "2"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu", "--name", "run", "--set", "seeds=2"]
OTHER = ["--set", "views=identity,vflip,rot90"]
RESULTS = ("oof.npz", "oof.csv", "test.npz", "submission.csv", "views.npz", "features.npz", "cv.json")
KEPT = ("folds.csv", "samples.csv", "fold0/weights.safetensors", "fold1/seed1/weights.safetensors",
        "fold0/log.csv", "fold0/run.json")  # fmt: skip


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(per_class=8, size=20)


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a finished run with two networks a fold."""
    output = tmp_path_factory.mktemp("output")
    run_stages(folder, output)
    return output


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy"


def run_stages(folder: Path, output: Path, *words: str, stages: tuple = STAGES) -> RunPaths:
    for stage in stages:
        assert stage.main([str(folder), *WORDS, *words, "--output", str(output)]) == 0
    return RunPaths(output / folder.name / "run")


def bytes_of(run: RunPaths, *names: str) -> dict[str, bytes]:
    return {name: (run.root / name).read_bytes() for name in names}


def test_other_views_give_the_bytes_of_a_run_that_was_trained_with_them(
    folder: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = bytes_of(run_stages(folder, tmp_path / "fresh", *OTHER), *RESULTS)
    before = RunPaths(copy / folder.name / "run")
    kept, first = bytes_of(before, *KEPT), bytes_of(before, *RESULTS)
    assert first["oof.npz"] != fresh["oof.npz"] and first["test.npz"] != fresh["test.npz"]
    monkeypatch.setattr(loop, "train_one_epoch", None)  # nothing is trained
    run = run_stages(folder, copy, *OTHER)
    assert bytes_of(run, *RESULTS) == fresh and bytes_of(run, *KEPT) == kept
    own = [load_npz(run.of_fold(0).seed(number).heldout)["probabilities"] for number in (0, 1)]
    np.testing.assert_allclose(load_npz(run.heldout(0))["probabilities"], np.mean(own, axis=0), rtol=1e-5)
    assert "views = identity,vflip,rot90" in run.report.read_text()

    times = {path: path.stat().st_mtime_ns for path in run.root.rglob("*")}
    run_stages(folder, copy, *OTHER)
    assert {path: path.stat().st_mtime_ns for path in run.root.rglob("*")} == times
    assert bytes_of(run_stages(folder, copy), *RESULTS) == first


def test_a_stage_alone_names_prepare_and_later_ones_name_the_stages_before_them(
    folder: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in (split, train, validate, infer, submit, examine, report, score):
        with pytest.raises(InputError, match="views is identity,hflip, not identity,vflip,rot90.*prepare.py"):
            run_stages(folder, copy, *OTHER, stages=(stage,))
    run_stages(folder, copy, *OTHER, stages=(prepare,))
    assert "views identity,hflip -> identity,vflip,rot90" in capsys.readouterr().out
    for stage in (validate, infer, examine, report):
        with pytest.raises(InputError, match="identity, vflip, rot90.*run src/train.py"):
            run_stages(folder, copy, *OTHER, stages=(stage,))
    with pytest.raises(InputError, match="no validated run"):
        compare.main([str(copy / folder.name)])
    run_stages(folder, copy, *OTHER, stages=(train,))
    for stage in (submit, report, score):
        with pytest.raises(InputError, match="stale"):
            run_stages(folder, copy, *OTHER, stages=(stage,))


def test_unknown_views_leave_the_run_unchanged(folder: Path, copy: Path) -> None:
    run = RunPaths(copy / folder.name / "run")
    before = run.identity.read_bytes()
    with pytest.raises(InputError, match="did you mean 'hflip'"):
        run_stages(folder, copy, "--set", "views=hflop", stages=(prepare,))
    assert run.identity.read_bytes() == before


def test_with_one_fold_selected_the_earlier_folds_are_predicted_too(folder: Path, copy: Path) -> None:
    run = run_stages(folder, copy, *OTHER, "--fold", "1")
    assert [load_json(run.heldout_stamp(fold))["views"] for fold in (0, 1)] == [
        ["identity", "vflip", "rot90"]
    ] * 2


def test_images_that_are_decoded_otherwise_are_another_training(folder: Path, copy: Path) -> None:
    # without stored pixels large JPEG files are decoded at a smaller size, and the networks were not
    with pytest.raises(InputError, match=naming("cache True", "--name")):
        run_stages(folder, copy, "--set", "cache=off", stages=(prepare,))


@pytest.mark.parametrize(
    ("setting", "stages"),
    [("max_unreadable=0.5", {"prepare"}), ("micro_batch=4", set()),
     ("augment_on=workers", set()), ("compile=true", set()), ("validate_every=2", set())],
)  # fmt: skip
def test_memory_speed_and_limits_train_nothing_and_change_no_result(
    setting: str, stages: set[str], folder: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunPaths(copy / folder.name / "run")
    before = bytes_of(run, *RESULTS, *KEPT, "report.html")
    run_stages(folder, copy, "--set", setting)
    printed = capsys.readouterr().out
    assert bytes_of(run, *RESULTS, *KEPT, "report.html") == before
    assert f"{setting.partition('=')[0]} " in printed
    current = {line.partition(":")[0] for line in printed.splitlines() if "is up to date" in line}
    assert current == {stage.__name__ for stage in STAGES[:-1]} - stages


def test_how_often_held_out_images_are_measured_changes_no_weight(
    folder: Path, done: Path, tmp_path: Path
) -> None:
    rarely = run_stages(folder, tmp_path, "--set", "validate_every=2", stages=STAGES[:3])
    often = RunPaths(done / folder.name / "run")
    names = ("fold0/weights.safetensors", "fold1/seed1/weights.safetensors", "fold0/heldout.npz")
    assert bytes_of(rarely, *names) == bytes_of(often, *names)
    assert rarely.log(0).read_text() != often.log(0).read_text()


@pytest.mark.parametrize(
    "setting", ["lr=0.5", "seed=3", "deterministic=true", "near_duplicates=-1", "rounds=2"]
)
def test_what_weights_depend_on_is_refused(setting: str, folder: Path, copy: Path) -> None:
    with pytest.raises(InputError, match=f"another recipe.*{setting.partition('=')[0]} .*--again"):
        run_stages(folder, copy, "--set", setting, *OTHER, stages=(prepare,))


def test_tampered_held_out_predictions_are_computed_again(
    folder: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunPaths(copy / folder.name / "run")
    before = bytes_of(run, *RESULTS, "fold0/heldout.npz", "fold0/heldout.json")
    run.heldout(0).write_bytes(b"")
    run.heldout_stamp(1).unlink()
    with pytest.raises(InputError, match="fold0/heldout.npz.*run src/train.py"):
        run_stages(folder, copy, stages=(validate,))
    monkeypatch.setattr(loop, "train_one_epoch", None)
    assert bytes_of(run_stages(folder, copy), *before) == before


def test_a_training_interrupted_between_networks_mixes_no_views(
    folder: Path, copy: Path, tmp_path: Path
) -> None:
    run = RunPaths(copy / folder.name / "run")
    run.fold_run(1).unlink()
    run.of_fold(1).seed(1).run.unlink()  # as after a kill: its second network is not finished
    run_stages(folder, copy, *OTHER)
    fresh = run_stages(folder, tmp_path / "fresh", *OTHER)
    assert bytes_of(run, *RESULTS) == bytes_of(fresh, *RESULTS)


def test_a_fold_of_an_older_version_is_refused_and_not_trained_silently(folder: Path, copy: Path) -> None:
    run = RunPaths(copy / folder.name / "run")
    facts = load_json(run.fold_run(0))
    facts |= {"inputs": "other", "outputs": {**facts["outputs"], "heldout.npz": ""}}
    save_json(run.fold_run(0), facts)
    with pytest.raises(InputError, match="older foldsmith.*--again"):
        run_stages(folder, copy, stages=(train,))
