"""Averages and blends of runs: matched by path, scored out-of-fold, refused where runs do not match."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming

import blend
import compare
import infer
import prepare
import score
import split
import submit
import train
import validate
from foldsmith import __version__
from foldsmith.comparison.blend_weights import climb
from foldsmith.comparison.members import require_combined, starts_with_runs
from foldsmith.deployment.combination import read_combination
from foldsmith.errors import InputError
from foldsmith.evaluation.cross_validation import cross_validation
from foldsmith.evaluation.decisions import fit_decision
from foldsmith.process.files import load_npz, save_json, save_npz
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, write_stamp
from foldsmith.run.validated import is_stale
from foldsmith.tasks import SingleLabel
from foldsmith.tasks.metrics import METRICS

STAGES = (prepare, split, train, validate, infer, submit)
WORDS = ["--recipe", "quick", "--image-size", "16", "--epochs", "1", "--batch-size", "8"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]
CLASSES = 4


def run_stages(folder: Path, output: Path, name: str, *words: str, stages: tuple = STAGES) -> RunPaths:
    folds = [] if "--folds" in words else ["--folds", "2"]
    for stage in stages:
        assert stage.main([str(folder), *WORDS, *folds, "--output", str(output), "--name", name, *words]) == 0
    return RunPaths(output / folder.name / name)


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(num_classes=CLASSES, per_class=12, test_per_class=3)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output folder with two runs, `a` and `b`."""
    output = tmp_path_factory.mktemp("output")
    for name, seed in (("a", "0"), ("b", "1")):
        run_stages(folder, output, name, "--seed", seed)
    return output / folder.name


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the runs, which the test may change."""
    shutil.copytree(trained, tmp_path / trained.name)
    return tmp_path / trained.name


def rewrite(run: RunPaths, **files: dict[str, np.ndarray]) -> None:
    """Replace predictions of a run, and stamp them as if its stages had written them."""
    trained = digests_of_trained(run, (0, 1))
    for name, arrays in files.items():
        save_npz(run.root / f"{name}.npz", **arrays)
    write_stamp(run.stamp("validate"), {}, [run.oof, run.oof_table, run.cv], trained=trained)
    write_stamp(run.stamp("infer"), {}, [run.test], trained=trained)


def shuffled(arrays: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(arrays["path"]))
    return {name: values[order] for name, values in arrays.items()}


def predicted(labels: np.ndarray, correct: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Return probabilities (N, K) that predict the label where correct, and the next class elsewhere."""
    decisions = np.where(correct, labels, (labels + 1) % CLASSES)
    probabilities = np.repeat((1 - confidence)[:, None] / (CLASSES - 1), CLASSES, axis=1)
    probabilities[np.arange(len(labels)), decisions] = confidence
    return probabilities.astype(np.float32)


