"""Train AutoGluon's MultiModalPredictor on folders of images by class, from borrowed weights.

PYTHON_WITH_AUTOGLUON tests/benchmarks/peers_autogluon.py FOLDER NETWORK PIXELS EPOCHS WEIGHTS SECONDS

FOLDER has train/CLASS and validation/CLASS; WEIGHTS is a file for timm's NETWORK. AutoGluon may use SECONDS.
It prints its held-out accuracy twice an epoch, and that of its averaged weights at the end. peers.py starts
it.
"""

import json
import sys
import tempfile
from pathlib import Path

import pandas as pd
import timm
import torch
from autogluon.multimodal import MultiModalPredictor
from safetensors.torch import load_file


def images_of(folder: Path) -> pd.DataFrame:
    """Return the paths and classes of the images below `folder`."""
    paths = sorted(folder.glob("*/*"))
    return pd.DataFrame({"image": map(str, paths), "label": [path.parent.name for path in paths]})


def save_backbone(folder: Path, network: str, weights: str) -> None:
    """Save the weights without their classifier in the form that AutoGluon reads from a folder."""
    model = timm.create_model(network, num_classes=0)
    state = load_file(weights)
    torch.save({name: state[name] for name in model.state_dict()}, folder / "pytorch_model.bin")
    config = {**model.default_cfg, "architecture": network, "num_features": model.num_features}
    (folder / "config.json").write_text(json.dumps(config))


def main() -> None:
    folder, network, pixels, epochs, weights, seconds = sys.argv[1:]
    with tempfile.TemporaryDirectory() as output:
        backbone = Path(output) / network
        backbone.mkdir()
        save_backbone(backbone, network, weights)
        predictor = MultiModalPredictor(label="label", problem_type="multiclass", path=f"{output}/predictor")
        validation = images_of(Path(folder) / "validation")
        predictor.fit(
            images_of(Path(folder) / "train"), tuning_data=validation, time_limit=int(seconds), seed=0,
            presets="medium_quality",
            hyperparameters={
                "model.names": ["timm_image"], "model.timm_image.checkpoint_name": str(backbone),
                "model.timm_image.image_size": int(pixels), "optim.max_epochs": int(epochs),
                "env.num_workers": 0, "env.num_workers_inference": 0,
            },
        )  # fmt: skip
        accuracy = predictor.evaluate(validation, metrics=["accuracy"])["accuracy"]
        print(f"held out {accuracy:.5f}", flush=True)


if __name__ == "__main__":
    main()
