"""Every task from labels to compared runs, and every recipe on every task."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import MakeCompetition
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

import compare
import examine
import infer
import look
import predict
import prepare
import report
import score
import split
import submit
import train
import validate
from foldsmith.errors import InputError
from foldsmith.evaluation.decisions import Decision
from foldsmith.evaluation.label_issues import COLUMNS
from foldsmith.process.files import load_npz
from foldsmith.recipes import RECIPES
from foldsmith.recipes.for_task import check_for_task, notes_for_task
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, trained_folds, write_stamp
from foldsmith.run.tables import load_classes, load_folds, load_task
from foldsmith.tasks import TASKS, Task, build_task

STAGES = (prepare, split, train, validate, infer, submit, examine, report, score)
SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "4", "--batch-size", "8", "--folds", "2"]
SMALL += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]
# the class of an image, 0 to 3, as the label columns of each task
LABELS: dict[str, Callable[[int], tuple[object, ...]]] = {
    "multiclass": lambda label: (label,),
    "binary": lambda label: (label % 2,),
    "ordinal": lambda label: (label,),
    "multilabel": lambda label: (" ".join(name for bit, name in enumerate("ab") if label >> bit & 1),),
    "regression": lambda label: (10.0 + 5 * label, -1.0 * label),
}


@dataclass
class Finished:
    """A task's competition folder, and its run with these words."""

    folder: Path
    run: RunPaths
    words: list[str]


def label_as(task: str, folder: Path) -> None:
    """Replace the folder's answer.json by a table with the labels of a task, and name the task."""
    annotations = json.loads((folder / "answer.json").read_text())["annotations"]
    (folder / "answer.json").unlink()
    folder.with_name(f"{folder.name}-truth.csv").unlink()
    rows = [(entry["file_name"], *LABELS[task](int(entry["category"]))) for entry in annotations]
    columns = [f"value{index}" for index in range(len(rows[0]) - 1)]
    pd.DataFrame(rows, columns=["file_name", *columns]).to_csv(folder / "train.csv", index=False)
    separator = 'label_separator = " "\n' if task == "multilabel" else ""
    (folder / "competition.toml").write_text(
        f'task = "{task}"\nlabels = "train.csv"\nlabel_columns = {json.dumps(columns)}\n{separator}'
    )


@pytest.fixture(scope="module", params=list(TASKS))
def finished(
    request: pytest.FixtureRequest,
    make_competition: MakeCompetition,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    folder = make_competition(num_classes=4, per_class=6, sample=None)
    output = tmp_path_factory.mktemp("output")
    label_as(request.param, folder)
    words = [str(folder), *SMALL, "--output", str(output)]
    for stage in STAGES:
        assert stage.main([*words, "--name", "a"]) == 0
    return Finished(folder, RunPaths(output / folder.name / "a"), words)


@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
def test_the_side_for_borrowed_weights_is_chosen_by_a_probe_of_the_task(
    task: str, make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=4, per_class=6, sample=None)
    label_as(task, folder)
    weights = tmp_path / "test_efficientnet.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    words = [str(folder), "--set", f"weights={weights}", "--folds", "2", "--device", "cpu"]
    assert prepare.main([*words, "--output", str(tmp_path)]) == 0
    held = json.loads((tmp_path / folder.name / "default" / "identity.json").read_text())
    losses = held["evidence"]["backbone"]["losses"]
    assert len(losses) > 1 and all(0 <= loss < 10 for loss in losses.values())


def test_predictions_belong_to_the_images_and_to_the_task(finished: Finished) -> None:
    run, task = finished.run, load_task(finished.run)
    oof, test, folds = load_npz(run.oof), load_npz(run.test), load_folds(run.folds)
    predictions = oof[task.predictions_key]
    assert predictions.dtype == test[task.predictions_key].dtype == np.float32
    assert predictions.shape == (24, task.num_outputs) and len(test["path"]) == 8
    assert oof["path"].tolist() == folds["path"].tolist()
    np.testing.assert_array_equal(oof["label"], task.targets(folds))
    if task.predictions_key == "probabilities":
        assert predictions.min() > 0 and predictions.max() < 1
        if task.single_label:
            np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-5)
    views = load_npz(run.views)
    assert all(views[name].shape == (2, 24) for name in views if name not in ("view", "path"))


def test_cv_json_has_the_scores_of_the_out_of_fold_file(finished: Finished) -> None:
    run, task = finished.run, load_task(finished.run)
    cv, oof = json.loads(run.cv.read_text()), load_npz(run.oof)
    assert cv["task"] == task.name and cv["metric"] == task.default_metric
    for name, metric in task.with_metric(task.metric(task.default_metric)).metrics.items():
        assert cv["metrics"][name] == metric.evaluate(oof["label"], oof[task.predictions_key]), name
    table = pd.read_csv(run.oof_table, keep_default_na=False)
    decided = task.label_column(task.decide(oof[task.predictions_key]))
    assert [str(cell) for cell in table["prediction"]] == [str(cell) for cell in decided]


