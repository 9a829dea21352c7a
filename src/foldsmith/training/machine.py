"""The device, precision, workers and processes of a training."""

from dataclasses import dataclass

from foldsmith.inference.compute import Compute, build_compute
from foldsmith.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Machine:
    """`--device`, `--precision` and `--workers` as typed, and the processes that train one network."""

    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    processes: Processes = ALONE

    def compute(self, mean: tuple[float, ...], std: tuple[float, ...], reconstructs: bool) -> Compute:
        """Return device and precision with this normalisation. Raise InputError as `build_compute` does."""
        return build_compute(self.device, self.precision, mean, std, reconstructs)
