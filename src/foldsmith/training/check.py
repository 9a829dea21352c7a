"""The check of a recipe against this machine and installation, before a long training starts."""

import numpy as np
import torch
from torch import nn

from foldsmith.augment.albumentations_file import apply_pipeline
from foldsmith.augment.rows import AUGMENTATIONS, Augmentation, build_augmentation
from foldsmith.errors import InputError, unknown_name
from foldsmith.inference.compute import choose_device, choose_precision, refuse_on_device
from foldsmith.inference.views import check_views
from foldsmith.models import Start, build_model, build_probed, check_model, takes_any_size
from foldsmith.models.autoencoder import AUTOENCODER_PLANS, Autoencoder
from foldsmith.models.probe import recompute_activations
from foldsmith.recipes import Recipe, check_weights_file
from foldsmith.recipes.neutral import NEUTRAL
from foldsmith.recipes.words import in_words
from foldsmith.training.optimizer import OPTIMIZERS, scales_of_layers
from foldsmith.training.schedule import SCHEDULES
from foldsmith.training.sizes import training_sizes

TRIED_DRAWS = 100  # of an albumentations pipeline


def check_recipe(recipe: Recipe, device: str, precision: str) -> None:
    """Raise InputError for an unknown name or unfit network in a recipe, and for a missing device."""
    _check_augmentation(recipe)
    for kind, name, known in (
        ("augmentation", recipe.pretrain_augment, AUGMENTATIONS),
        ("optimizer", recipe.optimizer, OPTIMIZERS),
        ("schedule", recipe.schedule, SCHEDULES),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    check_views(recipe.views)
    check_model(recipe.model, Start(recipe.pretrained, recipe.weights).is_trained)
    check_weights_file(recipe.weights)
    choose_precision(precision, choose_device(device))
    open_weights(recipe)
    _check_network(recipe)


def _check_augmentation(recipe: Recipe) -> None:
    """Raise InputError for an unknown augmentation, or one that other fields of the recipe do not fit."""
    augmentation = build_augmentation(
        recipe.augment, recipe.image_size, recipe.erase, recipe.augment_strength, recipe.cached_channels
    )
    if not isinstance(augmentation, Augmentation):
        fields = ("train_size", "train_size_from", "alternating_flip")
        unfit = [field for field in fields if getattr(recipe, field)]
        if unfit:
            raise InputError(
                f"augment={in_words(recipe.augment)} is an albumentations pipeline, which does not support "
                f"{', '.join(unfit)} of recipe '{recipe.name}'; turn off: "
                + " ".join(f"--set {field}={NEUTRAL[field]}" for field in unfit)
            )
        # a transform that changes the size in some draws would otherwise stop a training hours later
        shape = (TRIED_DRAWS, recipe.image_size, recipe.image_size, recipe.cached_channels)
        images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        apply_pipeline(augmentation, images, recipe.seed)
    if recipe.augment_on == "device":
        refuse_on_device(augmentation, streamed=not recipe.cache)


def open_weights(recipe: Recipe) -> None:
    """Load the recipe's initial weights. Raise InputError if they are missing, cut off, or do not fit."""
    start = Start(recipe.pretrained, recipe.weights)
    if start.is_trained:
        build_model(recipe.model, 2, recipe.image_size, recipe.channels, start)


def _build(recipe: Recipe) -> nn.Module:
    """Return the recipe's network for two classes, with random weights."""
    if recipe.head == "probe":
        return build_probed(recipe, 2)
    return build_model(recipe.model, 2, recipe.image_size, recipe.channels)


def _check_network(recipe: Recipe) -> None:
    """Raise InputError if the network does not accept the recipe's images, or lacks what a field needs."""
    size = recipe.image_size
    smaller = sorted({*training_sizes(recipe)} - {size})
    try:
        model = _build(recipe).eval()
        for size in (recipe.image_size, *(smaller if takes_any_size(model) else ())):
            with torch.inference_mode():
                model(torch.zeros(1, recipe.channels, size, size))
    # networks raise different errors for images that are too small
    except (InputError, RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"model {recipe.model} does not accept images of {size} x {size}: {reason}"
        ) from error
    if smaller and not takes_any_size(model):
        raise InputError(
            f"model {recipe.model} accepts images of one size only; set train_size and train_size_from to 0."
        )
    scales_of_layers(model, recipe)
    if recipe.grad_checkpointing:
        recompute_activations(model, recipe.model)
    if recipe.drop_path:  # raises InputError for networks without a residual branch
        build_model(recipe.model, 2, recipe.image_size, recipe.channels, drop_path=recipe.drop_path)
    needs_autoencoder = {"pretrain": recipe.pretrain == "autoencoder", "encoder_lr": recipe.encoder_lr,
                         "reconstruction_weight": recipe.reconstruction_weight}  # fmt: skip
    if any(needs_autoencoder.values()) and not isinstance(model, Autoencoder):
        field = next(field for field, value in needs_autoencoder.items() if value)
        raise InputError(
            f"recipe '{recipe.name}': {field} is for autoencoders, and {recipe.model} is not one; choose "
            f"another model: {', '.join(AUTOENCODER_PLANS)}."
        )
