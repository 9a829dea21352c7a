"""The `default` recipe, resolved from a competition's images: stated arithmetic, and sentences about it.

Every number stands here once, with its reason. What a user sets is known before anything is resolved: with
`--image-size 64` it also decides the network and the augmentation, with `--batch-size 32` the learning rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foldsmith.augment.albumentations_file import is_pipeline
from foldsmith.recipes.general import CUTMIX, DEFAULT
from foldsmith.recipes.recipe import Recipe, override, read_settings
from foldsmith.recipes.words import in_words

# the fields that, set by a user, decide other fields
DECIDING = ("image_size", "batch_size", "epochs", "pretrained", "weights", "augment", "momentum")
LR_BATCH = 64  # images; the batch that a rate is stated for
LEAST_BATCH = 32  # images; batch norm does not know the mean of fewer
STEPS_AN_EPOCH = 100  # at least, where there are the images: fewer and larger steps learn less from as many


@dataclass(frozen=True)
class Budget:
    """How long and in which steps to train.

    About `seen` images in all epochs together, in `least_epochs` to `most_epochs`; batches of LEAST_BATCH to
    `most_batch` images; a rate of `lr` for a batch of LR_BATCH, growing with that power of the batch.
    """

    seen: int
    least_epochs: int
    most_epochs: int
    most_batch: int
    lr: float
    lr_power: float


# Half an hour a fold of small images on one busy core; few images are learned by heart sooner.
# Muon's steps are as long as their rate, whatever the batch: it grows little with that.
FROM_SCRATCH = Budget(seen=600_000, least_epochs=10, most_epochs=80, most_batch=256, lr=0.0105, lr_power=0.25)
# The features are there already. AdamW's rate grows with the batch's root (Malladi et al., On the SDEs and
# Scaling Rules for Adaptive Gradient Algorithms, 2022).
FINE_TUNED = Budget(seen=200_000, least_epochs=10, most_epochs=30, most_batch=64, lr=2e-4, lr_power=0.5)

# --- from scratch
SIDE_STEP = 4  # pixels; sides are rounded up to it, as networks halve them twice and more
LEAST_SIDE, MOST_SIDE = (
    28,
    128,
)  # pixels; below, nothing is left to halve; above, time grows and accuracy hardly
SMALL_SIDE = 40  # pixels; a third of so small an image shows nothing, so that it is shifted and not cropped
SMALL_AUGMENT, AUGMENT = "pad-crop-flip", "photo"
# pixels; up to it the network that was made for small images is the better one for the time of a CPU
MIDDLE_SIDE = 64
SMALL_MODEL, MODEL = "whitened-cnn", "timm:resnet18"
# up to so many images half of the batches are cut from two: else all are learned by heart
FEW_IMAGES = 5_000

# --- fine-tuned
# of ImageNet-12k, then ImageNet-1k, by timm; under the Apache licence 2.0
TUNED_MODEL, TUNED_AUGMENT = "timm:convnext_tiny.in12k_ft_in1k", "photo"
TUNED_SIDE = 224  # pixels; of the images that the weights were trained on
LEAST_TUNED_SIDE = 96  # pixels; images of fewer, blown up to 224, gain little from what sharp ones taught

# of all steps, at the end: the averaged weights reach as far back
AVERAGED_SHARE, MOST_EMA_DECAY = 0.05, 0.9998


@dataclass(frozen=True)
class DatasetFacts:
    """What a survey of the training images finds.

    `side` is that of a square of the median image's area, in pixels; `grey` says that no image has a colour.
    """

    num_images: int
    side: int
    grey: bool


@dataclass(frozen=True)
class RecipeEvidence:
    """What a run's recipe is resolved from; `pretrained` says that the weights of TUNED_MODEL can be had."""

    facts: DatasetFacts
    pretrained: bool


def wants_weights(facts: DatasetFacts, settings: Sequence[str]) -> bool:
    """Return whether the recipe depends on the weights of TUNED_MODEL being available.

    It does not where a user sets another network, what it starts from, or a pretraining.
    """
    typed = read_settings(settings)
    if typed.keys() & {"model", "weights", "pretrained"} or typed.get("pretrain", "none") != "none":
        return False
    return typed.get("image_size", facts.side) >= LEAST_TUNED_SIDE


