"""The studies' networks: parameter counts, shapes, and outputs equal to those of the reports' code."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import naming
from torch import nn

from foldsmith.errors import InputError
from foldsmith.models import MODELS, build_model, takes_any_size
from foldsmith.models.autoencoder import AUTOENCODER_PLANS, Autoencoder, PaddedPlan
from foldsmith.models.crnn import CRNN_PLANS
from foldsmith.models.plain_cnn import CNN_PLANS
from foldsmith.models.whitened_cnn import WHITENED_PLANS
from foldsmith.recipes import RECIPES, Recipe
from foldsmith.training.check import check_recipe

# image size in pixels and channels of each study
STUDY_IMAGES = {
    **dict.fromkeys(AUTOENCODER_PLANS, (100, 3)),
    **dict.fromkeys(CRNN_PLANS, (28, 1)),
    **dict.fromkeys(CNN_PLANS, (32, 3)),
}
LENETS = [name for name in AUTOENCODER_PLANS if "lenet" in name]
# heads of 20,000 -> 4,096 and the like take seconds to initialise
LIGHT = [name for name in STUDY_IMAGES if not name.startswith("autoencoder-padded")]


def build(name: str, num_classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, num_classes, *STUDY_IMAGES[name])


def build_light(name: str) -> Autoencoder:
    """Return the autoencoder of a row, with a narrow head if the row's is wide."""
    torch.manual_seed(0)
    plan = AUTOENCODER_PLANS[name]
    if isinstance(plan, PaddedPlan):
        plan = replace(plan, hidden=tuple(range(8, 8 + len(plan.hidden))))
    return Autoencoder(plan, 10, 100, 3)


def build_unfilled(name: str, num_classes: int = 10) -> nn.Module:
    """Return a network on the meta device, whose tensors take no memory, for inspection."""
    with torch.device("meta"):
        return build_model(name, num_classes, *STUDY_IMAGES[name])


def make_images(name: str, count: int = 3) -> torch.Tensor:
    size, channels = STUDY_IMAGES[name]
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# parameter counts, from the reports' layer lists


def conv(inside: int, out: int, side: int, bias: bool = True) -> int:
    return inside * out * side * side + (out if bias else 0)


def linear(inside: int, out: int) -> int:
    return inside * out + out


def norm(channels: int) -> int:
    return 2 * channels


def count_padded(depth: int, widths: list[int], classes: int) -> int:
    channels, up = [3, 16, 32, 64][: depth + 1], {3: conv(64, 32, 4, False), 2: 0}[depth]
    down = sum(conv(a, b, 3, bias=False) for a, b in zip(channels, channels[1:], strict=False))
    up += conv(32, 16, 4, bias=False) + conv(16, 3, 3, bias=False)
    widths = [{2: 25 * 25 * 32, 3: 12 * 12 * 64}[depth], *widths]
    hidden = sum(linear(a, b) + norm(b) for a, b in zip(widths, widths[1:], strict=False))
    return down + up + hidden + linear(widths[-1], classes)


def count_lenet(classes: int, norms: bool = False, hidden_norm: bool = False, upsampled: bool = False) -> int:
    encoder = [(3, 6, 5), (6, 16, 5)]
    decoder = [(16, 16, 13), (16, 16, 13), (16, 6, 13), (6, 6, 13), (6, 6, 13), (6, 3, 19)]
    if upsampled:
        decoder = [(16, 6, 5), (6, 3, 5)]
    head = [(16, 32, 3), (32, 64, 3)]
    convolutions = encoder + decoder + head
    count = sum(conv(*shape) for shape in convolutions)
    count += sum(norm(out) for _, out, _ in convolutions) if norms else 0
    count += linear(64 * 4 * 4, 512) + (norm(512) if hidden_norm else 0)
    return count + linear(512, classes)


