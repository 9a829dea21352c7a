"""What a step lowers: cross entropy, reconstruction, or both."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import mse_loss

from foldsmith.inference.compute import Compute
from foldsmith.tasks import Task


class Objective(Protocol):
    """Model, images (B, C, H, W) float32, labels (B,) or targets (B, K) -> the loss, a mean over the images,
    and how many were classified rightly."""

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    def weight_of(self, labels: torch.Tensor) -> torch.Tensor | float:
        """By what the means of the parts of a batch are weighted, to be the mean of the batch."""
        ...


@dataclass(frozen=True)
class Classification:
    """A loss of logits and labels, such as cross entropy."""

    loss_function: nn.Module
    task: Task

    def weight_of(self, labels: torch.Tensor) -> torch.Tensor | float:
        return weight_of(self.loss_function, labels)

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with compute.autocast():
            logits = model(images)  # (B, K)
        return self.loss_function(logits.float(), labels), self.task.count_correct(logits, labels)


@dataclass(frozen=True)
class Reconstruction:
    """The mean squared error of an autoencoder's reconstruction; no label is looked at, so none is right."""

    def weight_of(self, labels: torch.Tensor) -> float:
        return float(len(labels))

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
    task: Task
    weight: float

    def weight_of(self, labels: torch.Tensor) -> torch.Tensor | float:
        """That of the classification; the reconstruction of a part of a batch is weighted alike."""
        return weight_of(self.loss_function, labels)

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with compute.autocast():
            logits, reconstructed = model.classify_and_reconstruct(images)
        loss = self.loss_function(logits.float(), labels)
        return loss + self.weight * mse_loss(reconstructed.float(), images), self.task.count_correct(
            logits, labels
        )


def weight_of(loss_function: nn.Module, labels: torch.Tensor) -> torch.Tensor | float:
    """The sum of the class weights of labels (B,) or targets (B, K), or how many images they are."""
    weights = getattr(loss_function, "weights", None)
    if weights is None:
        return float(len(labels))
    return weights[labels].sum() if labels.ndim == 1 else (labels @ weights).sum()


def build_objective(loss_function: nn.Module, task: Task, reconstruction_weight: float) -> Objective:
    """The objective of a classifier; with a weight, an autoencoder's reconstruction counts as well."""
    if reconstruction_weight:
        return ClassificationAndReconstruction(loss_function, task, reconstruction_weight)
    return Classification(loss_function, task)
