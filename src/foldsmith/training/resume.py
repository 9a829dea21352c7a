"""Save and resume a training: after any step, with the same bytes as without the interruption."""

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

# shortest time between checkpoints at the end of epochs: repeating a short epoch is cheaper than saving it
CHECKPOINT_SECONDS = 20.0
# multiple of that time between checkpoints within an epoch
WITHIN_EPOCHS = 6


class Resume:
    """The checkpoint of a training and its `position`: loaded on construction, saved when it is due.

    `provenance_digest` is the digest of the training's inputs. Within `stoppable` a signal lets the step
    finish, saves, and raises Interrupted.

    Several processes save only between epochs: each has its own random stream, which is seeded at the start
    of an epoch. A signal ends them at once, because they cannot agree on a last step.
    """

    def __init__(self, path: Path, provenance_digest: str, step: Step) -> None:
        self.path, self.step, self.processes = path, step, step.processes
        # devices, precisions and numbers of processes round differently: none resumes another's checkpoint
        compute = step.compute
        machine = [compute.device.type, compute.hardware, compute.precision]
        self.provenance_digest = digest_of([provenance_digest, *machine, self.processes.count])
        self.position = self._load()
        self._saved = time.monotonic()
        self._stop = StopRequest()

    def _load(self) -> Position:
        """Load the checkpoint, the first process before the others; return the position."""
        if not self.processes.is_first:
            self.processes.share(None)  # wait: the first process renames a checkpoint that cannot be used
        position = load_checkpoint(self.path, self.step.state, self.provenance_digest)
        if self.processes.is_first:
            self.processes.share(None)
        gradients = self.step.gradients
        if self.processes.count == 1:  # a batch size that did not fit before the interruption is not retried
            gradients.micro_batch = position.micro_batch or gradients.micro_batch
        position.micro_batch = gradients.micro_batch
        return position

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Handle a signal within the block: save after the step, and raise Interrupted."""
        with deferred_stop() if self.processes.count == 1 else nullcontext(StopRequest()) as self._stop:
            yield
            self._save_if_due(math.inf)  # a signal after the last epoch

    def after_step(self, tally: Tally) -> None:
        """Save within a long epoch if it is due; the last step is saved by `after_epoch`."""
        if self.processes.count == 1 and tally.step < len(tally.losses):
            self.position.tally = tally
            self._save_if_due(CHECKPOINT_SECONDS * WITHIN_EPOCHS)

    def after_epoch(self, is_last: bool) -> None:
        """Save between epochs if it is due; after the last one on a signal only: weights are written next."""
        self._save_if_due(math.inf if is_last else CHECKPOINT_SECONDS)

    def _save_if_due(self, seconds: float) -> None:
        """Save on a signal, or `seconds` after the last save. Raise Interrupted on a signal."""
        self.position.micro_batch = self.step.gradients.micro_batch
        is_due = self._stop.signal or time.monotonic() - self._saved >= seconds
        if self.processes.is_first and is_due:
            save_checkpoint(self.path, self.step.state, self.position, self.provenance_digest)
            self._saved = time.monotonic()
        if self._stop.signal:
            raise Interrupted(self._stop.signal)
