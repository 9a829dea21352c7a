"""Ablations: command line, neutral values, order of runs, and verdicts against analytic errors."""

import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming

import ablate
import infer
import prepare
import split
import train
import validate
from foldsmith.comparison import ablation
from foldsmith.comparison.ablation import EARNS, HARMS, HEADER, UNCLEAR
from foldsmith.errors import InputError
from foldsmith.process.files import load_json, load_npz, save_json, save_npz
from foldsmith.recipes import RECIPES, Recipe, override
from foldsmith.recipes.neutral import KEPT, NEUTRAL, Drop, read_drops
from foldsmith.run.command import Command, check_name
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, write_stamp
from foldsmith.tasks.metrics import METRICS

SMALL = ["--image-size", "16", "--epochs", "1", "--batch-size", "8", "--folds", "2"]
SMALL += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]


def run_in_process(command: Command) -> int:
    """Run the stages of run.sh that an ablation needs."""
    for stage in (prepare, split, train, validate, infer):
        assert stage.main(list(command.words)) == 0
    return 0


# --- the table of neutral values


def test_a_neutral_value_is_one_that_a_recipe_can_have() -> None:
    assert set(NEUTRAL) <= {field.name for field in fields(Recipe)}
    for field, value in NEUTRAL.items():
        neutral = override(RECIPES["resnet64"], [f"{field}={value}"])
        assert override(neutral, [f"{field}={value}"]) == neutral, field


def test_a_drop_is_a_field_with_its_neutral_value_or_an_explicit_one() -> None:
    drops = read_drops(["augment", "warmup=0.1", "views=hflip,identity"], RECIPES["resnet64"])
    assert drops == [Drop("augment", "none"), Drop("warmup", "0.1"), Drop("views", "hflip,identity")]
    assert [drop.suffix for drop in drops] == [
        "without-augment",
        "with-warmup-0.1",
        "with-views-hflip,identity",
    ]
    assert Drop("warmup", "0").suffix == "without-warmup"
    check_name(f"run-{Drop('weights', 'folder/resnet18.safetensors').suffix}")


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["emadecay"], ["'emadecay'", "'ema_decay'", "augment", "views"]),
        (["lr"], ["'lr'", "--drop FIELD=VALUE"]),
        (["lrr=3"], ["'lrr'", "'lr'"]),
        (["warmup=much"], ["warmup", "much"]),
        (["warmup=2"], ["warmup", "2.0"]),
        (["class_weights"], ["class_weights", "none", "resnet64"]),
        (["warmup=0.3"], ["warmup", "0.3", "resnet64"]),
        (["augment", "augment"], ["--drop augment=none"]),
        *(([f"{field}=3"], [f"--drop {field}"]) for field in KEPT),
    ],
)
def test_what_cannot_be_dropped_is_refused(words: list[str], keys: list[str]) -> None:
    with pytest.raises(InputError, match=naming(*keys)):
        read_drops(words, RECIPES["resnet64"])


# --- the command line


def test_runs_have_the_full_command_except_for_the_dropped_field() -> None:
    full, without = ablate.read_words(
        ["resnet64", "my/birds", "--epochs", "3", "--drop", "augment", "ema_decay", "--folds", "2"]
    )
    assert full.words == ("my/birds", "--epochs", "3", "--folds", "2", "--recipe", "resnet64")
    assert full.name == "resnet64"
    assert [command.name for command in without.values()] == [
        "resnet64-without-augment",
        "resnet64-without-ema_decay",
    ]
    for drop, command in without.items():
        assert command.words[: len(full.words)] == full.words and command.plan == full.plan
        assert replace(command.recipe, **{drop.field: getattr(full.recipe, drop.field)}) == full.recipe
        assert command.recipe != full.recipe


