"""Every network: its contract, study 1's parameter count, and timm weights from local files."""

import re
import socket
import time
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pytest
import timm
import torch
from conftest import naming
from safetensors.torch import save_file, save_model
from timm.layers import convert_sync_batchnorm
from torch import nn

from foldsmith.errors import InputError
from foldsmith.models import MODELS, Start, build_model, last_layer, normalisation
from foldsmith.models.autoencoder import Autoencoder
from foldsmith.models.backbone import fetch_weights
from foldsmith.models.bottleneck_resnet import BottleneckResNet
from foldsmith.recipes import Recipe
from foldsmith.training.check import check_recipe

SIZE = 32
each_model = pytest.mark.parametrize("name", [*MODELS, "timm:resnet18"])


def size_for(name: str) -> int:
    """Return the image size to build a network for; the studies' autoencoders accept one size only."""
    return 100 if name.startswith("autoencoder-") else SIZE


def make_images(count: int = 6, size: int = SIZE) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def build(name: str, num_classes: int = 7) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, num_classes, size_for(name))


@each_model
def test_logits_are_finite_and_every_parameter_gets_a_gradient(name: str) -> None:
    count = 3 if name.startswith("autoencoder-") else 6  # their images are ten times as large
    model, images = build(name).train(), make_images(count, size_for(name))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    # two steps: timm initialises the last norm of a block to zero, which blocks the gradients behind it
    for _ in range(2):
        optimizer.zero_grad()
        logits = model(images)
        assert logits.shape == (count, 7) and logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
        loss = nn.functional.cross_entropy(logits, torch.arange(count))
        if isinstance(model, Autoencoder):
            loss = loss + nn.functional.mse_loss(model.reconstruct(images), images)
        loss.backward()
        optimizer.step()
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    gradients = {name: parameter.grad for name, parameter in trained.items()}
    assert [name for name, grad in gradients.items() if grad is None or not grad.abs().sum() > 0] == []


@each_model
def test_evaluation_is_deterministic_and_independent_of_other_images(name: str) -> None:
    model, images = build(name).eval(), make_images(3, size_for(name))
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(model(images), logits)
        torch.testing.assert_close(model(images[order]), logits[order], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(images[:1]), logits[:1], rtol=1e-4, atol=1e-5)


@each_model
def test_the_head_has_a_logit_for_every_class(name: str) -> None:
    size = size_for(name)
    with torch.device("meta"):
        for num_classes in (2, 102):
            model = build_model(name, num_classes, size).eval()
            assert model(torch.empty(2, 3, size, size)).shape == (2, num_classes)


@each_model
def test_the_initial_weights_are_a_function_of_the_seed(name: str) -> None:
    first, again = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    torch.manual_seed(1)
    other = build_model(name, 7, size_for(name)).state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


# (in, middle, stride) of every block, as the study lists them
STUDY_BLOCKS = [
    (64, 64, 1), (128, 64, 1),
    (128, 128, 2), *[(256, 128, 1)] * 2,
    (256, 256, 2), *[(512, 256, 1)] * 4,
    (512, 512, 2), *[(1024, 512, 1)] * 2,
]  # fmt: skip


def test_study_1s_network_has_15_699_088_parameters_for_80_classes() -> None:
    count = 7 * 7 * 3 * 64 + 2 * 64
    for inside, middle, stride in STUDY_BLOCKS:
        out = 2 * middle
        count += inside * middle + 9 * middle * middle + middle * out  # convolutions, without biases
        count += 2 * middle + 2 * middle + 2 * out  # scales and shifts of the norms
        if stride != 1 or inside != out:
            count += inside * out + 2 * out
    count += 1024 * 80 + 80
    with torch.device("meta"):
        model = BottleneckResNet(80)
    assert sum(parameter.numel() for parameter in model.parameters()) == count == 15_699_088


