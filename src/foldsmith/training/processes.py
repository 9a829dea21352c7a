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
from foldsmith.process.terminal import hide_bars


@dataclass(frozen=True)
class Processes:
    """This process: its rank, and the `count` of processes (world size); rank 0 alone writes and prints."""

    rank: int
    count: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def rank_and_count(self) -> tuple[int, int]:
        return (self.rank, self.count)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor summed over all processes, in place; the host does not wait for a GPU."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def align(self, model: nn.Module) -> None:
        """Copy the first process's batch statistics to all processes: on CPUs they are not synchronised."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)

    def share(self, value: Any) -> Any:
        """Return the first process's value in every process."""
        if self.count == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def join_batch(self, rows: torch.Tensor, start: int, count: int) -> torch.Tensor:
        """Return the whole batch of `count` in every process; `rows` are this process's, from `start` on."""
        if self.count == 1:
            return rows
        whole = rows.new_zeros((count, *rows.shape[1:]))
        whole[start : start + len(rows)] = rows
        return self.sum(whole)

    def own_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's share of the rows."""
        return np.array_split(rows, self.count)[self.rank]

    def join_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of all processes, in the order of their ranks, in every process."""
        if self.count == 1:
            return rows
        shares: list[Any] = [None] * self.count
        distributed.all_gather_object(shares, rows)
        return np.concatenate(shares)


ALONE = Processes(0, 1)


def join_processes(device: str) -> tuple[Processes, str]:
    """Join the processes that torchrun started; return them, and the `--device` of this process.

    Raise InputError for more processes than GPUs.
    """
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
        raise InputError(
            f"--nproc-per-node: more processes than GPUs; use at most {torch.cuda.device_count()}."
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
    """Join the processes for the block; at its end wait for all of them and leave the group.

    On failure skip the barrier: it would deadlock with processes that wait for this one.
    """
    yield join_processes(device)
    distributed.barrier()
    distributed.destroy_process_group()