def test_a_recipe_file_can_be_ablated(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\nfrom foldsmith.recipes import RECIPES\n"
        "RECIPE = replace(RECIPES['quick'], name='mine', epochs=3)\n"
    )
    full, without = ablate.read_words([str(path), "--drop", "augment"])
    assert full.recipe.epochs == 3 and full.folder == Path("input/demo80")
    assert [command.name for command in without.values()] == ["mine-without-augment"]


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (["resnet65", "--drop", "augment"], ["'resnet65'", "'resnet64'"]),
        (["--drop", "augment"], ["'--drop'"]),
        (["quick"], ["--drop FIELD", "ema_decay"]),
        (["quick", "--drop"], ["--drop", "ema_decay"]),
        (["quick", "--drop", "augment", "--name", "x"], ["--name"]),
        (["quick", "--drop", "augment", "--recipe=resnet"], ["--recipe"]),
        (["quick", "--drop", "augment", "--epoch", "2"], ["'--epoch'", "'--epochs'"]),
        (["quick", "--epochs", "4", "--drop", "epochs=2"], ["--drop epochs=2"]),
        (["quick", "--drop", "model=../x"], ["model", "'../x'"]),
        (["quick", "--drop", "ema_decay", "augment=flop"], ["augmentation", "'flop'"]),
    ],
)
def test_unknown_arguments_are_refused_before_anything_runs(
    typed: list[str], keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "run", lambda command: pytest.fail("something ran"))
    with pytest.raises(InputError, match=naming(*keys)):
        ablate.main(typed)


