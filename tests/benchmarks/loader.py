"""Measure images a second of our training loader and of the usual ones, with equal augmentation and workers.

.venv/bin/python tests/benchmarks/loader.py input/tiny80
.venv/bin/python tests/benchmarks/loader.py input/tiny80 --sizes 64 --workers 0 2 --rounds 7

Every loader yields batches of 128 normalised float32 images (B, 3, S, S) with RandomResizedCrop and a random
flip, from the same JPEG files: the folder's own, and the same images enlarged to 256 and to 1,000 pixels. The
loaders alternate, one round each. The result is the median of the rounds, without the first, in which
processes start.

`--operations` measures only the augmentation of a decoded batch: ours on the host and as tensor operations,
torchvision.transforms.v2, and kornia where it is installed; then our `photo` row and an albumentations
pipeline of the same operations.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from timm.data import ImageDataset, create_loader
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.v2 import functional

from foldsmith.augment.device import apply_draws
from foldsmith.augment.host import augment_batch
from foldsmith.augment.rows import AUGMENTATIONS, Augmentation
from foldsmith.data.cache import build_cache
from foldsmith.data.images import file_state
from foldsmith.data.loader import AugmentedBatches, DeviceBatches, EpochBatches, build_loader
from foldsmith.data.pixels import Pixels, StreamedPixels
from foldsmith.inference.compute import Compute, build_compute
from foldsmith.process.machine import keep_freed_memory, processor, usable_cores

BATCH, SCALE = 128, (0.35, 1.0)
SECONDS = 1.0  # minimum length of a round
MEAN = STD = (0.5, 0.5, 0.5)
AUGMENTATION = Augmentation(crop=SCALE, hflip=True)
Loader = Iterable[tuple[torch.Tensor, torch.Tensor]]


class Files(Dataset):
    """The usual data set: each item opens and transforms one file; all items have class 0."""

    def __init__(self, paths: list[Path], read: Callable[[Path], torch.Tensor]) -> None:
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.read(self.paths[index]), 0


def with_pillow(paths: list[Path], size: int, workers: int) -> Loader:
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=SCALE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def read(path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            return transform(image.convert("RGB"))

    return usual_loader(Files(paths, read), workers)


def with_albumentations(paths: list[Path], size: int, workers: int) -> Loader:
    transform = albumentations.Compose(
        [
            albumentations.RandomResizedCrop((size, size), scale=SCALE),
            albumentations.HorizontalFlip(),
            albumentations.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )

    def read(path: Path) -> torch.Tensor:
        return transform(image=cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))["image"]

    return usual_loader(Files(paths, read), workers)


def usual_loader(dataset: Dataset, workers: int) -> Loader:
    return DataLoader(
        dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=True
    )


def with_timm(paths: list[Path], size: int, workers: int) -> Loader:
    return create_loader(
        ImageDataset(str(paths[0].parents[1])),
        input_size=(3, size, size),
        batch_size=BATCH,
        is_training=True,
        use_prefetcher=False,
        scale=SCALE,
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        color_jitter=None,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def ours(pixels: Pixels, workers: int, compute: Compute) -> Loader:
    """Return our batches, normalised as the training step does it."""
    rows = np.arange(len(pixels))
    batches = EpochBatches(len(rows) // BATCH * BATCH, BATCH, 0, 0)
    loader = build_loader(AugmentedBatches(pixels, rows, rows, AUGMENTATION), batches, workers, False)
    return Normalised(loader, compute)


def ours_as_tensors(pixels: Pixels, compute: Compute) -> Loader:
    """Return the GPU's loader (all images on the device) run on the CPU: it shows why the CPU has its own."""
    rows = np.arange(len(pixels))
    batches = EpochBatches(len(rows) // BATCH * BATCH, BATCH, 0, 0)
    return Normalised(DeviceBatches(pixels, rows, rows, AUGMENTATION, batches, compute.device), compute)


class Normalised:
    def __init__(self, loader: Loader, compute: Compute) -> None:
        self.loader, self.compute = loader, compute

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self.loader:
            yield self.compute.normalise(images), labels


def whole_batch_operations(images: np.ndarray) -> dict[str, Callable[[], object] | None]:
    """Return functions by name that crop, resize and flip each image of a batch, uint8 (B, S, S, 3).

    None means not installed. Every call samples its parameters: that is part of the measured work.
    """
    count, size = images.shape[:2]
    uint8 = torch.from_numpy(images)
    floats = uint8.permute(0, 3, 1, 2).float().contiguous()  # (B, 3, S, S), as torchvision and kornia take it

    def boxes_and_flips() -> tuple[list[list[int]], list[bool]]:
        draws = AUGMENTATION.draw(0, count, size)
        return draws.box.tolist(), draws.flip[:, 0].tolist()

    def with_tensors() -> torch.Tensor:
        return apply_draws(uint8, AUGMENTATION.draw(0, count, size))

    def with_torchvision() -> torch.Tensor:
        # its functions apply one box to a whole batch, so each image is passed alone
        augmented = []
        for image, (left, top, width, height), flip in zip(floats, *boxes_and_flips(), strict=True):
            cut = functional.resized_crop(image, top, left, height, width, [size, size], antialias=False)
            augmented.append(functional.horizontal_flip(cut) if flip else cut)
        return torch.stack(augmented)

    return {
        "ours, on the host": lambda: augment_batch(AUGMENTATION, images, 0),
        "ours, as tensor operations": with_tensors,
        "torchvision.transforms.v2": with_torchvision,
        "kornia": kornia_operation(floats, size),
    }


def kornia_operation(images: torch.Tensor, size: int) -> Callable[[], torch.Tensor] | None:
    """Return kornia's random crops and flips of a whole batch; None if it is not installed."""
    try:
        from kornia import augmentation
    except ImportError:
        return None
    transform = augmentation.AugmentationSequential(
        augmentation.RandomResizedCrop((size, size), scale=SCALE, p=1.0),
        augmentation.RandomHorizontalFlip(p=0.5),
    )
    return partial(transform, images)


def photo_operations(images: np.ndarray) -> dict[str, Callable[[], object] | None]:
    """Return functions by name that augment a batch, uint8 (B, S, S, 3), as our `photo` row does."""
    size, row = images.shape[1], AUGMENTATIONS["photo"]
    spans = {
        name: (1 - getattr(row, name), 1 + getattr(row, name))
        for name in ("brightness", "contrast", "saturation")
    }
    pipeline = albumentations.Compose(
        [
            albumentations.RandomResizedCrop((size, size), scale=row.crop, ratio=row.ratio),
            albumentations.HorizontalFlip(),
            albumentations.ColorJitter(**spans, hue=(-row.hue, row.hue), p=row.jittered),
        ]
    )
    uint8 = torch.from_numpy(images)
    return {
        "ours, on the host": lambda: augment_batch(row, images, 0),
        "ours, as tensor operations": lambda: apply_draws(uint8, row.draw(0, len(images), size)),
        "an albumentations pipeline": lambda: augment_batch(pipeline, images, 0),
    }


def measure_operations(sizes: list[int], rounds: int) -> None:
    keep_freed_memory()  # as training on the CPU does
    for size in sizes:
        images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
        for title, operations in (
            ("crop, resize and flip", whole_batch_operations(images)),
            ("crop, resize, flip and colours (photo)", photo_operations(images)),
        ):
            rates = rates_of(operations, rounds)
            ours = statistics.median(rates["ours, on the host"])
            print(f"whole batches of {BATCH}, {size} x {size}, {title}")
            for name, samples in rates.items():
                words = "not installed"
                if samples:
                    rate = statistics.median(samples)
                    words = f"{rate:9,.0f}   ours, on the host, is {ours / rate:6.2f} times as fast"
                print(f"  {name:28s} {words}", flush=True)


def rates_of(operations: dict[str, Callable[[], object] | None], rounds: int) -> dict[str, list[float]]:
    """Return images a second of each operation in every round but the first; operations alternate."""
    rates: dict[str, list[float]] = {name: [] for name in operations}
    for number in range(rounds + 1):
        for name, operation in operations.items():
            count, begun = 0, time.perf_counter()
            while operation and time.perf_counter() - begun < SECONDS:
                operation()
                count += BATCH
            if operation and number:
                rates[name].append(count / (time.perf_counter() - begun))
    return rates


def rate_of(loader: Loader, size: int) -> float:
    """Return images a second over whole epochs that take SECONDS or more, loader start included."""
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        for images, _ in loader:
            assert images.shape[1:] == (3, size, size) and images.dtype == torch.float32
            count += len(images)
    return count / (time.perf_counter() - begun)


def write_files(folder: Path, sources: list[Path], side: int | None) -> list[Path]:
    """Write the images as JPEG files in one class folder, enlarged to `side` unless it is None."""
    (folder / "class").mkdir(parents=True)
    paths = []
    for index, source in enumerate(sources):
        path = folder / "class" / f"{index}.jpg"
        image = cv2.imread(str(source))
        if side is not None:
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(path)
    return paths


def measure(paths: list[Path], size: int, workers: int, rounds: int, streamed: bool) -> dict[str, float]:
    compute = build_compute("cpu", "fp32", MEAN, STD)
    root = paths[0].parents[1]
    names = [path.relative_to(root).as_posix() for path in paths]
    cache = build_cache(root.parent / f"{root.name}-{size}", root, names, size)
    loaders = {
        "ours": ours(cache.pixels, workers, compute),
        "timm create_loader": with_timm(paths, size, workers),
        "torchvision, PIL": with_pillow(paths, size, workers),
        "albumentations": with_albumentations(paths, size, workers),
    }
    if streamed:
        states = np.array([file_state(path) for path in paths])
        pixels = StreamedPixels(paths, np.ones(len(paths), bool), states, size)
        loaders["ours, cache=off"] = ours(pixels, workers, compute)
    if workers == 0:
        loaders["ours, as tensor operations"] = ours_as_tensors(cache.pixels, compute)
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            rate = rate_of(loader, size)
            if number:
                rates[name].append(rate)
    return {name: statistics.median(samples) for name, samples in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--operations", action="store_true", help="measure augmentation only")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224, 1000], help="of 64, 224, 1000")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    typed = parser.parse_args()
    warnings.filterwarnings("ignore")  # about forks with threads, and about more workers than cores
    sources = sorted((typed.folder / "train").rglob("*.jpg"))
    # size of the files (None: their own), size of the batches, images in an epoch
    plans = {64: (None, 64, 32 * BATCH), 224: (256, 224, 6 * BATCH), 1000: (1000, 224, 2 * BATCH)}
    machine = f"{processor()}, {usable_cores()} cores, torch {torch.__version__}"
    print(f"{machine}, {torch.get_num_threads()} threads; medians of {typed.rounds} rounds, images a second")
    if typed.operations:
        measure_operations([size for size in typed.sizes if size in (64, 224)], typed.rounds)
        return
    for plan in typed.sizes:
        side, size, count = plans[plan]
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(Path(folder) / "files", sources[:count], side)
            for workers in typed.workers:
                rates = measure(paths, size, workers, typed.rounds, plan != 64)
                print(f"files of {side or 'their own size'} to {size} x {size}, {workers} workers")
                for name, rate in rates.items():
                    print(f"  {name:28s} {rate:9,.0f}   ours is {rates['ours'] / rate:6.2f} times as fast"
                          + (f", cache=off {rates['ours, cache=off'] / rate:5.2f}" if plan != 64 else ""),
                          flush=True)  # fmt: skip
                (paths[0].parents[2] / f"files-{size}").rename(paths[0].parents[2] / f"done-{workers}")


if __name__ == "__main__":
    main()
