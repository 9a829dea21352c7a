"""Exported runs: the graph's predictions, weights that timm loads, a script without torch, and refusals."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import MakeCompetition, naming
from PIL import Image
from torch import nn

import export
import infer
import prepare
import split
import train
import validate
from foldsmith.deployment import export_folder, parity
from foldsmith.deployment.answers import AnswerForm
from foldsmith.deployment.exported_script import DECIDING, script_of
from foldsmith.deployment.model_card import markdown_table, score_by_class
from foldsmith.deployment.onnx_graph import PredictingNetworks, finish, save_graph
from foldsmith.deployment.weights_folder import save_network
from foldsmith.errors import InputError
from foldsmith.evaluation.decisions import Decision
from foldsmith.inference.compute import build_compute
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predictor import ImageForm, Network, RunPredictor
from foldsmith.inference.weights import load_weights
from foldsmith.models import build_model, build_probed
from foldsmith.models.probe import HeadForm, JoinedExtractor, ProbeHead
from foldsmith.process.files import atomic_folder, load_json, load_npz, save_json
from foldsmith.recipes import RECIPES
from foldsmith.run.paths import RunPaths
from foldsmith.tasks import Task, build_task

K = 3
PROBE = replace(RECIPES["probe"], image_size=32, pretrained=False, model="timm:test_resnet")


def named(name: str, channels: int = 3, size: int = 32) -> Callable[[], nn.Module]:
    return lambda: build_model(name, K, size, channels)


def probe(kind: str = "linear", epochs: int = 0, joined: bool = False) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = build_probed(replace(PROBE, epochs=epochs), K)
        if joined:
            other = build_probed(replace(PROBE, model="timm:test_efficientnet"), K).extractor
            halves = ((0.5,) * 3, (0.5,) * 3), ((0.4,) * 3, (0.2,) * 3)
            model.extractor = JoinedExtractor([model.extractor, other], list(halves))
        inputs = sum(model.extractor.widths)
        model.head = ProbeHead(HeadForm(kind, inputs, 8 if kind == "mlp" else 0), K)
        return model

    return build


# title -> builder, channels of the images, channels of the network, task
NETWORKS = {
    "quick-cnn": (named("quick-cnn"), 3, 3, "multiclass"),
    "brightness": (named("quick-cnn", 1), 3, 1, "multiclass"),
    "crnn": (named("crnn", 1), 3, 1, "multiclass"),
    "whitened-cnn": (named("whitened-cnn"), 3, 3, "binary"),
    "four channels": (named("quick-cnn", 4), 4, 4, "multiclass"),
    "multilabel": (named("quick-cnn"), 3, 3, "multilabel"),
    "regression": (named("quick-cnn"), 3, 3, "regression"),
    "timm": (named("timm:test_vit"), 3, 3, "ordinal"),
    "frozen probe": (probe("cosine"), 3, 3, "multiclass"),
    "joined probe": (probe("mlp", joined=True), 3, 3, "multiclass"),
    "finetuned probe": (probe(epochs=5), 3, 3, "multiclass"),
}


def task_of(name: str) -> Task:
    outputs = 2 if name == "binary" else K
    return build_task(name, outputs, "ce", ((1.0, 2.0),) * K if name == "regression" else ())


def predictor_of(title: str) -> RunPredictor:
    """Return a predictor of two random networks in three views."""
    build, image_channels, channels, name = NETWORKS[title]
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        compute = build_compute("cpu", "fp32", (0.4,) * channels, (0.2,) * channels)
        networks.append(Network(build().eval(), compute))
    if title == "frozen probe":  # two heads on one extractor
        networks[1].model.extractor = networks[0].model.extractor
    form, task = ImageForm(32, channels=image_channels), task_of(name if name != "binary" else "multiclass")
    return RunPredictor(task, networks, ("identity", "rot90", "hflip-down-right"), form, BatchLimit(64))


def pictures(channels: int = 3, count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, channels), dtype=np.uint8)


# --- the graph


# without training an LSTM hardly tells images apart, which would hide a fault
@pytest.mark.parametrize("title", [title for title in NETWORKS if title != "crnn"])
def test_the_graph_predicts_from_uint8_images_what_the_run_predicts(title: str) -> None:
    predictor = predictor_of(title)
    images = pictures(predictor.form.channels)
    graph = PredictingNetworks(predictor.networks, predictor.views, predictor.task).eval()
    graph.requires_grad_(False)
    expected = predictor.mean(images)
    assert np.ptp(expected, axis=0).max() > 1e-4, "the images are told apart"
    np.testing.assert_allclose(graph(torch.from_numpy(images)).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["multiclass", "multilabel", "regression"])
def test_predictions_are_finished_as_the_task_finishes_them(name: str) -> None:
    task = task_of(name)
    rows = np.array([[1, 0, 0], [0.2, 0.3, 0.5], [1 - 1e-9, 1e-9, 0]], np.float32)
    np.testing.assert_allclose(finish(torch.from_numpy(rows), task).numpy(), task.finish(rows), rtol=1e-6)


def test_heads_on_one_extractor_pass_a_view_through_it_once() -> None:
    predictor, passes = predictor_of("frozen probe"), []
    predictor.networks[0].model.extractor.register_forward_hook(lambda *_: passes.append(1))
    PredictingNetworks(predictor.networks, predictor.views, predictor.task).eval()(
        torch.from_numpy(pictures())
    )
    assert len(passes) == len(predictor.views)


@pytest.mark.parametrize("title", ["crnn", "regression", "joined probe"])
def test_the_onnx_file_predicts_the_same_for_batches_of_any_length(title: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="requirements-export.txt is not installed")
    predictor = predictor_of(title)
    path, images = tmp_path / "model.onnx", pictures(predictor.form.channels, 40)
    save_graph(path, predictor.networks, predictor.views, predictor.task, predictor.form)
    tolerance = parity.tolerance_of(predictor.networks)
    assert tolerance == (1e-3 if title == "joined probe" else 1e-4)
    found = parity.require_parity([path], images, predictor.mean(images), predictor.task, tolerance)
    assert found.images == 40 and set(found.differences) == {"1", "7", "32"}
    assert max(found.differences.values()) < 1e-4


# --- weights


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("test_resnet", 32, 3), ("test_vit", 64, 3), ("test_resnet", 32, 1), ("test_resnet", 32, 4)],
)
def test_the_weights_of_a_network_of_timm_load_by_local_dir(
    tmp_path: Path, name: str, size: int, channels: int
) -> None:
    torch.manual_seed(0)
    model = build_model(f"timm:{name}", K, size, channels).eval()
    recipe = {"model": f"timm:{name}", "image_size": size, "channels": channels}
    normalisation = {"mean": [0.4] * channels, "std": [0.2] * channels}
    provenance = {"recipe": recipe, "num_classes": K, "normalisation": normalisation}
    save_network(tmp_path, model, provenance, ["a", "b", "c"])
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, channels, size, size)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    assert list(loaded.pretrained_cfg["label_names"]) == ["a", "b", "c"]
    assert loaded.pretrained_cfg["mean"] == [0.4] * channels


@pytest.mark.parametrize("kind", ["quick-cnn", "probe"])
def test_other_weights_load_by_the_fields_of_foldsmith(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    recipe = replace(PROBE if kind == "probe" else RECIPES["quick"], image_size=32)
    provenance = {"recipe": json.loads(json.dumps(vars(recipe))), "num_classes": K,
                  "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}}  # fmt: skip
    model = probe()() if kind == "probe" else named("quick-cnn")()
    if kind == "probe":
        provenance["probe"] = {"form": vars(model.head.form), "joined": []}
    save_network(tmp_path, model.eval(), provenance, ["a", "b", "c"])
    described = load_json(tmp_path / "config.json")
    loaded = load_weights(tmp_path / "model.safetensors", described["foldsmith"])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    assert "pretrained_cfg" not in described, "timm would take it for one of its own networks"


# --- the script


def script_in(
    folder: Path, task: Task, form: ImageForm, decision: Decision | None = None, several: bool = False
) -> dict[str, Callable]:
    """Return the functions of predict.py, written into a folder with its settings."""
    save_json(folder / "preprocess.json", {"image_size": form.size, "reduced_jpeg": form.streamed})
    save_json(folder / "decision.json", {"values": decision.values if decision else []})
    answers = AnswerForm(task, ["a", "b", "c"], lambda predictions: (predictions, predictions))
    (folder / "predict.py").write_text(script_of(answers, form, decision, several), encoding="utf-8")
    return runpy.run_path(str(folder / "predict.py"))


RULES = {
    "threshold": ("multilabel", [0.3]),
    "class_thresholds": ("multilabel", [0.2, 0.5, 0.7]),
    "set_temperature": ("multilabel", [1.7]),
    "binary_threshold": ("binary", [0.31]),
    "hard_threshold": ("binary", [0.4]),
    "cut_points": ("ordinal", [0.4, 1.2]),
    "most_probable": ("ordinal", []),
    "unknown_class": ("multiclass", [0.45, 1]),
    "temperature": ("multiclass", [2.5]),
}


def random_predictions(task: Task) -> np.ndarray:
    draws = np.random.default_rng(0)
    if task.name == "multilabel":
        return task.finish(draws.random((50, K)))
    return task.finish(draws.dirichlet(np.full(task.num_outputs, 0.4), 50))


@pytest.mark.parametrize("kind", RULES)
def test_the_script_decides_as_the_kept_decision(tmp_path: Path, kind: str) -> None:
    name, values = RULES[kind]
    task, decision = task_of(name), Decision(kind, values, 0.1, 0.01, 0.9, 0.8, True)
    predictions = random_predictions(task)
    submitted, answers = script_in(tmp_path, task, ImageForm(8), decision)["decide"](predictions)
    expected, decided = decision.apply(task, predictions)
    np.testing.assert_allclose(submitted, expected, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(answers).astype(int), decided)


def test_every_rule_and_task_has_its_lines() -> None:
    from foldsmith.evaluation.rules import RULES as KNOWN
    from foldsmith.tasks import TASKS

    assert set(DECIDING) == set(KNOWN) | set(TASKS) and set(RULES) == set(KNOWN)


@pytest.mark.parametrize("name", ["multiclass", "binary", "multilabel", "ordinal"])
def test_without_a_kept_decision_the_script_decides_as_the_task(tmp_path: Path, name: str) -> None:
    task = task_of(name)
    predictions = random_predictions(task)
    _, answers = script_in(tmp_path, task, ImageForm(8))["decide"](predictions)
    np.testing.assert_array_equal(np.asarray(answers).astype(int), task.decide(predictions))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "kind", ["large.jpg", "small.png", "grey.png", "palette.gif", "turned.jpg", "alpha.png"]
)
def test_the_script_reads_the_pixels_that_the_run_reads(tmp_path: Path, kind: str, streamed: bool) -> None:
    draws, path = np.random.default_rng(0), tmp_path / kind
    image = Image.fromarray(draws.integers(0, 256, (300, 210, 3), dtype=np.uint8))
    if kind == "small.png":
        image = image.resize((9, 14))
    elif kind == "grey.png":
        image = image.convert("L")
    elif kind == "palette.gif":
        image = image.convert("P")
    elif kind == "alpha.png":
        image = Image.merge("RGBA", [*Image.new("RGB", image.size).split(), image.convert("L")])
    turned = Image.Exif()
    turned[0x0112] = 6 if kind == "turned.jpg" else 1
    image.save(path, exif=turned) if kind.endswith("jpg") else image.save(path)
    form = ImageForm(32, streamed=streamed)
    script = script_in(tmp_path, task_of("multiclass"), form)
    np.testing.assert_array_equal(script["read"](str(path)), form.read(path))


def test_the_script_reads_16_bits_and_images_of_several_files(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for word in ("red", "green", "blue", "yellow"):
        pixels = draws.integers(0, 4096, (40, 40), dtype=np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"x_{word}.png")
    path = tmp_path / "x_{red,green,blue,yellow}.png"
    for channels in (3, 4):
        form = ImageForm(16, depth=12, channels=channels)
        script = script_in(tmp_path, task_of("multiclass"), form, several=True)
        np.testing.assert_array_equal(script["read"](str(path)), form.read(path))


def test_the_script_stops_at_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    script = script_in(tmp_path, task_of("multiclass"), ImageForm(8))
    with pytest.raises(SystemExit, match=naming("text.png")):
        script["read"](str(tmp_path / "text.png"))


# --- the card


def test_the_table_of_classes_counts_right_and_wrong_images() -> None:
    targets, decided = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    table = score_by_class(task_of("multiclass"), targets, np.empty((5, K)), decided, ["a", "b", "c"])
    assert table["images"].tolist() == [2, 3, 0]
    np.testing.assert_allclose(table["precision"], [1 / 2, 2 / 3, np.nan])
    np.testing.assert_allclose(table["recall"], [1 / 2, 2 / 3, np.nan])
    assert markdown_table(table).splitlines()[-1].startswith("| c | –")
    numbers = score_by_class(task_of("regression"), np.ones((2, K)), np.array([[2.0, 1, 0], [0, 1, 0]]),
                             np.empty(0), ["a", "b", "c"])  # fmt: skip
    assert numbers["mean absolute error"].tolist() == [1, 0, 1]


# --- the whole folder


@pytest.fixture(scope="module")
def run(make_competition: MakeCompetition, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Return a validated run of two folds with two networks each, which was trained in bf16."""
    folder, output = make_competition(num_classes=K, per_class=8, size=20), tmp_path_factory.mktemp("output")
    words = [str(folder), "--recipe", "quick", "--epochs", "1", "--folds", "2", "--output", str(output)]
    words += ["--set", "seeds=2", "--precision", "bf16", "--workers", "0", "--device", "cpu"]
    for stage in (prepare, split, train, validate, infer):
        assert stage.main(words) == 0
    return RunPaths(output / folder.name / "quick")


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Let graphs stay in torch, and be run there; return the number that is added to their predictions."""
    graphs, added = {}, {"value": 0.0}

    def keep(path: Path, networks: list[Network], views: list[str], task: Task, form: ImageForm) -> None:
        path.write_bytes(b"graph")
        graphs[path.name] = PredictingNetworks(networks, views, task).eval()

    @torch.no_grad()
    def run_kept(paths: list[Path], images: np.ndarray, batch_size: int) -> np.ndarray:
        outputs = [graphs[path.name](torch.from_numpy(images)).numpy() for path in paths]
        return np.mean(outputs, axis=0) + added["value"]

    monkeypatch.setattr("foldsmith.deployment.onnx_graph.require_packages", lambda: None)
    monkeypatch.setattr(export_folder, "save_graph", keep)
    monkeypatch.setattr(parity, "run_graphs", run_kept)
    return added


@pytest.mark.parametrize("folds", ["one", "each"])
def test_an_export_holds_what_it_takes_to_predict_elsewhere(
    run: RunPaths, tmp_path: Path, by_torch: dict[str, float], folds: str
) -> None:
    folder = tmp_path / "model"
    assert export.main([str(run.root), "--folds", folds, "--output", str(folder)]) == 0
    graphs = ["model.onnx"] if folds == "one" else ["model-fold0.onnx", "model-fold1.onnx"]
    assert sorted(path.name for path in folder.glob("*.onnx")) == graphs
    assert load_json(folder / "preprocess.json")["models"] == graphs
    weights = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("model.safetensors"))
    assert weights == [".", "fold0-seed1", "fold1", "fold1-seed1"]
    figures = load_json(folder / "parity.json")
    assert max(figures["differences"].values()) <= figures["tolerance"]
    assert figures["run"]["precision"] == "bf16" and 0 < figures["run"]["held_out"] < 0.05
    assert 0 < figures["run"]["test"] < 0.05
    card, cv = (folder / "README.md").read_text(), load_json(run.cv)
    assert f"{cv['mean']:.4f}" in card and load_json(run.identity)["data"] in card
    assert all(f"| kind {label} |" in card for label in range(K))


def test_golden_images_are_files_of_the_run_with_its_predictions(
    run: RunPaths, tmp_path: Path, by_torch: dict[str, float]
) -> None:
    export.main([str(run.root), "--output", str(tmp_path / "model")])
    entries = load_json(tmp_path / "model" / "golden.json")
    script = runpy.run_path(str(tmp_path / "model" / "predict.py"))
    pixels = np.stack([script["read"](str(tmp_path / "model" / entry["image"])) for entry in entries])
    from foldsmith.run.stamps import require_trained

    expected = RunPredictor.of_run(run, require_trained(run, [0, 1]), "cpu", "fp32").mean(pixels)
    np.testing.assert_allclose([entry["predictions"] for entry in entries], expected, atol=1e-6)
    assert len(entries) == 8 and {entry["of"] for entry in entries} <= set(load_npz(run.oof)["path"].tolist())


@pytest.mark.parametrize("added", [2e-4, np.nan])
def test_an_export_that_predicts_otherwise_is_refused_and_leaves_nothing(
    run: RunPaths, tmp_path: Path, by_torch: dict[str, float], added: float
) -> None:
    by_torch["value"] = added
    with pytest.raises(InputError, match=naming("1e-04")):
        export.main([str(run.root), "--output", str(tmp_path / "model")])
    assert not any(tmp_path.iterdir())


def test_without_the_packages_the_line_that_installs_them_is_told(
    run: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # importing it raises ImportError
    with pytest.raises(InputError, match=naming("onnx", "requirements-export.txt")):
        export.main([str(run.root), "--output", str(tmp_path / "model")])
    assert not any(tmp_path.iterdir())


def test_a_blend_is_refused_with_its_members(run: RunPaths, tmp_path: Path) -> None:
    save_json(tmp_path / "identity.json", {})
    runs = [{"run": "first", "weight": 0.5}, {"run": "none", "weight": 0}]
    save_json(tmp_path / "blend.json", {"runs": runs})
    with pytest.raises(InputError, match=naming("first")):
        export.main([str(tmp_path)])
    with pytest.raises(InputError, match=naming(tmp_path / "absent")):
        export.main([str(tmp_path / "absent")])


def test_a_folder_is_written_whole_and_replaces_only_its_like(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(ValueError, match="fault"), atomic_folder(target, "mark") as folder:
        (folder / "mark").write_text("half")
        raise ValueError("fault")
    assert not any(tmp_path.iterdir())
    for text in ("first", "second"):
        with atomic_folder(target, "mark") as folder:
            (folder / "mark").write_text(text)
            (folder / text).write_text(text)
    assert sorted(path.name for path in target.iterdir()) == ["mark", "second"]
    (target / "mark").unlink()
    with pytest.raises(InputError, match=naming(target)), atomic_folder(target, "mark"):
        pass
    assert [path.name for path in target.iterdir()] == ["second"]


def test_a_real_export_is_run_by_its_own_script(run: RunPaths, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="requirements-export.txt is not installed")
    folder = tmp_path / "model"
    assert export.main([str(run.root), "--output", str(folder)]) == 0
    entries = load_json(folder / "golden.json")
    script = runpy.run_path(str(folder / "predict.py"))
    predicted = script["predict"]([folder / entry["image"] for entry in entries])
    np.testing.assert_allclose(predicted, [entry["predictions"] for entry in entries], atol=1e-5)
    classes = pd.read_csv(folder / "classes.csv")["class_name"].tolist()
    assert load_json(folder / "preprocess.json")["names"] == classes
