"""Resuming a training after any of its steps, to the same bytes: when to save, and how to stop."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from foldsmith.process.files import digest_of
from foldsmith.process.signals import Interrupted, StopRequest, deferred_stop
from foldsmith.training.checkpoint import Position, load_checkpoint, save_checkpoint
from foldsmith.training.epoch import Tally
from foldsmith.training.step import Step

# the least time between checkpoints after epochs: a short epoch is sooner repeated than saved
CHECKPOINT_SECONDS = 20.0
# within an epoch, a multiple of that
WITHIN_EPOCHS = 6


class Resume:
    """The checkpoint of a training and its `position`: loaded on construction, saved when it is due.

    `made_from` is the digest of all that the training depends on. A signal is heard within `stoppable` only:
    the step is finished and saved, then Interrupted is raised.

    Several processes save between epochs only, since each has random numbers of its own, which only the start
    of an epoch gives again. A signal ends them at once, since they cannot agree on a last step.
    """

    def __init__(self, path: Path, made_from: str, step: Step) -> None:
        self.path, self.step, self.processes = path, step, step.processes
        # devices, precisions and numbers of threads round differently: each needs checkpoints of its own
        compute = step.compute
        machine = [compute.device.type, compute.hardware, compute.precision]
        self.made_from = digest_of([made_from, *machine, self.processes.count])
        self.position = self._load()
        self._saved = time.monotonic()
        self._stop = StopRequest()

    def _load(self) -> Position:
        if not self.processes.is_first:
            self.processes.share(None)  # the first process may have to set a checkpoint aside
        position = load_checkpoint(self.path, self.step.state, self.made_from)
        if self.processes.is_first:
            self.processes.share(None)
        gradients = self.step.gradients
        if self.processes.count == 1:  # what did not fit before the interruption is not tried again
            gradients.micro_batch = position.micro_batch or gradients.micro_batch
        position.micro_batch = gradients.micro_batch
        return position

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Within the block the first signal saves the training at its next step or epoch, and ends it."""
        with deferred_stop() if self.processes.count == 1 else nullcontext(StopRequest()) as self._stop:
            yield
            self._save_if_due(math.inf)  # a signal since the last epoch

    def after_step(self, tally: Tally) -> None:
        """Save within a long epoch; its last step is saved with the epoch's row of the log."""
        if self.processes.count == 1 and tally.step < len(tally.losses):
            self.position.tally = tally
            self._save_if_due(CHECKPOINT_SECONDS * WITHIN_EPOCHS)

    def after_epoch(self, is_last: bool) -> None:
        """Save between epochs; after the last one only on a signal, since the weights are written next."""
        self._save_if_due(math.inf if is_last else CHECKPOINT_SECONDS)

    def _save_if_due(self, seconds: float) -> None:
        """Save on a signal, or so many seconds after the last time. Raise Interrupted on a signal."""
        self.position.micro_batch = self.step.gradients.micro_batch
        is_due = self._stop.signal or time.monotonic() - self._saved >= seconds
        if self.processes.is_first and is_due:
            save_checkpoint(self.path, self.step.state, self.position, self.made_from)
            self._saved = time.monotonic()
        if self._stop.signal:
            raise Interrupted(self._stop.signal)
