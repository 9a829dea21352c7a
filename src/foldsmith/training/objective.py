"""The objective that training minimises: cross entropy, reconstruction, or both."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import mse_loss

from foldsmith.inference.compute import Compute
from foldsmith.tasks import Task


class Objective(Protocol):
    """A function of model, images float32 (B, C, H, W), and labels (B,) or soft targets (B, K).

    It returns the loss, a mean over the images, and the number of images classified correctly.
    """

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, compute: Compute
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    def weight_of(self, labels: torch.Tensor) -> torch.Tensor | float:
        """Return the weight of a micro-batch's mean loss in the mean of its batch."""
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
    """The mean squared error of an autoencoder's reconstruction; without labels the number correct is NaN."""

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
    """The sum of the classification loss and `weight` times the reconstruction's mean squared error."""

    loss_function: nn.Module
    task: Task
    weight: float

    def weight_of(self, labels: torch.Tensor) -> torch.Tensor | float:
        """Return the weight of the classification loss, which the reconstruction loss shares."""
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
    """Return the sum of the class weights of labels (B,) or targets (B, K); without weights B."""
    weights = getattr(loss_function, "weights", None)
    if weights is None:
        return float(len(labels))
    return weights[labels].sum() if labels.ndim == 1 else (labels @ weights).sum()


def build_objective(loss_function: nn.Module, task: Task, reconstruction_weight: float) -> Objective:
    """Return the objective of a classifier; a weight above 0 adds an autoencoder's reconstruction loss."""
    if reconstruction_weight:
        return ClassificationAndReconstruction(loss_function, task, reconstruction_weight)
    return Classification(loss_function, task)
