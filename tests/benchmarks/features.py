"""Speed of feature extraction, as a share of the bare network's forward speed on the same images.

.venv/bin/python tests/benchmarks/features.py [--model timm:NAME] [--size PIXELS] [--images N]

Both take turns, in one process. Extraction reads pixels, normalises, pools, rounds and stores; the bare
network gets one normalised batch again and again.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

import numpy as np
import torch

from foldsmith.inference.compute import build_compute
from foldsmith.inference.frozen import BATCH, frozen_features
from foldsmith.inference.images import CachedImages
from foldsmith.models.probe import build_extractor

VIEWS = ("identity", "hflip")
TURNS = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="timm:tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--device", default="auto")
    words = parser.parse_args()
    compute = build_compute(words.device, "auto", (0.5,) * 3, (0.5,) * 3)
    extractor = build_extractor(words.model.removeprefix("timm:"), words.size, 3).eval()
    extractor.to(compute.device, memory_format=torch.channels_last)
    pixels = np.random.default_rng(0).integers(
        256, size=(words.images, words.size, words.size, 3), dtype=np.uint8
    )
    size = BATCH[compute.device.type]
    batch = compute.normalise(torch.from_numpy(pixels[:size]))
    shares, speeds = [], []
    for turn in range(TURNS + 1):
        begun = time.process_time() if not compute.on_gpu else time.monotonic()
        with torch.inference_mode(), compute.autocast():
            for _ in range(len(VIEWS) * -(-words.images // size)):
                extractor.backbone(batch)
        compute.synchronize()
        between = time.process_time() if not compute.on_gpu else time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            images = CachedImages(pixels, np.arange(words.images), Path(folder) / "pixels")
            frozen_features(extractor, images, VIEWS, compute)
        ended = time.process_time() if not compute.on_gpu else time.monotonic()
        if turn:  # the first turn chooses kernels
            shares.append((between - begun) / (ended - between))
            speeds.append(len(VIEWS) * words.images / (between - begun))
    print(
        f"{words.model} at {words.size} pixels, {compute.hardware}, {compute.precision}: bare forward "
        f"{np.median(speeds):.0f} images/s; extraction {np.median(shares):.3f} of it "
        f"(median of {TURNS} turns, {min(shares):.3f} to {max(shares):.3f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
