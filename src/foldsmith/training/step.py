"""One training step up to the optimizer: the gradients of a batch, with optional SAM and clipping."""

import torch
from torch import nn

from foldsmith.data.loader import EpochBatches
from foldsmith.inference.compute import Compute
from foldsmith.recipes import Recipe
from foldsmith.training.gradients import Figures, Gradients, SharedGradients, count_micro_batches
from foldsmith.training.objective import Objective
from foldsmith.training.processes import Processes
from foldsmith.training.rewind import Buffers, random_state, set_random_state
from foldsmith.training.sharpness import at_the_worst_nearby
from foldsmith.training.state import TrainingState


class Step:
    """A function that computes the gradients of a batch in the parameters; the caller updates the weights.

    `sam` is the radius of sharpness-aware minimisation (0: none). `clip_grad` is the largest norm of the
    gradients (0: no clipping; Pascanu et al. 2013).
    """

    def __init__(
        self, gradients: Gradients | SharedGradients, sam: float = 0.0, clip_grad: float = 0.0
    ) -> None:
        self.gradients, self.sam, self.clip_grad = gradients, sam, clip_grad
        self.state, self.compute, self.processes = gradients.state, gradients.compute, gradients.processes
        self._buffers = Buffers(self.state.model) if sam else None

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> Figures:
        """Return the mean loss of normalised images (B, C, H, W), and the number classified correctly."""
        figures = self._sharpness_aware(images, labels) if self.sam else self.gradients(images, labels)
        if self.clip_grad:
            self.state.scaler.unscale_(self.state.optimizer)
            nn.utils.clip_grad_norm_(self.state.model.parameters(), self.clip_grad)
        return figures

    def _sharpness_aware(self, images: torch.Tensor, labels: torch.Tensor) -> Figures:
        """Compute the gradients of a second pass, at the highest loss nearby; return the first's figures.

        The second pass has the same dropout, and leaves the batch statistics unchanged.
        """
        random = random_state(self.compute)
        figures = self.gradients(images, labels)
        with at_the_worst_nearby(self.state.model.parameters(), self.sam):
            set_random_state(random, self.compute)
            self._buffers.keep()
            self.gradients(images, labels)
            self._buffers.restore()
        return figures


def build_step(
    state: TrainingState,
    objective: Objective,
    compute: Compute,
    recipe: Recipe,
    batches: EpochBatches,
    processes: Processes,
) -> Step:
    """Return the step of a recipe, for one process or for several that share every batch."""
    gradients: Gradients | SharedGradients
    if processes.count == 1:
        gradients = Gradients(state, objective, compute, recipe.micro_batch)
    else:
        num_micro_batches = count_micro_batches(batches, recipe.micro_batch)
        gradients = SharedGradients(
            state, objective, compute, processes, recipe.micro_batch, num_micro_batches
        )
    if recipe.compile:
        gradients.network.compile()
    return Step(gradients, recipe.sam, recipe.clip_grad)
