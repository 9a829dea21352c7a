"""Probes: features that are computed once, heads that are fitted to them, and fine-tuning from there."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import MakeCompetition, naming
from sklearn.linear_model import LogisticRegression, Ridge

import infer
import run as run_stage
import train
from foldsmith.data.cache import open_run_cache
from foldsmith.data.feature_store import FeatureStore
from foldsmith.errors import InputError
from foldsmith.inference import frozen
from foldsmith.inference.compute import build_compute
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.inference.weights import load_trained
from foldsmith.models import build_probed, last_layer
from foldsmith.models.probe import (
    ALL,
    LAST,
    STAGES,
    FeatureExtractor,
    HeadForm,
    build_extractor,
    recompute_activations,
)
from foldsmith.process.files import load_json, load_npz
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.recipes.for_task import notes_for_task
from foldsmith.run.paths import RunPaths
from foldsmith.tasks import build_task
from foldsmith.training import head_fitting
from foldsmith.training.head_fitting import Choice, ProbeData, fit_head, one_thread, predict_head
from foldsmith.training.optimizer import parameter_groups, scales_of_layers
from foldsmith.training.probe import of_known_classes
from foldsmith.training.state import build_state

NETWORK = "test_efficientnet"  # timm's smallest kinds of network have names with test_
SIDE = 32
PROBE = replace(RECIPES["probe"], model=f"timm:{NETWORK}", pretrained=False, image_size=SIDE)
COMPUTE = build_compute("cpu", "fp32", (0.5,) * 3, (0.5,) * 3)
RNG = np.random.default_rng(0)


def extractor_of(name: str = NETWORK, side: int = SIDE) -> FeatureExtractor:
    torch.manual_seed(0)
    return build_extractor(name, side, 3).eval()


def pictures(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(1).integers(256, size=(count, side, side, 3), dtype=np.uint8)


# --- the network


@pytest.mark.parametrize(
    ("name", "side"),
    [("test_efficientnet", 32), ("test_resnet", 32), ("test_vit", 160), ("test_convnext", 32)],
)  # fmt: skip
def test_features_are_the_pooled_stages_and_the_input_of_the_classifier(name: str, side: int) -> None:
    extractor = extractor_of(name, side)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        features = extractor(images)
        last = extractor.backbone.forward_head(extractor.backbone.forward_features(images), pre_logits=True)
    assert features.shape == (2, sum(extractor.widths)) and len(extractor.widths) == 4
    torch.testing.assert_close(features[:, extractor.columns_of(LAST)], last.flatten(1))
    columns = extractor.columns_of(STAGES) + extractor.columns_of(LAST)
    assert columns == extractor.columns_of(ALL) == list(range(features.shape[1]))


def test_the_stages_of_a_vision_transformer_leave_out_the_class_token() -> None:
    extractor = extractor_of("test_vit", 160)
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        maps = extractor.backbone.forward_intermediates(images, indices=3, intermediates_only=True)
        stages = extractor(images)[:, extractor.columns_of(STAGES)]
    torch.testing.assert_close(stages, torch.cat([map_.mean(dim=(2, 3)) for map_ in maps], dim=1))


def test_a_copy_of_a_network_has_features_of_its_own_weights() -> None:
    import copy

    network = build_probed(PROBE, 3).eval()
    images, twin = torch.randn(2, 3, SIDE, SIDE), copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.extractor.parameters():
            parameter.zero_()
        assert not torch.equal(network.extractor(images), twin.extractor(images))
        assert twin.extractor(images).abs().sum() == 0


def test_a_probe_needs_a_network_of_timm() -> None:
    with pytest.raises(InputError, match=naming("head", "timm:")):
        replace(RECIPES["quick"], head="probe")
    with pytest.raises(InputError, match="epochs"):
        replace(RECIPES["quick"], epochs=0)


# --- stored features


@pytest.fixture
def images(tmp_path: Path) -> CachedImages:
    return CachedImages(pictures(70), np.arange(70), tmp_path / "32px-pixels")


def test_features_of_an_image_do_not_depend_on_the_others(images: CachedImages, tmp_path: Path) -> None:
    extractor, rows = extractor_of(), np.array([69, 3, 3, 40])
    every = frozen.frozen_features(extractor, images, ("identity", "hflip"), COMPUTE)
    few = CachedImages(images.pixels, rows, tmp_path / "other" / images.cache.name)
    some = frozen.frozen_features(extractor, few, ("hflip", "identity"), COMPUTE)
    for view in every:
        np.testing.assert_array_equal(some[view], every[view][rows])
    flipped = CachedImages(images.pixels[:, :, ::-1], images.rows, tmp_path / "flipped")
    mirrored = frozen.frozen_features(extractor, flipped, ("identity",), COMPUTE)["identity"]
    np.testing.assert_array_equal(mirrored, every["hflip"])


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the length of every batch that passes through an extractor."""
    passes: list[int] = []
    forward = FeatureExtractor.forward
    monkeypatch.setattr(
        FeatureExtractor, "forward", lambda self, batch: passes.append(len(batch)) or forward(self, batch)
    )
    return passes


