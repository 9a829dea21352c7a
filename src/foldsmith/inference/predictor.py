"""Predicting image files, or pixels, as a run predicts its test images: all networks, all views.

n images · C channels · K outputs.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foldsmith.data.cache import channels_of, depth_of, run_cache_path
from foldsmith.data.images import DEPTH, decode_image, resize_image
from foldsmith.data.loader import prefetch
from foldsmith.evaluation.predictions import average_predictions
from foldsmith.inference.compute import Compute, choose_devices
from foldsmith.inference.frozen import digests_of, feature_batches
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.networks import FoldNetworks
from foldsmith.inference.predict import ViewAverage, predict
from foldsmith.models.probe import ProbedNetwork
from foldsmith.process.machine import usable_cores
from foldsmith.recipes import recipe_of
from foldsmith.run.identity import load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.tasks import Task

CHUNK = 256  # images that are decoded and predicted at a time


@dataclass(frozen=True)
class ImageForm:
    """How image files become the pixels of a run: side, bits of 16-bit images, channels.

    `streamed` JPEGs are decoded no larger than needed, as with cache=off.
    """

    size: int
    depth: int = DEPTH
    channels: int = 3
    streamed: bool = False

    @classmethod
    def of_run(cls, run: RunPaths) -> "ImageForm":
        """Return the form of a prepared run's images."""
        recipe, cache = load_identity(run)["recipe"], run_cache_path(run)
        return cls(recipe["image_size"], depth_of(cache), channels_of(cache), not recipe["cache"])

    def read(self, path: Path) -> np.ndarray:
        """Return an image, uint8 (size, size, C). Raise ValueError if it cannot be decoded."""
        smallest = self.size if self.streamed else None
        return resize_image(decode_image(path, smallest, self.depth, self.channels), self.size)


@dataclass(frozen=True)
class Network:
    """A trained network on its device."""

    model: nn.Module
    compute: Compute

    @property
    def is_frozen(self) -> bool:
        """Return whether the network is a probe on an extractor that kept its initial weights."""
        return isinstance(self.model, ProbedNetwork) and self.model.frozen


@dataclass(frozen=True)
class RunPredictor:
    """The networks of a run, in the order of its folds and seeds, with the views and the form of its images.

    Probes with the same frozen extractor share it, so that an image passes through it once.
    """

    task: Task
    networks: Sequence[Network]
    views: Sequence[str]
    form: ImageForm
    batch_limit: BatchLimit

    @classmethod
    def of_run(
        cls, run: RunPaths, fold_runs: Sequence[dict[str, Any]], device: str, precision: str
    ) -> "RunPredictor":
        """Return the predictor of a run; `fold_runs` are run.json of the folds that predict.

        `device` and `precision` are those of the command line; networks take turns on several devices. Raise
        InputError as load_trained does.
        """
        recipe = recipe_of(load_identity(run)["recipe"])  # its views may be others than a fold's
        devices = choose_devices(device)
        folds = [
            FoldNetworks.of_run(run, facts, str(devices[index % len(devices)]), precision)
            for index, facts in enumerate(fold_runs)
        ]
        networks = [Network(model, compute) for fold in folds for model, compute in fold.load()]
        share_extractors(networks)
        limit = BatchLimit(recipe.predict_batch_size)
        return cls(folds[0].task, networks, recipe.views, ImageForm.of_run(run), limit)

    def limited(self, networks: Sequence[Network], views: Sequence[str]) -> "RunPredictor":
        """Return the predictor with some of its networks and views."""
        return replace(self, networks=networks, views=views)

    def predict(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return each network's predictions of images uint8 (n, size, size, C): means over views (n, K)."""
        by_device: dict[torch.device, list[int]] = {}
        for index, network in enumerate(self.networks):
            by_device.setdefault(network.compute.device, []).append(index)
        if len(by_device) == 1:
            return self._predict_in_turn(self.networks, pixels)
        predictions: list[np.ndarray] = [np.empty(0)] * len(self.networks)
        with ThreadPoolExecutor(len(by_device)) as pool:
            chosen = [[self.networks[index] for index in indices] for indices in by_device.values()]
            results = pool.map(lambda networks: self._predict_in_turn(networks, pixels), chosen)
            for indices, result in zip(by_device.values(), results, strict=True):
                for index, prediction in zip(indices, result, strict=True):
                    predictions[index] = prediction
        return predictions

    def mean(self, pixels: np.ndarray) -> np.ndarray:
        """Return the predictions of images uint8 (n, size, size, C), means over networks and views (n, K)."""
        return average_predictions(self.predict(pixels), self.task)

    def read_chunks(
        self, files: Sequence[Path], advance: Callable[[int], None] = lambda count: None
    ) -> Iterator[tuple[np.ndarray, list[str]]]:
        """Yield images of files in chunks, uint8 (n, size, size, C), and why each could not be decoded.

        The reason is empty for an image that was decoded; the pixels of another are zero. `advance` is called
        with the number of images of a chunk.
        """

        def read(path: Path) -> tuple[np.ndarray, str]:
            try:
                return self.form.read(path), ""
            except ValueError as error:
                return np.zeros((self.form.size, self.form.size, self.form.channels), np.uint8), str(error)

        chunk: list[tuple[np.ndarray, str]] = []
        for index, image in enumerate(prefetch(read, files, usable_cores()), start=1):
            chunk.append(image)
            if len(chunk) == CHUNK or index == len(files):
                yield np.stack([pixels for pixels, _ in chunk]), [problem for _, problem in chunk]
                advance(len(chunk))
                chunk = []

    def _predict_in_turn(self, networks: Sequence[Network], pixels: np.ndarray) -> list[np.ndarray]:
        """Return each network's predictions; features of a shared extractor are computed once."""
        average, images = ViewAverage(self.task, self.views), CachedImages(pixels, np.arange(len(pixels)))
        features: dict[int, dict[str, torch.Tensor]] = {}
        predictions = []
        for network in networks:
            if not network.is_frozen:
                predictions.append(predict(network.model, images, average, network.compute, self.batch_limit))
                continue
            extractor = network.model.extractor
            if id(extractor) not in features:
                features[id(extractor)] = view_features(extractor, images, self.views, network.compute)
            predictions.append(predict_features(network, features[id(extractor)], average))
        return predictions


def share_extractors(networks: Sequence[Network]) -> None:
    """Give networks with equal frozen extractors, on one device, one extractor object."""
    kept: dict[tuple[torch.device, str, tuple[str, ...]], nn.Module] = {}
    for network in networks:
        if network.is_frozen:
            digests = tuple(digests_of(network.model.extractor))
            key = (network.compute.device, str(network.compute.offset.tolist()), digests)
            network.model.extractor = kept.setdefault(key, network.model.extractor)


@torch.inference_mode()
def view_features(
    extractor: nn.Module, images: CachedImages, views: Sequence[str], compute: Compute
) -> dict[str, torch.Tensor]:
    """Return the features of images in each view, float16 (n, D) on the device, as those that are stored."""
    batches = list(feature_batches(extractor, images, views, compute))
    return {view: torch.cat([features[view] for features in batches]) for view in views}


@torch.inference_mode()
def predict_features(network: Network, features: dict[str, torch.Tensor], average: ViewAverage) -> np.ndarray:
    """Return a frozen network's predictions of the features (n, D) of each view, means over views (n, K)."""
    head = network.model.head.to(network.compute.device)
    return average.mean([head(features[view].float()) for view in average.views]).cpu().numpy()
