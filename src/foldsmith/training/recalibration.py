"""Recompute batch norm's statistics for averaged weights, which no training batch has passed through."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from foldsmith.inference.compute import Compute
from foldsmith.training.processes import ALONE, Processes


@torch.no_grad()
def recalibrate(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    compute: Compute,
    processes: Processes = ALONE,
) -> None:
    """Replace batch norm's running statistics by the plain mean of the statistics of these batches.

    Averaged weights have other activations than the average of their activations (Izmailov et al. 2018). All
    other layers are in evaluation mode, without dropout. Several processes share every batch.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then computes the plain mean
        norm.train()
    for images, _ in batches:
        with compute.autocast():
            model(compute.normalise(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for statistics in (norm.running_mean, norm.running_var):
            if statistics is not None:
                processes.sum(statistics).div_(processes.count)
    model.eval()
