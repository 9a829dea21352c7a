"""Initial weights: from files, folders, caches, mounts and a hub; what is loaded, and what is recorded."""

import argparse
import hashlib
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from conftest import MakeCompetition, naming
from safetensors.torch import load_file, save_file

import infer
import prepare
import report
import split
import train
import validate
from foldsmith.errors import InputError
from foldsmith.models import Start, build_model, normalisation, weight_sources
from foldsmith.models.backbone import fetch_weights
from foldsmith.models.weight_sources import describe_weights, find_weights
from foldsmith.process.files import load_json
from foldsmith.recipes import Recipe
from foldsmith.recipes.weight_names import network_of
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths

NAME = "test_efficientnet"
HUB_ID = timm.get_pretrained_cfg(NAME).hf_hub_id
SIZE = 32
HEAD = ("classifier.weight", "classifier.bias")


def tensors_of(name: str = NAME, num_classes: int = 1000, seed: int = 5) -> dict[str, torch.Tensor]:
    """Return the tensors of a trained network, none of which has the value of a new one."""
    torch.manual_seed(seed)
    state = timm.create_model(name, num_classes=num_classes).state_dict()
    return {
        key: tensor + torch.rand(tensor.shape) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }


@pytest.fixture(scope="session")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a seeded network's tensors, whose head has 1000 classes as timm's have."""
    path = tmp_path_factory.mktemp("donor") / "donor.safetensors"
    save_file(tensors_of(), path)
    return path


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a machine with empty caches, an empty mount, and no network."""
    root = tmp_path / "machine"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))
    monkeypatch.setattr(weight_sources, "KAGGLE_INPUT", root / "kaggle")
    monkeypatch.setattr(weight_sources, "HUB_SECONDS", 0.3)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as free:  # a port that nobody listens at
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    return root


def put(source: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, path))


def cache(machine: Path, file: Path, repository: str = HUB_ID, refs: bool = True) -> Path:
    """Put a file into the Hugging Face cache; without `refs` as a copied cache may be."""
    folder = machine / "hub" / f"models--{repository.replace('/', '--')}"
    if refs:
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("a1")
    return put(file, folder / "snapshots" / "a1" / "model.safetensors")


def describe(folder: Path, name: str = NAME, **entries: object) -> None:
    """Write a configuration as timm does."""
    configuration = {"architecture": name, "num_classes": 1000, **entries}
    (folder / "config.json").write_text(json.dumps(configuration))


def assert_loaded(model: torch.nn.Module, donor: Path) -> None:
    stored, loaded = load_file(donor), model.state_dict()
    assert [key for key in loaded if not torch.equal(loaded[key], stored[key])] == list(HEAD)


def build(weights: str = "", num_classes: int = 7) -> torch.nn.Module:
    return build_model(f"timm:{NAME}", num_classes, SIZE, start=Start(pretrained=not weights, file=weights))


@pytest.mark.parametrize("refs", [True, False])
def test_pretrained_weights_are_those_of_the_hugging_face_cache(
    refs: bool, donor: Path, machine: Path
) -> None:
    cached = cache(machine, donor, refs=refs)
    assert_loaded(build(), donor)
    facts = describe_weights(Recipe(name="x", model=f"timm:{NAME}", pretrained=True))
    assert (facts["file"], facts["name"], facts["licence"]) == (str(cached), NAME, "apache-2.0")
    assert facts["digest"] == hashlib.sha256(donor.read_bytes()).hexdigest()


def test_pretrained_weights_are_those_of_the_torch_cache(donor: Path, machine: Path) -> None:
    url = timm.get_pretrained_cfg("tf_efficientnet_lite0").url
    path = put(donor, machine / "torch" / "hub" / "checkpoints" / Path(url).name)
    found = find_weights("tf_efficientnet_lite0")
    assert found.file == path and "torch" in found.kind


