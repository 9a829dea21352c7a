"""The `default` recipe, which is resolved from a competition's images, and its explanation in sentences.

Every constant is defined once, with its reason. A user's settings are known before the recipe is resolved:
`--image-size 64` also decides the network and the augmentation, `--batch-size 32` the learning rate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from foldsmith.augment.albumentations_file import is_pipeline
from foldsmith.recipes.borrowed import (
    MOST_SMALL_IMAGES,
    Backbone,
    describe_borrowed,
    resolve_borrowed,
)
from foldsmith.recipes.borrowed import (
    SMALL_SIDE as SMALL_PHOTO,
)
from foldsmith.recipes.general import CUTMIX, DEFAULT
from foldsmith.recipes.recipe import Recipe, override, read_settings
from foldsmith.recipes.words import in_words

# the fields that decide other fields if a user sets them
DECIDING = ("image_size", "batch_size", "epochs", "augment", "momentum")
LR_BATCH = 64  # images; the batch size that Budget.lr is stated for
LEAST_BATCH = 32  # images of a batch that this recipe plans
STEPS_AN_EPOCH = 100  # aimed at: fewer steps with larger batches learn less from the same images


@dataclass(frozen=True)
class Budget:
    """The length of a training, its batch sizes and its learning rate.

    `num_images` is the number of images in all epochs together, within `least_epochs` to `most_epochs`.
    Batches have LEAST_BATCH to `most_batch` images. `lr` is the rate for a batch of LR_BATCH images; it grows
    with the batch size to the power `lr_power`.
    """

    num_images: int
    least_epochs: int
    most_epochs: int
    most_batch: int
    lr: float
    lr_power: float


# About half an hour per fold of small images on one busy core. More than 80 epochs overfit small datasets.
# The length of a Muon step depends on the rate and not on the gradient, so the rate grows slowly with the
# batch size.
FROM_SCRATCH = Budget(
    num_images=600_000, least_epochs=10, most_epochs=80, most_batch=256, lr=0.0105, lr_power=0.25
)
# Images that are shifted only: 8 epochs of CIFAR-10 with slight shifts reach what 12 with larger ones do
SMALL_FROM_SCRATCH = replace(FROM_SCRATCH, num_images=400_000, least_epochs=8)

# --- from scratch
SIDE_STEP = 4  # pixels; sides are rounded up to a multiple of it, because networks halve them at least twice
LEAST_SIDE = 28  # pixels; smaller images leave too few pixels for the last layers
MOST_SIDE = 128  # pixels; larger images cost time and hardly gain accuracy
# pixels; up to this side images are shifted and not cropped: a third of so small an image shows too little
SMALL_SIDE = 40
SMALL_AUGMENT, AUGMENT = "slight-shift-flip", "photo"
# pixels; up to this side the network for small images gives the better accuracy for its time on a CPU
MIDDLE_SIDE = 64
SMALL_MODEL, MODEL = "whitened-cnn", "timm:resnet18"
# up to this number of training images half of the batches get CutMix: without it the network overfits
FEW_IMAGES = 5_000

# share of all steps over which the EMA of the weights reaches back, and the largest decay
AVERAGED_SHARE, MOST_EMA_DECAY = 0.05, 0.9998


@dataclass(frozen=True)
class DatasetFacts:
    """The facts about the training images that the recipe depends on, from a survey.

    `side` is that of a square with the median image's area, in pixels. `grey`: no image has colour.
    `channels` is 4 where every training and test image is four files, otherwise 3.
    """

    num_images: int
    side: int
    grey: bool
    channels: int = 3


@dataclass(frozen=True)
class RecipeEvidence:
    """The evidence for a run's recipe; `backbone` is the pretrained network that is used, or None."""

    facts: DatasetFacts
    backbone: Backbone | None = None

    def as_entry(self) -> dict[str, Any]:
        """Return the entry of identity.json, in which three channels and no backbone are not written.

        So runs of versions that knew no others stay as they are.
        """
        entry = {"facts": asdict(self.facts), "pretrained": self.backbone is not None}
        if self.facts.channels == 3:
            del entry["facts"]["channels"]
        return entry if self.backbone is None else {**entry, "backbone": asdict(self.backbone)}

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> "RecipeEvidence | None":
        """Return the evidence of an entry; None if there is none, or it is of a version with other facts."""
        facts, backbone = {"channels": 3, **entry.get("facts", {})}, entry.get("backbone", {})
        if set(facts) != {field.name for field in fields(DatasetFacts)}:
            return None
        if entry["pretrained"] and set(backbone) != {field.name for field in fields(Backbone)}:
            return None
        return cls(DatasetFacts(**facts), Backbone(**backbone) if backbone else None)


def wants_weights(facts: DatasetFacts, settings: Sequence[str]) -> bool:
    """Return whether the recipe uses pretrained weights if they are available.

    It does for photographs, and for small images in colour if they are few; not if a user sets the network or
    a pretraining without weights, or a small image size. Weights that a user sets are always used.
    """
    typed = read_settings(settings)
    if typed.get("weights") or typed.get("pretrained"):
        return True
    if typed.keys() & {"model", "pretrained"} or typed.get("pretrain", "none") != "none":
        return False
    if typed.get("image_size", facts.side) >= SMALL_PHOTO:
        return True
    return "image_size" not in typed and not facts.grey and facts.num_images <= MOST_SMALL_IMAGES


