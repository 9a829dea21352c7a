"""Whether exported graphs predict what the run predicts.

n images · K outputs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foldsmith.deployment.onnx_graph import run_graphs
from foldsmith.errors import InputError
from foldsmith.inference.predictor import Network
from foldsmith.models.probe import ProbedNetwork
from foldsmith.tasks import Task

BATCH_SIZES = (1, 7, 32)
# the largest difference of a probability in fp32: rounding alone gives up to 1e-5
TOLERANCE = 1e-4
# of a probe, whose features are rounded to float16, as they are stored: a last bit may fall either way
PROBE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """The largest differences of exported predictions to the run's in fp32, by batch size.

    Those of numbers are in units of their scale, the standard deviation of the labels.
    """

    tolerance: float
    images: int
    differences: dict[str, float]

    def facts(self) -> dict[str, Any]:
        """Return the entries of parity.json."""
        return asdict(self)


def tolerance_of(networks: Sequence[Network]) -> float:
    """Return the largest difference that an export of these networks may have."""
    probed = any(isinstance(network.model, ProbedNetwork) for network in networks)
    return PROBE_TOLERANCE if probed else TOLERANCE


def require_parity(
    paths: Sequence[Path], pixels: np.ndarray, expected: np.ndarray, task: Task, tolerance: float
) -> Parity:
    """Return the parity of graphs on images uint8 (n, H, W, C) with expected predictions (n, K).

    Raise InputError where a difference exceeds the tolerance, or is not finite.
    """
    differences = {
        str(size): largest_difference(run_graphs(paths, pixels, size), expected, task) for size in BATCH_SIZES
    }
    worst = max(differences, key=lambda size: np.nan_to_num(differences[size], nan=np.inf))
    if not differences[worst] <= tolerance:
        raise InputError(
            f"the exported graph predicts otherwise than the run: by up to {differences[worst]:.1e} at batch "
            f"size {worst} on {len(pixels)} held-out images, more than {tolerance:.0e}; nothing is exported."
        )
    return Parity(tolerance, len(pixels), differences)


def largest_difference(predictions: np.ndarray, expected: np.ndarray, task: Task) -> float:
    """Return the largest difference of predictions (n, K); of numbers in units of their scale."""
    scale = np.array(task.scaling)[:, 1] if task.scaling else 1.0
    return float((np.abs(predictions.astype(np.float64) - expected) / scale).max())