def count_crnn(
    classes: int, kernels: tuple[int, int, int] = (3, 3, 2), steps: int = 18, hidden: int = 128
) -> int:
    count, channels = 0, 1
    for out, side in zip((32, 64, 128), kernels, strict=True):
        count += conv(channels, out, side) + norm(out)
        channels = out
    for inside in (64, hidden, hidden):
        # four gates, each with weights for input and state, and torch's two biases
        count += 4 * hidden * (inside + hidden + 2)
    return count + linear(steps * hidden, 128) + linear(128, 64) + linear(64, classes)


def count_cnn(widths: list[int], features: int, classes: int, norms: bool = False) -> int:
    count, channels = 0, 3
    for width in widths:
        count += conv(channels, width, 3) + conv(width, width, 3) + (2 * norm(width) if norms else 0)
        channels = width
    return count + linear(features, classes)


FOUR = [20, 40, 80, 160]
# name -> the count as a function of K, and its value for 10 classes
COUNTS: dict[str, tuple[Callable[[int], int], int]] = {
    "autoencoder-padded-1": (lambda k: count_padded(2, [4096, 1024, 256], k), 86_408_810),
    "autoencoder-padded-2": (lambda k: count_padded(3, [4096, 1024, 256], k), 42_288_746),
    "autoencoder-padded-4": (lambda k: count_padded(3, [4096, 1024, 256], k), 42_288_746),
    "autoencoder-padded-5": (lambda k: count_padded(3, [1024], k), 9_515_370),
    "autoencoder-lenet": (lambda k: count_lenet(k), 677_409),
    "autoencoder-lenet-bn": (lambda k: count_lenet(k, norms=True), 677_751),
    "autoencoder-lenet-bn-dropout": (lambda k: count_lenet(k, True, True), 678_775),
    "autoencoder-lenet-upsampled": (lambda k: count_lenet(k, True, True, upsampled=True), 560_075),
    "crnn": (lambda k: count_crnn(k), 719_626),
    "crnn-kernels333": (lambda k: count_crnn(k, (3, 3, 3), 2 * 2 * 128 // 64), 596_746),
    "crnn-kernels222": (lambda k: count_crnn(k, (2, 2, 2), 4 * 4 * 128 // 64), 938_602),
    "crnn-kernels555": (lambda k: count_crnn(k, (5, 5, 5), 2 * 2 * 128 // 64), 761_098),
    "crnn-pools2": (lambda k: count_crnn(k, steps=4 * 4 * 128 // 64), 949_002),
    "crnn-hidden256": (lambda k: count_crnn(k, hidden=256), 2_033_418),
    "crnn-dropout10": (lambda k: count_crnn(k), 719_626),
    "crnn-dropout10-once": (lambda k: count_crnn(k), 719_626),
    "crnn-hidden256-dropout10": (lambda k: count_crnn(k, hidden=256), 2_033_418),
    "cnn-a": (lambda k: count_cnn([5], 80, k), 1_180),
    "cnn-b": (lambda k: count_cnn([20], 4 * 4 * 20, k), 7_390),
    "cnn-c": (lambda k: count_cnn([20, 40], 8 * 8 * 40, k), 51_470),
    "cnn-d": (lambda k: count_cnn([20, 40], 8 * 8 * 40, k), 51_470),
    "cnn-e": (lambda k: count_cnn(FOUR, 2 * 2 * 160, k), 464_750),
    "cnn-f": (lambda k: count_cnn(FOUR, 2 * 2 * 160, k, norms=True), 465_950),
    "cnn-g": (lambda k: count_cnn(FOUR, 2 * 2 * 160, k, norms=True), 465_950),
    "cnn-gap": (lambda k: count_cnn(FOUR, 160, k, norms=True), 461_150),
}


def test_the_parameters_of_every_study_network_are_tested() -> None:
    others = {"bottleneck-resnet", "quick-cnn", "resnet9", *WHITENED_PLANS}
    assert set(COUNTS) == set(STUDY_IMAGES) == set(MODELS) - others


@pytest.mark.parametrize("name", COUNTS)
def test_a_network_has_the_parameters_of_its_layer_list(name: str) -> None:
    count, for_ten = COUNTS[name]
    # the CRNNs run their convolutions when they are built, so they need real tensors
    make = build if name in CRNN_PLANS else build_unfilled
    assert count_parameters(make(name)) == count(10) == for_ten
    assert count_parameters(make(name, 102)) == count(102)


# shapes


def shapes_of(module: nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    """Return the distinct consecutive shapes of an image on its way through the layers, its input first."""
    shapes = [tuple(x.shape[1:])]

    def record(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if tuple(output.shape[1:]) != shapes[-1]:
            shapes.append(tuple(output.shape[1:]))

    layers = [layer for layer in module.modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(record) for layer in layers]
    with torch.no_grad():
        module.eval()(x)
    for handle in handles:
        handle.remove()
    return shapes


def sides_of(module: nn.Module, x: torch.Tensor) -> list[int]:
    """Return the distinct consecutive sides of the feature maps."""
    sides: list[int] = []
    for _, height, width in shapes_of(module, x):
        assert height == width
        if [height] != sides[-1:]:
            sides.append(height)
    return sides


@pytest.mark.parametrize(
    ("name", "code", "down", "up"),
    [
        ("autoencoder-padded-1", (32, 25, 25), [100, 50, 25], [25, 50, 100]),
        ("autoencoder-padded-2", (64, 12, 12), [100, 50, 25, 12], [12, 25, 50, 100]),
        ("autoencoder-padded-5", (64, 12, 12), [100, 50, 25, 12], [12, 25, 50, 100]),
        ("autoencoder-lenet", (16, 22, 22), [100, 96, 48, 44, 22], [22, 34, 46, 58, 70, 82, 100]),
        ("autoencoder-lenet-bn-dropout", (16, 22, 22), [100, 96, 48, 44, 22], [22, 34, 46, 58, 70, 82, 100]),
        ("autoencoder-lenet-upsampled", (16, 22, 22), [100, 96, 48, 44, 22], [22, 44, 48, 96, 100]),
    ],
)
def test_an_autoencoder_shrinks_and_grows_as_the_report_says(
    name: str, code: tuple[int, ...], down: list[int], up: list[int]
) -> None:
    model, images = build_light(name), make_images(name, 1)
    with torch.no_grad():
        assert model.encoder.eval()(images).shape == (1, *code)
        assert model.eval().reconstruct(images).shape == images.shape
    assert sides_of(model.encoder, images) == down
    assert sides_of(model.decoder, torch.rand(1, *code)) == up


def test_the_padded_decoders_channels_are_the_studys() -> None:
    names = ("autoencoder-padded-1", "autoencoder-lenet")
    first, second = ([shape[0] for shape in shapes_of(build_light(name).decoder, code)]
                     for name, code in zip(names, (torch.rand(1, 32, 25, 25), torch.rand(1, 16, 22, 22)),
                                           strict=True))  # fmt: skip
    assert first == [32, 16, 3]
    assert second == [16, 16, 16, 6, 6, 6, 3]


def test_study_2s_head_goes_from_20000_to_the_classes() -> None:
    head = build_unfilled("autoencoder-padded-1", 102).head
    widths = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    assert widths == [(20_000, 4096), (4096, 1024), (1024, 256), (256, 102)]
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Flatten", *["Linear", "BatchNorm1d", "Sigmoid", "Dropout"] * 3, "Linear"]
    fifth = build_unfilled("autoencoder-padded-5").head
    assert sum(isinstance(layer, nn.Linear) for layer in fifth) == 2


@pytest.mark.parametrize("name", LENETS)
def test_study_3s_head_pools_to_64_maps_of_4_x_4(name: str) -> None:
    with torch.no_grad():
        shapes = shapes_of(build(name).head, torch.rand(1, 16, 22, 22))
    assert shapes == [
        (16, 22, 22), (32, 20, 20), (32, 10, 10), (64, 8, 8), (64, 4, 4), (1024,), (512,), (10,)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "maps", "steps", "hidden"),
    [
        ("crnn", [(32, 7, 7), (64, 3, 3), (128, 3, 3)], 18, 128),
        ("crnn-hidden256", [(32, 7, 7), (64, 3, 3), (128, 3, 3)], 18, 256),
        ("crnn-kernels333", [(32, 7, 7), (64, 3, 3), (128, 2, 2)], 8, 128),
        ("crnn-kernels222", [(32, 7, 7), (64, 4, 4), (128, 4, 4)], 32, 128),
        ("crnn-kernels555", [(32, 7, 7), (64, 3, 3), (128, 2, 2)], 8, 128),
        ("crnn-pools2", [(32, 7, 7), (64, 3, 3), (128, 4, 4)], 32, 128),
    ],
)
def test_a_crnn_has_the_reports_shapes(
    name: str, maps: list[tuple[int, ...]], steps: int, hidden: int
) -> None:
    model, shapes = build(name).eval(), {}
    for layer, module in (
        *model.features.named_children(),
        ("lstm", model.lstm),
        ("linear", model.head[1]),
    ):

        def note(module: nn.Module, inputs: tuple, outputs: object, layer: str = layer) -> None:
            shapes[layer] = (
                inputs[0].shape,
                outputs[0].shape if isinstance(outputs, tuple) else outputs.shape,
            )

        module.register_forward_hook(note)
    with torch.no_grad():
        assert model(make_images(name)).shape == (3, 10)
    assert [tuple(shapes[f"block{block}"][1][1:]) for block in (1, 2, 3)] == maps
    assert shapes["lstm"] == ((3, steps, 64), (3, steps, hidden))
    assert shapes["linear"] == ((3, steps * hidden), (3, 128))


def test_2304_numbers_reach_the_crnns_first_linear_layer_and_4608_the_wider_ones() -> None:
    assert build("crnn").head[1].in_features == 2304
    assert build("crnn-hidden256").head[1].in_features == 4608


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("cnn-a", [(5, 4, 4)]),
        ("cnn-b", [(20, 4, 4)]),
        *[(f"cnn-{letter}", [(20, 16, 16), (40, 8, 8)]) for letter in "cd"],
        *[(f"cnn-{letter}", [(20, 16, 16), (40, 8, 8), (80, 4, 4), (160, 2, 2)]) for letter in "efg"],
        ("cnn-gap", [(20, 16, 16), (40, 8, 8), (80, 4, 4), (160, 1, 1)]),
    ],
)
def test_a_cnns_blocks_have_the_reports_shapes(name: str, maps: list[tuple[int, ...]]) -> None:
    x, model = make_images(name, 1), build(name).eval()
    for block, expected in zip(model.features, maps, strict=True):
        with torch.no_grad():
            x = block(x)
        assert tuple(x.shape[1:]) == expected


# logits


@pytest.mark.parametrize("name", STUDY_IMAGES)
def test_a_head_ends_with_a_linear_layer_and_the_network_has_no_softmax(name: str) -> None:
    make = build if name in CRNN_PLANS else build_unfilled
    layers = list(make(name).modules())
    assert not [layer for layer in layers if isinstance(layer, nn.Softmax | nn.LogSoftmax)]
    assert isinstance(layers[-1], nn.Linear)


@pytest.mark.parametrize("name", LIGHT)
def test_logits_are_no_probabilities(name: str) -> None:
    model = build(name).eval()
    # the last bias: a softmax would be invariant to it
    model.get_parameter(list(model.state_dict())[-1]).data += 5
    with torch.no_grad():
        sums = model(make_images(name)).sum(dim=1)
    assert (sums - 1).abs().min() > 10


# the code of the reports


def scramble(model: nn.Module) -> nn.Module:
    """Randomise the norms as training would, so that none is the identity; return the model."""
    draws = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=draws)
    return model


def assert_equal_networks(
    ours: nn.Module, theirs: nn.Module, images: torch.Tensor, run: str = "forward"
) -> None:
    """Assert equal outputs for equal tensors, in evaluation, and in training with equal random draws."""
    scramble(ours)
    # both state dicts are in execution order
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    for training in (False, True):
        outputs = []
        for model in (ours, theirs):
            torch.manual_seed(7)  # for dropout
            model.train(training)
            with torch.no_grad():
                outputs.append(getattr(model, run)(images))
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
        assert outputs[0].std() > 1e-4


def get_conv_block(
    inside: int, out: int, activation: str, batch_norm: bool, dropout: float | None
) -> nn.Module:
    """`get_conv_block` of study 5."""
    function = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[activation]
    first = [nn.Conv2d(inside, out, kernel_size=3, stride=1, padding="same"), function()]
    second = [nn.Conv2d(out, out, kernel_size=3, stride=1, padding="same"), function()]
    if batch_norm:
        first.append(nn.BatchNorm2d(out))
        second.append(nn.BatchNorm2d(out))
    pool = [nn.MaxPool2d(kernel_size=2)]
    if dropout is not None:
        pool.append(nn.Dropout(dropout))
    return nn.Sequential(*first, *second, *pool)


def study_a(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding="same"), nn.Sigmoid(),
        nn.Conv2d(width, width, 3, padding="same"), nn.Sigmoid(),
        nn.MaxPool2d(8), nn.Flatten(), nn.Linear(width * 4 * 4, 10),
    )  # fmt: skip


def study_blocks(
    widths: list[int],
    activation: str = "relu",
    norms: bool = False,
    drops: tuple[float | None, ...] = (None,) * 4,
) -> nn.Module:
    pairs = zip([3, *widths], widths, drops, strict=False)
    blocks = [get_conv_block(a, b, activation, norms, drop) for a, b, drop in pairs]
    side = 32 // 2 ** len(widths)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(widths[-1] * side**2, 10))


def study_gap() -> nn.Module:
    return nn.Sequential(
        get_conv_block(3, 20, "relu", True, 0.1),
        get_conv_block(20, 40, "relu", True, 0.2),
        get_conv_block(40, 80, "relu", True, 0.3),
        nn.Conv2d(80, 160, 3, 1, padding="same"), nn.ReLU(), nn.BatchNorm2d(160),
        nn.Conv2d(160, 160, 3, 1, padding="same"), nn.ReLU(), nn.BatchNorm2d(160),
        nn.AdaptiveAvgPool2d((1, 1)), nn.Dropout(0.4), nn.Flatten(), nn.Linear(160, 10),
    )  # fmt: skip


STUDY_CNNS = {
    "cnn-a": lambda: study_a(5),
    "cnn-b": lambda: study_a(20),
    "cnn-c": lambda: study_blocks([20, 40], "sigmoid"),
    "cnn-d": lambda: study_blocks([20, 40]),
    "cnn-e": lambda: study_blocks(FOUR),
    "cnn-f": lambda: study_blocks(FOUR, norms=True),
    "cnn-g": lambda: study_blocks(FOUR, norms=True, drops=(0.1, 0.2, 0.3, 0.4)),
    "cnn-gap": study_gap,
}


@pytest.mark.parametrize("name", STUDY_CNNS)
def test_a_cnn_computes_what_the_code_of_study_5_does(name: str) -> None:
    ours, theirs = build(name), STUDY_CNNS[name]()
    if name in ("cnn-a", "cnn-b", "cnn-c"):
        # at initialisation sigmoids hardly depend on the image, with larger weights they do
        for parameter in ours.parameters():
            parameter.data *= 8
    assert_equal_networks(ours, theirs, make_images(name))


class StudyCRNN(nn.Module):
    """`CRNN` of study 4, with the dropouts and the width of a variant."""

    def __init__(self, hidden: int, drops: tuple[float, float, float]) -> None:
        super().__init__()
        first, second, third = drops
        self.layer1 = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Dropout(first), nn.MaxPool2d(2, stride=2),
        )  # fmt: skip
        self.layer2 = nn.Sequential(
            nn.Conv2d(32, 64, kernel_size=3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Dropout(second), nn.MaxPool2d(2),
        )  # fmt: skip
        self.layer3 = nn.Sequential(
            nn.Conv2d(64, 128, kernel_size=2, padding=1), nn.BatchNorm2d(128), nn.ReLU(),
            nn.Dropout(third), nn.MaxPool2d(2, stride=1),
        )  # fmt: skip
        self.lstm = nn.LSTM(64, hidden, num_layers=3, batch_first=True)
        self.fc1 = nn.Linear(18 * hidden, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(x)))
        x = x.reshape(x.size(0), -1, 64)
        x, _ = self.lstm(x)
        x = x.reshape(x.size(0), -1)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


@pytest.mark.parametrize(
    ("name", "hidden", "drops"),
    [
        ("crnn", 128, (0.25, 0.25, 0.25)),
        ("crnn-hidden256", 256, (0.25, 0.25, 0.25)),
        ("crnn-dropout10", 128, (0.1, 0.1, 0.1)),
        ("crnn-dropout10-once", 128, (0.0, 0.0, 0.1)),
        ("crnn-hidden256-dropout10", 256, (0.1, 0.1, 0.1)),
    ],
)
def test_a_crnn_computes_what_the_code_of_study_4_does(
    name: str, hidden: int, drops: tuple[float, float, float]
) -> None:
    # channels-last memory must not change the order of the features in the 18 steps
    images = make_images(name).to(memory_format=torch.channels_last)
    ours = build(name).to(memory_format=torch.channels_last)
    assert_equal_networks(ours, StudyCRNN(hidden, drops), images)


class Kronecker(nn.Module):
    """`Upsample` of study 3, which detaches the gradient by going through NumPy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        maps = x.detach().numpy().reshape(batch * channels, height, width)
        return torch.from_numpy(np.kron(maps, np.ones((2, 2), np.float32))).view(
            batch, channels, 2 * height, -1
        )


class StudyAutoencoder(nn.Module):
    """The encoder, decoder and classifier of a study in one module."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.classifier = encoder, decoder, classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.encoder(x))

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


def study_lenet(name: str) -> nn.Module:
    norms, dropout, upsampled = name != "autoencoder-lenet", "bn-d" in name or "ups" in name, "ups" in name

    def layers(a: int, b: int, side: int, pad: int, function: nn.Module) -> list[nn.Module]:
        return [nn.Conv2d(a, b, side, 1, pad), *([nn.BatchNorm2d(b)] if norms else []), function]

    encoder = [
        *layers(3, 6, 5, 0, nn.ReLU()),
        nn.MaxPool2d(2, 2),
        *layers(6, 16, 5, 0, nn.ReLU()),
        nn.MaxPool2d(2, 2),
    ]
    if upsampled:
        decoder = [Kronecker(), *layers(16, 6, 5, 4, nn.ReLU()), Kronecker(), *layers(6, 3, 5, 4, nn.Tanh())]
    else:
        decoder = []
        for a, b in ((16, 16), (16, 16), (16, 6), (6, 6), (6, 6)):
            decoder += layers(a, b, 13, 12, nn.ReLU())
        decoder += layers(6, 3, 19, 18, nn.Tanh())
    classifier = [*layers(16, 32, 3, 0, nn.ReLU()), nn.MaxPool2d(2, 2)]
    classifier += [nn.Dropout2d(0.2)] if dropout else []
    classifier += [*layers(32, 64, 3, 0, nn.ReLU()), nn.MaxPool2d(2, 2), nn.Flatten()]
    classifier += [nn.Dropout(0.5)] if dropout else []
    classifier += [nn.Linear(64 * 4 * 4, 512), *([nn.BatchNorm1d(512)] if dropout else []), nn.ReLU()]
    classifier += [nn.Dropout(0.25)] if dropout else []
    classifier += [nn.Linear(512, 10)]
    return StudyAutoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder), nn.Sequential(*classifier))


@pytest.mark.parametrize("name", LENETS)
def test_an_autoencoder_computes_what_the_code_of_study_3_does(name: str) -> None:
    ours, theirs, images = build(name), study_lenet(name), 2 * make_images(name, 2) - 1
    assert_equal_networks(ours, theirs, images)
    assert_equal_networks(ours, theirs, images, run="reconstruct")


def study_padded(activation: Callable[[], nn.Module], deep: bool, drop: float, head_drop: float) -> nn.Module:
    def dropped(share: float) -> list[nn.Module]:
        return [nn.Dropout(share)] if share else []

    encoder, decoder, classifier = [], [], [nn.Flatten()]
    for a, b in ((3, 16), (16, 32), (32, 64))[: 3 if deep else 2]:
        encoder += [nn.Conv2d(a, b, 3, padding=1, bias=False), activation(), *dropped(drop), nn.MaxPool2d(2)]
    for a, b, side, pad in ((64, 32, 4, 8), (32, 16, 4, 14), (16, 3, 3, 26))[0 if deep else 1 :]:
        decoder += [nn.Conv2d(a, b, side, padding=pad, bias=False), activation()]
        decoder += dropped(drop) if b != 3 else []
    features = 64 * 12 * 12 if deep else 32 * 25 * 25
    for width in (8, 9, 10):
        classifier += [nn.Linear(features, width), nn.BatchNorm1d(width), nn.Sigmoid(), *dropped(head_drop)]
        features = width
    classifier += [nn.Linear(features, 10)]
    return StudyAutoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder), nn.Sequential(*classifier))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("autoencoder-padded-1", lambda: study_padded(nn.ReLU, False, 0.0, 0.1)),
        ("autoencoder-padded-2", lambda: study_padded(nn.ReLU, True, 0.0, 0.1)),
        ("autoencoder-padded-4", lambda: study_padded(lambda: nn.LeakyReLU(0.01), True, 0.3, 0.5)),
    ],
)
def test_an_autoencoder_computes_what_the_code_of_study_2_does(
    name: str, theirs: Callable[[], nn.Module]
) -> None:
    ours, images = build_light(name), make_images(name)
    assert_equal_networks(ours, theirs(), images)
    assert_equal_networks(ours, theirs(), images, run="reconstruct")