@pytest.mark.parametrize(
    "name", [f"{NAME}.safetensors", f"{NAME}.r160_in1k.safetensors", f"{NAME}-0123abcd.safetensors"]
)
def test_pretrained_weights_are_those_of_a_mounted_file(name: str, donor: Path, machine: Path) -> None:
    put(donor, machine / "kaggle" / "some-model" / "pytorch" / "default" / "1" / name)
    put(donor, machine / "kaggle" / "some-model" / "test_vit.safetensors")
    assert_loaded(build(), donor)


def test_pretrained_weights_are_those_of_a_mounted_folder_with_a_configuration(
    donor: Path, machine: Path
) -> None:
    for name, file_name in (("test_vit", "pytorch_model.bin"), (NAME, "model.safetensors")):
        path = put(donor, machine / "kaggle" / name / "1" / file_name)
        describe(path.parent, name, pretrained_cfg={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]})
    other = machine / "kaggle" / "bert"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"architectures": ["Bert"]}))
    model = build()
    assert_loaded(model, donor)
    assert normalisation(model, True) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_mounted_files_that_differ_are_refused_and_copies_are_not(donor: Path, machine: Path) -> None:
    first = put(donor, machine / "kaggle" / "a" / f"{NAME}.safetensors")
    second = put(donor, machine / "kaggle" / "b" / f"{NAME}.safetensors")
    assert find_weights(NAME).file == first
    save_file(tensors_of(seed=6), second)
    with pytest.raises(InputError, match=naming(NAME, first, second, "weights=")):
        find_weights(NAME)


def test_a_cache_comes_before_a_mount(donor: Path, machine: Path) -> None:
    put(donor, machine / "kaggle" / f"{NAME}.safetensors")
    cached = cache(machine, donor)
    assert find_weights(NAME).file == cached


def test_without_a_network_all_ways_are_listed(machine: Path) -> None:
    with pytest.raises(InputError) as error:
        find_weights(NAME)
    for way in (NAME, "weights=FILE", "DIR", str(machine / "kaggle"), "pretrained=false"):
        assert way in str(error.value)
    assert NAME in fetch_weights(NAME)


def test_a_hub_that_is_turned_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weight_sources, "hub_answers", lambda: pytest.fail("it asked"))
    with pytest.raises(InputError, match=naming(NAME, "HF_HUB_OFFLINE")):
        find_weights(NAME)


