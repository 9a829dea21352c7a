"""Features of a frozen network: computed once for every image and view, stored beside the pixel cache.

n images · D features.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foldsmith.data.feature_store import FEATURES, FeatureStore
from foldsmith.errors import InputError
from foldsmith.inference.compute import Compute
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.views import VIEWS
from foldsmith.models.probe import Extractor, FeatureExtractor, JoinedExtractor, as_stored
from foldsmith.process.files import digest_of
from foldsmith.process.locks import wait_for_lock
from foldsmith.process.machine import versions
from foldsmith.process.terminal import progress, say

BATCH = {"cpu": 64, "cuda": 256}  # images of a forward pass
FLUSHED = 1024  # images after which the features so far are safe from a kill


def digests_of(extractor: Extractor) -> list[str]:
    """Return the digest of each network of an extractor."""
    parts = extractor.parts if isinstance(extractor, JoinedExtractor) else [extractor]
    return [digest_of_extractor(part) for part in parts]


def digest_of_extractor(extractor: FeatureExtractor) -> str:
    """Return the digest of the names and values of all weights and statistics of an extractor."""
    digest = hashlib.sha256()
    for name, tensor in extractor.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def frozen_features(
    extractor: Extractor, images: CachedImages, views: Sequence[str], compute: Compute
) -> dict[str, np.ndarray]:
    """Return the features of images of a pixel cache in each view, float16 (n, D).

    Those that are not stored are computed and stored, by one process at a time; a killed process loses at
    most FLUSHED images. Any number of runs share a store.
    """
    if isinstance(extractor, JoinedExtractor):
        return _joined_features(extractor, images, views, compute)
    facts = facts_of(extractor, images, compute)
    lock = store_path(images, {**facts, "view": ""}).with_suffix(".lock")
    with wait_for_lock(lock.with_name(f".{lock.name}"), "computes these features"):
        stores = {view: open_store(images, {**facts, "view": view}) for view in views}
        missing = {view: store.missing(images.rows) for view, store in stores.items()}
        wanting = {view: store for view, store in stores.items() if len(missing[view])}
        if wanting:
            rows = np.unique(np.concatenate([missing[view] for view in wanting]))
            # outside of inference mode, which would make parameters that cannot be trained later
            extractor.to(compute.device, memory_format=torch.channels_last).eval()
            _fill(extractor, CachedImages(images.pixels, rows, images.cache), wanting, compute)
    return {view: store[images.rows] for view, store in stores.items()}


def _joined_features(
    extractor: JoinedExtractor, images: CachedImages, views: Sequence[str], compute: Compute
) -> dict[str, np.ndarray]:
    """Return the features of each network side by side; they are stored by network, as for its own probe."""
    parts = []
    for part, normalisation in zip(extractor.parts, extractor.normalisations, strict=True):
        offset, scale = (255 * compute.offset.new_tensor(values).view(-1, 1, 1) for values in normalisation)
        parts.append(frozen_features(part, images, views, replace(compute, offset=offset, scale=scale)))
    return {view: np.concatenate([features[view] for features in parts], axis=1) for view in views}


def facts_of(extractor: FeatureExtractor, images: CachedImages, compute: Compute) -> dict[str, Any]:
    """Return all that features depend on beside the view.

    They are the pixel cache (files, decoder), the size, the network and its weights, the normalisation, the
    precision, the kind of device, and the versions.
    """
    used = versions()
    return {
        "pixels": images.cache.name,
        "shape": list(images.pixels.shape[1:]),  # a cache of streamed images has no size in its name
        "network": extractor.name,
        "weights": digest_of_extractor(extractor),
        "stages": extractor.stages,
        "widths": extractor.widths,
        "offset": compute.offset.flatten().tolist(),
        "scale": compute.scale.flatten().tolist(),
        "precision": compute.precision,
        "device": compute.device.type,
        "torch": used["torch"],
        "timm": used["timm"],
    }


def store_path(images: CachedImages, facts: dict[str, Any]) -> Path:
    """Return the folder of a store, beside the pixel cache."""
    return images.cache.with_name(f"{FEATURES}{facts['view']}-{digest_of(facts)[:16]}")


def open_store(images: CachedImages, facts: dict[str, Any]) -> FeatureStore:
    """Return the store of the features that `facts` describe, a new one if there is none."""
    return FeatureStore(store_path(images, facts), len(images.pixels), sum(facts["widths"]), facts)


def feature_batches(
    extractor: Extractor, images: CachedImages, views: Sequence[str], compute: Compute
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the features of a batch of images at a time, float16 (n, D) on the device, by view."""
    batch_limit = BatchLimit(BATCH[compute.device.type])
    size = batch_limit.size

    def forward(normalised: torch.Tensor) -> torch.Tensor:
        with compute.autocast():
            return as_stored(extractor(normalised))

    for batch in images.batches(size, compute):
        count = len(batch)
        if count < size:
            # filled up, as a batch's length may change rounding: so an image's features do not depend on
            # the other images
            batch = torch.cat([batch, batch[:1].expand(size - count, -1, -1, -1)])
        normalised = compute.normalise(batch)
        yield {
            view: torch.cat(list(batch_limit.map_batches(VIEWS[view](normalised), forward)))[:count]
            for view in views
        }


@torch.inference_mode()
def _fill(
    extractor: FeatureExtractor, images: CachedImages, stores: dict[str, FeatureStore], compute: Compute
) -> None:
    """Compute the images' features in each view, batch by batch, and store them."""
    done, since = 0, 0
    with progress("features", len(images.rows) * len(stores), "images") as advance:
        for features in feature_batches(extractor, images, list(stores), compute):
            for view, store in stores.items():
                values = features[view].cpu().numpy()
                rows = images.rows[done : done + len(values)]
                if not np.isfinite(values).all():
                    raise InputError(
                        f"the features of {extractor.name} are not finite in {compute.precision}; use "
                        "--precision fp32, or other weights."
                    )
                store.fill(rows, values)
                advance(len(rows))
            done, since = done + len(rows), since + len(rows)
            if since >= FLUSHED or done == len(images.rows):
                for store in stores.values():
                    store.flush()
                since = 0
    say(f"features: {done:,} images, views {', '.join(stores)}, stored in {images.cache.parent}")