# learning from the reconstruction


@pytest.mark.parametrize("name", AUTOENCODER_PLANS)
def test_the_encoder_learns_from_the_reconstruction_and_the_head_does_not(name: str) -> None:
    model, images = build_light(name).train(), make_images(name, 2)
    nn.functional.mse_loss(model.reconstruct(images), images).backward()
    unmoved = [
        weight_name
        for weight_name, tensor in [*model.encoder.named_parameters(), *model.decoder.named_parameters()]
        if tensor.grad is None or not tensor.grad.abs().sum() > 0
    ]
    # a norm cancels the bias before it: the gradient may be zero, but it exists
    assert all("bias" in weight_name for weight_name in unmoved)
    assert all(tensor.grad is not None for tensor in model.encoder.parameters())
    assert all(tensor.grad is None for tensor in model.head.parameters())


@pytest.mark.parametrize("name", AUTOENCODER_PLANS)
def test_classifying_and_reconstructing_at_once_is_both_from_one_code(name: str) -> None:
    model, images, runs = build_light(name).eval(), make_images(name, 2), []
    logits, reconstructed = model(images), model.reconstruct(images)
    model.encoder.register_forward_hook(lambda *words: runs.append(words))
    both = model.classify_and_reconstruct(images)
    assert len(runs) == 1
    torch.testing.assert_close(both, (logits, reconstructed))
    for output in both:
        model.zero_grad()
        output.square().mean().backward(retain_graph=True)
        assert all(tensor.grad.abs().sum() > 0 for tensor in model.encoder.parameters())