def test_training_lowers_the_loss_of_a_task_that_can_be_learned(finished: Finished) -> None:
    task, oof = load_task(finished.run), load_npz(finished.run.oof)
    prior = np.tile(task.prior(oof["label"]), (len(oof["label"]), 1))
    assert (
        task.losses_of(oof["label"], oof[task.predictions_key]).mean()
        < task.losses_of(oof["label"], task.finish(prior)).mean()
    )


def test_another_metric_scores_the_run_again(finished: Finished, tmp_path: Path) -> None:
    task, oof = load_task(finished.run), load_npz(finished.run.oof)
    own = tmp_path / "own.py"
    own.write_text("def spread(targets, predictions):\n    return predictions.std()\n\n\n")
    words = [*finished.words, "--name", "a", "--metric", f"{own}:spread"]
    with pytest.raises(InputError, match="greater_is_better"):
        validate.main(words)
    own.write_text(own.read_text() + "spread.greater_is_better = False\n")
    validate.main(words)
    cv = json.loads(finished.run.cv.read_text())
    assert cv["oof"] == pytest.approx(oof[task.predictions_key].std(), rel=1e-6)
    assert (cv["metric"], cv["higher_is_better"]) == (f"{own}:spread", False)
    compare.main([str(finished.run.root.parent)])
    validate.main([*finished.words, "--name", "a"])
    assert json.loads(finished.run.cv.read_text())["metric"] == task.default_metric


def test_the_report_and_its_label_issues_are_those_of_the_task(finished: Finished) -> None:
    run, task, oof = finished.run, load_task(finished.run), load_npz(finished.run.oof)
    page = run.report.read_text()
    assert page.count("<h2") == len(task.report_sections) and "nan" not in re.findall(r">([^<]*)<", page)
    issues, names = pd.read_csv(run.label_issues), list(load_classes(run.classes)["class_name"])
    assert list(issues) == list(COLUMNS) and set(issues["path"]) <= set(oof["path"])
    predictions = oof[task.predictions_key]
    if task.name == "multilabel":
        assert len(issues) == ((predictions >= 0.5) != oof["label"]).sum()
        for name, auc in zip(names, roc_auc_score(oof["label"], predictions, average=None), strict=True):
            assert re.search(rf"{name}</th>(\s*<td[^>]*>[^<]*</td>){{2}}\s*<td[^>]*>{auc:.4f}</td>", page)
    elif task.single_label:
        assert len(issues) == (predictions.argmax(axis=1) != oof["label"]).sum()
    if task.name == "binary":
        assert f"{roc_auc_score(oof['label'], predictions[:, 1]):.4f}" in page
    summary = dict(score.summarise(read_command([*finished.words, "--name", "a"], "")))
    assert str(run.label_issues) in summary["suspected labels"]


# a decision for cv.json, and the answer that it leads to for any image
EXTREME = {
    "binary": ("binary_threshold", [0.0], 1),
    "ordinal": ("cut_points", [-3.0, -2.0, -1.0], 3),
    "multilabel": ("class_thresholds", [2.0, 0.0], [0, 1]),
}


def test_a_look_answers_as_the_submission_does(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    task, test = load_task(finished.run), load_npz(finished.run.test)
    run = RunPaths(shutil.copytree(finished.run.root, tmp_path / "a"))
    shutil.copytree(finished.run.root.parent / "cache", tmp_path / "cache")
    cv, names = json.loads(run.cv.read_text()), list(load_classes(run.classes)["class_name"])
    image, predictions = str(finished.folder / test["path"][0]), test[task.predictions_key][0]

    def looked(decision: dict | None) -> str:
        run.cv.write_text(json.dumps({**cv, "decision": decision}))
        trained = digests_of_trained(run, trained_folds(run))
        write_stamp(run.stamp("validate"), {}, [run.oof, run.cv], trained=trained)
        assert look.main([str(run.root), image, "--device", "cpu", "--precision", "fp32"]) == 0
        return capsys.readouterr().out

    def in_words(decided: np.ndarray) -> str:
        own = np.flatnonzero(decided) if np.ndim(decided) else [decided]
        return ", ".join(names[label] for label in own) or "no label"

    text = looked(None)
    if task.name == "regression":
        for name, value in zip(names, predictions, strict=True):
            shown = re.search(rf"^ +{name} +(\S+)$", text, re.MULTILINE)
            assert float(shown.group(1)) == pytest.approx(value, rel=1e-4)
        return
    assert f"answer: {in_words(task.decide(predictions[None])[0])}\n" in text
    shown = [float(share) / 100 for share in re.findall(r"([\d.]+)%", text)]
    in_order = {"binary": predictions[1:], "ordinal": predictions}
    expected = in_order.get(task.name, np.sort(predictions)[::-1])
    assert shown == pytest.approx(expected.tolist(), abs=1e-4)
    if task.name in EXTREME:
        kind, values, answer = EXTREME[task.name]
        decision = Decision(kind, values, 0.1, 0.01, 0.9, 0.8, kept=True)
        assert f"answer: {in_words(np.array(answer))}\n" in looked(asdict(decision))


def task_for_recipes(name: str) -> tuple[Task, np.ndarray]:
    """Return a task with three outputs, two where it is binary, and targets of 12 images."""
    draws = np.random.default_rng(0)
    if name == "regression":
        targets = draws.normal(5, 2, (12, 3))
        return build_task(name, 3, "ce", tuple(zip(targets.mean(0), targets.std(0), strict=True))), targets
    if name == "multilabel":
        return build_task(name, 3), draws.integers(0, 2, (12, 3)).astype(np.uint8)
    num_classes = 2 if name == "binary" else 3
    return build_task(name, num_classes), np.arange(12) % num_classes


@pytest.mark.parametrize("name", TASKS)
def test_every_recipe_has_a_loss_on_every_task_or_is_refused_in_one_sentence(name: str) -> None:
    task, targets = task_for_recipes(name)
    labels = torch.from_numpy(targets)
    for recipe in RECIPES.values():
        task = replace(task, loss=recipe.loss)
        try:
            check_for_task(recipe, task)
        except InputError as error:
            assert name == "regression" and recipe.name in str(error) and "--set" in str(error)
            continue
        notes_for_task(recipe, task)
        loss = task.build_loss(targets, recipe.class_weights, recipe.label_smoothing, recipe.logit_adjustment)
        logits = torch.zeros(12, task.num_outputs, requires_grad=True)
        for form in (labels, task.soft_targets(labels)):
            loss(logits, form).backward()
            assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("task", "setting"),
    [
        ("regression", {"rounds": 2}),
        ("regression", {"class_weights": "auto"}),
        ("regression", {"sampling": "balanced"}),
        ("regression", {"loss": "bce"}),
        ("multilabel", {"loss": "mse"}),
        ("multiclass", {"loss": "asymmetric"}),
    ],
)
def test_a_field_without_a_meaning_is_refused_before_training(task: str, setting: dict) -> None:
    (field, value), *_ = setting.items()
    with pytest.raises(InputError, match=f"{field}={value}.*{task}.*--set {field}="):
        check_for_task(replace(RECIPES["quick"], **setting), build_task(task, 3))


