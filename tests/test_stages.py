"""Whole runs: every stage in one process, on small competitions of every kind."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import albumentations
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from conftest import MakeCompetition, naming

import examine
import infer
import prepare
import report
import score
import split
import submit
import train
import validate
from foldsmith.competition.folder import Competition
from foldsmith.competition.settings import Settings
from foldsmith.data.cache import open_run_cache
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.files import load_npz
from foldsmith.recipes import RECIPES
from foldsmith.run.command import read_command

STAGES = (prepare, split, train, validate, infer, submit, examine, report, score)
# the smallest network and images, in fp32 so that every machine computes the same
SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "5", "--batch-size", "8"]
SMALL += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]
THREE_FOLDS = ["--folds", "3"]


def run_stages(folder: Path, output: Path, *words: str, stages: Sequence[ModuleType] = STAGES) -> Path:
    split_words = [] if "--holdout" in words else THREE_FOLDS
    for stage in stages:
        typed = [str(folder), *SMALL, *split_words, "--output", str(output), "--name", "run", *words]
        assert stage.main(typed) == 0
    return output / folder.name / "run"


def bytes_of(run: Path, *names: str) -> list[bytes]:
    return [(run / name).read_bytes() for name in names]


RESULTS = ("folds.csv", "fold0/weights.safetensors", "fold2/weights.safetensors", "oof.npz", "cv.json")
RESULTS += ("test.npz", "submission.csv")


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(num_classes=4, per_class=9, test_per_class=3)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stages(folder, tmp_path_factory.mktemp("output"))


def test_a_run_writes_every_file_of_the_contract(run: Path) -> None:
    names = ["samples.csv", "problems.csv", "folds.csv", "oof.csv", "oof.npz", "cv.json", "report.html"]
    names += ["test.npz", "submission.csv"]
    names += [f"fold{k}/{name}" for k in range(3) for name in ("weights.safetensors", "run.json", "log.csv")]
    assert [name for name in names if not (run / name).is_file()] == []
    assert list(pd.read_csv(run / "folds.csv")) == ["path", "label", "fold"]
    assert list(pd.read_csv(run / "oof.csv")) == ["path", "label", "fold", "prediction", "confidence"]
    assert not list(run.rglob("*.part")) and not list(run.rglob("checkpoint.pt"))


def test_every_image_is_held_out_once_and_separable_classes_are_learned(folder: Path, run: Path) -> None:
    oof = load_npz(run / "oof.npz")
    annotations = json.loads((folder / "answer.json").read_text())["annotations"]
    truth = {f"train/{entry['file_name']}": entry["category"] for entry in annotations}
    assert dict(zip(oof["path"].tolist(), oof["label"].tolist(), strict=True)) == truth
    assert oof["probabilities"].dtype == np.float32 and oof["probabilities"].shape == (36, 4)
    np.testing.assert_allclose(oof["probabilities"].sum(axis=1), 1, atol=1e-6)
    assert (oof["probabilities"].argmax(axis=1) == oof["label"]).mean() >= 0.9


def test_the_figures_of_cv_json_are_those_of_scikit_learn(run: Path) -> None:
    cv, oof = json.loads((run / "cv.json").read_text()), load_npz(run / "oof.npz")
    labels, folds, probabilities = oof["label"], oof["fold"], oof["probabilities"]
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": sklearn.metrics.f1_score(labels, predicted, average="macro"),
        "log_loss": sklearn.metrics.log_loss(labels, probabilities),
    }
    for name, value in expected.items():
        assert cv["metrics"][name] == pytest.approx(value, abs=1e-9)
    by_fold = [(predicted[folds == fold] == labels[folds == fold]).mean() for fold in range(3)]
    assert cv["folds"] == pytest.approx(by_fold, abs=1e-12)
    assert cv["mean"] == pytest.approx(np.mean(by_fold), abs=1e-12)
    assert cv["std"] == pytest.approx(np.std(by_fold, ddof=1), abs=1e-12)
    assert cv["oof"] == cv["metrics"]["accuracy"]


def test_the_submission_has_the_rows_of_the_sample_and_the_labels_of_the_truth(
    folder: Path, run: Path
) -> None:
    submission = pd.read_csv(run / "submission.csv")
    sample = pd.read_csv(folder / "sample_submission.csv")
    truth = pd.read_csv(folder.parent / "tiny-truth.csv")
    assert list(submission) == list(sample) and list(submission["id"]) == list(sample["id"])
    assert (submission["label"].to_numpy() == truth["class"].to_numpy()).mean() >= 0.9


def test_a_second_run_elsewhere_gives_the_same_bytes_with_any_workers(
    folder: Path, run: Path, tmp_path: Path
) -> None:
    again = run_stages(folder, tmp_path, "--workers", "2")
    assert bytes_of(again, *RESULTS) == bytes_of(run, *RESULTS)


def test_another_seed_gives_other_weights_on_the_same_folds(folder: Path, run: Path, tmp_path: Path) -> None:
    for stage in (prepare, split, train):
        stage.main(
            [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path), "--seed", "1", "--fold", "0"]
        )
    other = tmp_path / "tiny" / "quick"
    assert bytes_of(other, "folds.csv") == bytes_of(run, "folds.csv")
    assert bytes_of(other, "fold0/weights.safetensors") != bytes_of(run, "fold0/weights.safetensors")


def test_a_fold_alone_is_the_fold_of_the_whole_run(folder: Path, run: Path, tmp_path: Path) -> None:
    alone = run_stages(folder, tmp_path, "--fold", "2")
    names = ("fold2/weights.safetensors", "fold2/heldout.npz")
    assert bytes_of(alone, *names) == bytes_of(run, *names)
    assert not (alone / "fold0").exists()
    assert len(json.loads((alone / "cv.json").read_text())["folds"]) == 1


def test_results_of_other_weights_are_not_used(folder: Path, tmp_path: Path) -> None:
    run_stages(folder, tmp_path, "--fold", "2")
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path), "--name", "run"]
    train.main(words)
    for stage in (submit, report, score):
        with pytest.raises(InputError, match=r"\b(validate|infer|examine)\.py"):
            stage.main(words)
    validate.main(words)
    report.main(words)  # without the predictions and features of fold 2
    assert "Only 1 of 3 folds" not in (tmp_path / folder.name / "run" / "report.html").read_text()


def test_folds_that_were_trained_from_different_files_are_not_averaged(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path), "--set", f"augment={path}"]
    for fold, transform in enumerate(
        (albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5))
    ):
        albumentations.save(albumentations.Compose([transform]), path, data_format="json")
        for stage in (prepare, split, train):
            assert stage.main([*words, "--epochs", "1", "--fold", str(fold)]) == 0
    with pytest.raises(InputError, match=naming("fold1", "train.py")):
        validate.main([*words, "--epochs", "1", "--fold", "1"])


def test_a_fold_that_was_trained_again_to_the_same_bytes_is_scored_again(
    folder: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run.parent, tmp_path / "tiny")
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path), "--name", "run"]
    assert train.main([*words, "--fold", "0", "--again"]) == 0
    for stage in STAGES:
        assert stage.main(words) == 0
    assert bytes_of(tmp_path / "tiny" / "run", *RESULTS) == bytes_of(run, *RESULTS)


def test_the_same_command_again_does_nothing(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    run_stages(folder, run.parent.parent)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == times
    assert capsys.readouterr().out.count("up to date") == 10


def test_a_name_that_holds_another_recipe_or_other_folds_is_refused(folder: Path, run: Path) -> None:
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(run.parent.parent), "--name", "run"]
    with pytest.raises(InputError, match=naming("/run", "epochs", 5, 6, "--name", "--again")):
        train.main([*words, "--epochs", "6"])
    with pytest.raises(InputError, match=naming("/run", "num_folds", 3, 2)):
        split.main([*words, "--folds", "2"])


def test_label_files_of_every_form_are_inputs_of_prepare(tmp_path: Path) -> None:
    before = prepare.inputs_of(Competition(tmp_path, Settings(), [], []), RECIPES["quick"])["tables"]
    for name in ("labels.json", "labels.csv", "labels.tsv", "labels.jsonl", "competition.toml"):
        (tmp_path / name).write_text("")
    after = prepare.inputs_of(Competition(tmp_path, Settings(), [], []), RECIPES["quick"])["tables"]
    assert before == {} and set(after) == {path.name for path in tmp_path.iterdir()}


def test_changed_labels_are_refused_and_used_with_again(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=2)
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path)]
    assert prepare.main(words) == 0
    answer = json.loads((folder / "answer.json").read_text())
    answer["annotations"][0]["category"] = 1
    (folder / "answer.json").write_text(json.dumps(answer))
    with pytest.raises(InputError, match=naming("/quick", "data", "--again")):
        prepare.main(words)
    assert prepare.main([*words, "--again"]) == 0
    samples = pd.read_csv(tmp_path / "tiny" / "quick" / "samples.csv")
    assert samples.set_index("path").loc["train/0.png", "label"] == 1


def test_the_folder_of_a_run_stands_for_the_words_that_it_was_trained_with(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in (prepare, split, train, validate, infer, submit, examine, report):
        capsys.readouterr()
        assert stage.main([str(run)]) == 0
        assert "up to date" in capsys.readouterr().out, stage
    # a name is enough as well, and another recipe under it is refused
    by_name = [str(folder), "--output", str(run.parents[1]), "--name", "run"]
    assert report.main(by_name) == 0 and "up to date" in capsys.readouterr().out
    for words in ([str(run), "--epochs", "6"], [str(run), "--recipe", "quick"], [*by_name, "--folds", "2"]):
        with pytest.raises(InputError, match="epochs|num_folds"):
            report.main(words)
    with pytest.raises(InputError, match=naming("--name", "other")):
        report.main([str(run), "--name", "other"])


def test_a_run_whose_competition_is_gone_says_how_to_name_it(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / run.parent.name / "run"
    shutil.copytree(run, moved)
    stamp = moved / "stamps" / "prepare.json"
    facts = json.loads(stamp.read_text(encoding="utf-8"))
    stamp.write_text(json.dumps({**facts, "folder": str(tmp_path / "gone")}), encoding="utf-8")
    with pytest.raises(InputError, match=naming("gone", "--name run", "--output")):
        report.main([str(moved)])


def test_a_first_look_predicts_few_test_images_and_writes_no_submission(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / run.parent.name / "run"
    shutil.copytree(run, few)
    shutil.copytree(run.parent / "cache", few.parent / "cache")
    whole = load_npz(few / "test.npz")
    (few / "test.npz").unlink()
    for stage in (infer, submit, examine, report, score):
        assert stage.main([str(few), "--limit-test", "5"]) == 0
    looked = load_npz(few / "test.npz")
    assert len(looked["path"]) == 5 and not (few / "submission.csv").exists()
    expected = dict(zip(whole["path"].tolist(), whole["probabilities"], strict=True))
    for path, probabilities in zip(looked["path"].tolist(), looked["probabilities"], strict=True):
        np.testing.assert_allclose(probabilities, expected[path], atol=1e-6)
    for stage in (infer, submit, report, score):  # without the limit all are predicted
        assert stage.main([str(few)]) == 0
    assert bytes_of(few, "test.npz", "submission.csv") == bytes_of(run, "test.npz", "submission.csv")
    capsys.readouterr()
    assert infer.main([str(few), "--limit-test", "5"]) == 0  # and serve the first look
    assert "up to date" in capsys.readouterr().out


def test_results_that_were_tampered_with_are_not_used(folder: Path, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny" / "run"
    shutil.copytree(run.parent, tmp_path / "tiny")
    weights = copy / "fold1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(InputError, match=naming("fold1/weights.safetensors", "train.py")):
        infer.main([str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path), "--name", "run"])


@pytest.mark.parametrize("stage", [split, train, validate, infer, submit, score])
def test_a_stage_without_its_inputs_names_the_stage_to_run(
    stage: object, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: stage.main(words))
    assert ended.value.code == 2
    assert "run src/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "sample"),
    [("coco", None), ("csv", "probabilities"), ("folders", "names"), ("answer", "probabilities")],
)
def test_every_form_of_labels_and_submission_runs_through(
    make_competition: MakeCompetition, tmp_path: Path, labels: str, sample: str | None
) -> None:
    folder = make_competition(labels=labels, sample=sample, suffix=".jpg")
    run = run_stages(folder, tmp_path, "--folds", "2", "--epochs", "2")
    submission = pd.read_csv(run / "submission.csv")
    assert len(submission) == 6
    if sample == "probabilities":
        np.testing.assert_allclose(submission.iloc[:, 1:].sum(axis=1), 1, atol=1e-6)
    if sample is None:
        assert list(submission) == ["filename", "class"]
        assert list(submission["filename"]) == [f"{index}.jpg" for index in range(6)]


def test_a_grey_only_set_is_learned_and_has_no_problem(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    run = run_stages(make_competition(grey=True, per_class=20), tmp_path, "--folds", "2", "--epochs", "8")
    assert pd.read_csv(run / "problems.csv").empty
    assert json.loads((run / "cv.json").read_text())["oof"] >= 0.8


def test_a_timm_model_runs_through(make_competition: MakeCompetition, tmp_path: Path) -> None:
    words = ("--set", "model=timm:test_resnet", "--image-size", "32", "--folds", "2", "--epochs", "1")
    run = run_stages(make_competition(), tmp_path, *words)
    assert json.loads((run / "fold0/run.json").read_text())["recipe"]["model"] == "timm:test_resnet"


def test_a_holdout_scores_its_share_only(make_competition: MakeCompetition, tmp_path: Path) -> None:
    run = run_stages(make_competition(per_class=10), tmp_path, "--holdout", "0.3", "--epochs", "1")
    folds = pd.read_csv(run / "folds.csv")["fold"]
    assert (folds == 0).sum() == 9 and (folds == -1).sum() == 21
    cv = json.loads((run / "cv.json").read_text())
    assert cv["std"] is None and cv["num_images"] == 9


def test_a_limit_uses_that_many_images_of_all_classes(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    run = run_stages(make_competition(), tmp_path, "--limit", "12", "--folds", "2", "--epochs", "1")
    assert pd.read_csv(run / "folds.csv")["label"].value_counts().tolist() == [4, 4, 4]
    assert len(load_npz(run / "oof.npz")["path"]) == 12


def test_flawed_images_are_named_and_never_replaced(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=4, per_class=30, test_per_class=3)
    train_images, test_images = folder / "train", folder / "test"
    (train_images / "7.png").write_bytes((train_images / "7.png").read_bytes()[:60])  # cut off
    shutil.copy(train_images / "0.png", train_images / "4.png")  # same pixels, same class
    shutil.copy(train_images / "0.png", train_images / "extra.png")  # no label
    (test_images / "5.png").write_text("no image")
    (train_images / "7.avif").write_text("of a form that nobody reads")
    run = run_stages(folder, tmp_path, "--set", "max_unreadable=0.01", "--folds", "2", "--epochs", "1")

    problems = pd.read_csv(run / "problems.csv").set_index("path")
    assert set(problems.index) == {
        "train/7.png", "train/4.png", "train/extra.png", "train/7.avif", "test/5.png",
    }  # fmt: skip
    folds = pd.read_csv(run / "folds.csv").set_index("path")["fold"]
    assert "train/7.png" not in folds and "train/extra.png" not in folds
    assert folds["train/0.png"] == folds["train/4.png"]
    test = load_npz(run / "test.npz")
    prior = pd.read_csv(run / "folds.csv")["label"].value_counts(normalize=True).sort_index().to_numpy()
    row = test["path"].tolist().index("test/5.png")
    np.testing.assert_allclose(test["probabilities"][row], prior, atol=1e-6)
    assert len(pd.read_csv(run / "submission.csv")) == 12


def test_too_many_unreadable_images_stop_the_run(make_competition: MakeCompetition, tmp_path: Path) -> None:
    folder = make_competition()
    (folder / "train" / "3.png").write_bytes(b"")
    with pytest.raises(InputError, match=naming(1, 18, "train/3.png")):
        prepare.main([str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path)])


def test_more_than_a_few_unreadable_test_images_stop_the_run(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(test_per_class=4)  # 12 images
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path)]
    for name in range(10):
        (folder / "test" / f"{name}.png").write_text("version https://git-lfs.github.com/spec/v1")
    assert prepare.main(words) == 0
    (folder / "test" / "10.png").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=naming(11, 12, "test/0.png", "max_unreadable")):
        prepare.main(words)
    assert prepare.main([*words, "--set", "max_unreadable=0.95", "--again"]) == 0


def test_runs_with_labels_for_other_images_have_a_cache_each(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition()
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path)]
    assert prepare.main([*words, "--name", "all"]) == 0
    answer = json.loads((folder / "answer.json").read_text())
    answer["annotations"] = answer["annotations"][1:]
    (folder / "answer.json").write_text(json.dumps(answer))
    assert prepare.main([*words, "--name", "fewer"]) == 0
    counts = []
    for name in ("all", "fewer"):
        command = read_command([*words, "--name", name], "")
        counts.append(len(open_run_cache(command.run, command.folder, command.recipe.image_size).index))
    assert counts == [24, 23]


def test_bad_metadata_ends_with_status_2_and_one_sentence(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_competition()
    answer = folder / "answer.json"
    answer.write_text(answer.read_text()[:-30])
    sys_argv = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: prepare.main(sys_argv))
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: ") and "answer.json" in error and error.count("\n") == 1
    assert "Traceback" not in error


def test_a_class_rarer_than_folds_is_reported_and_handled(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_competition(num_classes=3, per_class=6)
    answer = json.loads((folder / "answer.json").read_text())
    rare = [entry for entry in answer["annotations"] if entry["category"] == 2]
    answer["annotations"] = [entry for entry in answer["annotations"] if entry not in rare[1:]]
    (folder / "answer.json").write_text(json.dumps(answer))
    run = run_stages(folder, tmp_path, "--epochs", "1")
    printed = capsys.readouterr().out
    assert "1 of 3 classes" in printed and "kind 2" in printed
    assert "kind 2" in (run / "report.html").read_text()
    assert len(load_npz(run / "oof.npz")["path"]) == 13


def test_rerunning_one_fold_never_replaces_the_results_of_all(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run.parent, tmp_path / "tiny")
    copy = run_stages(folder, tmp_path, "--fold", "1")
    assert bytes_of(copy, *RESULTS) == bytes_of(run, *RESULTS)
    assert capsys.readouterr().out.count("up to date") == 8


def test_folds_trained_one_by_one_are_the_run_of_all(folder: Path, run: Path, tmp_path: Path) -> None:
    for fold in ("2", "0"):
        some = run_stages(folder, tmp_path, "--fold", fold)
    assert len(json.loads((some / "cv.json").read_text())["folds"]) == 2
    assert bytes_of(run_stages(folder, tmp_path), *RESULTS) == bytes_of(run, *RESULTS)


def test_again_removes_nothing_before_the_new_input_is_validated(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition()
    done = run_stages(folder, tmp_path, "--epochs", "1")
    files = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    (folder / "answer.json").write_text("{")
    with pytest.raises(InputError, match=naming("answer.json", "JSON")):
        run_stages(folder, tmp_path, "--epochs", "2", "--again")
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == files


def test_another_precision_on_a_finished_run_is_refused(folder: Path, run: Path) -> None:
    words = [str(folder), *SMALL, *THREE_FOLDS, "--output", str(run.parent.parent), "--name", "run"]
    with pytest.raises(InputError, match=naming("--precision fp32", "bf16", "--again")):
        train.main([*words, "--precision", "bf16"])


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["--set", "augment=crop-flop"], ["'crop-flop'", "'crop-flip'"]),
        (["--set", "pretrain_augment=flap"], ["'flap'", "'flip'"]),
        (["--set", "pretrain_augment=FILE.json"], ["augmentation", "'FILE.json'"]),
        (["--set", "optimizer=adamv"], ["'adamv'", "'adam'"]),
        (["--set", "views=hflop"], ["'hflop'", "'hflip'"]),
        (["--set", "model=quick-can"], ["'quick-can'", "'quick-cnn'"]),
        (["--set", "weights=nowhere.pth", "--set", "model=timm:test_resnet"], ["nowhere.pth"]),
        (["--image-size", "8"], ["quick-cnn", "8 x 8"]),
        (["--device", "tpu"], ["--device", "tpu"]),
    ],
)
def test_a_recipe_that_cannot_train_is_refused_before_anything_is_decoded(
    folder: Path, tmp_path: Path, words: list[str], keys: list[str]
) -> None:
    with pytest.raises(InputError, match=naming(*keys)):
        prepare.main([str(folder), *SMALL, "--output", str(tmp_path), *words])
    assert not (tmp_path / "tiny").exists()


def test_the_true_score_matches_ids_and_labels(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, few = make_competition(labels="csv", sample="probabilities"), ["--folds", "2", "--epochs", "1"]
    run = run_stages(folder, tmp_path, *few)
    words = [str(folder), *SMALL, *few, "--output", str(tmp_path), "--name", "run"]
    truth = folder.parent / "tiny-truth.csv"
    true = pd.read_csv(truth, dtype=str).set_index("filename")["class"]
    submission = pd.read_csv(run / "submission.csv").set_index("id")
    names = sorted(true.unique())
    probabilities = submission[names].to_numpy()
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    loss = sklearn.metrics.log_loss(true[submission.index], probabilities, labels=names)
    assert f"true test log_loss {loss:.4f}" in capsys.readouterr().out
    expected = (submission.idxmax(axis=1) == true[submission.index]).mean()
    words += ["--metric", "accuracy"]
    score.main(words)
    assert f"true test accuracy {expected:.4f}" in capsys.readouterr().out
    # the same truth by bare names; then with an unknown image
    truth.write_text(truth.read_text().replace(".png", ""))
    score.main(words)
    assert f"true test accuracy {expected:.4f}" in capsys.readouterr().out
    truth.write_text(truth.read_text() + "nobody,kind 0\n")
    with pytest.raises(InputError, match=naming(truth, 1, 7, "line")):
        score.main(words)


def test_ids_that_a_test_list_maps_to_images_are_submitted_and_scored_by_it(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_competition(labels="csv", sample=None)
    truth, images = folder.parent / "tiny-truth.csv", [f"{index}.png" for index in range(6)]
    kinds = pd.read_csv(truth, dtype=str).set_index("filename")["class"]
    few = ["--folds", "2"]
    words = [str(folder), *SMALL, *few, "--output", str(tmp_path), "--name", "run"]
    (folder / "sample_submission.csv").write_text("id,label\n" + "".join(f"q{k},kind 0\n" for k in range(6)))
    submitted = []
    for mapped in (images, [*images[1:], images[0]]):
        pairs = enumerate(mapped)
        (folder / "test.csv").write_text("id,image\n" + "".join(f"q{k},{image}\n" for k, image in pairs))
        truth.write_text("id,label\n" + "".join(f"q{k},{kinds[image]}\n" for k, image in enumerate(mapped)))
        capsys.readouterr()
        run = run_stages(folder, tmp_path, *few)
        submission = pd.read_csv(run / "submission.csv")
        assert submission["id"].tolist() == [f"q{k}" for k in range(6)]
        submitted.append(submission["label"].tolist())
        right = (submission["label"].to_numpy() == kinds[mapped].to_numpy()).mean()
        assert f"true test accuracy {right:.4f} of 6 images" in capsys.readouterr().out
    assert submitted[1] == [*submitted[0][1:], submitted[0][0]] != submitted[0]
    truth.write_text(truth.read_text() + "q0,kind 1\n")
    with pytest.raises(InputError, match=naming(truth, 1, 7, "line 8", "repeat")):
        score.main(words)
    # ids that are those of the sample, and names of other images
    (folder / "sample_submission.csv").write_text("id,label\n" + "".join(f"{k},kind 0\n" for k in range(6)))
    (folder / "test.csv").write_text("id,image\n" + "".join(f"{k},{5 - k}.png\n" for k in range(6)))
    run_stages(folder, tmp_path, *few, stages=STAGES[:-1])
    truth.write_text("row,label\n" + "".join(f"{k},{kinds[f'{5 - k}.png']}\n" for k in range(6)))
    with pytest.raises(InputError, match=naming(truth, "'id'")):
        score.main(words)
    truth.write_text(truth.read_text().replace("row,", "id,"))
    assert score.main(words) == 0
    assert f"true test accuracy {right:.4f} of 6 images" in capsys.readouterr().out


def test_a_submission_of_another_kind_is_written_again(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder, few = make_competition(labels="csv"), ["--folds", "2", "--epochs", "1"]
    run = run_stages(folder, tmp_path, *few)
    assert pd.read_csv(run / "submission.csv")["label"].str.count("kind").eq(1).all()
    (folder / "competition.toml").write_text('metric = "map_at_3"\nsubmission = "ranked"\n')
    run_stages(folder, tmp_path, *few)
    assert pd.read_csv(run / "submission.csv")["label"].str.count("kind").gt(1).all()


@pytest.mark.parametrize(
    ("truth", "key"), [("filename\n0.png\n", "'filename'"), ("id,a,b\n0.png,x,y\n", "'x'")]
)
def test_an_unreadable_truth_file_is_refused(
    folder: Path, run: Path, tmp_path: Path, truth: str, key: str
) -> None:
    shutil.copytree(folder, tmp_path / "tiny")
    (tmp_path / "tiny-truth.csv").write_text(truth)
    words = [str(tmp_path / "tiny"), *SMALL, *THREE_FOLDS, "--output", str(run.parent.parent)]
    words += ["--name", "run"]
    with pytest.raises(InputError, match=naming("tiny-truth.csv", key)):
        score.main(words)
