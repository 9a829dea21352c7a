"""The gradients of one batch, in micro-batches if memory is short, or spread over several processes."""

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from foldsmith.data.loader import EpochBatches
from foldsmith.inference.compute import Compute
from foldsmith.inference.memory import first_sentence
from foldsmith.models.autoencoder import Autoencoder
from foldsmith.process.faults import MachineError
from foldsmith.process.terminal import say
from foldsmith.training.objective import Objective
from foldsmith.training.processes import ALONE, Processes
from foldsmith.training.rewind import Buffers, RandomState, random_state, set_random_state
from foldsmith.training.state import TrainingState

# the mean loss of a batch, and the number of images classified correctly
Figures = tuple[torch.Tensor, torch.Tensor]
Weight = torch.Tensor | float


class ModelWithObjective(nn.Module):
    """A module that maps images (B, C, H, W) and labels (B,) to the loss and the number correct."""

    def __init__(self, model: nn.Module, objective: Objective, compute: Compute) -> None:
        super().__init__()
        self.model, self.objective, self.compute = model, objective, compute

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> Figures:
        return self.objective(self.model, images, labels, self.compute)


class Gradients:
    """The gradients of a batch in one process, added to those of the parameters.

    A batch is computed in micro-batches of at most `micro_batch` images (0: whole). Loss and gradients are
    those of the batch; batch norm uses statistics of micro-batches. If a GPU's memory runs out, the size is
    halved and the batch repeated, with the same random numbers and initial batch statistics.
    """

    processes = ALONE

    def __init__(
        self, state: TrainingState, objective: Objective, compute: Compute, micro_batch: int = 0
    ) -> None:
        self.state, self.compute, self.micro_batch = state, compute, micro_batch
        self.weight_of = objective.weight_of
        self.network = ModelWithObjective(state.model, objective, compute)
        self._buffers = Buffers(state.model)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> Figures:
        """Return the mean loss of normalised images (B, C, H, W), and the number classified correctly.

        Raise torch.OutOfMemoryError if one image alone does not fit.
        """
        random = random_state(self.compute)
        self._buffers.keep()
        while True:
            size = min(self.micro_batch or len(labels), len(labels))
            try:
                return self._backward(images, labels, size)
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise
                reason = first_sentence(error)
            # outside of `except`, where the error would keep the tensors of the pass alive
            self.micro_batch = (size + 1) // 2
            say(f"{reason}: from here on in micro-batches of {self.micro_batch}; the batch size is unchanged")
            self._undo(random)

    def _backward(self, images: torch.Tensor, labels: torch.Tensor, size: int) -> Figures:
        scaler = self.state.scaler
        if size == len(labels):
            loss, correct = self.network(images, labels)
            scaler.scale(loss).backward()
            return loss.detach(), correct
        micro_batches = list(zip(images.split(size), labels.split(size), strict=True))
        whole = self.weight_of(labels)
        weights = [self.weight_of(labels) / whole for _, labels in micro_batches]
        return accumulate(self.network, scaler, micro_batches, weights)

    def _undo(self, random: RandomState) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)
        self._buffers.restore()
        set_random_state(random, self.compute)
        if self.compute.on_gpu:
            torch.cuda.empty_cache()


class SharedGradients:
    """The gradients of a batch that is spread over several processes: in each the mean over all images.

    Every process has the same number of micro-batches, because synchronised batch norm waits for the other
    processes in each of them. `micro_batch` is the recipe's size, for run.json.
    """

    def __init__(
        self,
        state: TrainingState,
        objective: Objective,
        compute: Compute,
        processes: Processes,
        micro_batch: int = 0,
        num_micro_batches: int = 1,
    ) -> None:
        self.state, self.compute, self.processes = state, compute, processes
        self.micro_batch, self.num_micro_batches = micro_batch, num_micro_batches
        self.weight_of = objective.weight_of
        self.network = DistributedDataParallel(
            ModelWithObjective(state.model, objective, compute),
            device_ids=[compute.device] if compute.on_gpu else None,
            # classification does not use an autoencoder's decoder
            find_unused_parameters=isinstance(state.model, Autoencoder),
        )

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> Figures:
        """Return the mean loss of this process's images (B, C, H, W), and the number correct.

        Raise MachineError if memory runs out. The batch is not repeated: all processes would have to agree.
        """
        count = self.num_micro_batches
        micro_batches = list(zip(images.tensor_split(count), labels.tensor_split(count), strict=True))
        whole = self.weight_of(labels)
        weights = [self.weight_of(labels) / whole for _, labels in micro_batches]
        share = self._share(whole)
        try:
            return accumulate(self.network, self.state.scaler, micro_batches, weights, share)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory(len(micro_batches[0][1]), error) from error

    def _share(self, weight: Weight) -> Weight:
        """Return the factor for this process's mean with which the mean over processes is one over images."""
        # computed on the device: copying a number there would wait for it
        total = torch.zeros((), device=self.compute.device) + weight
        return self.processes.count * weight / self.processes.sum(total)

    def _out_of_memory(self, size: int, error: torch.OutOfMemoryError) -> MachineError:
        remedy = "use a smaller --image-size or network"
        if size > 1:
            remedy = f"run the command again with --set micro_batch={(size + 1) // 2}"
        images = f"{size} images" if size > 1 else "a single image"
        return MachineError(f"process {self.processes.rank}: {first_sentence(error)} with {images}; {remedy}")


def accumulate(
    network: nn.Module,
    scaler: torch.amp.GradScaler,
    micro_batches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    weights: Sequence[Weight],
    share: Weight = 1.0,
) -> Figures:
    """Accumulate the gradients of micro-batches (images, labels); return their mean loss and number correct.

    `weights` are those of the micro-batches in the mean of the batch; `share` is that of this process.
    """
    losses, corrects = [], []
    for index, ((images, labels), weight) in enumerate(zip(micro_batches, weights, strict=True)):
        waits = isinstance(network, DistributedDataParallel) and index + 1 < len(micro_batches)
        # processes average their gradients once per batch, after its last micro-batch
        with network.no_sync() if waits else nullcontext():
            loss, correct = network(images, labels)
            scaler.scale(loss * (weight * share)).backward()
        losses.append(loss.detach() * weight)
        corrects.append(correct)
    return torch.stack(losses).sum(), torch.stack(corrects).sum()


def count_micro_batches(batches: EpochBatches, micro_batch: int) -> int:
    """Return the number of micro-batches of every process's share of any batch.

    They have at most `micro_batch` images (0: the whole share), or one more if a micro-batch of the smallest
    share would otherwise be empty.
    """
    if micro_batch == 0:
        return 1
    num_processes = batches.rank_and_count[1]
    # the first batch of an epoch is its largest, the last its smallest
    (_, largest), (_, smallest) = batches.shard_of(0), batches.shard_of(len(batches) - 1)
    count = math.ceil(math.ceil(largest / num_processes) / micro_batch)
    return max(1, min(count, smallest // num_processes))
