"""The neutral values of a recipe's fields, and the fields that an ablation drops."""

from collections.abc import Sequence
from dataclasses import dataclass

from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes import Recipe, override

# field -> the value, as typed after --set, at which it has no effect. Add a row for each such new field
NEUTRAL = {
    "augment": "none",
    "views": "identity",
    "least_steps": "0",
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
    "head": "new",
    "join": "",
    "layer_decay": "1",
    "freeze_norm": "false",
    "grad_checkpointing": "false",
    "pretrained": "false",
    "pretrain": "none",
    "pretrain_test": "false",
    "encoder_lr": "0",
    "reconstruction_weight": "0",
}
# an ablation keeps these: runs with other folds or another seed differ by more than the dropped field
KEPT = ("near_duplicates", "max_unreadable", "seed")


@dataclass(frozen=True)
class Drop:
    """A field and the value it is dropped to, as typed after --set."""

    field: str
    value: str

    @property
    def setting(self) -> str:
        return f"{self.field}={self.value}"

    @property
    def suffix(self) -> str:
        """Return the end of the run's name."""
        if self.value == NEUTRAL.get(self.field):
            return f"without-{self.field}"
        return f"with-{self.field}-{self.value}".replace("/", "_")


def read_drops(words: Sequence[str], recipe: Recipe) -> list[Drop]:
    """Return the drops of words of the form FIELD or FIELD=VALUE.

    Raise InputError for a field without a neutral value or VALUE, for a value that the recipe already has,
    for repeats, and for the fields of KEPT.
    """
    drops = [_read_drop(word, recipe) for word in words]
    for index, drop in enumerate(drops):
        if drop in drops[:index]:
            raise InputError(f"--drop {drop.setting} is repeated; write it once.")
    return drops


def _read_drop(word: str, recipe: Recipe) -> Drop:
    field, equals, value = word.partition("=")
    if field in KEPT:
        raise InputError(f"--drop {field}: an ablation keeps folds and seed; drop another field.")
    if not equals and field not in NEUTRAL:
        error = unknown_name("field with a neutral value", field, NEUTRAL)
        raise InputError(f"{error} For other fields write the value: --drop FIELD=VALUE.")
    drop = Drop(field, value if equals else NEUTRAL[field])
    if override(recipe, [drop.setting]) == recipe:
        raise InputError(
            f"--drop {word}: {field} is already {drop.value} in recipe '{recipe.name}'; drop another field."
        )
    return drop
