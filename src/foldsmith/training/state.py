"""The state of a training: weights, their EMA, the optimizer and the loss scaler."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from foldsmith.inference.compute import Compute
from foldsmith.recipes import Recipe
from foldsmith.training.ema import EMA
from foldsmith.training.optimizer import build_optimizer


@dataclass(frozen=True)
class TrainingState:
    """All that a step changes. `load_state_dict` restores exactly what `state_dict` returned."""

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    freeze_norm: bool = False  # batch norm stays in evaluation mode

    def start_training(self) -> None:
        """Put the model in training mode."""
        self.model.train()
        if self.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema.decay else None,
            "ema_step": self.ema.step,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.ema.decay:
            self.ema.model.load_state_dict(state["ema"])
        self.ema.step = state["ema_step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def build_state(model: nn.Module, recipe: Recipe, compute: Compute) -> TrainingState:
    """Return the state before the first step; move the model to the device, in channels-last memory."""
    model = model.to(compute.device, memory_format=torch.channels_last)
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
    optimizer = build_optimizer(model, recipe)
    return TrainingState(model, EMA(model, recipe.ema_decay), optimizer, scaler, recipe.freeze_norm)
