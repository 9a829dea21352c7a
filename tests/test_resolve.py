"""The recipe of a run is resolved once, by prepare, and read by every later stage."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeCompetition, naming
from huggingface_hub import constants

import ablate
import prepare
import pretrain
import split
import train
from foldsmith.errors import InputError
from foldsmith.models import backbone, weight_sources
from foldsmith.process.files import load_json, save_json
from foldsmith.recipes import DatasetFacts
from foldsmith.recipes.borrowed import BACKBONES
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths
from foldsmith.training import backbone_choice, check

WEIGHTS = {
    "name": "net",
    "source": "a test",
    "file": "net.bin",
    "megabytes": 1.0,
    "digest": "0",
    "licence": "",
}
PHOTO = 100  # pixels; large enough for pretrained weights


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return a function that sets why weights are `missing` ("": they are not) and returns the requests."""

    def answer(missing: str) -> list[str]:
        requested: list[str] = []
        monkeypatch.setattr(backbone, "fetch_weights", lambda name: requested.append(name) or missing)
        monkeypatch.setattr(check, "open_weights", lambda recipe: None)
        losses = {128: np.zeros(4), 192: np.zeros(4)}
        monkeypatch.setattr(backbone_choice, "compare_sizes", lambda *words: losses)
        monkeypatch.setattr(weight_sources, "describe_weights", lambda recipe: WEIGHTS)
        return requested

    return answer


def words_of(folder: Path) -> list[str]:
    return [str(folder), "--output", str(folder.parent / "output"), "--folds", "2", "--workers", "0",
            "--device", "cpu", "--precision", "fp32"]  # fmt: skip


def run_of(folder: Path) -> RunPaths:
    return RunPaths(folder.parent / "output" / folder.name / "default")


def test_a_default_run_records_the_resolved_recipe_and_trains_it(
    make_competition: MakeCompetition, capsys: pytest.CaptureFixture, hub: Callable[[str], list[str]]
) -> None:
    folder, requested = make_competition(per_class=8, size=20, grey=True), hub("nobody should ask")
    words = [*words_of(folder), "--epochs", "1"]
    assert prepare.main(words) == 0
    output = capsys.readouterr().out
    assert re.search(naming("default", 24, "20 x 20", "grey", "whitened-cnn", 28), output)
    assert split.main(words) == train.main([*words, "--fold", "0"]) == 0
    assert "default:" not in capsys.readouterr().out, "the choice is printed once"
    run = run_of(folder)
    identity = load_json(run.identity)
    chosen = {"model": "whitened-cnn", "image_size": 28, "channels": 1, "epochs": 1, "batch_size": 32}
    assert chosen.items() <= identity["recipe"].items()
    assert identity["evidence"] == {
        "facts": {"num_images": 24, "side": 20, "grey": True},
        "pretrained": False,
    }
    assert load_json(run.fold_run(0))["recipe"] == identity["recipe"]
    assert requested == [], "small images need no weights"


def test_images_without_a_label_do_not_influence_the_recipe(make_competition: MakeCompetition) -> None:
    folder = make_competition(per_class=8)
    answer = load_json(folder / "answer.json")
    answer["annotations"] = answer["annotations"][:-4]
    (folder / "answer.json").write_text(json.dumps(answer))
    assert prepare.main(words_of(folder)) == 0
    assert load_json(run_of(folder).identity)["evidence"]["facts"]["num_images"] == 20


def test_pretrain_refuses_a_run_whose_recipe_is_not_resolved_yet(
    make_competition: MakeCompetition,
) -> None:
    words = [*words_of(make_competition()), "--set", "pretrain=autoencoder"]
    with pytest.raises(InputError, match=r"src/\w+\.py"):
        pretrain.main(words)


