"""albumentations pipelines: canonical text from a recipe file, or a file that `albumentations.save` wrote.

`Recipe.augment` stays a string either way, so that it is compared, saved and stamped like any other field.

B images a batch · S the side of an image · C its channels, 3 or 4.
"""

import copy
import inspect
import json
import os
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foldsmith.errors import InputError

if TYPE_CHECKING:
    import albumentations

PIPELINE_SUFFIXES = (".json", ".yaml", ".yml")
CLASS = "__class_fullname__"  # the key under which albumentations writes a transform's class
# arguments of compositions that albumentations 2.0.8 does not save, and that change no image here
UNSAVED = {"mask_interpolation", "save_applied_params", "seed", "strict"}


def keep_offline() -> None:
    """Stop albumentations from asking the network for a newer version. It reads this when it is imported."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"


def is_pipeline(augment: str) -> bool:
    """Return whether `Recipe.augment` is a pipeline, as text or as a file, and no row of AUGMENTATIONS."""
    return is_pipeline_text(augment) or augment.endswith(PIPELINE_SUFFIXES)


def is_pipeline_text(augment: object) -> bool:
    """Return whether a value is what `pipeline_text` writes."""
    return isinstance(augment, str) and augment.startswith('{"')


def pipeline_file(augment: str) -> Path | None:
    """Return the file a pipeline is read from, or None. Raise InputError if it does not exist."""
    if not augment.endswith(PIPELINE_SUFFIXES):
        return None
    if not Path(augment).is_file():
        raise InputError(f"augmentation {augment}: there is no such file.")
    return Path(augment)


# --- from objects to text


def pipeline_text(augment: object) -> str:
    """Return the canonical JSON text of an albumentations pipeline; a string is returned as it is.

    Equal pipelines give equal text: sorted keys, no version, a single transform wrapped in a Compose. Raise
    InputError for transforms that cannot be rebuilt from text, and for values of any other type.
    """
    if isinstance(augment, str):
        _check_text(augment)
        return augment
    if not _is_transform(augment):
        raise InputError(
            f"augment is a {type(augment).__module__}.{type(augment).__name__}; it must be a row of "
            "AUGMENTATIONS, an albumentations pipeline, or a file that albumentations.save wrote."
        )
    import albumentations  # whoever built the object has imported it

    whole = isinstance(augment, albumentations.Compose)
    return json.dumps(_fields(augment if whole else albumentations.Compose([augment])), sort_keys=True)


def _check_text(augment: str) -> None:
    """Raise InputError for text that starts like a pipeline's and is none."""
    try:
        describe_augment(augment)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"augment={augment[:40]} is no text of an albumentations pipeline: {error!r}"
        ) from error


def refuse_pipelines(recipe: Mapping[str, object]) -> None:
    """Raise InputError if a field of a recipe holds a transform of albumentations; only `augment` may."""
    for field, value in recipe.items():
        for entry in value if isinstance(value, (tuple, list)) else (value,):
            if _is_transform(entry):
                raise InputError(
                    f"{field} holds albumentations' {type(entry).__name__}, and takes names alone; only "
                    "augment, which is for training images, takes a pipeline."
                )


def _is_transform(value: object) -> bool:
    """Return whether a value is a transform or composition, without importing albumentations."""
    library = sys.modules.get("albumentations")
    return library is not None and isinstance(value, (library.BasicTransform, library.BaseCompose))


def _fields(transform: "albumentations.BasicTransform | albumentations.BaseCompose") -> dict[str, Any]:
    """Return a transform's class and arguments as JSON takes them, with the transforms inside it.

    Raise InputError for a transform that could not be rebuilt from them.
    """
    import albumentations
    from albumentations.core.serialization import serialize_enum

    _refuse_unsaveable(transform)
    composes = isinstance(transform, albumentations.BaseCompose)
    inner = {"transforms": [_fields(entry) for entry in transform.transforms]} if composes else {}
    accepted = inspect.signature(type(transform).__init__).parameters
    try:
        # albumentations writes the arguments of parent classes too, and would warn of them when it loads
        saved = {
            name: value
            for name, value in transform.to_dict_private().items()
            if name == CLASS or name in accepted
        }
        saved = json.loads(json.dumps(serialize_enum(saved)))
    except (NotImplementedError, TypeError, ValueError) as error:  # images, functions and other objects
        raise _unsaveable(transform, f"cannot be saved: {error}") from error
    lost = sorted(set(accepted) & set(vars(transform)) - set(saved) - UNSAVED)
    if composes and lost:
        raise _unsaveable(transform, f"loses {', '.join(lost)} when it is saved")
    return saved | inner


def _refuse_unsaveable(transform: "albumentations.BasicTransform | albumentations.BaseCompose") -> None:
    """Raise InputError for arguments that albumentations ignored, and for code that no text contains."""
    kind = type(transform)
    unknown = ", ".join(vars(transform).get("invalid_args", ()))
    if unknown:
        raise InputError(f"augment: albumentations' {kind.__name__} has no argument {unknown}; correct it.")
    if not kind.is_serializable():
        raise _unsaveable(transform, "holds functions")
    if kind.__module__.partition(".")[0] != "albumentations":
        raise _unsaveable(transform, f"is a class of {kind.__module__}")