def test_the_upsampling_of_study_3_blocks_the_gradient_of_the_encoder() -> None:
    theirs, images = study_lenet("autoencoder-lenet-upsampled"), make_images("autoencoder-lenet", 2)
    nn.functional.mse_loss(theirs.reconstruct(images), images).backward()
    assert all(tensor.grad is None for tensor in theirs.encoder.parameters())


@pytest.mark.parametrize(
    "recipe",
    [recipe for recipe in RECIPES.values() if recipe.model in AUTOENCODER_PLANS],
    ids=lambda recipe: recipe.name,
)
def test_a_recipes_images_lie_in_the_range_that_its_decoder_ends_with(recipe: Recipe) -> None:
    with torch.device("meta"):
        last = list(build_model(recipe.model, 2, recipe.image_size).decoder.modules())[-1]
    black, white = (0 - np.array(recipe.mean)) / recipe.std, (1 - np.array(recipe.mean)) / recipe.std
    lowest, highest = (-1.0, 1.0) if isinstance(last, nn.Tanh) else (0.0, np.inf)
    assert isinstance(last, nn.Tanh | nn.ReLU | nn.LeakyReLU)
    assert (black >= lowest).all() and (white <= highest).all()


# sizes


@pytest.mark.parametrize(("height", "width"), [(20, 32), (18, 32), (32, 20), (32, 18), (8, 8), (45, 33)])
def test_gap_takes_images_of_other_sizes_as_study_5_does(height: int, width: int) -> None:
    ours, theirs = build("cnn-gap"), study_gap()
    assert_equal_networks(ours, theirs, torch.rand(2, 3, height, width))
    assert takes_any_size(ours)


