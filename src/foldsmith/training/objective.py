"""What a step lowers: cross entropy, reconstruction, or both."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import mse_loss

from foldsmith.training.compute import Compute

# model, images (B, C, H, W) float32, labels (B,) or targets (B, K) -> the loss, and how many images were
# classified rightly
Objective = Callable[[nn.Module, torch.Tensor, torch.Tensor, Compute], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Classification:
    """A loss of logits and labels, such as cross entropy."""

    loss_function: nn.Module

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with compute.autocast():
            logits = model(images)  # (B, K)
        return self.loss_function(logits.float(), labels), count_correct(logits, labels)


@dataclass(frozen=True)
class Reconstruction:
    """The mean squared error of an autoencoder's reconstruction; no label is looked at, so none is right."""

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with compute.autocast():
            reconstructed = model.reconstruct(images)
        return mse_loss(reconstructed.float(), images), torch.full((), float("nan"), device=images.device)


@dataclass(frozen=True)
class ClassificationAndReconstruction:
    """Both at once: the classification's loss + weight x the mean squared error."""

    loss_function: nn.Module
    weight: float

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with compute.autocast():
            logits, reconstructed = model.classify_and_reconstruct(images)
        loss = self.loss_function(logits.float(), labels)
        return loss + self.weight * mse_loss(reconstructed.float(), images), count_correct(logits, labels)


def build_objective(loss_function: nn.Module, reconstruction_weight: float) -> Objective:
    """The objective of a classifier; with a weight, an autoencoder's reconstruction counts as well."""
    if reconstruction_weight:
        return ClassificationAndReconstruction(loss_function, reconstruction_weight)
    return Classification(loss_function)


def count_correct(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of labels (B,); of targets (B, K) the class that has most of them counts."""
    labels = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return (logits.detach().argmax(dim=1) == labels).sum()