class Hub(BaseHTTPRequestHandler):
    """A hub with the files of `folder`, at /ORG/NAME/resolve/main/FILE."""

    folder: Path

    def answer(self, with_body: bool) -> None:
        repository, _, file_name = self.path[1:].partition("/resolve/main/")
        path = self.folder / repository / file_name
        found = path.is_file()
        self.send_response(200 if found else 404)
        body = path.read_bytes() if found else b""
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", hashlib.sha256(body).hexdigest())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def log_message(self, *words: object) -> None:
        """Print nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the folder of a hub that answers."""
    handler = type("OneHub", (Hub,), {"folder": tmp_path / "served"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(weight_sources, "HUB_SECONDS", 30.0)
        yield tmp_path / "served"
        server.shutdown()


def test_weights_are_downloaded_once_into_the_cache(
    donor: Path, hub: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(donor, hub / HUB_ID / "model.safetensors")
    assert fetch_weights(NAME) == ""
    monkeypatch.setattr(weight_sources, "hub_answers", lambda: pytest.fail("it asked again"))
    assert_loaded(build(), donor)
    assert machine / "hub" in find_weights(NAME).file.parents


def test_a_hubs_model_is_described_by_its_configuration(donor: Path, hub: Path) -> None:
    path = hub / "someone" / NAME
    path.mkdir(parents=True)
    torch.save(load_file(donor), path / "pytorch_model.bin")  # it has no safetensors
    describe(path, pretrained_cfg={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "license": "mit"})
    weights = f"hf-hub:someone/{NAME}"
    model = build(weights)
    assert_loaded(model, donor)
    assert normalisation(model, True) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    facts = describe_weights(Recipe(name="x", model=f"timm:{NAME}", weights=weights))
    assert (
        facts["licence"] == "mit"
        and facts["mean"] == [0.1, 0.2, 0.3]
        and f"someone/{NAME}" in facts["source"]
    )
    with pytest.raises(InputError, match=naming("test_vit", f"model=timm:{NAME}")):
        find_weights("test_vit", weights)


def test_a_model_that_the_hub_lacks_is_refused(hub: Path) -> None:
    with pytest.raises(InputError, match=naming("nobody/nothing", NAME)):
        find_weights(NAME, "hf-hub:nobody/nothing")


def test_a_hub_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("it retried"))
        with pytest.raises(InputError, match=naming(NAME, "weights=FILE")):
            find_weights(NAME)


@pytest.mark.parametrize(
    "weights", ["hf-hub:resnet18", "hf-hub:", "hf-hub:a/b/c", "local-dir:nowhere", "nowhere"]
)
def test_words_that_name_no_weights_are_refused(weights: str) -> None:
    with pytest.raises(InputError, match=naming(weights)):
        find_weights(NAME, weights)


@pytest.mark.parametrize("word", ["{}", "local-dir:{}"])
def test_a_folder_with_a_configuration_decides_the_normalisation(
    word: str, donor: Path, tmp_path: Path
) -> None:
    put(donor, tmp_path / "model" / "model.safetensors")
    describe(tmp_path / "model", pretrained_cfg={"mean": [0.1, 0.2, 0.3], "crop_pct": 0.5})
    weights = word.format(tmp_path / "model")
    model = build(weights)
    assert_loaded(model, donor)
    assert normalisation(model, True) == ((0.1, 0.2, 0.3), timm.get_pretrained_cfg(NAME).std)
    facts = describe_weights(Recipe(name="x", model=f"timm:{NAME}", weights=weights))
    assert facts["crop_pct"] == 0.5 and facts["licence"] == ""
    with pytest.raises(InputError, match=naming("test_vit", NAME)):
        find_weights("test_vit", weights)


def test_a_folder_of_named_files_gives_the_file_of_the_network(donor: Path, tmp_path: Path) -> None:
    for name in (NAME, "test_vit", "test_convnext.r160_in1k"):
        put(donor, tmp_path / "models" / f"{name}.safetensors")
    folder = tmp_path / "models"
    assert find_weights(NAME, str(folder)).file.name == f"{NAME}.safetensors"
    assert find_weights("test_convnext", str(folder)).model == "test_convnext.r160_in1k"
    with pytest.raises(
        InputError, match=naming("test_resnet", f"{NAME}.safetensors", "test_vit.safetensors")
    ):
        find_weights("test_resnet", str(folder))
    put(donor, folder / f"{NAME}.pth")
    with pytest.raises(InputError, match=naming(f"{NAME}.safetensors", f"{NAME}.pth")):
        find_weights(NAME, str(folder))


def test_a_configuration_whose_network_cannot_be_repeated_is_refused(donor: Path, tmp_path: Path) -> None:
    put(donor, tmp_path / "model.safetensors")
    describe(tmp_path, model_args={"num_classes": 1000, "act_layer": "gelu"})
    with pytest.raises(InputError, match=naming(tmp_path / "config.json", "act_layer")):
        find_weights(NAME, str(tmp_path))


@pytest.mark.parametrize("file_name", [NAME, f"{NAME}.r160_in1k", "mine"])
def test_a_file_is_normalised_as_timm_says_and_has_a_licence_by_its_name_alone(
    file_name: str, donor: Path, tmp_path: Path
) -> None:
    path = put(donor, tmp_path / f"{file_name}.safetensors")
    facts = describe_weights(Recipe(name="x", model=f"timm:{NAME}", weights=str(path)))
    assert facts["mean"] == list(timm.get_pretrained_cfg(NAME).mean)
    assert facts["licence"] == ("" if file_name == "mine" else timm.get_pretrained_cfg(NAME).license)


def test_two_names_with_two_normalisations_are_refused(donor: Path, tmp_path: Path) -> None:
    same, other = (
        next(
            name
            for name in timm.list_pretrained("mobilenetv3_large_100.*")
            if (timm.get_pretrained_cfg(name).mean == timm.get_pretrained_cfg("mobilenetv3_large_100").mean)
            == alike
        )
        for alike in (True, False)
    )
    path = put(donor, tmp_path / f"{other}.safetensors")
    with pytest.raises(InputError, match=naming(other, same)):
        find_weights(same, str(path))
    assert find_weights("mobilenetv3_large_100", str(path)).model == other


def saved_by_us(path: Path) -> None:
    state = {f"extractor.backbone.{key}": value for key, value in tensors_of().items() if key not in HEAD}
    save_file({**state, "head.classifier.weight": torch.ones(3, 8)}, path)


FORMS = {
    "three classes": lambda path: save_file({**tensors_of(), **tensors_of_head(3)}, path),
    "seven classes": lambda path: save_file({**tensors_of(), **tensors_of_head(7)}, path),
    "no head": lambda path: save_file({k: v for k, v in tensors_of().items() if k not in HEAD}, path),
    "module.": lambda path: save_file({f"module.{k}": v for k, v in tensors_of().items()}, path),
    "model.": lambda path: save_file({f"model.{k}": v for k, v in tensors_of().items()}, path),
    "a probe of ours": saved_by_us,
}
CHECKPOINTS = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "both": lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
    "arguments": lambda state: {"state_dict": state, "args": argparse.Namespace(lr=1)},
}


def tensors_of_head(num_classes: int) -> dict[str, torch.Tensor]:
    state = tensors_of(num_classes=num_classes)
    return {key: state[key] for key in HEAD}


@pytest.mark.parametrize("form", [*FORMS, *CHECKPOINTS])
@pytest.mark.parametrize("num_classes", [7, 1000])
def test_all_tensors_but_the_head_arrive_from_every_form_of_file(
    form: str, num_classes: int, donor: Path, tmp_path: Path
) -> None:
    path = tmp_path / ("weights.safetensors" if form in FORMS else "weights.pth")
    if form in FORMS:
        FORMS[form](path)
    else:
        torch.save(CHECKPOINTS[form](load_file(donor)), path)
    stored, loaded = load_file(donor), build(str(path), num_classes).state_dict()
    assert [key for key in loaded if key not in HEAD and not torch.equal(loaded[key], stored[key])] == []
    assert loaded[HEAD[0]].shape[0] == num_classes


@pytest.mark.parametrize("missing", ["running_mean", "conv_stem.weight", "bn1.bias"])
def test_a_file_that_lacks_a_tensor_is_refused(missing: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({key: value for key, value in tensors_of().items() if not key.endswith(missing)}, path)
    with pytest.raises(InputError, match=naming(f"weights={path}", missing, NAME)):
        build(str(path))


def test_a_file_of_two_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = {
        f"{prefix}.{key}": value.clone()
        for prefix in ("student", "teacher")
        for key, value in tensors_of().items()
    }
    save_file(state, path)
    with pytest.raises(InputError, match=naming(f"weights={path}", "student.", "teacher.")):
        build(str(path))


def test_a_pickle_of_more_than_tensors_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model(NAME), path)
    with pytest.raises(InputError, match=naming(f"weights={path}", "safetensors.torch.save_file")):
        build(str(path))


def test_a_damaged_cached_file_is_named(donor: Path, machine: Path) -> None:
    cached = cache(machine, donor)
    cached.write_bytes(donor.read_bytes()[:-1000])
    with pytest.raises(InputError, match=naming(cached, NAME)):
        build()


def test_published_weights_fill_their_network() -> None:
    path = Path(__file__).parents[2] / "shared" / "weights" / "tf_efficientnet_lite0.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    model = build_model("timm:tf_efficientnet_lite0", 7, SIZE, start=Start(file=str(path)))
    assert_loaded(model, path)
    assert normalisation(model, True) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("file_name", "network"),
    [
        ("convnext_tiny.in12k_ft_in1k.safetensors", "convnext_tiny.in12k_ft_in1k"),
        ("resnet18-f37072fd.pth", "resnet18"),
        ("test_vit.pth.tar", "test_vit"),
        ("mine.bin", "mine"),
    ],
)
def test_a_file_names_its_network(file_name: str, network: str) -> None:
    assert network_of(f"/data/{file_name}") == network


