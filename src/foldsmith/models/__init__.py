"""Networks by name. Each maps images (B, channels, H, W) to logits (B, K)."""

from collections.abc import Callable
from functools import partial

from torch import nn

from foldsmith.errors import InputError, unknown_name
from foldsmith.models.autoencoder import AUTOENCODER_PLANS, Autoencoder
from foldsmith.models.backbone import (
    FROM_SCRATCH,
    Start,
    build_backbone,
    check_backbone,
    no_drop_path,
    pretrained_normalisation,
)
from foldsmith.models.bottleneck_resnet import BottleneckResNet
from foldsmith.models.crnn import CRNN, CRNN_PLANS
from foldsmith.models.plain_cnn import CNN_PLANS, PlainCNN
from foldsmith.models.probe import HeadForm, ProbedNetwork, ProbeHead, build_extractor
from foldsmith.models.quick_cnn import QuickCNN
from foldsmith.models.resnet9 import ResNet9
from foldsmith.models.whitened_cnn import WHITENED_PLANS, WhitenedCNN
from foldsmith.recipes import Recipe
from foldsmith.recipes.weight_names import TIMM

# name -> constructor, which takes the number of classes, the image size in pixels, and the image channels
MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "bottleneck-resnet": lambda num_classes, image_size, channels: BottleneckResNet(num_classes, channels),
    "quick-cnn": lambda num_classes, image_size, channels: QuickCNN(num_classes, channels),
    "resnet9": lambda num_classes, image_size, channels: ResNet9(num_classes, channels),
    **{name: partial(Autoencoder, plan) for name, plan in AUTOENCODER_PLANS.items()},
    **{name: partial(CRNN, plan) for name, plan in CRNN_PLANS.items()},
    **{name: partial(PlainCNN, plan) for name, plan in CNN_PLANS.items()},
    **{name: partial(WhitenedCNN, plan) for name, plan in WHITENED_PLANS.items()},
}


def check_model(name: str, pretrained: bool = False) -> None:
    """Raise InputError for an unknown model name, or if `pretrained` and the model has no such weights."""
    if name.startswith(TIMM):
        check_backbone(name.removeprefix(TIMM))
    elif name not in MODELS:
        import timm

        if timm.is_model(name):
            raise InputError(f"unknown model '{name}'; did you mean '{TIMM}{name}'?")
        raise unknown_name("model", name, [*MODELS, f"{TIMM}<name>"])
    elif pretrained:
        raise InputError(f"model {name} has no pretrained weights; only {TIMM}<name> models have them.")


def build_model(
    name: str,
    num_classes: int,
    image_size: int,
    channels: int = 3,
    start: Start = FROM_SCRATCH,
    drop_path: float = 0.0,
) -> nn.Module:
    """Return the network `name`: a key of MODELS, or `timm:<name>`.

    Raise InputError if there is none, or none with residual branches where these are to be dropped.
    """
    check_model(name, start.is_trained)
    if name.startswith(TIMM):
        return build_backbone(name.removeprefix(TIMM), num_classes, image_size, channels, start, drop_path)
    if drop_path:
        raise no_drop_path(name, drop_path)
    return MODELS[name](num_classes, image_size, channels)


def build_probed(
    recipe: Recipe, num_classes: int, start: Start = FROM_SCRATCH, drop_path: float = 0.0
) -> ProbedNetwork:
    """Return the network of a recipe whose head is a probe, with a random head until one is fitted.

    Raise InputError as build_model does, and for a network without stages.
    """
    check_model(recipe.model, start.is_trained)
    name = recipe.model.removeprefix(TIMM)
    extractor = build_extractor(name, recipe.image_size, recipe.channels, start, drop_path)
    head = ProbeHead(HeadForm("linear", sum(extractor.widths)), num_classes)
    return ProbedNetwork(extractor, head, frozen=recipe.epochs == 0)


def normalisation(
    model: nn.Module, from_pretrained: bool, channels: int = 3
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, on a scale of 0 to 1.

    They are those of the pretrained weights, or 0.5 without them. A single channel, and a fourth one, get the
    mean of the three, if the weights are not of as many channels.
    """
    if not from_pretrained:
        return (0.5,) * channels, (0.5,) * channels
    mean, std = pretrained_normalisation(model)
    if channels == len(mean):
        return mean, std
    mean_of_three = (sum(mean) / 3,), (sum(std) / 3,)
    return mean_of_three if channels == 1 else (mean + mean_of_three[0], std + mean_of_three[1])


def takes_any_size(model: nn.Module) -> bool:
    """Return whether the network accepts images of other sizes than it was built for."""
    if hasattr(model, "any_size"):
        return model.any_size
    return not model.pretrained_cfg.get("fixed_input_size", False)


def last_layer(model: nn.Module, num_classes: int) -> tuple[str, nn.Linear] | None:
    """Return name and module of the linear layer that outputs the logits; None if there is none."""
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == num_classes
    ]
    return layers[-1] if layers else None


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks whose outputs serve as feature maps, by name, in execution order."""
    if isinstance(model, ProbedNetwork):
        model = model.backbone
    if hasattr(model, "feature_info"):  # timm's
        names = [info["module"] for info in model.feature_info]
        return {name: model.get_submodule(name) for name in names if name}
    if isinstance(model, Autoencoder):
        return dict(model.encoder.named_children())
    blocks = dict(model.features.named_children())
    return {**blocks, "lstm": model.lstm} if isinstance(model, CRNN) else blocks
