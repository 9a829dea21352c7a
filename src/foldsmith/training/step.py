"""Forward and backward of one batch: in parts where memory is short, on several processes where there are."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from foldsmith.inference.compute import Compute
from foldsmith.inference.memory import first_sentence
from foldsmith.models.autoencoder import Autoencoder
from foldsmith.process.faults import MachineError
from foldsmith.process.terminal import say
from foldsmith.training.objective import Objective
from foldsmith.training.processes import ALONE, AgreedFault, Processes, unsynchronised
from foldsmith.training.sharpness import at_the_worst_nearby
from foldsmith.training.state import TrainingState


class Loss(nn.Module):
    """A network with its objective: images (B, C, H, W) and labels (B,) -> loss, how many were right."""

    def __init__(self, model: nn.Module, objective: Objective, compute: Compute) -> None:
        super().__init__()
        self.model, self.objective, self.compute = model, objective, compute

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.objective(self.model, images, labels, self.compute)


class Step:
    """The gradients of a batch, left in the parameters; the optimizer is the caller's.

    A batch may be computed in micro-batches of at most `micro_batch` images (0: whole). They give its mean
    loss and gradients, but batch norm sees one at a time. When a GPU's memory runs out, their size is halved
    and the batch done again, from the random numbers and batch statistics that it began with.

    Of several processes one that ran out in the midst of a batch would leave the others waiting for its
    gradients. So each finds out alone, without any of the others, what it has room for, and all take the
    smallest: before the first batch, and before whatever needs more memory than those until then.

    `sam` is the radius of sharpness-aware minimisation (0: none): the gradients are then those of a second
    pass with the same dropout, whose batch statistics do not count. Gradients are cut to a norm of
    `clip_grad` (0: as long as they are; Pascanu et al. 2013).
    """

    def __init__(
        self,
        state: TrainingState,
        objective: Objective,
        compute: Compute,
        micro_batch: int = 0,
        compiled: bool = False,
        processes: Processes = ALONE,
        clip_grad: float = 0.0,
        sam: float = 0.0,
    ) -> None:
        self.state, self.compute, self.processes, self.micro_batch = state, compute, processes, micro_batch
        self.clip_grad, self.sam, self.loss_weight = clip_grad, sam, objective.weight_of
        self.loss: nn.Module = Loss(state.model, objective, compute)
        self._alone = self.loss
        self._agreed: set[tuple[torch.Size, bool, bool]] = set()
        self._num_parts = 1
        if processes.count > 1:
            self.loss = DistributedDataParallel(
                self._alone,
                device_ids=[compute.device] if compute.on_gpu else None,
                # an autoencoder's decoder has no part in classification
                find_unused_parameters=isinstance(state.model, Autoencoder),
            )
        if compiled:
            self.loss.compile()
        # what a forward pass changes, and where it is kept until the batch is done; all of one kind
        # are copied at once
        buffers = [buffer for buffer in state.model.buffers() if buffer.numel()]
        numbers = [buffer for buffer in buffers if buffer.is_floating_point()]
        counters = [buffer for buffer in buffers if not buffer.is_floating_point()]
        self._kept = [(alike, [buffer.clone() for buffer in alike]) for alike in (numbers, counters) if alike]

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean loss of normalised images (B, C, H, W), and how many were classified rightly."""
        random = self._random_states() if self.sam else None
        figures = self._pass(images, labels)
        parameters = list(self.state.model.parameters())
        if random:
            with at_the_worst_nearby(parameters, self.sam):
                self._set_random(*random)
                self._keep_buffers()
                self._pass(images, labels, moved=True)
                self._restore_buffers()
        if self.clip_grad:
            self.state.scaler.unscale_(self.state.optimizer)
            nn.utils.clip_grad_norm_(parameters, self.clip_grad)
        return figures

    def _pass(
        self, images: torch.Tensor, labels: torch.Tensor, moved: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradients, once they fit into memory; `moved`: while the weights are kept elsewhere."""
        if self.processes.count == 1:
            return self._fitted(images, labels)
        # the same on every process, whose parts of a batch may differ by an image; an epoch's first batch is
        # its largest, and an optimizer holds nothing before its first update
        needed = (images.shape[1:], bool(self.state.optimizer.state), moved)
        if needed not in self._agreed:
            self._agree(images, labels)
            self._agreed.add(needed)
        parts = images.tensor_split(self._num_parts), labels.tensor_split(self._num_parts)
        try:
            return self._backward(self.loss, labels, *parts)
        except torch.OutOfMemoryError as error:
            size = (len(parts[0][0]) + 1) // 2
            raise MachineError(
                f"process {self.processes.rank}: {first_sentence(error)}, where it had sufficed before; "
                f"ask for less from the start: --again --set micro_batch={size}"
            ) from error

    def _fitted(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradients of this process alone, in micro-batches that fit into its memory."""
        random = self._random_states()
        self._keep_buffers()
        while True:
            size = min(self.micro_batch or len(labels), len(labels))
            try:
                return self._backward(self._alone, labels, images.split(size), labels.split(size))
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise
                reason = first_sentence(error)
            # outside of `except`: until there the error keeps the pass's tensors alive
            self.micro_batch = (size + 1) // 2
            if self.processes.count == 1:
                self._tell(reason)
            self._undo(*random)

    def _agree(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Finds the micro-batch that every process has room for; else all stays as it was.

        Raises AgreedFault, on every process, if one has no room for a single image.
        """
        before, random = self.micro_batch, self._random_states()
        try:
            with unsynchronised(self.state.model):
                self._fitted(images, labels)
            room = self.micro_batch or sys.maxsize
        except torch.OutOfMemoryError:
            room = 0
        self._undo(*random)
        told = torch.tensor([room, len(labels), -len(labels)], device=self.compute.device)
        room, smallest, largest = self.processes.least(told).tolist()
        if room == 0:
            raise AgreedFault(
                "a process ran out of memory with a single image; use a smaller --image-size or network"
            )
        self.micro_batch = 0 if room == sys.maxsize else room
        # as many parts on every process, for synchronised batch norm meets the others in each; and none
        # that is empty where a batch is an image smaller. Larger batches than this one may have been seen
        self._num_parts = max(self._num_parts, min(-(largest // room), smallest - 1))
        if self.micro_batch != before and self.processes.is_first:
            self._tell("out of memory")

    def _tell(self, reason: str) -> None:
        say(f"{reason}: from here on in micro-batches of {self.micro_batch}; batches stay as large")

    def _backward(
        self,
        network: nn.Module,
        labels: torch.Tensor,
        image_parts: Sequence[torch.Tensor],
        label_parts: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradients of the parts of a batch; of a network of several processes their mean."""
        whole = self.loss_weight(labels)
        share = self._share(whole) if network is self.loss else 1.0
        if len(image_parts) == 1 and self.processes.count == 1:
            loss, right = network(image_parts[0], labels)
            self.state.scaler.scale(loss).backward()
            return loss.detach(), right
        losses, rightly = [], []
        for index, (images, their_labels) in enumerate(zip(image_parts, label_parts, strict=True)):
            with self._gathered_later(index + 1 < len(image_parts)):
                loss, right = network(images, their_labels)
                weight = self.loss_weight(their_labels) / whole
                self.state.scaler.scale(loss * (weight * share)).backward()
            losses.append(loss.detach() * weight)
            rightly.append(right)
        return torch.stack(losses).sum(), torch.stack(rightly).sum()

    def _share(self, weight: torch.Tensor | float) -> torch.Tensor | float:
        """By what a process's mean is multiplied, so that the mean over processes is that over all images."""
        if self.processes.count == 1:
            return 1.0
        # filled on the device: a number that is copied there would be waited for
        total = torch.zeros((), device=self.compute.device) + weight
        return self.processes.count * weight / self.processes.sum(total)

    def _gathered_later(self, later: bool) -> AbstractContextManager:
        """Gradients of processes are averaged once a batch, after its last micro-batch."""
        return self.loss.no_sync() if later and self.processes.count > 1 else nullcontext()

    def _undo(self, random: torch.Tensor, cuda_random: torch.Tensor | None) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)
        self._restore_buffers()
        self._set_random(random, cuda_random)
        if cuda_random is not None:
            torch.cuda.empty_cache()

    def _keep_buffers(self) -> None:
        for buffers, kept in self._kept:
            torch._foreach_copy_(kept, buffers)

    def _restore_buffers(self) -> None:
        for buffers, kept in self._kept:
            torch._foreach_copy_(buffers, kept)

    def _random_states(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of the host, and of the GPU where there is one."""
        on_gpu = torch.cuda.get_rng_state(self.compute.device) if self.compute.on_gpu else None
        return torch.get_rng_state(), on_gpu

    def _set_random(self, random: torch.Tensor, cuda_random: torch.Tensor | None) -> None:
        torch.set_rng_state(random)
        if cuda_random is not None:
            torch.cuda.set_rng_state(cuda_random, self.compute.device)
