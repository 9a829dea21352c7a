"""Networks by name; every one turns images (B, 3, H, W) into logits (B, K)."""

from collections.abc import Callable

from torch import nn

from foldsmith.errors import InputError, unknown_name
from foldsmith.models.backbone import build_backbone, check_backbone, pretrained_normalisation
from foldsmith.models.bottleneck_resnet import BottleneckResNet
from foldsmith.models.quick_cnn import QuickCNN

MODELS: dict[str, Callable[[int], nn.Module]] = {
    "bottleneck-resnet": BottleneckResNet,
    "quick-cnn": QuickCNN,
}
TIMM = "timm:"


def check_model(name: str, pretrained: bool = False) -> None:
    """Raises InputError if there is no network `name`, or none with weights where they are asked for."""
    if name.startswith(TIMM):
        check_backbone(name.removeprefix(TIMM))
    elif name not in MODELS:
        raise unknown_name("model", name, [*MODELS, f"{TIMM}<name>"])
    elif pretrained:
        raise InputError(f"model {name} has no pretrained weights; they exist for {TIMM}<name> models.")


def build_model(
    name: str, num_classes: int, image_size: int, pretrained: bool = False, weights: str = ""
) -> nn.Module:
    """The network `name`: a key of MODELS, or `timm:<name>`. Raises InputError if there is none."""
    check_model(name, pretrained or bool(weights))
    if name.startswith(TIMM):
        return build_backbone(name.removeprefix(TIMM), num_classes, image_size, pretrained, weights)
    return MODELS[name](num_classes)


def normalisation(model: nn.Module, from_pretrained: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the inputs, on a scale of 0 to 1: the pretrained weights' own, else .5."""
    return pretrained_normalisation(model) if from_pretrained else ((0.5,) * 3, (0.5,) * 3)