def test_study_1s_network_has_the_studys_shapes_at_224() -> None:
    with torch.device("meta"):
        model, images = BottleneckResNet(80), torch.empty(1, 3, 224, 224)
    shapes, x = {}, images
    for name, block in model.features.named_children():
        x = block(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes == {
        "stem": (64, 112, 112),
        "pool": (64, 56, 56),
        "stage1": (128, 56, 56),
        "stage2": (256, 28, 28),
        "stage3": (512, 14, 14),
        "stage4": (1024, 7, 7),
    }
    assert model.head(x).shape == (1, 80)


class StudyBlock(nn.Module):
    """`res_block` of study 1, copied from the report."""

    def __init__(self, inside: int, middle: int, stride: int) -> None:
        super().__init__()
        out = 2 * middle
        self.conv1 = nn.Conv2d(inside, middle, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out)
        if stride != 1 or inside != out:
            self.conv4 = nn.Conv2d(inside, out, 1, stride, bias=False)
            self.norm4 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = torch.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        x = self.norm4(self.conv4(x)) if hasattr(self, "conv4") else x
        return torch.relu(y + x)


def test_study_1s_network_computes_what_the_reports_code_does() -> None:
    ours = BottleneckResNet(80).eval()
    blocks = [StudyBlock(*block) for block in STUDY_BLOCKS]
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    theirs = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 80)).eval()
    # both state dicts are in execution order
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = make_images(2, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("quick-cn", ["'quick-cn'", "'quick-cnn'", "bottleneck-resnet", "timm:<name>"]),
        ("resnet18", ["'resnet18'", "'timm:resnet18'"]),
        ("timm:resnt18", ["'resnt18'", "resnet18"]),
        ("timm:", ["timm", "''"]),
        ("timm:resnet18.nobody_in1k", ["nobody_in1k"]),
    ],
)
def test_an_unknown_model_names_the_nearest(name: str, keys: list[str]) -> None:
    with pytest.raises(InputError, match=naming(*keys)):
        build_model(name, 7, SIZE)


@pytest.mark.parametrize(("pretrained", "weights"), [(True, ""), (False, "weights.pth")])
def test_our_own_models_have_no_pretrained_weights(pretrained: bool, weights: str) -> None:
    with pytest.raises(InputError, match=naming("quick-cnn", "weights")):
        build_model("quick-cnn", 7, SIZE, start=Start(pretrained, weights))


@pytest.fixture(scope="module")
def donor() -> nn.Module:
    """Return a timm network with a head of 1000 classes, as published weights have."""
    torch.manual_seed(5)
    model = timm.create_model("resnet18")
    for name, tensor in model.state_dict().items():
        # all others equal those of a new network
        if name.endswith(("running_mean", "bn1.weight", "bn2.weight")):
            tensor.uniform_(0.5, 1.5)
    return model


def save(model: nn.Module, path: Path) -> str:
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("pretrained", [False, True])
def test_a_local_weights_file_fills_the_backbone_and_leaves_the_head_new(
    donor: nn.Module, suffix: str, pretrained: bool, tmp_path: Path, no_network: list[str]
) -> None:
    path = save(donor, tmp_path / f"weights{suffix}")
    model = build_model("timm:resnet18", 7, SIZE, start=Start(pretrained, path))
    stored, loaded = donor.state_dict(), model.state_dict()
    assert list(stored) == list(loaded)
    other = [key for key in stored if not torch.equal(stored[key], loaded[key])]
    assert other == ["fc.weight", "fc.bias"]
    assert loaded["fc.weight"].shape == (7, 512)
    assert no_network == []


def test_a_weights_file_of_a_transformer_fits_another_image_size(tmp_path: Path) -> None:
    torch.manual_seed(5)
    donor = timm.create_model("vit_tiny_patch16_224")
    model = build_model(
        "timm:vit_tiny_patch16_224", 7, 64, start=Start(file=save(donor, tmp_path / "vit.safetensors"))
    )
    assert torch.equal(model.blocks[3].mlp.fc1.weight, donor.blocks[3].mlp.fc1.weight)
    with torch.no_grad():
        assert model.eval()(make_images(2, 64)).shape == (2, 7)


def test_a_missing_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.pth"):
        build_model("timm:resnet18", 7, SIZE, start=Start(file=str(tmp_path / "nowhere.pth")))


@pytest.mark.parametrize("name", ["resnet50", "resnet34", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_weights_of_another_network_are_refused(name: str, donor: nn.Module, tmp_path: Path) -> None:
    path = save(donor, tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match=naming("resnet18.pth", name)):
        build_model(f"timm:{name}", 7, 64, start=Start(file=path))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".txt"])
