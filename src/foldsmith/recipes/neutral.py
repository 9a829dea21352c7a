"""What a recipe's fields are worth: their neutral values, and which of them to drop."""

from collections.abc import Sequence
from dataclasses import dataclass

from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes import Recipe, override

# field -> the value, as --set takes it, at which it does nothing. A new field of that kind is a row here
NEUTRAL = {
    "augment": "none",
    "views": "identity",
    "augment_strength": "1",
    "erase": "0",
    "alternating_flip": "false",
    "train_size": "0",
    "train_size_from": "0",
    "ema_decay": "0",
    "seeds": "1",
    "rounds": "1",
    "label_smoothing": "0",
    "loss": "ce",
    "mixup": "0",
    "cutmix": "0",
    "mix_share": "1",
    "mix_until": "1",
    "class_weights": "none",
    "sampling": "natural",
    "logit_adjustment": "0",
    "recalibrate": "0",
    "warmup": "0",
    "schedule": "constant",
    "nesterov": "false",
    "weight_decay": "0",
    "clip_grad": "0",
    "sam": "0",
    "drop_path": "0",
    "pretrained": "false",
    "pretrain": "none",
    "pretrain_test": "false",
    "encoder_lr": "0",
    "reconstruction_weight": "0",
}
# runs that differ in these have other folds, or another seed, and are no ablation
KEPT = ("near_duplicates", "max_unreadable", "seed")


@dataclass(frozen=True)
class Drop:
    """A field and the value it is dropped to, as --set takes it."""

    field: str
    value: str

    @property
    def setting(self) -> str:
        return f"{self.field}={self.value}"

    @property
    def suffix(self) -> str:
        """What the run's name ends with."""
        if self.value == NEUTRAL.get(self.field):
            return f"without-{self.field}"
        return f"with-{self.field}-{self.value}"


def read_drops(words: Sequence[str], recipe: Recipe) -> list[Drop]:
    """The fields to drop from a recipe, each FIELD or FIELD=VALUE. Raises InputError.

    A field without a neutral value needs one, and a value the recipe has already drops nothing.
    """
    drops = [_read_drop(word, recipe) for word in words]
    for place, drop in enumerate(drops):
        if drop in drops[:place]:
            raise InputError(f"--drop {drop.setting} stands there twice; name it once.")
    return drops


def _read_drop(word: str, recipe: Recipe) -> Drop:
    field, equals, value = word.partition("=")
    if field in KEPT:
        raise InputError(f"--drop {field}: an ablation keeps folds and seed as they are; drop another field.")
    if not equals and field not in NEUTRAL:
        error = unknown_name("field with a neutral value", field, NEUTRAL)
        raise InputError(f"{error} Any other is dropped to a value of yours: --drop FIELD=VALUE.")
    drop = Drop(field, value if equals else NEUTRAL[field])
    if override(recipe, [drop.setting]) == recipe:
        raise InputError(
            f"--drop {word}: {field} is {drop.value} in recipe '{recipe.name}' already; drop another field."
        )
    return drop
