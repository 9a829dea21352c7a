"""Muon (Jordan et al. 2024) in the number type that the hardware multiplies fast."""

from collections.abc import Callable
from typing import Any

import torch
from timm.optim import Muon
from timm.optim.muon import get_lr_scale, reshape_for_muon, zeropower_via_newtonschulz

# of the Newton-Schulz iteration, one row per step: timm's "quintic", from modded-nanogpt
COEFFICIENTS = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


class TypedMuon(Muon):
    """timm's Muon with the Newton-Schulz iteration in `compute_type`.

    timm computes it in bfloat16, which CPUs without such instructions emulate, at an eighth of the speed of
    float32. Parameter groups with `use_muon` are updated by Muon, the others by AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        momentum: float,
        nesterov: bool,
        compute_type: torch.dtype,
    ) -> None:
        super().__init__(groups, lr=lr, momentum=momentum, nesterov=nesterov)
        self.compute_type = compute_type

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Take timm's AdamW step on the groups without `use_muon`, then a Muon step on the others."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["use_muon"]]
            super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for tensor in group["params"] if group["use_muon"] else ():
                if tensor.grad is not None:
                    self._move(tensor, tensor.grad, group)

    def _move(self, tensor: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        """Update a matrix or filter along its orthogonalised momentum.

        The step is scaled to the length of AdamW's (Liu et al., Muon is Scalable for LLM Training, 2025).
        """
        state, momentum = self.state[tensor], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(tensor)
        tensor.mul_(1 - group["lr"] * group["weight_decay"])
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(average, momentum) if group["nesterov"] else average
        matrix, shape = reshape_for_muon(update)  # (out, in, h, w) -> (out, in * h * w)
        matrix = zeropower_via_newtonschulz(matrix, len(COEFFICIENTS), COEFFICIENTS, dtype=self.compute_type)
        tensor.add_(matrix.reshape(shape), alpha=-group["lr"] * get_lr_scale(matrix.shape, "match_rms_adamw"))