@pytest.mark.parametrize("name", [name for name in LIGHT if name != "cnn-gap"])
def test_every_other_network_takes_only_the_size_it_was_built_for(name: str) -> None:
    model, (size, channels) = build(name).eval(), STUDY_IMAGES[name]
    assert not takes_any_size(model)
    for height, width in ((20, size), (2 * size, 2 * size)):
        with pytest.raises(RuntimeError), torch.no_grad():
            model(torch.zeros(1, channels, height, width))


@pytest.mark.parametrize(
    ("name", "size", "keys"),
    [
        ("autoencoder-padded-5", 64, ["96 x 96", 100]),
        ("autoencoder-lenet", 64, ["91 x 91", 100]),
        ("autoencoder-lenet-upsampled", 54, ["52 x 52", 100]),
        ("crnn", 6, []),
        ("crnn-kernels333", 12, []),
        ("cnn-a", 7, []),
        ("cnn-g", 15, []),
        ("cnn-gap", 7, []),
    ],
)
def test_a_recipe_of_a_size_that_the_network_cannot_take_is_refused(
    name: str, size: int, keys: list[object]
) -> None:
    recipe = replace(RECIPES[name], image_size=size)
    with pytest.raises(InputError, match=naming(name, f"{size} x {size}", *keys)):
        check_recipe(recipe, "cpu", "fp32")


