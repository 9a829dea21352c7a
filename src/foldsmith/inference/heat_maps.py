"""Class heat maps: which places of an image raise an output of a network.

Draelos & Carin, Use HiResCAM instead of Grad-CAM, 2020: feature maps times their gradients, summed over
channels. In a network that ends in a mean over positions and a linear layer they are what each place adds to
the logit. A probe has features of several stages, so the maps of these stages are summed.

B images · C channels · h, w positions of a feature map · D features of a token.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from foldsmith.inference.compute import Compute
from foldsmith.models import blocks_of
from foldsmith.models.probe import JoinedExtractor, ProbedNetwork, last_module

BATCH = 16  # images at a time: a backward pass keeps all activations


def heat_maps(model: nn.Module, compute: Compute, pixels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return how much each place raises an output of images uint8 (n, H, W, C), float32 (n, H, W) from 0 on.

    `outputs` (n,) are indices of logits. The sum over an image is the amount by which the feature maps raise
    its logit, where they do. Zeros are returned for a network without feature maps.
    """
    model.eval()
    maps = []
    for start in range(0, len(pixels), BATCH):
        images = compute.normalise(torch.from_numpy(pixels[start : start + BATCH]))
        chosen = torch.from_numpy(outputs[start : start + BATCH]).to(compute.device)
        maps.append(_raise_of(model, images, chosen).clamp(min=0).cpu().numpy())
    return np.concatenate(maps)


def _raise_of(model: nn.Module, images: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Return what each place adds to the logits `outputs` (B,) of images (B, C, H, W), (B, H, W)."""
    size = images.shape[2:]
    with torch.enable_grad(), _recorded(model, images) as recorded:
        logits = model(images).gather(1, outputs[:, None]).sum()
        gradients = torch.autograd.grad(logits, recorded, allow_unused=True)
    total = images.new_zeros(len(images), *size)
    for output, gradient in zip(recorded, gradients, strict=True):
        if gradient is None:
            continue
        added = _as_maps(model, output.detach() * gradient).sum(dim=1, keepdim=True)
        share = added.shape[2] * added.shape[3] / (size[0] * size[1])  # so that the sum stays
        total += share * interpolate(added, size, mode="bilinear", align_corners=False)[:, 0]
    return total


@contextmanager
def _recorded(model: nn.Module, images: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Collect the outputs of the model's sites within the block, cut off from what is before them."""
    recorded: list[torch.Tensor] = []

    def cut(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        leaf = output.detach().requires_grad_()
        recorded.append(leaf)
        return leaf.clone()  # a layer that works in place must not change the leaf

    handles = [site.register_forward_hook(cut) for site in _sites(model, images)]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _sites(model: nn.Module, images: torch.Tensor) -> list[nn.Module]:
    """Return the modules whose outputs are explained: a probe's stages, or the last block with positions.

    Of a network of tokens it is the last block but one: of the last one only the class token may be used.
    """
    if isinstance(model, ProbedNetwork):
        extractor = model.extractor
        parts = extractor.parts if isinstance(extractor, JoinedExtractor) else [extractor]
        return [last_module(part.backbone.get_submodule(name)) for part in parts for name in part.stages]
    shapes: dict[str, tuple[int, ...]] = {}
    blocks = blocks_of(model)
    handles = [
        block.register_forward_hook(
            lambda module, inputs, output, name=name: shapes.__setitem__(name, _shape_of(model, output))
        )
        for name, block in blocks.items()
    ]
    try:
        with torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    spatial = [name for name, shape in shapes.items() if len(shape) == 4 and shape[2] * shape[3] > 1]
    if not spatial:
        return []
    tokens = len(spatial) > 1 and hasattr(model, "num_prefix_tokens") and _is_tokens(model)
    return [blocks[spatial[-2 if tokens else -1]]]


def _is_tokens(model: nn.Module) -> bool:
    return getattr(model, "output_fmt", "") != "NHWC" and hasattr(model, "patch_embed")


def _shape_of(model: nn.Module, output: object) -> tuple[int, ...]:
    """Return the shape (B, C, h, w) of a block's output; empty if it has no positions."""
    if not isinstance(output, torch.Tensor):  # an LSTM's steps, say
        return ()
    return tuple(_as_maps(model, output).shape)


def _as_maps(model: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """Return a block's output as feature maps (B, C, h, w); steps that form no square stay (B, steps, D)."""
    backbone = model.backbone if isinstance(model, ProbedNetwork) else model
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if getattr(backbone, "output_fmt", "") == "NHWC" else output
    if output.ndim != 3 or not hasattr(backbone, "num_prefix_tokens"):
        return output
    patches = output[:, backbone.num_prefix_tokens :]  # (B, h w, D)
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        return output
    return patches.transpose(1, 2).reshape(len(output), -1, side, side)
