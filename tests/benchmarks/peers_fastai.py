"""Train fastai's vision_learner on folders of images by class, as its documentation does for small data.

PYTHON_WITH_FASTAI tests/benchmarks/peers_fastai.py FOLDER NETWORK PIXELS EPOCHS [WEIGHTS]

FOLDER has train/CLASS and validation/CLASS. With WEIGHTS, a file for timm's NETWORK, it is fine-tuned by
fine_tune with its defaults; otherwise it is trained from scratch by fit_one_cycle. The held-out accuracy is
printed after every epoch. peers.py starts it.
"""

import sys
from pathlib import Path

from fastai.callback.core import Callback
from fastai.data.transforms import Normalize
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms, imagenet_stats, vision_learner

SCRATCH_RATE = 3e-3  # of fastai's book, chapter 7, which trains from scratch
LEAST_SCALE = 0.75  # of the area, of random crops; from the same chapter


class PrintAccuracy(Callback):
    """Print the held-out accuracy after every epoch."""

    order = 60  # after Recorder, which collects the figures

    def after_epoch(self) -> None:
        print(f"held out {self.recorder.values[-1][-1]:.5f}", flush=True)


def main() -> None:
    folder, network, pixels, epochs, *weights = sys.argv[1:]
    set_seed(0)
    augmented = aug_transforms(size=int(pixels), min_scale=LEAST_SCALE)
    if not weights:  # vision_learner normalises for borrowed weights only
        augmented.append(Normalize.from_stats(*imagenet_stats))
    loaders = ImageDataLoaders.from_folder(
        Path(folder), train="train", valid="validation", seed=0, num_workers=0,
        item_tfms=Resize(int(pixels)), batch_tfms=augmented,
    )  # fmt: skip
    borrowed = {"pretrained_cfg_overlay": {"file": weights[0]}} if weights else {}
    learner = vision_learner(
        loaders, network, pretrained=bool(weights), metrics=accuracy, cbs=PrintAccuracy(), **borrowed
    )
    with learner.no_bar(), learner.no_logging():
        if weights:
            learner.fine_tune(int(epochs))
        else:
            learner.fit_one_cycle(int(epochs), SCRATCH_RATE)


if __name__ == "__main__":
    main()
