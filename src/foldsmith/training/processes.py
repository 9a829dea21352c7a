"""Several processes that train one network, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.process.terminal import hide_bars


@dataclass(frozen=True)
class Processes:
    """This process among `count`, and which one it is; the first one alone writes files and lines."""

    rank: int
    count: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        return (self.rank, self.count)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place; a GPU adds without the host waiting."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def least(self, tensor: torch.Tensor) -> torch.Tensor:
        """The smallest of each number over all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
        return tensor

    def align(self, model: nn.Module) -> None:
        """Gives every process the first one's batch statistics: on CPUs each has its own."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)

    def share(self, what: Any) -> Any:
        """What the first process has, on every one."""
        if self.count == 1:
            return what
        held = [what]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def join_batch(self, part: torch.Tensor, start: int, count: int) -> torch.Tensor:
        """A batch of `count`, whose rows from `start` on are this process's part, on every one."""
        if self.count == 1:
            return part
        whole = part.new_zeros((count, *part.shape[1:]))
        whole[start : start + len(part)] = part
        return self.sum(whole)

    def my_part(self, rows: np.ndarray) -> np.ndarray:
        return np.array_split(rows, self.count)[self.rank]

    def join_parts(self, part: np.ndarray) -> np.ndarray:
        """The parts of all processes, one after the other, on every one."""
        if self.count == 1:
            return part
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, part)
        return np.concatenate(parts)


ALONE = Processes(0, 1)


class AgreedFault(MachineError):
    """A fault of the machine that every process has learned of: all end, and the first one says why."""


@contextmanager
def unsynchronised(model: nn.Module) -> Iterator[None]:
    """Within the block batch norm waits for no other process: each has the statistics of its own images."""
    norms = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
    groups = [norm.process_group for norm in norms]
    for norm in norms:
        norm.process_group = distributed.GroupMember.NON_GROUP_MEMBER
    try:
        yield
    finally:
        for norm, group in zip(norms, groups, strict=True):
            norm.process_group = group


def join_processes(device: str) -> tuple[Processes, str]:
    """Meets the other processes that torchrun started; returns them, and this process's own `--device`."""
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
        raise InputError(
            f"--nproc-per-node: more processes than GPUs; this machine has {torch.cuda.device_count()}."
        )
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if on_gpu else "gloo")
    if distributed.get_rank():
        hide_bars()
    return Processes(distributed.get_rank(), distributed.get_world_size()), device


@contextmanager
def meeting(device: str) -> Iterator[tuple[Processes, str]]:
    """Within the block the processes are joined; at its end they part, all at the same time.

    One that fails leaves without a farewell, which would wait for what the others still expect of it.
    """
    yield join_processes(device)
    distributed.barrier()
    distributed.destroy_process_group()
