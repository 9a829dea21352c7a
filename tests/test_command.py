"""The command line of every stage: defaults, types and refusals."""

import argparse
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import naming

from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.files import save_json
from foldsmith.recipes import RECIPES, Recipe, read_settings
from foldsmith.recipes.bounds import BOUNDS
from foldsmith.run.command import Command, FoldPlan, minutes_of, read_command
from foldsmith.run.identity import as_saved

EVERY_WORD = (
    "--recipe", "--set", "--epochs", "--batch-size", "--image-size", "--seed", "--rounds", "--folds",
    "--holdout", "--fold", "--fold-seed", "--limit", "--device", "--precision", "--workers", "--name",
    "--output", "--again", "--limit-test", "--until", "--fields",
)  # fmt: skip


def read(*words: str) -> Command:
    return read_command(list(words), "A stage.")


def test_without_arguments_the_demo_runs_with_the_quick_recipe() -> None:
    command = read()
    assert command.folder == Path("input/demo80") and command.recipe == RECIPES["quick"]
    assert command.plan == FoldPlan(num_folds=5, holdout=None, seed=0, limit=None)
    assert (command.fold, command.workers, command.again) == (None, None, False)
    assert (command.device, command.precision) == ("auto", "auto")
    assert command.run.root == Path("output/demo80/quick")
    assert command.run.cache_root == Path("output/demo80/cache")
    assert command.folds_to_train == [0, 1, 2, 3, 4]


def test_for_other_folders_the_recipe_is_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a folder without runs
    command = read("input/tiny80")
    assert command.recipe == RECIPES["default"] and command.evidence is None
    assert command.run.root == Path("output/tiny80/default")


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--recipe", "resnet64"], "recipe", RECIPES["resnet64"]),
        (["--epochs", "3"], "recipe", replace(RECIPES["quick"], epochs=3)),
        (["--batch-size", "16"], "recipe", replace(RECIPES["quick"], batch_size=16)),
        (["--image-size", "48"], "recipe", replace(RECIPES["quick"], image_size=48)),
        (["--seed", "7"], "recipe", replace(RECIPES["quick"], seed=7)),
        (["--rounds", "2"], "recipe", replace(RECIPES["quick"], rounds=2)),
        (["--set", "lr=1", "--set", "seed=4"], "recipe", replace(RECIPES["quick"], lr=1.0, seed=4)),
        (["--folds", "3"], "plan", FoldPlan(3, None, 0, None)),
        (["--holdout", "0.3"], "plan", FoldPlan(5, 0.3, 0, None)),
        (["--fold-seed", "9"], "plan", FoldPlan(5, None, 9, None)),
        (["--limit", "800"], "plan", FoldPlan(5, None, 0, 800)),
        (["--fold", "2"], "fold", 2),
        (["--fold", "2"], "folds_to_train", [2]),
        (["--holdout", "0.3"], "folds_to_train", [0]),
        (["--device", "cuda:1"], "device", "cuda:1"),
        (["--precision", "bf16"], "precision", "bf16"),
        (["--workers", "0"], "workers", 0),
        (["--name", "try 1"], "name", "try 1"),
        (["--output", "some/where"], "output", Path("some/where")),
        (["--again"], "again", True),
    ],
)  # fmt: skip
def test_every_argument_is_parsed(words: list[str], field: str, value: object) -> None:
    assert getattr(read(*words), field) == value


def test_the_seed_of_the_training_never_changes_the_folds() -> None:
    assert read("--seed", "5").plan == read().plan
    assert read("--fold-seed", "5").recipe == read().recipe


def test_a_run_is_named_by_its_recipe_or_by_hand_and_lies_in_the_output() -> None:
    assert read("input/a", "--recipe", "resnet64").run.root == Path("output/a/resnet64")
    assert read("input/a", "--name", "b", "--output", "c").run.root == Path("c/a/b")