def _unsaveable(transform: object, reason: str) -> InputError:
    name = getattr(transform, "name", None)
    named = type(transform).__name__ + (f" '{name}'" if isinstance(name, str) else "")
    return InputError(
        f"augment: {named} {' '.join(reason.split())[:200].rstrip('.')}, so that a run could not record it; "
        "use the classes of albumentations, or a row of AUGMENTATIONS."
    )


# --- from text to words


def describe_augment(augment: str) -> str:
    """Return the names of a pipeline's transforms, such as `Compose(HorizontalFlip, OneOf(Blur, Affine))`.

    A row of AUGMENTATIONS and a file are returned as they are.
    """
    return _names(json.loads(augment)) if is_pipeline_text(augment) else augment


def _names(fields: Mapping[str, Any]) -> str:
    inner = f"({', '.join(map(_names, fields['transforms']))})" if "transforms" in fields else ""
    return fields[CLASS] + inner


# --- from text or file to images


def load_pipeline(augment: str, size: int, channels: int = 3) -> "albumentations.Compose":
    """Build the pipeline of a text or a file.

    Raise InputError unless it gives uint8 (size, size, channels).
    """
    keep_offline()
    import albumentations

    pipeline_file(augment)
    description = f"augment={describe_augment(augment)}"
    try:
        loaded = _load(augment)
        pipeline = loaded if isinstance(loaded, albumentations.Compose) else albumentations.Compose([loaded])
    except Exception as error:  # the parsers' and every transform's own
        raise InputError(f"{description} is no pipeline of albumentations.save: {_reason(error)}") from error
    if channels > 3:
        _refuse_colour_transforms(pipeline, description, size, channels)
    try:
        apply_pipeline(pipeline, np.zeros((1, size, size, channels), np.uint8), 0)
    except InputError as error:
        raise InputError(f"{description}: {error}") from error
    except Exception as error:  # every transform's own
        raise InputError(f"{description} fails on images of {size} x {size}: {_reason(error)}") from error
    return pipeline


def _refuse_colour_transforms(
    pipeline: "albumentations.Compose", description: str, size: int, channels: int
) -> None:
    """Raise InputError for a transform that takes three channels and no more, however rarely it is drawn."""
    for transform in _transforms_of(pipeline):
        if _takes(transform, size, 3) and not _takes(transform, size, channels):
            raise InputError(
                f"{description}: {type(transform).__name__} takes three channels, and the images have "
                f"{channels}; remove it, or --set channels=3, which drops the fourth channel."
            )


def _transforms_of(compose: "albumentations.BaseCompose") -> "Iterator[albumentations.BasicTransform]":
    """Yield the transforms of a composition and of those inside it."""
    for entry in compose.transforms:
        yield from _transforms_of(entry) if hasattr(entry, "transforms") else (entry,)


def _takes(transform: "albumentations.BasicTransform", size: int, channels: int) -> bool:
    """Return whether a transform by itself keeps size, type and channels of an image."""
    import albumentations

    always = copy.deepcopy(transform)
    always.p = 1
    images = np.random.default_rng(0).integers(256, size=(1, size, size, channels), dtype=np.uint8)
    try:
        apply_pipeline(albumentations.Compose([always]), images, 0)
    except Exception:  # every transform's own
        return False
    return True


def _load(augment: str) -> object:
    import albumentations

    if not is_pipeline_text(augment):
        return albumentations.load(augment, data_format="json" if augment.endswith(".json") else "yaml")
    with warnings.catch_warnings():  # the recipe file has raised them already
        warnings.simplefilter("ignore", UserWarning)
        return albumentations.from_dict({"transform": json.loads(augment)})


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def apply_pipeline(pipeline: "albumentations.Compose", images: np.ndarray, seed: int) -> np.ndarray:
    """Return augmented copies of uint8 images (B, S, S, C), which depend on `seed` and the images before.

    All transforms share one stream. `set_random_seed` would give every transform a stream of its own with the
    same numbers, so that horizontal and vertical flips always came together. Raise InputError for an image
    whose size or type changes, which may happen in some draws only.
    """
    _seed(pipeline, seed)
    augmented = np.empty_like(images)
    for index, image in enumerate(images):
        changed = pipeline(image=image)["image"]
        if not _is_alike(changed, image):
            name = _culprit(pipeline, images[: index + 1], seed)
            raise InputError(
                f"the augmentation {name} turns images of {len(image)} x {len(image)} into "
                f"{getattr(changed, 'dtype', type(changed))} {tuple(getattr(changed, 'shape', ()))}; "
                "a pipeline must keep size and uint8 (foldsmith normalises afterwards): remove or correct it."
            )
        augmented[index] = changed
    return augmented


def _seed(pipeline: "albumentations.Compose", seed: int) -> None:
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))


def _is_alike(changed: object, image: np.ndarray) -> bool:
    return (getattr(changed, "dtype", None), getattr(changed, "shape", None)) == (image.dtype, image.shape)


def _culprit(pipeline: "albumentations.Compose", images: np.ndarray, seed: int) -> str:
    """Return the name of the transform after which the last image does not have its size and type again.

    Repeat the batch up to that image with the same draws, then take its transforms one by one.
    """
    _seed(pipeline, seed)
    for image in images[:-1]:
        pipeline(image=image)
    pipeline.py_random.random()  # as Compose draws whether to run at all
    state, culprit = {"image": images[-1]}, ""
    for transform in pipeline.transforms:
        state = transform(**state)
        if _is_alike(state["image"], images[-1]):
            culprit = ""
        elif not culprit:
            culprit = type(transform).__name__
    return culprit