@pytest.mark.parametrize(
    ("name", "size"), [("autoencoder-lenet-upsampled", 52), ("crnn", 32), ("cnn-g", 40), ("cnn-gap", 8)]
)
def test_a_recipe_of_another_size_that_the_network_can_take_is_accepted(name: str, size: int) -> None:
    check_recipe(replace(RECIPES[name], image_size=size), "cpu", "fp32")
    model = build_model(name, 5, size, RECIPES[name].channels).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, RECIPES[name].channels, size, size)).shape == (2, 5)


@pytest.mark.parametrize("field", ["pretrain", "encoder_lr", "reconstruction_weight"])
def test_fields_of_the_encoder_are_refused_for_other_networks(field: str) -> None:
    recipe = replace(RECIPES["cnn-a"], **{field: "autoencoder" if field == "pretrain" else 0.5})
    with pytest.raises(InputError, match=naming(field, "cnn-a")):
        check_recipe(recipe, "cpu", "fp32")


@pytest.mark.parametrize("size", [28, 40, 48])
def test_images_too_small_for_study_3s_head_are_refused_when_the_network_is_built(size: int) -> None:
    with pytest.raises(InputError, match=naming(100)):
        build_model("autoencoder-lenet-upsampled", 2, size)


def test_images_too_small_for_the_poolings_of_cnn_gap_are_refused_when_the_network_is_built() -> None:
    with pytest.raises(InputError, match="7 x 7"):
        build_model("cnn-gap", 2, 7)