@pytest.mark.parametrize("there", [True, False])
def test_the_availability_of_weights_is_checked_once(
    there: bool,
    make_competition: MakeCompetition,
    capsys: pytest.CaptureFixture,
    hub: Callable[[str], list[str]],
) -> None:
    folder = make_competition(size=PHOTO)
    words, run = words_of(folder), run_of(folder)
    answers = ("", "as the cable is cut")
    requested = hub(answers[not there])
    assert prepare.main(words) == 0
    assert requested == [BACKBONES["cpu"].removeprefix("timm:")]
    assert ("the cable is cut" in capsys.readouterr().out) == (not there)
    first = load_json(run.identity)
    assert first["recipe"]["pretrained"] == there == first["evidence"]["pretrained"]

    requested = hub(answers[there])  # from here on the availability is the opposite
    for stage in (split, prepare):
        assert stage.main(words) == 0
    assert split.main([*words, "--again"]) == 0
    assert requested == [] and load_json(run.identity) == first
    with pytest.raises(InputError, match=naming("/default", "epochs", first["recipe"]["epochs"], 2)):
        split.main([*words, "--epochs", "2"])

    assert prepare.main([*words, "--again"]) == 0
    assert len(requested) == 1 and load_json(run.identity)["recipe"]["pretrained"] == (not there)
    assert split.main(words) == 0


def test_without_internet_it_trains_from_scratch_and_says_so(
    make_competition: MakeCompetition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(weight_sources, "hub_answers", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = make_competition(size=PHOTO)
    assert prepare.main(words_of(folder)) == 0
    output = capsys.readouterr().out
    assert re.search(naming("timm:resnet18", 100, BACKBONES["cpu"].removeprefix("timm:")), output)
    assert load_json(run_of(folder).identity)["recipe"]["model"] == "timm:resnet18"


def test_more_images_change_the_data_but_not_the_recipe(make_competition: MakeCompetition) -> None:
    folder = make_competition(labels="folders")
    words = words_of(folder)
    assert prepare.main(words) == 0
    first = next((folder / "train").rglob("*.png"))
    (first.parent / "new.png").write_bytes(first.read_bytes())
    with pytest.raises(InputError, match=naming("/default", "data")):
        prepare.main(words)
    assert prepare.main([*words, "--again"]) == 0
    assert load_json(run_of(folder).identity)["evidence"]["facts"]["num_images"] == 19


def test_a_run_of_another_recipe_under_the_same_name_is_refused(make_competition: MakeCompetition) -> None:
    folder = make_competition()
    words = [*words_of(folder), "--name", "default"]
    assert prepare.main([*words, "--recipe", "quick"]) == 0
    other = [*words, "--recipe", "default"]
    for stage in (prepare, split):
        with pytest.raises(InputError, match=naming("/default", "recipe")):
            stage.main(other)
    assert prepare.main([*other, "--again"]) == 0 and split.main(other) == 0
    with pytest.raises(InputError, match=naming("/default", "recipe")):
        split.main([*words, "--recipe", "quick"])


def test_recorded_evidence_without_all_facts_is_refused(make_competition: MakeCompetition) -> None:
    folder = make_competition()
    words, run = words_of(folder), run_of(folder)
    assert prepare.main(words) == 0
    held = load_json(run.identity)
    del held["evidence"]["facts"]["side"]
    save_json(run.identity, held)
    assert read_command(words, "").evidence is None
    with pytest.raises(InputError, match=naming("/default", "evidence")):
        prepare.main(words)


def test_every_run_of_an_ablation_starts_from_the_same_weights(
    make_competition: MakeCompetition, hub: Callable[[str], list[str]]
) -> None:
    folder, requested = make_competition(size=PHOTO), hub("")
    words = [*words_of(folder), "--drop", "label_smoothing", "lr=0.1"]
    full, without = ablate.read_words(["default", *words])
    assert len(requested) == 1
    evidence = full.evidence
    assert evidence.facts == DatasetFacts(18, PHOTO, grey=False) and evidence.backbone is not None
    for command in (full, *without.values()):
        assert command.evidence == evidence and command.recipe.model == BACKBONES["cpu"]
        assert "pretrained=true" in command.words
    hub("as the cable is cut")
    for command in (full, *without.values()):  # as prepare resolves the arguments
        assert read_command([*command.words], "").resolved(evidence) == command


@pytest.mark.parametrize("drop", ["pretrained", "epochs=2", "batch_size=64"])
def test_a_field_that_decides_others_cannot_be_dropped_alone(
    drop: str, make_competition: MakeCompetition, hub: Callable[[str], list[str]]
) -> None:
    hub("" if drop == "pretrained" else "as the cable is cut")
    with pytest.raises(InputError, match=naming("--drop", drop, "default")):
        ablate.read_words(["default", *words_of(make_competition(size=PHOTO)), "--drop", drop])
