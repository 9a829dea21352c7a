"""The valid values of a recipe's fields: one bound per field, and rules between fields."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from foldsmith.errors import InputError

if TYPE_CHECKING:
    from foldsmith.recipes.recipe import Recipe


@dataclass(frozen=True)
class Bound:
    """A condition on the value of a field, and its wording in an error message."""

    meaning: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Rule:
    """A condition on a field that depends on other fields; `meaning` may name them as `{recipe.FIELD}`."""

    field: str
    meaning: str
    holds: Callable[["Recipe"], bool]


def one_of(*names: str) -> Bound:
    """Return the bound of a field whose value is one of these names."""
    return Bound(f"{', '.join(names[:-1])} or {names[-1]}", lambda value: value in names)


AT_LEAST_1 = Bound("at least 1", lambda value: value >= 1)
POSITIVE = Bound("a positive number", lambda value: 0 < value < math.inf)
NOT_NEGATIVE = Bound("zero or a positive number", lambda value: 0 <= value < math.inf)
COUNT = Bound("zero or a positive whole number", lambda value: value >= 0)
SHARE = Bound("a share between 0 and 1", lambda value: 0 <= value <= 1)
POSITIVE_SHARE = Bound("a share above 0, up to 1", lambda value: 0 < value <= 1)
INNER_SHARE = Bound("a share between 0 and 1", lambda value: 0 < value < 1)
BELOW_1 = Bound("in [0, 1)", lambda value: 0 <= value < 1)

# fields that may have any value of their type, such as seed, have no row
BOUNDS = {
    "image_size": AT_LEAST_1,
    "max_unreadable": SHARE,
    "near_duplicates": Bound("0 to 7 bits, or -1 for none", lambda value: -1 <= value <= 7),
    "augment_strength": SHARE,
    "erase": SHARE,
    "augment_on": one_of("auto", "device", "workers"),
    "channels": Bound("1, 3 or 4", lambda value: value in (1, 3, 4)),
    "drop_path": BELOW_1,
    "pretrain": one_of("none", "autoencoder"),
    "pretrain_epochs": AT_LEAST_1,
    "pretrain_batch_size": AT_LEAST_1,
    "pretrain_lr": POSITIVE,
    "pretrain_holdout": INNER_SHARE,
    "pretrain_patience": COUNT,
    "seeds": AT_LEAST_1,
    "rounds": AT_LEAST_1,
    "pseudo_share": POSITIVE_SHARE,
    "head": one_of("new", "probe"),
    "layer_decay": Bound("a share above 0, up to 1", lambda value: 0 < value <= 1),
    "epochs": COUNT,
    "batch_size": AT_LEAST_1,
    "least_steps": COUNT,
    "micro_batch": COUNT,
    "lr": POSITIVE,
    "encoder_lr": NOT_NEGATIVE,
    "reconstruction_weight": NOT_NEGATIVE,
    "momentum": BELOW_1,
    "weight_decay": NOT_NEGATIVE,
    "clip_grad": NOT_NEGATIVE,
    "sam": NOT_NEGATIVE,
    "warmup": Bound("a share of the steps, in [0, 1)", BELOW_1.holds),
    "loss": one_of("ce", "bce", "asymmetric", "smooth_l1", "mse"),
    "label_smoothing": BELOW_1,
    "class_weights": one_of("none", "auto"),
    "sampling": one_of("natural", "balanced"),
    "logit_adjustment": NOT_NEGATIVE,
    "mixup": NOT_NEGATIVE,
    "cutmix": NOT_NEGATIVE,
    "mix_share": SHARE,
    "mix_until": SHARE,
    "ema_decay": BELOW_1,
    "recalibrate": COUNT,
    "validate_every": AT_LEAST_1,
    "views": Bound("at least one view", lambda value: len(value) >= 1),
}
RULES = (
    Rule(
        "train_size",
        "at most image_size ({recipe.image_size}), or zero: --set train_size=0 --set train_size_from=0",
        lambda recipe: 0 <= recipe.train_size <= recipe.image_size,
    ),
    Rule(
        "train_size_from",
        "at most the size in training (train_size, or image_size where that is 0), or zero: "
        "--set train_size_from=0",
        lambda recipe: 0 <= recipe.train_size_from <= (recipe.train_size or recipe.image_size),
    ),
    Rule(
        "pretrain",
        "none if a network starts from weights (pretrained, weights): pretraining would replace them",
        lambda recipe: recipe.pretrain == "none" or not (recipe.pretrained or recipe.weights),
    ),
    Rule(
        "nesterov",
        "false if momentum is 0",
        lambda recipe: recipe.momentum > 0 or not recipe.nesterov,
    ),
    Rule(
        "class_weights",
        "none if sampling is balanced or logit_adjustment is set: rare classes would be weighted twice",
        lambda recipe: (
            recipe.class_weights == "none" or (recipe.sampling == "natural" and not recipe.logit_adjustment)
        ),
    ),
    Rule(
        "class_weights",
        "none if loss is asymmetric, which weighs negatives by itself",
        lambda recipe: recipe.class_weights == "none" or recipe.loss != "asymmetric",
    ),
    Rule(
        "logit_adjustment",
        "zero unless loss is ce and sampling is natural; it is defined for these only",
        lambda recipe: not recipe.logit_adjustment or (recipe.loss, recipe.sampling) == ("ce", "natural"),
    ),
    Rule(
        "mean",
        "one number per channel, of which there are {recipe.channels}, or empty: --set mean= "
        "--set std=; --set channels=3 fits three",
        lambda recipe: (
            len(recipe.mean) in (0, recipe.channels) and all(math.isfinite(value) for value in recipe.mean)
        ),
    ),
    Rule(
        "std",
        "one positive number per channel, of which there are {recipe.channels}, or empty: --set mean= "
        "--set std=; --set channels=3 fits three",
        lambda recipe: (
            len(recipe.std) in (0, recipe.channels) and all(POSITIVE.holds(value) for value in recipe.std)
        ),
    ),
    Rule(
        "epochs",
        "at least 1, or 0 with head=probe, whose classifier is fitted without training",
        lambda recipe: recipe.epochs >= 1 or recipe.head == "probe",
    ),
    Rule(
        "join",
        "empty unless head is probe and epochs is 0",
        lambda recipe: not recipe.join or (recipe.head == "probe" and recipe.epochs == 0),
    ),
    Rule(
        "head",
        "new unless the model is one of timm's (timm:<name>)",
        lambda recipe: recipe.head == "new" or recipe.model.startswith("timm:"),
    ),
    Rule(
        "rounds",
        "1 if epochs is 0: a probe is fitted once",
        lambda recipe: recipe.epochs > 0 or (recipe.rounds == 1 and recipe.seeds == 1),
    ),
)


def check_values(recipe: "Recipe") -> None:
    """Raise InputError for the first invalid value."""
    _check_types(recipe)
    for field, bound in BOUNDS.items():
        if not bound.holds(getattr(recipe, field)):
            raise _refusal(recipe, field, bound.meaning)
    for rule in RULES:
        if not rule.holds(recipe):
            raise _refusal(recipe, rule.field, rule.meaning.format(recipe=recipe))


def _check_types(recipe: "Recipe") -> None:
    """Raise InputError for a value that has not its field's type; an int is accepted for a float."""
    for field, kind in get_type_hints(type(recipe)).items():
        value = getattr(recipe, field)
        accepted = {float: (int, float), int: int, str: str, bool: bool}.get(kind, tuple)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise _refusal(recipe, field, f"of type {kind}")


def _refusal(recipe: "Recipe", field: str, meaning: str) -> InputError:
    return InputError(f"recipe '{recipe.name}': {field} is {getattr(recipe, field)!r}; it must be {meaning}.")