@pytest.mark.parametrize("folder", ["input/tiny80", "input/tiny80/", "./input/tiny80", "input/tiny80/."])
def test_every_spelling_of_a_folder_is_one_competition(folder: str) -> None:
    assert read(folder).competition == "tiny80"


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cats" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cats")
    assert read(".").competition == "cats"
    monkeypatch.chdir(tmp_path / "cats" / "train")
    assert read("..").competition == "cats"


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["--epocs", "3"], ["'--epocs'", "'--epochs'"]),
        (["--epocs=3"], ["'--epocs'", "'--epochs'"]),
        (["--recip", "quick"], ["'--recip'", "'--recipe'"]),
        (["input/a", "input/b"], ["'input/b'"]),
        (["--recipe", "quik"], ["'quik'", "'quick'"]),
        (["--recipe"], ["--recipe", "--help"]),
        (["--set", "epoch=3"], ["'epoch'", "'epochs'"]),
        (["--set", "epochs"], ["epochs", "FIELD=VALUE"]),
        (["--epochs", "few"], ["epochs", "few"]),
        (["--epochs", "0"], ["epochs", 0, 1]),
        (["--folds", "1"], ["--folds", 1, 2]),
        (["--folds", "two"], ["--folds", "'two'"]),
        (["--holdout", "0"], ["--holdout", 0, 1]),
        (["--holdout", "1"], ["--holdout", 0, 1]),
        (["--holdout", "nan"], ["--holdout", "nan", 0, 1]),
        (["--fold", "5"], ["--fold", 5, 0, 4]),
        (["--fold", "-1"], ["--fold", "-1", 0, 4]),
        (["--holdout", "0.3", "--fold", "1"], ["--fold", 1, 0]),
        (["--limit", "0"], ["--limit", 0, 1]),
        (["--epochs", "3", "--set", "epochs=7"], ["--epochs 3", "--set epochs=7"]),
        (["--output", f"{__file__}/deeper"], ["--output", __file__]),
        (["--limit-test", "0"], ["--limit-test", 0, 1]),
        (["--until", "trian"], ["--until", "'trian'", "train"]),
        (["input/a", "--lr", "0.1"], ["--set lr=0.1"]),
        (["--learning-rate=0.1"], ["--set lr=0.1"]),
        (["--set", "lern_rate=0.1"], ["'lern_rate'", "'lr'"]),
        (["--workers", "-1"], ["--workers", "-1", 0]),
        (["--precision", "fp64"], ["'fp64'", "auto", "fp32", "bf16", "fp16"]),
        (["--name", "cache"], ["--name", "'cache'"]),
        (["--name", "a/b"], ["--name", "a/b"]),
        (["--name", ".."], ["--name", ".."]),
        (["--name", ".hidden"], ["--name", ".hidden"]),
        (["--name", ""], ["--name"]),
    ],
)
def test_invalid_arguments_are_refused_in_one_sentence(words: list[str], keys: list[object]) -> None:
    with pytest.raises(InputError, match=naming(*keys)):
        read(*words)


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        read("--colour", "red")
    assert all(word in str(caught.value) for word in (*EVERY_WORD, "FOLDER"))


def test_help_explains_every_option_and_exits_with_status_0(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--help")
    printed = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(f"{word} " in printed for word in EVERY_WORD)
    assert all(name in printed for name in RECIPES)


def test_every_field_is_explained_with_its_default_and_its_valid_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        read("--fields")
    printed = capsys.readouterr().out
    assert left.value.code == 0
    for field in fields(Recipe):
        if field.name == "name":
            continue
        default = re.search(rf"^  {field.name} = (.*)$", printed, re.MULTILINE)[1]
        text = default.strip('"')
        assert read_settings([f"{field.name}={text}"])[field.name] == field.default, field.name
        if field.name in BOUNDS:
            assert BOUNDS[field.name].meaning in " ".join(printed.split()), field.name


def test_a_folder_that_lies_in_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "input" / "birds").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=naming("input/birds")):
        read("birds")


