"""The device, precision, workers and processes of a training, and what is called with its log."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foldsmith.inference.compute import Compute, build_compute
from foldsmith.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Machine:
    """`--device`, `--precision` and `--workers` as typed, and the processes that train one network.

    `after_epoch` is called with the log.csv after every epoch, in the process that writes it.
    """

    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    processes: Processes = ALONE
    after_epoch: Callable[[Path], None] = lambda log: None

    def compute(self, mean: tuple[float, ...], std: tuple[float, ...], reconstructs: bool) -> Compute:
        """Return device and precision with this normalisation. Raise InputError as `build_compute` does."""
        return build_compute(self.device, self.precision, mean, std, reconstructs)