def test_a_hubs_model_names_its_network() -> None:
    assert network_of("hf-hub:timm/resnet18.a1_in1k@v2") == "resnet18.a1_in1k"


@pytest.mark.parametrize("recipe", ["probe", "default"])
def test_weights_name_the_network_of_a_recipe_without_its_own(
    recipe: str, donor: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    put(donor, folder / "test_vit.safetensors")
    words = ["input/nowhere", "--recipe", recipe, "--set", f"weights={folder}"]
    command = read_command(words, "")
    assert command.model_by_weights and "model=timm:test_vit" in command.settings
    assert command == read_command(words, ""), "all stages read the same recipe"
    put(donor, folder / "test_resnet.safetensors")
    with pytest.raises(InputError, match=naming("test_vit", "test_resnet", "model=timm:")):
        read_command(words, "")
    describe(folder)
    assert f"model=timm:{NAME}" in read_command(words, "").settings
    typed = read_command([*words, "--set", "model=timm:test_resnet"], "")
    assert not typed.model_by_weights and typed.settings[-1] == "model=timm:test_resnet"


def test_other_recipes_keep_their_network() -> None:
    words = ["input/nowhere", "--recipe", "photos-best", "--set", "weights=test_vit.safetensors"]
    assert read_command(words, "").recipe.model == "timm:resnet18d"


def words_of(folder: Path, *words: str) -> list[str]:
    fixed = ["--folds", "2", "--fold", "0", "--device", "cpu", "--precision", "fp32", "--workers", "0"]
    return [str(folder), "--output", str(folder.parent / "out"), "--image-size", str(SIZE), *fixed, *words]


def test_a_run_records_its_weights_and_goes_on_without_them(
    make_competition: MakeCompetition,
    donor: Path,
    machine: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_competition(num_classes=2, size=SIZE)
    words = words_of(folder, "--recipe", "probe", "--set", f"model=timm:{NAME}")
    run = RunPaths(folder.parent / "out" / folder.name / "probe")
    cached = cache(machine, donor)
    digest = hashlib.sha256(donor.read_bytes()).hexdigest()
    assert prepare.main(words) == 0
    output = capsys.readouterr().out
    assert all(word in output for word in (digest[:12], "apache-2.0", str(cached)))
    assert split.main(words) == train.main(words) == 0
    weights = load_json(run.fold_run(0))["weights"]
    assert weights == load_json(run.stamp("prepare"))["weights"]
    assert (weights["digest"], weights["file"], weights["interpolation"]) == (digest, str(cached), "bicubic")

    assert validate.main(words) == report.main(words) == 0
    assert digest[:12] in run.report.read_text()

    own = [*words[:-1], f"weights={run.weights(0)}", "--name", "again"]
    assert prepare.main(own) == 0, "the fold names its network, and its images are known"
    known = load_json(run.root.with_name("again") / run.stamp("prepare").relative_to(run.root))[
        "known_images"
    ]
    assert re.search(naming(6, 12, run.weights(0)), known)

    before = run.fold_run(0).read_bytes()
    cached.unlink()
    assert prepare.main(words) == train.main(words) == infer.main(words) == 0
    assert run.fold_run(0).read_bytes() == before

    save_file(tensors_of(seed=6), cached)  # other weights: the fold is stale
    assert train.main(words) == 0
    assert load_json(run.fold_run(0))["weights"]["digest"] == hashlib.sha256(cached.read_bytes()).hexdigest()

    cached.unlink()  # gone, and others in its place
    others = put(donor, machine / "kaggle" / f"{NAME}.safetensors")
    save_file(tensors_of(seed=7), others)
    digest_of_others = hashlib.sha256(others.read_bytes()).hexdigest()
    with pytest.raises(
        InputError, match=naming(f"{NAME}.safetensors", digest_of_others[:12], "src/prepare.py")
    ):
        train.main([*words, "--again"])


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_of_a_further_seed_are_those_of_an_earlier_run(
    channels: int, make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=2, size=SIZE)
    words = words_of(folder, "--recipe", "quick", "--epochs", "1", "--set", f"channels={channels}")
    model = ["--set", f"model=timm:{NAME}", "--set", "mean=" + ",".join(["0.3"] * channels)]
    for stage in (prepare, split, train):
        assert stage.main([*words, *model, "--set", "seeds=2"]) == 0
    run = RunPaths(folder.parent / "out" / folder.name / "quick")
    weights = run.of_fold(0).seed(1).weights
    facts = describe_weights(Recipe(name="x", model=f"timm:{NAME}", weights=str(weights), channels=channels))
    assert facts["mean"] == pytest.approx([0.3] * channels) and facts["std"] == [0.5] * channels
    start = Start(file=str(weights))
    model = build_model(f"timm:{NAME}", 5, SIZE, channels, start)
    held, (first, filters) = load_file(weights), next(model.named_parameters())
    assert torch.equal(filters, held[first])
    assert normalisation(model, True, channels)[0] == pytest.approx((0.3,) * channels)
    assert network_of(str(weights)) == NAME
    assert (
        prepare.main(
            [*words, "--name", "again", "--set", f"weights={weights}", "--set", f"model=timm:{NAME}"]
        )
        == 0
    )
    known = load_json(RunPaths(run.root.with_name("again")).stamp("prepare"))["known_images"]
    assert re.search(naming(6, 12, weights), known)
    if channels == 1:
        with pytest.raises(InputError, match=naming("channels=3", "channels=1")):
            build_model(f"timm:{NAME}", 5, SIZE, 3, start)


def test_first_filters_for_four_channels_arrive_or_are_refused(tmp_path: Path) -> None:
    four = timm.create_model(NAME, in_chans=4)
    save_file(four.state_dict(), tmp_path / f"{NAME}.safetensors")
    start = Start(file=str(tmp_path / f"{NAME}.safetensors"))
    again = build_model(f"timm:{NAME}", 5, SIZE, 4, start)
    assert torch.equal(next(again.parameters()), next(four.parameters()))
    for channels in (1, 3):
        with pytest.raises(InputError, match=naming("channels=4", f"channels={channels}")):
            build_model(f"timm:{NAME}", 5, SIZE, channels, start)


def test_the_network_that_weights_name_is_printed_or_refused(
    make_competition: MakeCompetition, donor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_competition(num_classes=2, size=SIZE)
    answer = load_json(folder / "answer.json")
    answer["categories"] = [{"id": 0, "name": "tench"}, {"id": 1, "name": "goldfish"}]
    (folder / "answer.json").write_text(json.dumps(answer))
    named, unnamed = (put(donor, tmp_path / f"{name}.safetensors") for name in (NAME, "mine"))
    assert prepare.main(words_of(folder, "--recipe", "probe", "--set", f"weights={named}")) == 0
    output = capsys.readouterr().out
    assert f"model=timm:{NAME}" in output and re.search(naming(2, "tench", "ImageNet"), output)
    with pytest.raises(InputError, match=naming("mine", "model=timm:NAME")):
        prepare.main(words_of(folder, "--recipe", "probe", "--name", "x", "--set", f"weights={unnamed}"))