def resolve_default(evidence: RecipeEvidence, settings: Sequence[str] = ()) -> Recipe:
    """Return the `default` recipe for this evidence; `FIELD=VALUE` settings decide what follows from them.

    Raises InputError for settings that nobody understands.
    """
    facts, typed = evidence.facts, read_settings(settings)
    # only these are checked here: whether train_size, for one, fits depends on the image_size resolved below
    base = replace(DEFAULT, **{field: value for field, value in typed.items() if field in DECIDING})
    pretrained = typed.get("pretrained", evidence.pretrained and wants_weights(facts, settings))
    tuned = pretrained or bool(base.weights)
    budget = FINE_TUNED if tuned else FROM_SCRATCH
    sizes = {
        "image_size": TUNED_SIDE if tuned else _scratch_size(facts.side),
        "batch_size": _batch_size(facts.num_images, budget.most_batch),
        "epochs": _epochs(facts.num_images, budget),
    }
    base = replace(base, **{field: typed.get(field, value) for field, value in sizes.items()})
    rest = _tuned_fields() if tuned else _scratch_fields(facts, base)
    steps = base.epochs * _steps_an_epoch(facts.num_images, base.batch_size)
    resolved = replace(
        DEFAULT,
        channels=1 if facts.grey else 3,
        pretrained=pretrained,
        image_size=base.image_size,
        batch_size=base.batch_size,
        epochs=base.epochs,
        lr=budget.lr * (base.batch_size / LR_BATCH) ** budget.lr_power,
        ema_decay=round(min(max(1 - 1 / (AVERAGED_SHARE * steps), 0.0), MOST_EMA_DECAY), 4),
        **rest,
    )
    return override(resolved, settings)


def _tuned_fields() -> dict[str, Any]:
    """Return the fields of a network that starts from weights."""
    return {"model": TUNED_MODEL, "augment": TUNED_AUGMENT, "optimizer": "adamw", "weight_decay": 0.05}


def _scratch_fields(facts: DatasetFacts, base: Recipe) -> dict[str, Any]:
    """Return the fields of a network from scratch; `base` has the sizes and what a user set."""
    mixing = {**CUTMIX, "mix_until": 0.8} if facts.num_images <= FEW_IMAGES else {}
    return {
        "model": SMALL_MODEL if base.image_size <= MIDDLE_SIDE else MODEL,
        "augment": SMALL_AUGMENT if base.image_size <= SMALL_SIDE else AUGMENT,
        "alternating_flip": not is_pipeline(base.augment),  # a pipeline samples its own flips
        "optimizer": "muon",
        "nesterov": base.momentum > 0,
        "weight_decay": 0.05,
        "schedule": "one-cycle",
        "warmup": 0.2,
        **mixing,
    }


# the recipes that a dataset resolves, by name
DATASET_RECIPES: dict[str, Callable[[RecipeEvidence, Sequence[str]], Recipe]] = {
    DEFAULT.name: resolve_default
}


def describe_recipe(recipe: Recipe, facts: DatasetFacts, settings: Sequence[str] = ()) -> list[str]:
    """Return what the facts resolve to and why, in two lines."""
    tuned = recipe.pretrained or bool(recipe.weights)
    budget = FINE_TUNED if tuned else FROM_SCRATCH
    steps = _steps_an_epoch(facts.num_images, recipe.batch_size)
    colours = "grey" if facts.grey else "in colour"
    given = f"; as set: {', '.join(settings)}" if settings else ""
    return [
        f"{facts.num_images:,} images of about {facts.side} x {facts.side} pixels, {colours}: {recipe.model} "
        f"{'fine-tuned' if tuned else 'from scratch'} at {recipe.image_size} pixels, "
        f"{in_words(recipe.augment)}{given}",
        f"{recipe.epochs} epochs, {recipe.epochs * facts.num_images:,} images seen (wanted {budget.seen:,}, "
        f"in {budget.least_epochs} to {budget.most_epochs} epochs); batches of {recipe.batch_size}, "
        f"steps an epoch: {steps:,} (wanted {STEPS_AN_EPOCH}, of {LEAST_BATCH} to {budget.most_batch} "
        f"images); {recipe.optimizer} at {recipe.lr:.3g} ({budget.lr} for {LR_BATCH} images)",
    ]


def _scratch_size(side: int) -> int:
    return min(max(-(-side // SIDE_STEP) * SIDE_STEP, LEAST_SIDE), MOST_SIDE)


def _epochs(num_images: int, budget: Budget) -> int:
    return min(max(round(budget.seen / num_images), budget.least_epochs), budget.most_epochs)


def _batch_size(num_images: int, most: int) -> int:
    """Return the largest power of two with which an epoch has STEPS_AN_EPOCH steps, within the bounds."""
    fitting = max(num_images // STEPS_AN_EPOCH, 1)
    return min(max(1 << (fitting.bit_length() - 1), LEAST_BATCH), most)


def _steps_an_epoch(num_images: int, batch_size: int) -> int:
    return -(-num_images // batch_size)
