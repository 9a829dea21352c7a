"""Stamps of finished stages, and the identity of a run."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import naming

from foldsmith.errors import InputError
from foldsmith.process.files import load_json, save_json
from foldsmith.recipes import RECIPES
from foldsmith.run import stamps
from foldsmith.run.command import FoldPlan
from foldsmith.run.identity import load_identity, training_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import (
    check_claim,
    check_identity,
    claim_run,
    is_current,
    require,
    require_whole,
    write_stamp,
)

INPUTS = {"samples": "a digest", "plan": {"num_folds": 5, "holdout": None}, "settings": [64, 0.01]}


@pytest.fixture
def stage(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a finished stage: its stamp and two outputs, one of them in a subfolder."""
    first, second = tmp_path / "run" / "folds.csv", tmp_path / "cache" / "pixels"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text(f"content of {path.name}")
    stamp = tmp_path / "run" / "stamps" / "split.json"
    write_stamp(stamp, INPUTS, [first, second], seed=3)
    return stamp, first, second


def test_a_finished_stage_is_current(stage: tuple[Path, Path, Path]) -> None:
    assert is_current(stage[0], INPUTS)
    assert is_current(stage[0], dict(reversed(INPUTS.items())))


def test_a_stage_without_a_stamp_is_not_current(tmp_path: Path) -> None:
    assert not is_current(tmp_path / "split.json", INPUTS)


@pytest.mark.parametrize("which", [1, 2])
def test_a_changed_byte_or_a_missing_output_makes_the_stage_stale(
    which: int, stage: tuple[Path, Path, Path]
) -> None:
    path = stage[which]
    whole = path.read_text()
    path.write_text(whole.replace("content", "contenu"))
    assert not is_current(stage[0], INPUTS)
    path.write_text(whole)
    assert is_current(stage[0], INPUTS)
    path.unlink()
    assert not is_current(stage[0], INPUTS)
    path.mkdir()
    assert not is_current(stage[0], INPUTS)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": "another digest"},
        {"plan": {"num_folds": 4, "holdout": None}},
        {"settings": [32, 0.01]},
        {"more": 1},
    ],
)
def test_a_changed_input_makes_the_stage_stale(
    change: dict[str, Any], stage: tuple[Path, Path, Path]
) -> None:
    assert not is_current(stage[0], {**INPUTS, **change})


def test_a_missing_input_makes_the_stage_stale(stage: tuple[Path, Path, Path]) -> None:
    assert not is_current(stage[0], {name: INPUTS[name] for name in ("samples", "plan")})


def test_another_version_of_foldsmith_makes_the_stage_stale(
    stage: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "__version__", "99.0")
    assert not is_current(stage[0], INPUTS)


