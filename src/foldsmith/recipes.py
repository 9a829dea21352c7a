"""Recipes: frozen sets of hyperparameters, one row each, and their typed overrides.

A recipe file of your own is a Python file that defines `RECIPE`, usually a variant of a row below:

    from dataclasses import replace
    from foldsmith.recipes import RECIPES
    RECIPE = replace(RECIPES["resnet64"], name="mine", epochs=60, label_smoothing=0.05)
"""

import math
import runpy
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from foldsmith.errors import InputError, unknown_name


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is trained and how it predicts. Defaults live here and nowhere else.

    Raises InputError for values no training can have.
    """

    name: str

    # data
    image_size: int = 64  # pixels; images are resized to a square of it, whole (their aspect is not kept)
    max_unreadable: float = 0.01  # share of the training images; more unreadable ones stop the run
    near_duplicates: int = (
        7  # bits of 63 by which the perceptual hashes of one picture may differ; -1 = not sought
    )
    report_leak: bool = (
        False  # train a second time with near-duplicates split, to report what a leak would gain
    )
    augment: str = "crop-flip"  # a row of foldsmith.data.augment.AUGMENTATIONS

    # model
    model: str = "timm:resnet18"  # a name of foldsmith.models.MODELS, or timm:<name>
    pretrained: bool = False  # timm models: start from timm's weights (needs the network, or `weights`)
    weights: str = ""  # timm models: start from this local weights file instead of the network
    mean: tuple[
        float, ...
    ] = ()  # of normalisation, on a scale of 0 to 1; () = the pretrained weights', else .5
    std: tuple[float, ...] = ()

    # training
    seed: int = 0
    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "sgd"  # sgd, adamw
    lr: float = 0.05
    momentum: float = 0.9  # sgd
    nesterov: bool = False  # sgd
    weight_decay: float = 5e-4  # on weights of two and more dimensions, never on biases and norms
    schedule: str = "cosine"  # cosine, constant
    warmup: float = 0.1  # share of the steps in which the rate rises from zero
    label_smoothing: float = 0.0
    class_weights: str = "none"  # none, auto: inversely to the class's frequency
    ema_decay: float = 0.0  # of the averaged weights that validate and predict; 0 = the last weights do
    validate_every: int = 1  # epochs; the last one always is validated
    deterministic: bool = False  # on a GPU: same bytes every time, at some speed (a CPU always gives them)

    # inference
    views: tuple[str, ...] = ("identity", "hflip")  # rows of foldsmith.evaluation.views.VIEWS, averaged

    def __post_init__(self) -> None:
        for field, kind in get_type_hints(Recipe).items():
            value = getattr(self, field)
            plain = {float: (int, float), int: int, str: str, bool: bool}.get(kind, tuple)
            if not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool):
                raise InputError(f"recipe '{self.name}': {field} is {value!r}, it must be of type {kind}.")
        for field, valid, meaning in (
            ("image_size", self.image_size >= 1, "at least 1"),
            ("max_unreadable", 0 <= self.max_unreadable <= 1, "a share between 0 and 1"),
            ("near_duplicates", -1 <= self.near_duplicates <= 7, "0 to 7 bits, or -1 for none"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", 0 < self.lr < float("inf"), "a positive number"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("nesterov", self.momentum > 0 or not self.nesterov, "false where momentum is 0"),
            ("weight_decay", 0 <= self.weight_decay < float("inf"), "zero or a positive number"),
            ("warmup", 0 <= self.warmup < 1, "a share of the steps, in [0, 1)"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("class_weights", self.class_weights in ("none", "auto"), "none or auto"),
            ("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)"),
            ("validate_every", self.validate_every >= 1, "at least 1"),
            (
                "mean",
                len(self.mean) in (0, 3) and all(map(math.isfinite, self.mean)),
                "three numbers, or none",
            ),
            (
                "std",
                len(self.std) in (0, 3) and all(0 < value < float("inf") for value in self.std),
                "three positive numbers",
            ),
            ("views", len(self.views) >= 1, "at least one view"),
        ):
            if not valid:
                value = getattr(self, field)
                raise InputError(f"recipe '{self.name}': {field} is {value!r}, it must be {meaning}.")

    @property
    def predict_batch_size(self) -> int:
        """Images a prediction step: more than a training step, as nothing is kept for gradients."""
        return 2 * self.batch_size


# Study 1 (the 80-class bottleneck ResNet) as it was published: its crop, flips and rotation, SGD .01/.9,
# batches of 32, and about 80 epochs (30 on resized images and 50 augmented; here augmented from the start).
# Mended: a held-out score; batches of any length; geometry before normalisation; every epoch logged.
RESNET = Recipe(
    name="resnet",
    model="bottleneck-resnet",
    image_size=224,
    augment="study-resnet",
    epochs=80,
    batch_size=32,
    lr=0.01,
    momentum=0.9,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    views=("identity",),
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        # A plain choice that suits most photographs: timm's ResNet-18 from scratch at 128 pixels.
        Recipe(
            name="default",
            model="timm:resnet18",
            image_size=128,
            augment="photo",
            optimizer="adamw",
            lr=1e-3,
            weight_decay=0.05,
            epochs=30,
            label_smoothing=0.1,
            ema_decay=0.998,
        ),
        # Minutes on a laptop: a small network at 32 pixels. The demo's recipe, and a first look at any data.
        Recipe(
            name="quick",
            model="quick-cnn",
            image_size=32,
            augment="shift-flip",
            epochs=12,
            batch_size=64,
            optimizer="adamw",
            lr=4e-3,
            weight_decay=0.05,
            label_smoothing=0.1,
            ema_decay=0.99,
        ),
        RESNET,
        # The network of study 1 for images of about 64 pixels, with the training it lacked.
        replace(
            RESNET,
            name="resnet64",
            image_size=64,
            augment="crop-flip",
            epochs=30,
            batch_size=64,
            lr=0.02,
            nesterov=True,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.3,
            ema_decay=0.998,
            label_smoothing=0.1,
            views=("identity", "hflip"),
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, or the `RECIPE` of a Python file. Raises InputError if there is none."""
    if not name.endswith(".py"):
        if name not in RECIPES:
            raise unknown_name("recipe", name, RECIPES)
        return RECIPES[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--recipe {name}: there is no such file.")
    try:
        recipe = runpy.run_path(name).get("RECIPE")
    except Exception as error:  # it is somebody's program, and may fail in any way
        raise InputError(f"{name} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise InputError(f"{name} defines no RECIPE; a recipe file ends with `RECIPE = Recipe(…)`.")
    return replace(recipe, name=path.stem) if recipe.name in RECIPES else recipe


def check_weights_file(weights: str) -> None:
    """Raises InputError if a recipe's `weights` name a file that is not there."""
    if weights and not Path(weights).is_file():
        raise InputError(f"weights={weights}: there is no such file.")


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `FIELD=VALUE` settings, each read as the type of its field. Raises InputError."""
    types = get_type_hints(Recipe)
    known = [field.name for field in fields(Recipe) if field.name != "name"]
    values: dict[str, Any] = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write FIELD=VALUE, for example --set lr=0.01.")
        if field not in known:
            raise unknown_name("recipe field", field, known)
        values[field] = _read_value(field, text, types[field])
    return replace(recipe, **values)


def _read_value(field: str, text: str, kind: Any) -> Any:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        if kind is bool:
            return words[text.lower()]
        if kind is str:
            return text
        if kind == tuple[str, ...]:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if kind == tuple[float, ...]:
            return tuple(float(part) for part in text.split(",") if part.strip())
        return kind(text)
    except (ValueError, KeyError):
        name = {bool: "true or false", int: "a whole number", float: "a number"}.get(
            kind, "numbers, with commas"
        )
        raise InputError(f"--set {field}={text}: {field} takes {name}.") from None
