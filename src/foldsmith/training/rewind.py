"""Save and restore random streams and buffers, which a forward pass changes besides gradients."""

import torch
from torch import nn

from foldsmith.inference.compute import Compute

RandomState = tuple[torch.Tensor, torch.Tensor | None]


def random_state(compute: Compute) -> RandomState:
    """Return the state of the host's random stream, and of the GPU's; None on a CPU."""
    on_gpu = torch.cuda.get_rng_state(compute.device) if compute.on_gpu else None
    return torch.get_rng_state(), on_gpu


def set_random_state(state: RandomState, compute: Compute) -> None:
    on_host, on_gpu = state
    torch.set_rng_state(on_host)
    if on_gpu is not None:
        torch.cuda.set_rng_state(on_gpu, compute.device)


class Buffers:
    """A copy of a network's buffers, such as the running statistics of batch norm."""

    def __init__(self, model: nn.Module) -> None:
        buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        numbers = [buffer for buffer in buffers if buffer.is_floating_point()]
        counters = [buffer for buffer in buffers if not buffer.is_floating_point()]
        # one call copies all buffers of a kind
        self._copies = [(kind, [buffer.clone() for buffer in kind]) for kind in (numbers, counters) if kind]

    def keep(self) -> None:
        for buffers, copies in self._copies:
            torch._foreach_copy_(copies, buffers)

    def restore(self) -> None:
        """Restore the buffers that `keep` copied last."""
        for buffers, copies in self._copies:
            torch._foreach_copy_(buffers, copies)