def make_complementary(runs: Path) -> None:
    """Make each run correct and confident on one half of the images, and narrowly wrong on the other."""
    for half, name in enumerate(("a", "b")):
        run = RunPaths(runs / name)
        oof = load_npz(run.oof)
        # both halves lie in both folds
        correct = (np.arange(len(oof["path"])) // 2 + oof["fold"]) % 2 == half
        oof["probabilities"] = predicted(oof["label"], correct, np.where(correct, 0.9, 0.4))
        task = SingleLabel(CLASSES)
        figures = cross_validation(oof["label"], oof["fold"], oof["probabilities"], "accuracy", task)
        save_json(run.cv, {**json.loads(run.cv.read_text()), **figures})
        rewrite(run, oof=oof)


def words_of(runs: Path, folder: Path, *more: str) -> list[str]:
    return [str(runs / "a"), str(runs / "b"), "--folder", str(folder), *more]


def by_path(path: Path) -> dict[str, np.ndarray]:
    arrays = load_npz(path)
    return dict(zip(arrays["path"].tolist(), arrays["probabilities"], strict=True))


# --- averages


def test_runs_are_averaged_by_path_whatever_the_order_of_their_rows(runs: Path, folder: Path) -> None:
    before = [by_path(runs / name / "test.npz") for name in ("a", "b")]
    b = RunPaths(runs / "b")
    rewrite(b, test=shuffled(load_npz(b.test)))
    assert load_npz(b.test)["path"].tolist() != load_npz(runs / "a" / "test.npz")["path"].tolist()
    assert submit.main(words_of(runs, folder)) == 0
    averaged = by_path(runs / "average" / "test.npz")
    assert averaged.keys() == before[0].keys()
    submission = pd.read_csv(runs / "average" / "submission.csv", dtype=str).set_index("id")["label"]
    assert list(submission.index) == list(pd.read_csv(folder / "sample_submission.csv", dtype=str)["id"])
    for path, probabilities in averaged.items():
        expected = (before[0][path].astype(float) + before[1][path]) / 2
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
        assert submission[path.removeprefix("test/")] == str(expected.argmax())
    facts = json.loads((runs / "average" / "blend.json").read_text())
    assert [(member["run"], member["weight"]) for member in facts["runs"]] == [("a", 0.5), ("b", 0.5)]


def test_an_average_has_a_rule_fitted_on_the_mean(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        run = RunPaths(runs / name)
        save_json(run.cv, {**json.loads(run.cv.read_text()), "metric": "log_loss"})
        oof = load_npz(run.oof)
        correct = np.arange(len(oof["path"])) % 3 > 0  # far too certain of the others
        oof["probabilities"] = predicted(oof["label"], correct, np.full(len(correct), 0.99))
        rewrite(run, oof=shuffled(oof, seed=ord(name)))
    assert submit.main(words_of(runs, folder)) == 0
    decision = json.loads((runs / "average" / "blend.json").read_text())["decision"]
    oof, own = load_npz(runs / "a" / "oof.npz"), [by_path(runs / name / "oof.npz") for name in ("a", "b")]
    mean = [(own[0][path].astype(float) + own[1][path]) / 2 for path in oof["path"].tolist()]
    task = SingleLabel(CLASSES)
    expected = fit_decision(task, task.metric("log_loss"), oof["label"], np.float32(mean), oof["fold"])
    assert (decision["kind"], decision["kept"]) == ("temperature", True)
    assert decision["values"] == pytest.approx(expected.values, rel=1e-3)
    assert f"{decision['score']:.4f}" in capsys.readouterr().out


def test_an_average_is_computed_again_only_after_a_run_changed(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(runs, folder)
    submit.main(words)
    before = (runs / "average" / "test.npz").stat().st_mtime_ns
    submit.main(words)
    assert "up to date" in capsys.readouterr().out
    assert (runs / "average" / "test.npz").stat().st_mtime_ns == before
    b = RunPaths(runs / "b")
    test = load_npz(b.test)
    rewrite(b, test={**test, "probabilities": test["probabilities"][:, ::-1]})
    submit.main(words)
    assert (runs / "average" / "test.npz").stat().st_mtime_ns > before


def test_arguments_that_start_with_runs_are_distinguished_from_a_competition_folder(
    runs: Path, folder: Path
) -> None:
    before = (runs / "a" / "submission.csv").read_bytes()
    (runs / "a" / "submission.csv").unlink()
    run_stages(folder, runs.parent, "a", "--seed", "0", stages=(submit,))
    assert (runs / "a" / "submission.csv").read_bytes() == before
    assert not starts_with_runs([]) and not starts_with_runs(["input/tiny80", "--folds", "2"])
    assert not starts_with_runs(["--recipe", "quick", "input/tiny80"])
    assert not starts_with_runs([str(runs / "a")])  # a single run is submitted as it is
    assert starts_with_runs(["output/tiny80/a", "output/tiny80/misspelt"])


def test_the_true_score_of_an_average_is_printed(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit.main(words_of(runs, folder))
    score.main([str(folder), "--output", str(runs.parent), "--name", "average"])
    printed = capsys.readouterr().out
    submission = pd.read_csv(runs / "average" / "submission.csv", dtype=str)
    truth = pd.read_csv(folder.parent / "tiny-truth.csv", dtype=str).set_index("filename")["class"]
    share = (submission["label"] == submission["id"].map(truth)).mean()
    assert f"true test accuracy {share:.4f}" in printed


# --- runs that do not match


def change_table(run: RunPaths, file: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = pd.read_csv(run.root / file, dtype=str)
    change(table).to_csv(run.root / file, index=False)


def other_classes(run: RunPaths) -> None:
    change_table(
        run, "classes.csv", lambda table: table.assign(class_name=table["class_name"][::-1].to_list())
    )


def other_test_images(run: RunPaths) -> None:
    test = load_npz(run.test)
    test["path"] = np.array([*test["path"][:-1], "test/strange.png"])
    rewrite(run, test=test)


def an_image_twice(run: RunPaths) -> None:
    test = load_npz(run.test)
    test["path"] = np.array([*test["path"][:-1], test["path"][0]])
    rewrite(run, test=test)


def edited_by_hand(run: RunPaths) -> None:
    test = load_npz(run.test)
    np.savez(run.test, path=test["path"], probabilities=test["probabilities"][::-1])


def not_predicted(run: RunPaths) -> None:
    run.stamp("infer").unlink()


def not_trained(run: RunPaths) -> None:
    for fold in (0, 1):
        run.fold_run(fold).unlink()


@pytest.mark.parametrize("stage", [submit, blend])
@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (other_classes, ["/b", "classes"]),
        (other_test_images, ["/b", 2, "test/"]),
        (an_image_twice, ["/b"]),
        (edited_by_hand, ["test.npz", "infer.py"]),
        (not_predicted, ["/b/", "infer.py"]),
        (not_trained, ["/b"]),
    ],
)
def test_runs_that_do_not_match_are_refused_and_nothing_is_written(
    stage: object, change: Callable[[RunPaths], None], keys: list[object], runs: Path, folder: Path
) -> None:
    change(RunPaths(runs / "b"))
    with pytest.raises(InputError, match=naming(*keys)) as refused:
        stage.main(words_of(runs, folder))
    assert "\n" not in str(refused.value)
    assert not (runs / "average" / "submission.csv").exists()
    assert not (runs / "blend" / "submission.csv").exists()


@pytest.mark.parametrize("stage", [submit, blend])
def test_wrong_arguments_are_refused(
    stage: object, runs: Path, folder: Path, tmp_path: Path, make_competition: MakeCompetition
) -> None:
    elsewhere = tmp_path / "elsewhere" / "other" / "b"
    shutil.copytree(runs / "b", elsewhere)
    for words, keys in (
        ([str(runs / "a"), str(elsewhere), "--folder", str(folder)], ["other", "tiny"]),
        ([str(runs / "a"), "--folder", str(folder)], ["two"] if stage is blend else ["--folder"]),
        ([str(runs / "a"), str(runs / "x" / ".." / "a"), "--folder", str(folder)], ["two"]),
        (words_of(runs, folder, "--name", "a"), ["/a"]),
        (words_of(runs, folder, "--name", "a", "--again"), ["/a"]),
        (words_of(runs, folder, "--name", "../x"), ["--name", "../x"]),
        (words_of(runs, folder, "--nmae", "x"), ["'--nmae'", "'--name'"]),
        (words_of(runs, tmp_path / "nowhere"), ["nowhere", "--folder"]),
        (words_of(runs, make_competition(num_classes=3)), ["/a"]),
        ([str(runs / "a"), str(runs / "c"), "--folder", str(folder)], ["/c"]),
        ([str(runs / "a"), "nowhere", "--folder", str(folder)], ["nowhere is not a folder"]),
    ):
        with pytest.raises(InputError, match=naming(*keys)):
            stage.main(words)
    assert not (runs / "average").exists() and not (runs / "blend").exists()
    assert (runs / "a" / "fold0" / "weights.safetensors").is_file()


def test_other_folds_are_refused_by_a_blend_and_not_by_an_average(runs: Path, folder: Path) -> None:
    for words in (("--folds", "3"), ("--folds", "2", "--fold-seed", "1")):
        shutil.rmtree(runs / "b")
        run_stages(folder, runs.parent, "b", "--seed", "1", *words)
        with pytest.raises(InputError, match=naming("/a", "/b", "folds")):
            blend.main(words_of(runs, folder))
    assert submit.main(words_of(runs, folder)) == 0


def test_folds_in_another_order_of_rows_are_the_same_folds(runs: Path, folder: Path) -> None:
    blend.main(words_of(runs, folder, "--name", "before"))
    b = RunPaths(runs / "b")
    table = pd.read_csv(b.folds)
    table.iloc[::-1].to_csv(b.folds, index=False)
    rewrite(b, oof=shuffled(load_npz(b.oof)), test=shuffled(load_npz(b.test)))
    blend.main(words_of(runs, folder, "--name", "after"))
    for name in ("oof.npz", "test.npz", "submission.csv"):
        assert (runs / "before" / name).read_bytes() == (runs / "after" / name).read_bytes()


def test_a_run_of_another_version_is_told_apart_from_changed_weights(runs: Path, folder: Path) -> None:
    facts = RunPaths(runs / "b").fold_run(0)
    entry = json.loads(facts.read_text())
    save_json(facts, {**entry, "versions": {**entry["versions"], "foldsmith": "0.1.0"}})
    with pytest.raises(InputError, match=naming("foldsmith 0.1.0", __version__)):
        blend.main(words_of(runs, folder))


@pytest.mark.parametrize("stage", [blend, submit])
def test_a_member_in_another_output_folder_is_found_and_judged(
    stage: object, runs: Path, folder: Path, tmp_path: Path
) -> None:
    other = RunPaths(tmp_path / "elsewhere" / runs.name / "b")
    shutil.copytree(runs / "b", other.root)
    assert stage.main([str(runs / "a"), str(other.root), "--folder", str(folder)]) == 0
    made = RunPaths(runs / ("blend" if stage is blend else "average"))
    assert [run.root for run in read_combination(made).members] in (
        [runs / "a", other.root], [runs / "a"], [other.root]
    )  # fmt: skip
    require_combined(made)
    beside = RunPaths(runs / "b")  # another run of the same name, which is no member
    for path in (beside.oof, beside.test):
        save_npz(path, **shuffled(load_npz(path)))
    require_combined(made)
    assert stage is submit or not is_stale(made)
    for path in (other.oof, other.test):
        save_npz(path, **shuffled(load_npz(path)))
    assert stage is submit or is_stale(made)
    with pytest.raises(InputError, match=naming(other.test)):
        require_combined(made)


def test_a_run_with_a_missing_fold_is_refused(runs: Path, folder: Path) -> None:
    b = RunPaths(runs / "b")
    shutil.rmtree(b.fold(1))
    run_stages(folder, runs.parent, "b", "--seed", "1", "--fold", "0", stages=(validate, infer))
    with pytest.raises(InputError, match=naming("/b", "0, 1")):
        blend.main(words_of(runs, folder))


def test_a_blend_cannot_be_blended_but_can_be_averaged(runs: Path, folder: Path) -> None:
    blend.main(words_of(runs, folder))
    words = [str(runs / "a"), str(runs / "blend"), "--folder", str(folder)]
    with pytest.raises(InputError, match="/blend"):
        blend.main([*words, "--name", "twice"])
    assert submit.main(words) == 0


# --- blends


def test_a_blend_of_complementary_runs_is_correct(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_complementary(runs)
    assert blend.main(words_of(runs, folder)) == 0
    output = capsys.readouterr().out
    blended = RunPaths(runs / "blend")
    oof = load_npz(blended.oof)
    facts, cv = (json.loads(path.read_text()) for path in (blended.blend, blended.cv))
    assert (oof["probabilities"].argmax(axis=1) == oof["label"]).all()
    assert facts["blended"] and facts["score"] == cv["oof"] == 1.0
    assert facts["gain"] == pytest.approx(0.5) and "+0.5000" in output and "no gain" not in output
    assert sum(member["weight"] for member in facts["runs"]) == pytest.approx(1)
    table = pd.read_csv(blended.oof_table)
    assert list(table) == ["path", "label", "fold", "prediction", "confidence"]
    assert (table["prediction"] == table["label"]).all()
    # out-of-fold: weights fitted on the other folds; test: weights fitted on all images
    oofs = [by_path(runs / name / "oof.npz") for name in ("a", "b")]
    weights = np.array([member["weights_by_part"] for member in facts["runs"]])
    for path, fold, probabilities in zip(oof["path"], oof["fold"], oof["probabilities"], strict=True):
        expected = sum(w * run[path].astype(float) for w, run in zip(weights[:, fold], oofs, strict=True))
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    tests = [by_path(runs / name / "test.npz") for name in ("a", "b")]
    for path, probabilities in by_path(blended.test).items():
        expected = sum(run["weight"] * test[path] for run, test in zip(facts["runs"], tests, strict=True))
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert len(pd.read_csv(blended.submission)) == 3 * CLASSES


def test_a_blend_without_gain_says_so_and_uses_the_best_run_unchanged(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(runs / "b")
    shutil.copytree(runs / "a", runs / "b")
    assert blend.main(words_of(runs, folder)) == 0
    printed = capsys.readouterr().out
    assert "no gain" in printed and "uses a alone" in printed
    for name in ("oof.npz", "oof.csv", "test.npz", "submission.csv"):
        assert (runs / "blend" / name).read_bytes() == (runs / "a" / name).read_bytes()
    facts = json.loads((runs / "blend" / "blend.json").read_text())
    assert not facts["blended"] and facts["better_run"] == "a"
    assert abs(facts["gain"]) < 1e-6


def test_a_stale_blend_is_left_out_of_the_leaderboard(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_complementary(runs)
    blend.main(words_of(runs, folder))
    assert compare.main([str(runs)]) == 0
    assert "left out" not in capsys.readouterr().out
    oof = load_npz(runs / "a" / "oof.npz")
    np.savez(runs / "a" / "oof.npz", **{**oof, "probabilities": oof["probabilities"][:, ::-1]})
    assert compare.main([str(runs)]) == 0
    assert re.search(r"\bblend\b.*\bstale\b", capsys.readouterr().out)


def test_a_repeated_blend_gives_the_same_bytes_and_runs_once(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_complementary(runs)
    words = words_of(runs, folder)
    blend.main(words)
    names = ("oof.npz", "oof.csv", "cv.json", "test.npz", "submission.csv", "blend.json", "folds.csv")
    before = {name: (runs / "blend" / name).read_bytes() for name in names}
    capsys.readouterr()
    blend.main(words)
    assert "up to date" in capsys.readouterr().out
    shutil.rmtree(runs / "blend")
    blend.main(words)
    assert {name: (runs / "blend" / name).read_bytes() for name in names} == before
    with pytest.raises(InputError, match=naming("/blend", "seed", 0, 1, "--again")):
        blend.main([*words, "--seed", "1"])
    assert blend.main([*words, "--seed", "1", "--again"]) == 0
    assert json.loads((runs / "blend" / "blend.json").read_text())["seed"] == 1


def test_compare_and_score_treat_a_blend_like_a_run(
    runs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_complementary(runs)
    blend.main(words_of(runs, folder, "--name", "both"))
    capsys.readouterr()
    assert compare.main([str(runs)]) == 0
    board = pd.read_csv(runs / "leaderboard.csv").set_index("run")
    assert board.index[0] == "both" and board.loc["both", "differs"] == "made of a, b"
    assert board.loc["a", "differs"] == "seed=0" and board.loc["b", "differs"] == "seed=1"
    assert board.loc["both", "seconds"] == pytest.approx(board.loc[["a", "b"], "seconds"].sum(), abs=0.2)
    capsys.readouterr()
    assert score.main([str(folder), "--output", str(runs.parent), "--name", "both"]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed and re.search(r"blend of +a 0\.\d\d, b 0\.\d\d", printed)
    assert "report:" not in printed  # a blend has none


def test_a_training_run_cannot_take_the_name_of_a_blend(runs: Path, folder: Path) -> None:
    blend.main(words_of(runs, folder))
    with pytest.raises(InputError, match="/blend"):
        run_stages(folder, runs.parent, "blend")


@pytest.mark.parametrize(
    ("metric", "adjustment"), [("log_loss", "temperature"), ("macro_f1", "class factors")]
)
def test_the_metric_is_the_competitions_and_runs_scored_by_another_are_refused(
    metric: str, adjustment: str, runs: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path / "input" / "tiny")
    (tmp_path / "input" / "tiny" / "competition.toml").write_text(f'metric = "{metric}"\n')
    words = words_of(runs, tmp_path / "input" / "tiny")
    with pytest.raises(InputError, match=naming("accuracy", metric)):
        blend.main(words)
    make_complementary(runs)
    for name in ("a", "b"):
        run = RunPaths(runs / name)
        save_json(run.cv, {**json.loads(run.cv.read_text()), "metric": metric})
        rewrite(run)
    assert blend.main(words) == 0
    facts = json.loads((runs / "blend" / "blend.json").read_text())
    assert facts["metric"] == metric and facts["adjustment"]["name"] == adjustment
    assert adjustment in capsys.readouterr().out
    assert facts["gain"] > facts["standard_error"]


def test_a_hold_out_is_blended_too(folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "1")):
        for stage in STAGES:
            words = [str(folder), *WORDS, "--holdout", "0.4", "--output", str(tmp_path), "--name", name]
            stage.main([*words, "--seed", seed])
    runs = tmp_path / folder.name
    assert blend.main(words_of(runs, folder)) == 0
    cv = json.loads((runs / "blend" / "cv.json").read_text())
    assert cv["std"] is None and cv["num_images"] == len(load_npz(runs / "a" / "oof.npz")["path"])
    facts = json.loads((runs / "blend" / "blend.json").read_text())
    assert len(facts["runs"][0]["weights_by_part"]) == 5
    assert compare.main([str(runs)]) == 0


def test_where_the_metric_is_undefined_the_log_loss_alone_chooses_the_weights() -> None:
    undefined = replace(METRICS["accuracy"], weighted=None, is_defined=lambda *_: False)
    labels = np.arange(60) % 3
    good = np.full((60, 3), 0.1, np.float32) + 0.7 * np.eye(3, dtype=np.float32)[labels]
    predictions = np.stack([np.full((60, 3), 1 / 3, np.float32), good])
    weights = climb(labels, predictions, undefined, METRICS["log_loss"], np.ones((2, 60)))
    np.testing.assert_array_equal(weights, [[0, 1], [0, 1]])