@pytest.mark.parametrize("typed", [[], ["--help"]])
def test_without_arguments_the_neutral_values_are_listed(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate.main(typed) == 0
    printed = capsys.readouterr().out
    assert all(f"{field}={value}" in printed for field, value in NEUTRAL.items())


def test_it_runs_the_full_recipe_first_and_ends_with_the_status_of_a_run_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []

    def run(command: Command) -> int:
        ran.append(command.name)
        return 7 if command.name == "quick-without-augment" else 0

    monkeypatch.setattr(ablate, "run", run)
    typed = ["quick", "my/birds", "--output", str(tmp_path), "--drop", "augment", "ema_decay"]
    assert ablate.main(typed) == 7
    assert ran == ["quick", "quick-without-augment"]
    table = (tmp_path / "birds" / "ablation-quick.md").read_text(encoding="utf-8")
    assert "| quick-without-ema_decay | 0.99 | 0 | - | - |" in table


def test_its_arguments_are_passed_to_run_sh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = tmp_path / "run.sh"
    stages.write_text(f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/words\nexit 3\n', encoding="utf-8")
    stages.chmod(0o755)
    monkeypatch.setattr(ablate, "RUN", stages)
    words = ["quick", "my/birds", "--drop", "augment", "--output", str(tmp_path)]
    assert ablate.main(words) == 3
    assert (tmp_path / "words").read_text() == f"my/birds --output {tmp_path} --recipe quick\n"


# --- whole ablations


@pytest.fixture(scope="module")
def ablated(make_competition: MakeCompetition, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the words of a finished ablation."""
    folder, output = make_competition(num_classes=3, per_class=8), tmp_path_factory.mktemp("output")
    typed = ["quick", str(folder), *SMALL, "--output", str(output), "--drop", "augment", "label_smoothing"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablate, "run", run_in_process)
        assert ablate.main(typed) == 0
    return typed


@pytest.fixture
def words(ablated: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return its words for a copy that the test may change; nothing is trained again."""
    output = Path(ablated[ablated.index("--output") + 1])
    shutil.copytree(output, tmp_path / "output")
    monkeypatch.setattr(ablate, "run", lambda command: 0)
    return [str(tmp_path / "output") if word == str(output) else word for word in ablated]


def root_of(words: list[str]) -> Path:
    return Path(words[words.index("--output") + 1]) / "tiny"


def rewrite(run: RunPaths, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    save_npz(run.oof, **change(load_npz(run.oof)))
    stamp = run.stamp("validate")
    write_stamp(stamp, {}, [run.oof, run.oof_table, run.cv], trained=digests_of_trained(run, (0, 1)))


def cells_of(words: list[str]) -> dict[str, dict[str, str]]:
    """Return the rows of the table by run."""
    text = (root_of(words) / "ablation-quick.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    padded = [row + [""] * (len(HEADER) - len(row)) for row in rows]
    return {row[0]: dict(zip(HEADER, [cell.strip() for cell in row], strict=True)) for row in padded}


def make_correct(shares: dict[str, slice], words: list[str]) -> None:
    """Make runs correct on a slice of the images, sorted by path, and wrong on the others."""
    for name, share in shares.items():
        run = RunPaths(root_of(words) / name)

        def change(oof: dict[str, np.ndarray], share: slice = share) -> dict[str, np.ndarray]:
            correct = np.zeros(len(oof["path"]), bool)
            correct[np.argsort(oof["path"])[share]] = True
            decisions = np.where(correct, oof["label"], (oof["label"] + 1) % 3)
            return {**oof, "probabilities": np.eye(3, dtype=np.float32)[decisions] * 0.97 + 0.01}

        rewrite(run, change)


def test_a_whole_ablation_trains_the_listed_recipes_on_the_same_folds(ablated: list[str]) -> None:
    root = root_of(ablated)
    recipes = {name: load_json(root / name / "fold0" / "run.json")["recipe"] for name in cells_of(ablated)}
    assert list(recipes) == ["quick", "quick-without-augment", "quick-without-label_smoothing"]
    assert [recipe["augment"] for recipe in recipes.values()] == ["shift-flip", "none", "shift-flip"]
    assert [recipe["label_smoothing"] for recipe in recipes.values()] == [0.1, 0.1, 0.0]
    assert len({(root / name / "folds.csv").read_bytes() for name in recipes}) == 1
    for name, cells in cells_of(ablated).items():
        assert cells["score"] == f"{load_json(root / name / 'cv.json')['oof']:.4f}"
    text = (root / "ablation-quick.md").read_text(encoding="utf-8")
    assert "paired bootstrap" in text and "out-of-fold" in text and "seed 0, fp32" in text
    assert f"`python src/ablate.py quick {ablated[1]}" in text


def test_an_interrupted_ablation_is_resumed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root_of(words) / "quick-without-label_smoothing")
    monkeypatch.setattr(ablate, "run", run_in_process)
    assert ablate.main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("weights.safetensors (") == 2  # the two folds of the missing run
    assert cells_of(words)["quick-without-label_smoothing"]["score"] != "-"


def test_verdicts_are_those_of_paired_differences(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_correct(
        {
            "quick": slice(0, 16),
            "quick-without-augment": slice(0, 8),
            "quick-without-label_smoothing": slice(1, 17),
        },
        words,
    )
    assert ablate.main(words) == 0
    cells = cells_of(words)
    number = re.compile(r"([+-][\d.]+) ± ([\d.]+)")
    gains = {name: number.match(row["the field gains"]) for name, row in cells.items()}
    assert gains["quick"] is None and cells["quick"]["verdict"] == ""
    augment = gains["quick-without-augment"]
    # 8 of 24 images are correct only with the field, none only without it
    assert float(augment[1]) == pytest.approx(8 / 24, abs=1e-4)
    assert float(augment[2]) == pytest.approx((8 / 24 * 16 / 24 / 24) ** 0.5, rel=0.1)
    assert cells["quick-without-augment"]["verdict"] == EARNS
    smoothing = gains["quick-without-label_smoothing"]
    assert float(smoothing[1]) == 0.0 and float(smoothing[2]) == pytest.approx((2 / 24 / 24) ** 0.5, rel=0.1)
    assert cells["quick-without-label_smoothing"]["verdict"] == UNCLEAR
    # McNemar's exact p of 8 images to none, for two fields
    assert float(cells["quick-without-augment"]["p"]) == pytest.approx(2 * 2 * 0.5**8, rel=0.05)
    assert float(cells["quick-without-label_smoothing"]["p"]) == 1
    assert cells["quick-without-augment"]["images"] == "24"
    assert EARNS in capsys.readouterr().out


def test_a_harmful_field_is_named_also_where_lower_scores_are_better(words: list[str]) -> None:
    make_correct({"quick": slice(0, 8), "quick-without-augment": slice(0, 16)}, words)
    ablate.main(words)
    assert cells_of(words)["quick-without-augment"]["verdict"] == HARMS
    for name in cells_of(words):
        run = RunPaths(root_of(words) / name)
        save_json(run.cv, {**load_json(run.cv), "metric": "log_loss"})
        rewrite(run, lambda oof: oof)
    ablate.main(words)
    row = cells_of(words)["quick-without-augment"]
    assert row["verdict"] == HARMS and row["the field gains"].startswith("-")


@pytest.mark.parametrize("count", [0, 1, 6])
def test_a_few_images_give_no_verdict_and_an_error_above_zero(words: list[str], count: int) -> None:
    make_correct({"quick": slice(0, 12), "quick-without-augment": slice(0, 12 + count)}, words)
    make_correct({"quick-without-label_smoothing": slice(0, 12)}, words)
    ablate.main(words)
    cells = cells_of(words)["quick-without-augment"]
    # the p of 6 images to none is 0.031, and 0.062 for two fields
    assert cells["verdict"] == UNCLEAR and float(cells["the field gains"].split(" ± ")[1]) > 0
    same = cells_of(words)["quick-without-label_smoothing"]
    assert same["verdict"] == UNCLEAR and float(same["the field gains"].split(" ± ")[1]) > 0


def test_a_metric_that_the_images_do_not_define_leaves_the_verdict_unclear(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = replace(METRICS["accuracy"], is_defined=lambda targets, predictions: False)
    monkeypatch.setitem(METRICS, "accuracy", nowhere)
    for name in cells_of(words):
        run = RunPaths(root_of(words) / name)
        save_json(run.cv, {**load_json(run.cv), "oof": None})
        rewrite(run, lambda oof: oof)
    assert ablate.main(words) == 0
    row = cells_of(words)["quick-without-augment"]
    assert (row["score"], row["the field gains"], row["images"]) == ("–", "–", "24")
    assert row["verdict"].startswith(UNCLEAR)


def test_images_are_matched_by_path(words: list[str]) -> None:
    make_correct({"quick": slice(0, 16), "quick-without-augment": slice(0, 8)}, words)
    ablate.main(words)
    before = cells_of(words)
    order = np.random.default_rng(0).permutation(24)
    rewrite(
        RunPaths(root_of(words) / "quick-without-augment"),
        lambda oof: {name: values[order] for name, values in oof.items()},
    )
    ablate.main(words)
    assert cells_of(words) == before


def test_runs_with_other_folds_or_metrics_are_not_compared(words: list[str]) -> None:
    other = RunPaths(root_of(words) / "quick-without-augment")
    cv = load_json(other.cv)
    save_json(other.cv, {**cv, "metric": "macro_f1"})
    rewrite(other, lambda oof: oof)
    with pytest.raises(InputError, match=naming("quick", "quick-without-augment", "metric")):
        ablate.main(words)
    save_json(other.cv, cv)
    rewrite(other, lambda oof: oof)
    table = pd.read_csv(other.folds)
    table.assign(fold=1 - table["fold"]).to_csv(other.folds, index=False)
    with pytest.raises(InputError, match=naming("quick", "quick-without-augment", "folds")):
        ablate.main(words)


def test_a_name_that_holds_another_recipe_is_refused_before_anything_runs(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "run", lambda command: pytest.fail("something ran"))
    with pytest.raises(InputError, match=naming("/quick", "epochs", 1, 2)):
        ablate.main([*words, "--epochs", "2"])


def test_an_incomplete_run_or_one_about_to_be_replaced_has_no_row(words: list[str]) -> None:
    (root_of(words) / "quick-without-augment" / "fold1" / "run.json").unlink()
    ablate.main(words)
    cells = cells_of(words)
    assert cells["quick-without-augment"]["score"] == "-"
    assert cells["quick-without-label_smoothing"]["score"] != "-"
    full, without = ablate.read_words([*words, "--epochs", "2", "--again"])
    assert set(ablation.read_rows(full, without).values()) == {None}


def test_with_one_fold_the_images_that_both_have_held_out_are_compared(words: list[str]) -> None:
    run = RunPaths(root_of(words) / "quick-without-augment")
    shutil.rmtree(run.fold(1))
    full, without = ablate.read_words([*words, "--fold", "0"])
    validate.main(list(next(iter(without.values())).words))
    ablate.main([*words, "--fold", "0"])
    assert cells_of(words)["quick-without-augment"]["images"] == "12"
