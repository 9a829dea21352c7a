"""A backbone of timm with a probe: a small head on features of several depths, fitted rather than trained.

B images · D features · S features that the head uses · K outputs.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import gelu, normalize

from foldsmith.errors import InputError
from foldsmith.models.backbone import FROM_SCRATCH, Start, build_backbone

NUM_STAGES = 3  # stages at the end of the backbone, whose outputs are features beside those of its last layer
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std per channel, on a scale of 0 to 1
HALF_MAX = 65504.0  # largest float16
LAST, STAGES, ALL = "last", "stages", "all"  # sets of features


@dataclass(frozen=True)
class HeadForm:
    """What a head computes: `kind` is linear, cosine or mlp; `inputs` is S, `hidden` the width of an mlp.

    A cosine head divides an image's features by their norm before its linear layer.
    """

    kind: str
    inputs: int
    hidden: int = 0


class ProbeHead(nn.Module):
    """Map features (B, D) to logits (B, K): choose S of them, standardise, and apply the layers of the form.

    Features are rounded to float16, as they are stored, so that stored and new ones give the same logits.
    """

    def __init__(self, form: HeadForm, num_outputs: int) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("columns", torch.arange(form.inputs))
        self.register_buffer("mean", torch.zeros(form.inputs))
        self.register_buffer("scale", torch.ones(form.inputs))
        self.hidden = nn.Linear(form.inputs, form.hidden) if form.hidden else None
        self.classifier = nn.Linear(form.hidden or form.inputs, num_outputs)

    def standardise(self, features: torch.Tensor) -> torch.Tensor:
        """Return the inputs of the layers, float32 (B, S)."""
        chosen = features[:, self.columns]
        if not chosen.requires_grad:  # a gradient would lose its small values in float16
            chosen = as_stored(chosen).float()
        standard = (chosen - self.mean) / self.scale
        if self.form.kind == "cosine":
            standard = normalize(standard, dim=1) * math.sqrt(self.form.inputs)
        return standard

    def layers(self, standard: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, K) of standardised features (B, S)."""
        return self.classifier(standard if self.hidden is None else gelu(self.hidden(standard)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardise(features))


class FeatureExtractor(nn.Module):
    """Map images (B, C, H, W) to features float32 (B, D) of a timm network without a classifier.

    Features are the global means of the last stages' outputs, then the input of the network's own classifier.
    On Flowers-102 the stages of an ImageNet network tell the classes apart better than its last layer, which
    is specialised on ImageNet's (RESULTS.md).
    """

    def __init__(self, backbone: nn.Module, name: str, channels: int, image_size: int) -> None:
        super().__init__()
        self.backbone, self.name = backbone, name
        self.stages = last_stages(backbone)
        with torch.inference_mode():
            self.eval()
            outputs = self._outputs(torch.zeros(1, channels, image_size, image_size))
        self.widths = [output.shape[1] for output in outputs]
        self.train()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._outputs(images), dim=1)

    def columns_of(self, chosen: str) -> list[int]:
        """Return the indices of a set of features: LAST, STAGES or ALL."""
        total, last = sum(self.widths), self.widths[-1]
        return list(
            {LAST: range(total - last, total), STAGES: range(total - last), ALL: range(total)}[chosen]
        )

    def _outputs(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the pooled outputs of the stages, and the last features, each float32 (B, ·)."""
        pooled: dict[str, torch.Tensor] = {}
        # hooks of one pass: permanent ones would belong to this object in its copies too
        handles = [
            last_module(self.backbone.get_submodule(name)).register_forward_hook(
                lambda module, inputs, output, name=name: pooled.__setitem__(name, self._pool(output))
            )
            for name in self.stages
        ]
        try:
            last = self.backbone(images)
        finally:
            for handle in handles:
                handle.remove()
        return [*(pooled[name] for name in self.stages), last.float().flatten(1)]

    def _pool(self, output: torch.Tensor) -> torch.Tensor:
        """Return the mean over positions of feature maps, or over tokens of patches, float32 (B, ·)."""
        if isinstance(output, (tuple, list)):
            output = output[0]
        if output.ndim == 4:
            positions = (1, 2) if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC" else (2, 3)
            return output.float().mean(dim=positions)
        if output.ndim == 3:
            return output[:, getattr(self.backbone, "num_prefix_tokens", 0) :].float().mean(dim=1)
        return output.float()


class JoinedExtractor(nn.Module):
    """Map images (B, C, H, W) to the features of several extractors, side by side.

    Images come in the normalisation of the first network and are renormalised for each of the others.
    `normalisations` are (mean, std) of each, per channel.
    """

    def __init__(self, parts: list[FeatureExtractor], normalisations: list[Normalisation]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.normalisations = normalisations
        self.widths = [width for extractor in parts for width in extractor.widths]
        self.stages = [stage for extractor in parts for stage in extractor.stages]

    @property
    def backbone(self) -> nn.Module:
        """Return the first network, whose blocks are drawn."""
        return self.parts[0].backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in self.normalisations[0])
        features = [self.parts[0](images)]
        for extractor, normalisation in zip(self.parts[1:], self.normalisations[1:], strict=True):
            own_mean, own_std = (images.new_tensor(values).view(-1, 1, 1) for values in normalisation)
            features.append(extractor((images * std + mean - own_mean) / own_std))
        return torch.cat(features, dim=1)

    def columns_of(self, chosen: str) -> list[int]:
        """Return the indices of a set of features of all extractors: LAST, STAGES or ALL."""
        columns, start = [], 0
        for extractor in self.parts:
            columns += [start + column for column in extractor.columns_of(chosen)]
            start += sum(extractor.widths)
        return columns


Extractor = FeatureExtractor | JoinedExtractor


class ProbedNetwork(nn.Module):
    """A feature extractor and a head; `frozen`: the extractor keeps its initial weights.

    Features of a frozen extractor are computed once for every image and view, and stored.
    """

    def __init__(self, extractor: Extractor, head: ProbeHead, frozen: bool) -> None:
        super().__init__()
        self.extractor, self.head, self.frozen = extractor, head, frozen

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.extractor(images)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features)

    @property
    def backbone(self) -> nn.Module:
        return self.extractor.backbone

    @property
    def pretrained_cfg(self) -> dict[str, object]:
        return self.backbone.pretrained_cfg

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that timm excludes from weight decay."""
        names = self.backbone.no_weight_decay() if hasattr(self.backbone, "no_weight_decay") else set()
        return {f"extractor.backbone.{name}" for name in names}


def recompute_activations(model: nn.Module, name: str) -> None:
    """Make the timm network `name` compute its activations again in the backward pass, which saves memory.

    Chen et al., Training deep nets with sublinear memory cost, 2016. Raise InputError for a network that
    cannot.
    """
    backbone = model.backbone if isinstance(model, ProbedNetwork) else model
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise InputError(
            f"model {name} cannot recompute activations: --set grad_checkpointing=false."
        ) from error


def as_stored(features: torch.Tensor) -> torch.Tensor:
    """Return features as float16; larger values become the largest float16."""
    return features.clamp(-HALF_MAX, HALF_MAX).half()


def last_module(stage: nn.Module) -> nn.Module:
    """Return the module whose output is that of a stage: of a sequence its last one.

    A network that computes activations again calls the modules of a sequence, and not the sequence.
    """
    while isinstance(stage, nn.Sequential) and len(stage):
        stage = stage[-1]
    return stage


def last_stages(backbone: nn.Module) -> list[str]:
    """Return the names of the last NUM_STAGES stages of a timm network, in execution order.

    They are the children of the container that holds the last feature map of timm's `feature_info`, or,
    where that is the network itself, the last modules of `feature_info`. Raise InputError for a network
    without them.
    """
    known = [entry["module"] for entry in getattr(backbone, "feature_info", []) if entry.get("module")]
    if not known:
        raise InputError("the network lists no stages (timm's feature_info), so it cannot be probed.")
    parent, _, last = known[-1].rpartition(".")
    container = backbone.get_submodule(parent)
    if not parent or not isinstance(container, (nn.Sequential, nn.ModuleList)):
        return known[-NUM_STAGES:]
    children = [name for name, _ in container.named_children()]
    end = children.index(last) + 1
    return [f"{parent}.{name}" for name in children[max(0, end - NUM_STAGES) : end]]


def build_extractor(
    name: str, image_size: int, channels: int, start: Start = FROM_SCRATCH, drop_path: float = 0.0
) -> FeatureExtractor:
    """Return the extractor of timm's network `name`. Raise InputError as build_backbone does."""
    backbone = build_backbone(name, 0, image_size, channels, start, drop_path)
    return FeatureExtractor(backbone, name, channels, image_size)
