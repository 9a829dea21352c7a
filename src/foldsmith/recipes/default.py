"""The `default` recipe, chosen by a competition's images: stated arithmetic, and sentences that tell of it.

Every number stands here once, with its reason. What a person sets is known before anything is chosen: with
`--image-size 64` it also decides the network and the augmentation, with `--batch-size 32` the learning rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foldsmith.augment.albumentations_file import is_pipeline
from foldsmith.recipes.general import CUTMIX, DEFAULT
from foldsmith.recipes.recipe import Recipe, override, read_settings
from foldsmith.recipes.words import in_words

# what a person may set that decides other fields
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
class DataFacts:
    """What a look at the training images tells.

    `side` is that of a square of the median image's area, in pixels; `grey` says that no image has a colour.
    """

    num_images: int
    side: int
    grey: bool


@dataclass(frozen=True)
class Grounds:
    """What a run's recipe is chosen by; `pretrained` says that the weights of TUNED_MODEL can be had."""

    facts: DataFacts
    pretrained: bool


def wants_weights(facts: DataFacts, settings: Sequence[str]) -> bool:
    """Whether it makes a difference if the weights of TUNED_MODEL can be had.

    It makes none where a person sets another network, what it starts from, or a pretraining.
    """
    given = read_settings(settings)
    if given.keys() & {"model", "weights", "pretrained"} or given.get("pretrain", "none") != "none":
        return False
    return given.get("image_size", facts.side) >= LEAST_TUNED_SIDE


def choose_recipe(grounds: Grounds, settings: Sequence[str] = ()) -> Recipe:
    """The `default` recipe on these grounds, with `FIELD=VALUE` settings, which what follows is derived from.

    Raises InputError for settings that nobody understands.
    """
    facts, given = grounds.facts, read_settings(settings)
    # whether the rest can be trained is known with what is chosen: train_size, for one, with image_size
    typed = replace(DEFAULT, **{field: value for field, value in given.items() if field in DECIDING})
    if "pretrained" in given:
        pretrained = typed.pretrained
    else:
        pretrained = grounds.pretrained and wants_weights(facts, settings)
    tuned = pretrained or bool(typed.weights)
    budget = FINE_TUNED if tuned else FROM_SCRATCH

    image_size = TUNED_SIDE if tuned else _scratch_size(facts.side)
    image_size = typed.image_size if "image_size" in given else image_size
    batch_size = _batch_size(facts.num_images, budget.most_batch)
    batch_size = typed.batch_size if "batch_size" in given else batch_size
    epochs = min(max(round(budget.seen / facts.num_images), budget.least_epochs), budget.most_epochs)
    epochs = typed.epochs if "epochs" in given else epochs
    steps = epochs * _steps_an_epoch(facts.num_images, batch_size)
    chosen = replace(
        DEFAULT,
        channels=1 if facts.grey else 3,
        pretrained=pretrained,
        image_size=image_size,
        batch_size=batch_size,
        epochs=epochs,
        lr=budget.lr * (batch_size / LR_BATCH) ** budget.lr_power,
        ema_decay=round(min(max(1 - 1 / (AVERAGED_SHARE * steps), 0.0), MOST_EMA_DECAY), 4),
    )
    if tuned:
        chosen = replace(
            chosen, model=TUNED_MODEL, augment=TUNED_AUGMENT, optimizer="adamw", weight_decay=0.05
        )
    else:
        chosen = replace(
            chosen,
            model=SMALL_MODEL if image_size <= MIDDLE_SIDE else MODEL,
            augment=SMALL_AUGMENT if image_size <= SMALL_SIDE else AUGMENT,
            alternating_flip=not is_pipeline(typed.augment),  # a pipeline samples its own flips
            optimizer="muon",
            nesterov=typed.momentum > 0,
            weight_decay=0.05,
            schedule="one-cycle",
            warmup=0.2,
        )
        if facts.num_images <= FEW_IMAGES:
            chosen = replace(chosen, **CUTMIX, mix_until=0.8)
    return override(chosen, settings)


# the recipes that a competition's images decide, by name
CHOOSERS: dict[str, Callable[[Grounds, Sequence[str]], Recipe]] = {DEFAULT.name: choose_recipe}


def explain_choice(recipe: Recipe, facts: DataFacts, settings: Sequence[str] = ()) -> list[str]:
    """What was chosen by the facts and why, in two lines."""
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


def _batch_size(num_images: int, most: int) -> int:
    """The largest power of two with which an epoch has STEPS_AN_EPOCH steps, if it lies within the bounds."""
    fitting = max(num_images // STEPS_AN_EPOCH, 1)
    return min(max(1 << (fitting.bit_length() - 1), LEAST_BATCH), most)


def _steps_an_epoch(num_images: int, batch_size: int) -> int:
    return -(-num_images // batch_size)
