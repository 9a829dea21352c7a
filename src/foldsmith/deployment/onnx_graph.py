"""Trained networks as one ONNX graph, from uint8 images to the predictions of a run.

B images · C channels · K outputs.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from foldsmith.augment.colours import LUMA
from foldsmith.errors import InputError
from foldsmith.inference.compute import Compute
from foldsmith.inference.predictor import ImageForm, Network
from foldsmith.inference.views import VIEWS
from foldsmith.models.probe import ProbedNetwork
from foldsmith.tasks import Task
from foldsmith.tasks.probabilities import FLOOR

INPUT = "images"
MOST_BYTES = 1.9e9  # of weights: a file of ONNX, a protocol buffer, ends at 2 GiB


class Normalisation(nn.Module):
    """Map images uint8 (B, H, W, 3 or 4) to float32 (B, C, H, W), as Compute.normalise does."""

    def __init__(self, compute: Compute) -> None:
        super().__init__()
        self.register_buffer("offset", compute.offset.cpu())
        self.register_buffer("scale", compute.scale.cpu())
        self.register_buffer("luma", torch.tensor(LUMA.tolist()) if len(compute.offset) == 1 else None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images.float().permute(0, 3, 1, 2)
        if self.luma is not None:
            values = (values * self.luma.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        return (values - self.offset) / self.scale


class PredictingNetworks(nn.Module):
    """Map images uint8 (B, H, W, C) to predictions float32 (B, K): means over networks and views.

    Networks that share an extractor pass each view through it once.
    """

    def __init__(self, networks: Sequence[Network], views: Sequence[str], task: Task) -> None:
        super().__init__()
        self.models = nn.ModuleList([network.model for network in networks])
        self.normalisations = nn.ModuleList([Normalisation(network.compute) for network in networks])
        self.views, self.task = tuple(views), task

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: dict[tuple[int, str], torch.Tensor] = {}
        predictions = []
        for model, normalise in zip(self.models, self.normalisations, strict=True):
            normalised = normalise(images)
            logits = [self._logits(model, view, normalised, features) for view in self.views]
            predictions += [self.task.activate(view) for view in logits]
        return finish(torch.stack(predictions).mean(dim=0), self.task)

    def _logits(
        self,
        model: nn.Module,
        view: str,
        normalised: torch.Tensor,
        features: dict[tuple[int, str], torch.Tensor],
    ) -> torch.Tensor:
        """Return the logits (B, K) of a view; `features` are those of extractors and views so far."""
        if not isinstance(model, ProbedNetwork):
            return model(VIEWS[view](normalised))
        key = id(model.extractor), view
        if key not in features:
            features[key] = model.extractor(VIEWS[view](normalised))
        return model.head(features[key])


def finish(predictions: torch.Tensor, task: Task) -> torch.Tensor:
    """Return predictions (B, K) as the task saves them: `task.finish` for tensors."""
    if task.predictions_key == "values":
        return predictions
    if not task.single_label:
        return predictions.clamp(float(FLOOR), 1 - float(FLOOR))
    floored = predictions.clamp(min=2 * float(FLOOR))
    return floored / floored.sum(dim=1, keepdim=True)


def require_packages() -> None:
    """Raise InputError without the packages that write and run ONNX."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed, and exporting needs it: "
            ".venv/bin/python -m pip install -r requirements-export.txt"
        ) from error


def save_graph(
    path: Path, networks: Sequence[Network], views: Sequence[str], task: Task, form: ImageForm
) -> None:
    """Write networks on the CPU as an ONNX file for batches of any length.

    The exporter is torch's by torch.export: the older one, by tracing, cannot write a global maximum over
    images of a batch of any length. Raise InputError for weights too large for one file.
    """
    graph = PredictingNetworks(networks, views, task).eval().requires_grad_(False)
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict(keep_vars=True).values())
    if size > MOST_BYTES:
        raise InputError(
            f"{path.name} would have {size / 1e9:.1f} GB of weights, and a file of ONNX holds 2 GB; "
            "export a file for each fold (--folds each), or fewer seeds."
        )
    example = torch.zeros((2, form.size, form.size, form.channels), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own functions
        torch.onnx.export(
            graph,
            (example,),
            path,
            dynamo=True,
            input_names=[INPUT],
            output_names=[task.predictions_key],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )


def run_graphs(paths: Sequence[Path], images: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the means of ONNX files' predictions of images uint8 (n, H, W, C), float32 (n, K)."""
    import onnxruntime

    outputs = []
    for path in paths:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        outputs.append(np.concatenate([session.run(None, {INPUT: batch})[0] for batch in batches]))
    return np.mean(outputs, axis=0)
