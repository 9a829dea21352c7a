"""The values a recipe's fields can have."""

import math
from typing import TYPE_CHECKING, get_type_hints

from foldsmith.errors import InputError

if TYPE_CHECKING:
    from foldsmith.recipes.recipe import Recipe


def check_values(recipe: "Recipe") -> None:
    """Raises InputError for values no training can have, one at a time."""
    for field, kind in get_type_hints(type(recipe)).items():
        value = getattr(recipe, field)
        plain = {float: (int, float), int: int, str: str, bool: bool}.get(kind, tuple)
        if not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"recipe '{recipe.name}': {field} is {value!r}, it must be of type {kind}.")
    largest = recipe.train_size or recipe.image_size
    for field, valid, meaning in (
        ("image_size", recipe.image_size >= 1, "at least 1"),
        (
            "train_size",
            0 <= recipe.train_size <= recipe.image_size,
            f"at most image_size ({recipe.image_size}), or zero: --set train_size=0 --set train_size_from=0",
        ),
        (
            "train_size_from",
            0 <= recipe.train_size_from <= largest,
            f"at most the size in training ({largest}), or zero: --set train_size_from=0",
        ),
        ("max_unreadable", 0 <= recipe.max_unreadable <= 1, "a share between 0 and 1"),
        ("near_duplicates", -1 <= recipe.near_duplicates <= 7, "0 to 7 bits, or -1 for none"),
        ("epochs", recipe.epochs >= 1, "at least 1"),
        ("seeds", recipe.seeds >= 1, "at least 1"),
        ("rounds", recipe.rounds >= 1, "at least 1"),
        ("pseudo_share", 0 < recipe.pseudo_share <= 1, "a share above 0, up to 1"),
        ("augment_strength", 0 <= recipe.augment_strength <= 1, "a share between 0 and 1"),
        ("erase", 0 <= recipe.erase <= 1, "a share between 0 and 1"),
        ("augment_on", recipe.augment_on in ("auto", "device", "workers"), "auto, device or workers"),
        ("batch_size", recipe.batch_size >= 1, "at least 1"),
        ("micro_batch", recipe.micro_batch >= 0, "zero or a number of images"),
        ("channels", recipe.channels in (1, 3), "1 or 3"),
        ("pretrain", recipe.pretrain in ("none", "autoencoder"), "none or autoencoder"),
        (
            "pretrain",
            recipe.pretrain == "none" or not (recipe.pretrained or recipe.weights),
            "none where a network starts from weights (pretrained, weights), which it would replace",
        ),
        ("pretrain_epochs", recipe.pretrain_epochs >= 1, "at least 1"),
        ("pretrain_batch_size", recipe.pretrain_batch_size >= 1, "at least 1"),
        ("pretrain_lr", 0 < recipe.pretrain_lr < float("inf"), "a positive number"),
        ("pretrain_holdout", 0 < recipe.pretrain_holdout < 1, "a share between 0 and 1"),
        ("pretrain_patience", recipe.pretrain_patience >= 0, "zero or a number of epochs"),
        ("lr", 0 < recipe.lr < float("inf"), "a positive number"),
        ("encoder_lr", 0 <= recipe.encoder_lr < float("inf"), "zero or a positive number"),
        (
            "reconstruction_weight",
            0 <= recipe.reconstruction_weight < float("inf"),
            "zero or a positive number",
        ),
        ("momentum", 0 <= recipe.momentum < 1, "in [0, 1)"),
        ("nesterov", recipe.momentum > 0 or not recipe.nesterov, "false where momentum is 0"),
        ("weight_decay", 0 <= recipe.weight_decay < float("inf"), "zero or a positive number"),
        ("clip_grad", 0 <= recipe.clip_grad < float("inf"), "zero or a positive number"),
        ("sam", 0 <= recipe.sam < float("inf"), "zero or a positive number"),
        ("drop_path", 0 <= recipe.drop_path < 1, "in [0, 1)"),
        ("warmup", 0 <= recipe.warmup < 1, "a share of the steps, in [0, 1)"),
        ("loss", recipe.loss in ("ce", "bce"), "ce or bce"),
        ("label_smoothing", 0 <= recipe.label_smoothing < 1, "in [0, 1)"),
        ("class_weights", recipe.class_weights in ("none", "auto"), "none or auto"),
        ("sampling", recipe.sampling in ("natural", "balanced"), "natural or balanced"),
        (
            "class_weights",
            recipe.class_weights == "none" or (recipe.sampling == "natural" and not recipe.logit_adjustment),
            "none where sampling is balanced or logits are adjusted: rare classes would be made up for twice",
        ),
        ("logit_adjustment", 0 <= recipe.logit_adjustment < float("inf"), "zero or a positive number"),
        (
            "logit_adjustment",
            not recipe.logit_adjustment or (recipe.loss, recipe.sampling) == ("ce", "natural"),
            "zero unless loss is ce and sampling natural, for which it is made",
        ),
        ("recalibrate", recipe.recalibrate >= 0, "zero or a number of batches"),
        ("mixup", 0 <= recipe.mixup < float("inf"), "zero or a positive number"),
        ("cutmix", 0 <= recipe.cutmix < float("inf"), "zero or a positive number"),
        ("mix_share", 0 <= recipe.mix_share <= 1, "a share between 0 and 1"),
        ("mix_until", 0 <= recipe.mix_until <= 1, "a share between 0 and 1"),
        ("ema_decay", 0 <= recipe.ema_decay < 1, "in [0, 1)"),
        ("validate_every", recipe.validate_every >= 1, "at least 1"),
        (
            "mean",
            len(recipe.mean) in (0, recipe.channels) and all(map(math.isfinite, recipe.mean)),
            "a number for each channel, or none",
        ),
        (
            "std",
            len(recipe.std) in (0, recipe.channels) and all(0 < value < float("inf") for value in recipe.std),
            "a positive number for each channel, or none",
        ),
        ("views", len(recipe.views) >= 1, "at least one view"),
    ):
        if not valid:
            value = getattr(recipe, field)
            raise InputError(f"recipe '{recipe.name}': {field} is {value!r}, it must be {meaning}.")
