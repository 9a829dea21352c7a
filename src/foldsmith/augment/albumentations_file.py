"""Augmentation pipelines that `albumentations.save` wrote into files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foldsmith.errors import InputError

if TYPE_CHECKING:
    import albumentations

PIPELINE_SUFFIXES = (".json", ".yaml", ".yml")


def pipeline_file(name: str) -> Path | None:
    """The file an augmentation is read from; None for a row of AUGMENTATIONS. Raises InputError."""
    if not name.endswith(PIPELINE_SUFFIXES):
        return None
    if not Path(name).is_file():
        raise InputError(f"augmentation {name}: there is no such file.")
    return Path(name)


def load_pipeline(path: Path, size: int) -> "albumentations.Compose":
    """What `albumentations.save` wrote. Raises InputError unless it gives uint8 (size, size, 3)."""
    # read while albumentations is imported: it must not ask the network for newer versions of itself
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    try:
        loaded = albumentations.load(path, data_format="json" if path.suffix == ".json" else "yaml")
        pipeline = loaded if isinstance(loaded, albumentations.Compose) else albumentations.Compose([loaded])
        made = pipeline(image=np.zeros((size, size, 3), np.uint8))["image"]
    except Exception as error:  # the parsers' and every transform's own
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"augment={path} is no pipeline of albumentations.save: {reason}") from error
    check_made(made, size, str(path))
    return pipeline


def check_made(made: object, size: int, name: str = "FILE") -> None:
    """Raises InputError unless a pipeline gave uint8 (size, size, 3); `name` is its file's."""
    kind, shape = getattr(made, "dtype", type(made)), tuple(getattr(made, "shape", ()))
    if kind != np.uint8 or shape != (size, size, 3):
        raise InputError(
            f"augment={name} turns images of {size} x {size} into {kind} {shape}; "
            "it must keep size and uint8 (foldsmith normalises afterwards)."
        )