@pytest.mark.parametrize(
    "settings",
    [
        ["--set", "mixup=0.4", "--set", "cutmix=1", "--set", "label_smoothing=0.1"],
        ["--set", "class_weights=auto"],
        ["--set", "logit_adjustment=1", "--rounds", "2", "--set", "seeds=2", "--set", "micro_batch=3"],
        ["--set", "sampling=balanced", "--set", "sam=0.05", "--set", "recalibrate=2"],
        [
            *("--set", "model=autoencoder-lenet-upsampled", "--set", "reconstruction_weight=1"),
            *("--image-size", "52"),
        ],
    ],
)
def test_the_features_of_recipes_train_on_every_task_or_are_refused(
    finished: Finished, settings: list[str]
) -> None:
    words = [*finished.words, "--name", "b", "--epochs", "1", "--fold", "0", "--again", *settings]
    task = load_task(finished.run)
    try:
        for stage in (prepare, split, train):
            stage.main(words)
    except InputError as error:
        assert task.name == "regression" and any(field in str(error) for field in task.refusals)
        return
    held_out = load_npz(RunPaths(finished.run.root.parent / "b").heldout(0))
    assert np.isfinite(held_out[task.predictions_key]).all()


def test_new_images_are_answered_as_the_submission(finished: Finished, tmp_path: Path) -> None:
    run, task = finished.run, load_task(finished.run)
    words = [str(finished.folder / "test"), "--output", str(tmp_path / "new.csv"), "--device", "cpu"]
    assert predict.main([str(run.root), *words, "--precision", "fp32"]) == 0
    table, test = pd.read_csv(tmp_path / "new.csv", keep_default_na=False), load_npz(run.test)
    names = [Path(path).name for path in table["path"]]
    stored = dict(
        zip([Path(path).name for path in test["path"].tolist()], test[task.predictions_key], strict=True)
    )
    predictions = np.stack([stored[name] for name in names])
    kind = "value" if task.name == "regression" else "probability"
    columns = [f"{kind}_{name}" for name in load_classes(run.classes)["class_name"].astype(str)]
    finished_predictions, decided = decide_as_submitted(run, task, predictions)
    np.testing.assert_allclose(table[columns].to_numpy(), finished_predictions, atol=1e-5, rtol=1e-5)
    assert ("confidence" in table) == (task.name != "regression")
    answers = [str(answer) for answer in table["answer"]]
    if task.single_label:
        categories = load_classes(run.classes)["class_name"].astype(str)
        assert answers == [categories[label] for label in decided]
    elif task.name == "multilabel":
        assert answers == [" ".join(np.array(["a", "b"])[row.astype(bool)]) for row in decided]
    else:
        np.testing.assert_allclose(
            [list(map(float, answer.split())) for answer in answers], decided, rtol=1e-5
        )


def decide_as_submitted(run: RunPaths, task: Task, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    saved = json.loads(run.cv.read_text()).get("decision")
    if saved and saved["kept"]:
        return Decision(**saved).apply(task, predictions)
    return predictions, task.decide(predictions)