def test_a_misspelt_field_of_a_recipe_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\nfrom foldsmith.recipes import RECIPES\n\n"
        "RECIPE = replace(RECIPES['quick'], label_smothing=0.1)\n"
    )
    with pytest.raises(InputError, match=naming(path, "line 4", "'label_smothing'", "'label_smoothing'")):
        read("input/a", "--recipe", str(path))


def test_without_argv_the_arguments_of_the_process_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "input/tiny80", "--fold", "3"])
    assert read_command(None, "A stage.").folds_to_train == [3]


def test_the_printed_command_of_a_stage_runs_it_with_the_same_arguments() -> None:
    command = read("input/my cats", "--set", "lr=0.1")
    assert command.line("train") == ".venv/bin/python src/train.py 'input/my cats' --set lr=0.1"


def test_the_identity_of_a_run_is_its_recipe_and_its_folds_and_nothing_of_the_machine() -> None:
    here = read(
        "input/a", "--workers", "2", "--device", "cpu", "--precision", "fp32", "--fold", "1", "--again"
    )
    assert here.identity == read("input/a").identity
    assert here.identity["recipe"]["epochs"] == RECIPES["default"].epochs
    assert here.identity["folds"] == {"num_folds": 5, "holdout": None, "seed": 0, "limit": None}


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("labels.csv is empty."), 2, "error: labels.csv is empty.\n"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to resume.\n"),
    ],
)
def test_bad_input_and_an_interruption_end_with_a_status_and_one_sentence(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    def main() -> int:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == status
    assert capsys.readouterr().err == message


def test_a_bug_keeps_its_traceback() -> None:
    def main() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_main(main)


def test_the_exit_status_is_that_of_main() -> None:
    with pytest.raises(SystemExit) as caught:
        run_main(lambda: 0)
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("20", 20), ("90s", 1.5), ("2h30m", 150), ("5min", 5), ("1h 30m 30s", 90.5), ("1.5h", 90)],
)
def test_durations_have_units_or_are_minutes(text: str, minutes: float) -> None:
    assert minutes_of(text) == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["", "x", "0", "2d", "h2", "2h30", "-5", "5m5"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{re.escape(text)}:"):
        minutes_of(text)


def test_a_folder_of_competitions_or_of_runs_is_no_competition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("input/a/train", "input/b/train", "output/a/first"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("input/a/answer.json", "input/a-truth.csv", "output/a/first/identity.json"):
        (tmp_path / file).write_text("{}")
    for folder, named in (("input", "input/a"), ("./input", "input/a"), ("output/a", "output/a/first")):
        with pytest.raises(InputError, match=naming(named)):
            read(folder)
    (tmp_path / "input" / "train").mkdir()  # a competition that was unpacked into input
    assert read("input").folder == Path("input")


@pytest.mark.parametrize(
    ("words", "named"),
    [(("studdy", "crnn"), "study"), (("input", "output"), "output"), (("input", "--epoch", "3"), "--epochs")],
)
def test_a_second_word_is_told_apart_from_a_misspelt_command(
    words: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input").mkdir()
    with pytest.raises(InputError, match=naming(named)):
        read(*words)


@pytest.mark.parametrize(
    ("commands", "fold"),
    [({}, None), ({1: "--fold 1"}, 1), ({2: "--fold=2", 1: "--fold 1"}, 1), ({0: "--fold 0", 1: ""}, None)],
)
def test_the_folder_of_a_run_of_single_folds_stands_for_these(
    commands: dict[int, str], fold: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input" / "a").mkdir(parents=True)
    run = read("input/a", "--recipe", "quick").run
    save_json(run.identity, as_saved(read("input/a", "--recipe", "quick").identity))
    for number, words in commands.items():
        save_json(run.fold_run(number), {"fold": number, "command": f"src/train.py input/a {words}"})
    command = read(str(run.root))
    assert command.fold == fold
    assert command.folds_to_use == (list(range(5)) if fold is None else sorted(commands))
    assert read(str(run.root), "--fold", "4").fold == 4