def test_a_run_that_was_moved_is_still_current(stage: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("run", "cache"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert is_current(tmp_path / "elsewhere" / "run" / "stamps" / "split.json", INPUTS)


def test_facts_are_kept_for_readers(stage: tuple[Path, Path, Path]) -> None:
    assert load_json(stage[0])["seed"] == 3


def test_a_damaged_stamp_is_reported(stage: tuple[Path, Path, Path]) -> None:
    stage[0].write_text("{")
    with pytest.raises(InputError, match="split.json"):
        is_current(stage[0], INPUTS)


def test_a_missing_file_of_an_earlier_stage_is_reported(
    stage: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    require(stage[1], "split")
    with pytest.raises(InputError, match=naming("samples.csv", "prepare.py")):
        require(tmp_path / "samples.csv", "prepare")


def test_files_of_an_earlier_stage_are_used_only_if_intact(stage: tuple[Path, Path, Path]) -> None:
    require_whole(stage[0], "split")
    stage[1].write_text("edited by hand")
    with pytest.raises(InputError, match=naming("folds.csv", "split.py")):
        require_whole(stage[0], "split")


def make_inputs(**fields: Any) -> dict[str, Any]:
    recipe = replace(RECIPES["quick"], **fields)
    return {"recipe": asdict(recipe), "folds": asdict(FoldPlan(5, None, 0, None))}


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """Return a run that a recipe has claimed, with a result."""
    run = RunPaths(tmp_path / "output" / "demo80" / "quick")
    claim_run(run, again=False, **make_inputs())
    run.samples.write_text("path,label\n")
    return run


def test_the_same_identity_can_claim_a_run_repeatedly(run: RunPaths) -> None:
    before = run.identity.read_bytes()
    claim_run(run, again=False, **make_inputs())
    claim_run(run, again=True, **make_inputs())
    assert run.identity.read_bytes() == before
    assert run.samples.exists()


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        (make_inputs(epochs=99), ["recipe", "epochs", 12, 99]),
        (make_inputs(seed=4, views=("identity",)), ["recipe", "seed", 0, 4]),
        ({"folds": asdict(FoldPlan(3, None, 0, None))}, ["folds", "num_folds", 5, 3]),
        ({"folds": asdict(FoldPlan(5, 0.3, 0, None))}, ["folds", "holdout", "None", "0.3"]),
    ],
)
def test_another_identity_is_refused_with_the_difference_and_the_remedies(
    changed: dict[str, Any], keys: list[object], run: RunPaths
) -> None:
    with pytest.raises(InputError, match=naming(run.root, *keys, "--name", "--again")):
        claim_run(run, again=False, **{**make_inputs(), **changed})
    assert run.samples.exists()
    claim_run(run, again=False, **make_inputs())


def test_other_views_replace_those_of_the_run(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    other, trained = make_inputs(views=("identity",), max_unreadable=0.5), training_identity(run)
    assert not check_identity(run, **other)
    with pytest.raises(InputError, match="views is identity,hflip, not identity.*src/prepare.py"):
        check_claim(run, **other)
    claim_run(run, again=False, **other)
    printed = capsys.readouterr().out
    assert "views identity,hflip -> identity" in printed and "max_unreadable 0.01 -> 0.5" in printed
    assert all(stage in printed for stage in ("prepare", "train", "validate", "infer", "examine", "report"))
    assert run.samples.exists() and load_json(run.identity)["recipe"]["views"] == ["identity"]
    check_claim(run, **other)
    assert training_identity(run) == trained


def test_a_setting_that_no_finished_stage_depends_on_is_taken_by_any_stage(run: RunPaths) -> None:
    check_claim(run, **make_inputs(micro_batch=3, augment_on="workers"))
    with pytest.raises(InputError, match=naming("micro_batch", "views", "src/prepare.py")):
        check_claim(run, **make_inputs(micro_batch=3, views=("identity",)))


def test_views_that_decide_pseudo_labels_belong_to_training(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    claim_run(run, again=False, **make_inputs(rounds=2))
    with pytest.raises(InputError, match="another recipe.*views.*rounds > 1"):
        claim_run(run, again=False, **make_inputs(rounds=2, views=("identity",)))
    claim_run(run, again=False, **make_inputs(rounds=2, max_unreadable=0.5))


def test_an_identity_of_an_older_version_is_read(run: RunPaths) -> None:
    held = load_json(run.identity)
    facts = {"facts": {"num_images": 20, "side": 64, "grey": False}, "pretrained": False}
    save_json(run.identity, {**held, "grounds": facts})
    claim_run(run, again=False, **make_inputs(), evidence=facts)
    assert load_identity(run) == {**held, "evidence": facts}


def test_other_data_are_refused(run: RunPaths) -> None:
    claim_run(run, again=False, data="a digest")
    with pytest.raises(InputError, match=naming(run.root, "data")):
        claim_run(run, again=False, data="another digest")
    claim_run(run, again=False, **make_inputs(), data="a digest")


def test_again_replaces_the_run_and_its_claim(run: RunPaths) -> None:
    claim_run(run, again=True, **make_inputs(epochs=99))
    assert not run.samples.exists()
    assert load_json(run.identity)["recipe"]["epochs"] == 99
    assert load_json(run.identity)["folds"]["num_folds"] == 5
    claim_run(run, again=False, **make_inputs(epochs=99))