@pytest.mark.parametrize("kind", ["killed", "damaged", "cut off"])
def test_only_what_is_missing_is_computed(
    kind: str, images: CachedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, passes = extractor_of(), count_passes(monkeypatch)
    monkeypatch.setattr(frozen, "FLUSHED", 1)
    monkeypatch.setitem(frozen.BATCH, "cpu", 16)
    whole = frozen.frozen_features(extractor, images, ("identity",), COMPUTE)["identity"]
    assert passes == [16] * 5  # the last one is filled up
    (folder,) = images.cache.parent.glob("features-*")
    values = folder / "values.f16"
    content = values.read_bytes()
    if kind == "killed":  # before the third batch
        checksums = np.load(folder / "checksums.npy")
        checksums[32:] = 0
        np.save(folder / "checksums.npy", checksums)
    elif kind == "damaged":
        values.write_bytes(content[:100] + bytes(300) + content[400:])
    else:
        values.write_bytes(content[: len(content) // 2])
    passes.clear()
    again = frozen.frozen_features(extractor, images, ("identity",), COMPUTE)["identity"]
    assert 0 < len(passes) < 5
    np.testing.assert_array_equal(again, whole)
    passes.clear()
    frozen.frozen_features(extractor, images, ("identity",), COMPUTE)
    assert passes == []


def test_other_weights_views_and_normalisations_have_features_of_their_own(images: CachedImages) -> None:
    extractor = extractor_of()
    stores = []
    for weights, view, compute in (
        (extractor, "identity", COMPUTE),
        (extractor, "vflip", COMPUTE),
        (extractor, "identity", build_compute("cpu", "fp32", (0.4,) * 3, (0.5,) * 3)),
        (build_extractor(NETWORK, SIDE, 3).eval(), "identity", COMPUTE),
    ):
        few = replace(images, rows=np.arange(2))
        stores.append(frozen.frozen_features(weights, few, (view,), compute)[view].tobytes())
    assert len(set(stores)) == len(list(images.cache.parent.glob("features-*"))) == 4


def test_a_store_of_other_facts_is_begun_anew(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "s", 5, 3, {"view": "identity"})
    store.fill(np.array([1, 4]), np.ones((2, 3)))
    store.flush()
    opened = FeatureStore(tmp_path / "s", 5, 3, {"view": "identity"})
    assert opened.missing(np.arange(5)).tolist() == [0, 2, 3]
    np.testing.assert_array_equal(opened[np.array([4])], np.ones((1, 3), np.float16))
    assert FeatureStore(tmp_path / "s", 5, 3, {"view": "hflip"}).missing(np.arange(5)).tolist() == [*range(5)]


@pytest.mark.parametrize("epochs", [0, 1])
def test_predictions_of_no_image_are_none(epochs: int, images: CachedImages) -> None:
    # of several processes one may have no share of few held-out images
    network = build_probed(replace(PROBE, epochs=epochs), 3)
    none = CachedImages(images.pixels, images.rows[:0], images.cache)
    average = ViewAverage(build_task("multiclass", 3), ("identity", "hflip"))
    predicted = predict(network, none, average, COMPUTE, BatchLimit(8))
    assert predicted.shape == (0, 3) and predicted.dtype == np.float32


def test_stored_features_and_the_whole_network_predict_the_same(images: CachedImages) -> None:
    torch.manual_seed(0)
    network = build_probed(PROBE, 3)
    average = ViewAverage(build_task("multiclass", 3), ("identity", "hflip"))
    stored = predict(network, images, average, COMPUTE, BatchLimit(8))
    whole = predict(network, replace(images, cache=None), average, COMPUTE, BatchLimit(8))
    np.testing.assert_allclose(stored, whole, atol=1e-5)


# --- heads


def data_of(task: str, count: int = 120, loss: str = "ce", views: int = 1) -> ProbeData:
    """Return random features, of which a few decide the labels, for a task."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(views, count, 13)).astype(np.float16)
    score = features[0, :, :3].astype(np.float64) + rng.normal(size=(count, 3)) * 0.5
    if task == "multilabel":
        labels = (score > 0).astype(np.uint8)
    elif task == "regression":
        labels = score[:, 0] * 10 + 50
    else:
        labels = score[:, : 2 if task == "binary" else 3].argmax(axis=1)
    scaling = ((50.0, 11.0),) if task == "regression" else ()
    outputs = {"regression": 1, "binary": 2}.get(task, 3)
    return ProbeData(features, labels, build_task(task, outputs, loss, scaling), replace(PROBE, loss=loss))


class Columns:
    """An extractor that all columns are of."""

    def columns_of(self, chosen: str) -> list[int]:
        return list(range(13))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("penalty", [0.3, 10.0])
def test_a_linear_head_is_scikit_learns_logistic_regression(penalty: float, views: int) -> None:
    data = data_of("multiclass", views=views)
    head = fit_head(Columns(), data, Choice(ALL, "linear", penalty))
    stacked = data.features.reshape(-1, 13).astype(np.float64)
    standard = (stacked - stacked.mean(axis=0)) / stacked.std(axis=0)
    oracle = LogisticRegression(C=1 / (penalty * views), tol=1e-8, max_iter=5_000)
    oracle.fit(standard, np.concatenate([data.labels] * views))
    expected = oracle.predict_proba(standard).reshape(views, len(data), 3).mean(axis=0)
    np.testing.assert_allclose(predict_head(head, data), expected, atol=2e-3)


def test_classes_without_an_image_are_fitted_as_one_and_to_the_same_minimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = data_of("multiclass")
    wide = replace(data, task=build_task("multiclass", 40, "ce", ()), labels=data.labels * 7)
    choice = Choice(ALL, "linear", 1.0)
    merged = fit_head(Columns(), wide, choice)
    monkeypatch.setattr(head_fitting, "rows_of_classes", lambda data: torch.arange(40))
    whole = fit_head(Columns(), wide, choice)
    np.testing.assert_allclose(predict_head(merged, wide), predict_head(whole, wide), atol=2e-3)
    absent = [label for label in range(40) if label not in (0, 7, 14)]
    assert len(torch.unique(merged.classifier.weight[absent], dim=0)) == 1
    # and a warm start goes on from a head whose classes share a row
    again = fit_head(Columns(), wide, choice, start=merged)
    np.testing.assert_allclose(predict_head(again, wide), predict_head(merged, wide), atol=2e-3)


def test_a_head_for_numbers_is_ridge_regression() -> None:
    data = data_of("regression", loss="mse")
    head = fit_head(Columns(), data, Choice(ALL, "linear", 4.0))
    features = data.features[0].astype(np.float64)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    # mean squared error + 4 / n / 2 * |w|²: ridge has the sum of squares + alpha * |w|²
    oracle = Ridge(alpha=2.0).fit(standard, (data.labels - 50) / 11)
    expected = oracle.predict(standard) * 11 + 50
    np.testing.assert_allclose(predict_head(head, data)[:, 0], expected, atol=0.02)


@pytest.mark.parametrize("kind", ["linear", "cosine", "mlp"])
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "ordinal", "regression"])
def test_every_head_learns_every_task(task: str, kind: str) -> None:
    data = data_of(task, count=400)
    fitted, held_out = data[np.arange(300)], data[np.arange(300, 400)]
    head = fit_head(Columns(), fitted, Choice(ALL, kind, 1.0))
    prior = np.tile(data.task.prior(fitted.labels), (100, 1)).reshape(100, -1)
    losses = [data.task.losses_of(held_out.labels, p).mean() for p in (predict_head(head, held_out), prior)]
    assert losses[0] < 0.8 * losses[1]
    assert last_layer(head, data.task.num_outputs)[1] is head.classifier


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_has_the_same_bytes_for_any_number_of_threads(kind: str) -> None:
    data, weights = data_of("multiclass", count=600), set()
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with one_thread():
            head = fit_head(Columns(), data, Choice(ALL, kind, 1.0))
        weights.add(head.classifier.weight.detach().numpy().tobytes())
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert len(weights) == 1


def test_a_constant_feature_changes_nothing() -> None:
    data = data_of("multiclass")
    data.features[:, :, 5] = 7
    head = fit_head(Columns(), data, Choice(ALL, "cosine", 1.0))
    moved = data.features.copy()
    moved[:, :, 5] = 7.001
    other = ProbeData(moved, data.labels, data.task, data.recipe)
    assert np.isfinite(predict_head(head, other)).all()
    np.testing.assert_allclose(predict_head(head, other), predict_head(head, data), atol=1e-3)


# --- fine-tuning


@pytest.mark.parametrize(
    ("name", "side"), [("test_efficientnet", 32), ("test_vit", 160), ("test_convnext", 32)]
)
def test_learning_rates_fall_layer_by_layer_from_the_head(name: str, side: int) -> None:
    recipe = replace(
        PROBE, model=f"timm:{name}", image_size=side, epochs=1, layer_decay=0.5, optimizer="adamw"
    )
    network = build_probed(recipe, 3)
    groups = parameter_groups(network, recipe)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    names = dict(network.named_parameters())
    assert set(scales) == {id(parameter) for parameter in names.values()}
    ordered = [scales[id(parameter)] for parameter in names.values()]
    assert scales[id(network.head.classifier.weight)] == 1.0 == max(ordered)
    backbone = [scales[id(p)] for key, p in names.items() if key.startswith("extractor.")]
    assert max(backbone) == 0.5 and backbone[0] == min(backbone) < 0.1
    plain = timm.create_model(name, num_classes=3)
    lowest = min(scales_of_layers(plain, recipe).values())
    assert lowest in (min(backbone), 2 * min(backbone)), "timm may have the classifier in the last group"
    assert scales_of_layers(plain, replace(recipe, layer_decay=1.0)) == {}


def test_frozen_batch_statistics_stay_and_free_ones_move() -> None:
    for frozen_norm in (True, False):
        recipe = replace(PROBE, epochs=1, freeze_norm=frozen_norm)
        network = build_probed(recipe, 3)
        state = build_state(network, recipe, COMPUTE)
        before = {key: value.clone() for key, value in network.state_dict().items() if "running_mean" in key}
        state.start_training()
        state.model(torch.randn(4, 3, SIDE, SIDE))
        after = network.state_dict()
        assert all(torch.equal(after[key], value) for key, value in before.items()) == frozen_norm
        assert len(before) > 3


# --- whole runs


def words_of(folder: Path, *more: str, recipe: str = "probe") -> list[str]:
    return [str(folder), "--recipe", recipe, "--output", str(folder.parent / "output"), "--folds", "2",
            "--device", "cpu", "--precision", "fp32", "--set", f"model=timm:{NETWORK}", "--workers", "0",
            "--set", "pretrained=false", "--image-size", str(SIDE), *more]  # fmt: skip


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunPaths]:
    """Return a competition and its finished run of the recipe `probe`."""
    from conftest import write_competition

    folder = tmp_path_factory.mktemp("probe") / "tiny"
    write_competition(folder, num_classes=3, per_class=12, test_per_class=3)
    assert run_stage.main(words_of(folder)) == 0
    return folder, RunPaths(folder.parent / "output" / "tiny" / "probe")


def test_a_probe_is_a_run_as_any_other(probed: tuple[Path, RunPaths]) -> None:
    _, paths = probed
    assert paths.submission.is_file() and paths.report.is_file()
    facts = load_json(paths.fold_run(0))
    assert facts["probe"]["kind"] in ("linear", "cosine") and facts["training_seconds"] > 0
    assert HeadForm(**facts["probe"]["form"]).inputs > 0
    assert load_json(paths.cv)["oof"] > 0.5, "colours tell the classes apart, even for a random network"


def test_later_runs_and_other_heads_pass_no_image_through_the_network_again(
    probed: tuple[Path, RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, paths = probed
    passes = count_passes(monkeypatch)
    words = words_of(folder, "--name", "again", "--set", "class_weights=auto")
    assert run_stage.main(words) == 0
    assert set(passes) <= {1}, "but for the one image that tells how many features there are"
    assert infer.main([*words_of(folder), "--again"]) == 0 and set(passes) <= {1}
    first, second = (load_npz(RunPaths(paths.root.parent / name).test) for name in ("probe", "again"))
    assert first["probabilities"].shape == second["probabilities"].shape


def test_a_head_does_not_depend_on_the_held_out_labels(
    make_competition: MakeCompetition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fold 0 of a run whose held-out labels are shuffled has the same weights."""
    from foldsmith.training import network, samples

    folder = make_competition(num_classes=3, per_class=8)
    assert run_stage.main([*words_of(folder), "--until", "train", "--fold", "0"]) == 0
    weights = RunPaths(folder.parent / "output" / "tiny" / "probe").weights(0)
    first = weights.read_bytes()
    select = samples.select_fold

    def shuffled(*words: object) -> samples.Fold:
        fold = select(*words)
        held_out = replace(fold.held_out, labels=fold.held_out.labels[::-1].copy())
        return replace(fold, held_out=held_out)

    monkeypatch.setattr(samples, "select_fold", shuffled)
    assert train.main([*words_of(folder), "--fold", "0", "--again"]) == 0
    assert weights.read_bytes() == first and network is not None


def test_fine_tuning_starts_from_the_probe(probed: tuple[Path, RunPaths]) -> None:
    folder, paths = probed
    tiny_steps = ("--set", "lr=1e-9", "--set", "ema_decay=0", "--set", "weight_decay=0", "--epochs", "1",
                  "--set", "label_smoothing=0")  # fmt: skip
    words = words_of(folder, *tiny_steps, recipe="finetune")
    for store in paths.cache_root.glob("features-*"):  # computed again: training must not depend on it
        shutil.rmtree(store)
    assert run_stage.main([*words, "--until", "train", "--fold", "0"]) == 0
    tuned = load_npz(RunPaths(paths.root.parent / "finetune").heldout(0))
    before = load_npz(paths.heldout(0))
    np.testing.assert_array_equal(tuned["path"], before["path"])
    np.testing.assert_allclose(tuned["probabilities"], before["probabilities"], atol=2e-3)


REAL = Path(__file__).parents[2] / "shared" / "weights" / "tf_efficientnet_lite0.safetensors"


@pytest.mark.skipif(not REAL.is_file(), reason=f"the pretrained weights {REAL.name} are not here")
def test_real_weights_tell_colours_and_shapes_apart(make_competition: MakeCompetition) -> None:
    folder = make_competition(num_classes=4, per_class=10, size=48)
    words = [*words_of(folder), "--set", "model=timm:tf_efficientnet_lite0", "--set", f"weights={REAL}",
             "--image-size", "64", "--until", "validate"]  # fmt: skip
    assert run_stage.main(words) == 0
    cv = load_json(RunPaths(folder.parent / "output" / "tiny" / "probe").cv)
    assert cv["oof"] > 0.8
    facts = load_json(RunPaths(folder.parent / "output" / "tiny" / "probe").fold_run(0))
    assert facts["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3}


def test_recipe_rows_are_valid() -> None:
    assert isinstance(RECIPES["finetune"], Recipe) and RECIPES["finetune"].head == "probe"
    assert RECIPES["probe"].epochs == 0


def test_fields_of_training_are_said_to_have_no_effect_on_a_probe() -> None:
    task = build_task("multiclass", 3)
    assert notes_for_task(PROBE, task) == []
    (note,) = notes_for_task(replace(PROBE, mixup=0.2, drop_path=0.1), task)
    assert "mixup" in note and "drop_path" in note
    assert notes_for_task(replace(RECIPES["finetune"], mixup=0.2), task) == []


def test_joined_networks_have_the_features_of_both_and_compute_none(
    probed: tuple[Path, RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, paths = probed
    words = words_of(folder, "--name", "other", "--set", "model=timm:test_resnet", "--until", "train")
    assert run_stage.main(words) == 0
    assert infer.main([*words_of(folder), "--again"]) == 0  # another test may have removed its features
    passes = count_passes(monkeypatch)
    joined = words_of(folder, "--name", "both", "--set", "join=other")
    assert run_stage.main([*joined, "--until", "infer"]) == 0
    # test images were not predicted by the second run
    assert sum(count for count in passes if count > 1) == 2 * frozen.BATCH["cpu"]
    both = RunPaths(paths.root.parent / "both")
    facts = load_json(both.fold_run(0))
    parts = [load_json(RunPaths(paths.root.parent / name).fold_run(0)) for name in ("probe", "other")]
    assert facts["probe"]["extractors"] == [part["probe"]["extractors"][0] for part in parts]
    model, _, compute = load_trained(both.weights(0), facts, "cpu", "fp32")
    cached = open_run_cache(both, folder, SIDE)
    rows = np.arange(4)
    average = ViewAverage(build_task("multiclass", 3), ("identity", "hflip"))
    stored, whole = (
        predict(model, CachedImages(cached.pixels, rows, cache), average, compute, BatchLimit(4))
        for cache in (cached.path, None)
    )
    np.testing.assert_allclose(stored, whole, atol=1e-4)
    with pytest.raises(InputError, match=naming("join", "nowhere")):
        run_stage.main(words_of(folder, "--name", "third", "--set", "join=nowhere", "--until", "train"))
    small = words_of(folder, "--name", "fourth", "--set", "join=other", "--until", "train")
    with pytest.raises(InputError, match=naming("join=other", "image_size", "32", "48")):
        run_stage.main([*small, "--image-size", "48"])
    with pytest.raises(InputError, match=naming("join=both", "both,other")):
        run_stage.main(words_of(folder, "--name", "fifth", "--set", "join=both", "--until", "train"))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit"])
def test_recomputed_activations_give_the_same_gradients(name: str) -> None:
    side = 160 if name == "test_vit" else 32
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = build_probed(replace(PROBE, model=f"timm:{name}", image_size=side, epochs=1), 3)
        if recompute:
            recompute_activations(network, name)
        images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
        network.train()
        network(images).square().sum().backward()
        gradients.append({key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, atol=1e-4, rtol=1e-3)


def test_classes_that_are_not_fitted_do_not_judge_a_head() -> None:
    data = data_of("multiclass")
    fitted, judged = np.flatnonzero(data.labels != 2)[:30], np.arange(60, 120)
    kept = of_known_classes(data, fitted, judged)
    assert kept.tolist() == [row for row in judged if data.labels[row] in data.labels[fitted]]
    sets = data_of("multilabel")
    np.testing.assert_array_equal(of_known_classes(sets, fitted, judged), judged)