def test_a_file_that_holds_no_weights_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"these are no weights")
    with pytest.raises(InputError, match=naming(path, "resnet18")):
        build_model("timm:resnet18", 7, SIZE, start=Start(file=str(path)))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Cut off the internet and empty the cache of weights; return the list of attempted connections."""
    attempts: list[str] = []

    def refuse(*words: object, **named: object) -> NoReturn:
        attempts.append(str(words))
        raise OSError("the network is unreachable")

    for owner, name in ((socket, "create_connection"), (socket, "getaddrinfo"), (socket.socket, "connect")):
        monkeypatch.setattr(owner, name, refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return attempts


def test_pretrained_weights_without_internet_are_an_immediate_error(
    no_network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(InputError, match=naming("resnet18", "weights=")):
        build_model("timm:resnet18", 7, SIZE, start=Start(pretrained=True))
    assert waited == [], "it retried instead of failing at once"
    assert len(no_network) <= 2


@pytest.mark.parametrize("content", ["cut off", "another network's"])
def test_weights_that_do_not_fit_are_refused_before_anything_is_decoded(tmp_path: Path, content: str) -> None:
    path, other = tmp_path / "weights.safetensors", timm.create_model("test_resnet")
    save_model(other if content == "another network's" else timm.create_model("test_vit"), str(path))
    if content == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    recipe = Recipe(name="test", model="timm:test_vit", image_size=160, weights=str(path))
    with pytest.raises(InputError, match=naming(f"weights={path}", "test_vit")):
        check_recipe(recipe, "cpu", "fp32")


def test_unavailable_weights_give_the_reason_immediately(
    no_network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it retried instead of failing at once"))
    assert re.search(naming("resnet18", "huggingface"), fetch_weights("resnet18"))
    assert len(no_network) <= 2


def test_normalisation_is_that_of_the_pretrained_weights_or_one_half() -> None:
    model = build("timm:resnet18")
    assert normalisation(model, from_pretrained=True) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation(model, from_pretrained=False) == ((0.5,) * 3, (0.5,) * 3)
    assert normalisation(build("quick-cnn"), from_pretrained=False) == ((0.5,) * 3, (0.5,) * 3)


def test_drop_path_leaves_branches_out_in_training_and_never_in_prediction() -> None:
    torch.manual_seed(0)
    model = build_model("timm:resnet18", 4, 32, drop_path=0.5)
    torch.manual_seed(0)
    plain = build_model("timm:resnet18", 4, 32)
    assert model.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(2, 3, 32, 32)
    for parameter in [*model.parameters(), *plain.parameters()]:
        if parameter.ndim == 1:  # the last norm of a branch is initialised to zero
            nn.init.ones_(parameter)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), plain.eval()(images))
        torch.manual_seed(1)
        assert not torch.allclose(model.train()(images), plain.train()(images))


@pytest.mark.parametrize("name", ["quick-cnn", "timm:vgg11", "timm:densenet121"])
def test_drop_path_is_refused_for_networks_without_branches(name: str) -> None:
    with pytest.raises(InputError, match=naming("drop_path=0.2", name.removeprefix("timm:"))):
        build_model(name, 4, 64, drop_path=0.2)
    recipe = Recipe(name="test", model=name, image_size=64, drop_path=0.2)
    with pytest.raises(InputError, match=naming("drop_path=0.2", name.removeprefix("timm:"))):
        check_recipe(recipe, "cpu", "fp32")


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "timm:efficientnet_b0", "timm:mobilenetv3_small_050", "quick-cnn"]
)
def test_synchronised_batch_norm_is_the_same_network(name: str) -> None:
    model, images = build(name).eval(), make_images()
    with torch.inference_mode():
        expected = model(images)
        names = list(model.state_dict())
        synchronised = convert_sync_batchnorm(model)
        torch.testing.assert_close(synchronised(images), expected)
    assert list(synchronised.state_dict()) == names
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules())


@pytest.mark.parametrize("name", ["cnn-a", "crnn", "bottleneck-resnet", "timm:resnet18", "autoencoder-lenet"])
def test_the_last_layer_computes_the_logits(name: str) -> None:
    size = 100 if name.startswith("auto") else 32
    model = build_model(name, 7, size).eval()
    found, layer = last_layer(model, 7)
    assert model.get_submodule(found) is layer
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.arange(7.0))
        torch.testing.assert_close(model(images), torch.arange(7.0).expand(2, 7))