def resolve_default(evidence: RecipeEvidence, settings: Sequence[str] = ()) -> Recipe:
    """Return the `default` recipe for this evidence and a user's `FIELD=VALUE` settings.

    Settings of the DECIDING fields change the fields that depend on them. Raise InputError for wrong ones.
    """
    facts, typed = evidence.facts, read_settings(settings)
    channels = 1 if facts.grey else facts.channels
    if evidence.backbone is not None and wants_weights(facts, settings):
        return resolve_borrowed(evidence.backbone, facts.num_images, channels, settings)
    # other fields are checked at the end: the bound of train_size depends on the image_size resolved below
    base = replace(DEFAULT, **{field: value for field, value in typed.items() if field in DECIDING})
    image_size = typed.get("image_size", _scratch_size(facts.side))
    budget = budget_of(image_size)
    sizes = {
        "image_size": image_size,
        "batch_size": _batch_size(facts.num_images, budget.most_batch),
        "epochs": _epochs(facts.num_images, budget),
    }
    base = replace(base, **{field: typed.get(field, value) for field, value in sizes.items()})
    steps = base.epochs * _steps_an_epoch(facts.num_images, base.batch_size)
    resolved = replace(
        DEFAULT,
        channels=channels,
        image_size=base.image_size,
        batch_size=base.batch_size,
        epochs=base.epochs,
        lr=budget.lr * (base.batch_size / LR_BATCH) ** budget.lr_power,
        ema_decay=round(min(max(1 - 1 / (AVERAGED_SHARE * steps), 0.0), MOST_EMA_DECAY), 4),
        **_scratch_fields(facts, base),
    )
    return override(Recipe(**vars(resolved)), settings)


def budget_of(image_size: int) -> Budget:
    """Return the budget of training from scratch on images of this side."""
    return SMALL_FROM_SCRATCH if image_size <= SMALL_SIDE else FROM_SCRATCH


def _scratch_fields(facts: DatasetFacts, base: Recipe) -> dict[str, Any]:
    """Return the fields for training from scratch; `base` has the sizes and the user's DECIDING fields."""
    mixing = {**CUTMIX, "mix_until": 0.8} if facts.num_images <= FEW_IMAGES else {}
    is_small = base.image_size <= SMALL_SIDE
    return {
        "model": SMALL_MODEL if base.image_size <= MIDDLE_SIDE else MODEL,
        "augment": SMALL_AUGMENT if is_small else AUGMENT,
        "alternating_flip": not is_pipeline(base.augment),  # a pipeline samples its own flips
        "optimizer": "muon",
        "nesterov": base.momentum > 0,
        "weight_decay": 0.05,
        "schedule": "one-cycle",
        "warmup": 0.2,
        "validate_every": 2 if is_small else 1,  # a validation takes a twelfth of an epoch of five folds
        **mixing,
    }


# recipes that are resolved from the dataset, by name
DATASET_RECIPES: dict[str, Callable[[RecipeEvidence, Sequence[str]], Recipe]] = {
    DEFAULT.name: resolve_default
}


def describe_recipe(recipe: Recipe, evidence: RecipeEvidence, settings: Sequence[str] = ()) -> list[str]:
    """Return lines that explain the recipe resolved from this evidence, whose facts are limited."""
    facts, backbone = evidence.facts, evidence.backbone
    colours = "grey" if facts.grey else "in colour"
    if recipe.channels == 4:
        colours = "in four files each, all kept as channels"
    overrides = f"; set by you: {', '.join(settings)}" if settings else ""
    images = f"{facts.num_images:,} images of about {facts.side} x {facts.side} pixels, {colours}"
    if backbone is not None:
        return [f"{images}{overrides}", *describe_borrowed(recipe, backbone, facts.num_images)]
    budget, steps = budget_of(recipe.image_size), _steps_an_epoch(facts.num_images, recipe.batch_size)
    return [
        f"{images}: {recipe.model} from scratch at {recipe.image_size} pixels, "
        f"{in_words(recipe.augment)}{overrides}",
        f"{recipe.epochs} epochs, {recipe.epochs * facts.num_images:,} images in all (aimed at: "
        f"{budget.num_images:,}, in {budget.least_epochs} to {budget.most_epochs} epochs)",
        f"{steps:,} steps an epoch with batches of {recipe.batch_size} (aimed at: {STEPS_AN_EPOCH}, with "
        f"batches of {LEAST_BATCH} to {budget.most_batch})",
        f"{recipe.optimizer} with a learning rate of {recipe.lr:.3g} ({budget.lr} for batches of {LR_BATCH})",
    ]


def _scratch_size(side: int) -> int:
    """Return the side in pixels for training from scratch."""
    return min(max(-(-side // SIDE_STEP) * SIDE_STEP, LEAST_SIDE), MOST_SIDE)


def _epochs(num_images: int, budget: Budget) -> int:
    """Return the number of epochs for the budget's number of images, within its bounds."""
    return min(max(round(budget.num_images / num_images), budget.least_epochs), budget.most_epochs)


def _batch_size(num_images: int, most: int) -> int:
    """Return the largest power of two with at least STEPS_AN_EPOCH steps per epoch, within the bounds."""
    fitting = max(num_images // STEPS_AN_EPOCH, 1)
    return min(max(1 << (fitting.bit_length() - 1), LEAST_BATCH), most)


def _steps_an_epoch(num_images: int, batch_size: int) -> int:
    return -(-num_images // batch_size)
