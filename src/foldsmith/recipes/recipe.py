"""A recipe: its fields, which of them weights depend on, their checks and typed overrides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from foldsmith.augment.albumentations_file import pipeline_text, refuse_pipelines
from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes.bounds import check_values

# what is learned without labels, by the kinds of `pretrain`: the parts of a network that folds start from
PRETRAINED: dict[str, tuple[str, ...]] = {
    "none": (),
    "autoencoder": ("encoder", "decoder"),
}


def use_field(default: Any, *stages: str) -> Any:
    """Return a field that no weight depends on; `stages` run again on a finished run when it changes."""
    return field(default=default, metadata={"stages": stages})


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how it is used. Defaults live here and nowhere else.

    Weights depend on every field but those declared by `use_field`: prediction, memory, speed, report. A
    finished run takes other values of these without training again.

    Raises InputError for values no training can have.
    """

    name: str = field(metadata={"stages": ()})  # a name for people; seeds and folds do not depend on it

    # data
    image_size: int = 64  # pixels; images are resized to a square of it, whole (their aspect is not kept)
    train_size: int = 0  # pixels; training images are cropped straight to this smaller size; 0 = image_size
    train_size_from: int = (
        0  # pixels; they grow to train_size from here, in steps of 1/8 of the image; 0 = no
    )
    # share of training or test images; more unreadable ones stop the run. A limit: it changes no sample
    max_unreadable: float = use_field(0.01, "prepare")
    near_duplicates: int = 7  # bits of 63 by which perceptual hashes of one picture may differ; -1 = unsought
    # false: pixels are not kept but decoded each time, for more images than the disk
    # holds. JPEGs much larger than image_size are then decoded at a reduced size, and rounded differently
    cache: bool = use_field(True, "prepare")
    augment: str = (
        "crop-flip"  # a row of foldsmith.augment.rows.AUGMENTATIONS, an albumentations pipeline or FILE.json
    )
    augment_strength: float = 1.0  # of rows with TrivialAugment, as a share of the published one
    erase: float = 0.0  # share of the training images of which a box is erased
    alternating_flip: bool = False  # what is mirrored in one epoch is not in the next, where augment mirrors
    # device, workers; auto: on a GPU that holds the images in a tenth of its memory. The same draws, rounded
    # differently: a finished fold stays
    augment_on: str = use_field("auto")

    # model
    model: str = "timm:resnet18"  # a name of foldsmith.models.MODELS, or timm:<name>
    channels: int = 3  # 3: colours; 1: their brightness alone
    pretrained: bool = False  # timm models: start from timm's weights (needs the network, or `weights`)
    drop_path: float = 0.0  # timm models: share of the images whose residual branch is left out
    weights: str = ""  # timm models: start from this local weights file instead of the network
    # of normalisation, on a scale of 0 to 1; () = the pretrained weights', else .5
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    # pretraining without labels
    # none; autoencoder: encoder and decoder learn to reconstruct the images, from scratch
    pretrain: str = "none"
    pretrain_epochs: int = 30
    pretrain_batch_size: int = 128
    pretrain_lr: float = 1e-3
    # a row of AUGMENTATIONS: the augmented image is both input and target
    pretrain_augment: str = "none"
    pretrain_test: bool = False  # the test images, which need no labels here, are trained on as well
    pretrain_holdout: float = 0.1  # share of the images that only measures
    pretrain_patience: int = 0  # epochs without a lower held-out loss after which it stops; 0 = never

    # training
    seed: int = 0
    seeds: int = 1  # networks a fold, alike but for their random draws, whose predictions are averaged
    rounds: int = (
        1  # times a fold is trained; from the second on with test images, as the one before saw them
    )
    pseudo_share: float = 0.5  # of the test images: the surest ones, which get a label for the next round
    epochs: int = 30
    batch_size: int = 64
    # images computed at a time, whose gradients a batch adds up; 0 = the whole batch. A setting of memory,
    # though batch norm sees micro-batches then: run.json notes what a fold was trained with
    micro_batch: int = use_field(0)
    # torch.compile: it costs a minute; on a CPU it does not pay. The same network, rounded differently
    compile: bool = use_field(False)
    optimizer: str = "sgd"  # sgd, adam, adamw, muon
    lr: float = 0.05
    encoder_lr: float = 0.0  # of an autoencoder's encoder; 0 = lr
    reconstruction_weight: float = 0.0  # of an autoencoder's reconstruction loss beside the cross entropy
    momentum: float = 0.9  # sgd, muon
    nesterov: bool = False  # sgd, muon
    weight_decay: float = 5e-4  # on weights of two and more dimensions, never on biases and norms
    clip_grad: float = 0.0  # norm that a step's gradient is cut to; 0 = none
    sam: float = 0.0  # radius of sharpness-aware minimisation, which computes a batch twice; 0 = none
    schedule: str = "cosine"  # cosine, one-cycle, constant
    warmup: float = 0.1  # share of the steps in which the rate rises from zero
    loss: str = "ce"  # ce: cross entropy; bce: binary cross entropy of each class
    label_smoothing: float = 0.0
    class_weights: str = "none"  # none, auto: inversely to the class's frequency
    sampling: str = "natural"  # natural: every image once an epoch; balanced: every class equally often
    logit_adjustment: float = 0.0  # times the logarithms of the classes' shares, added in the loss; 0 = none
    mixup: float = 0.0  # alpha of mixup; 0 = none
    cutmix: float = 0.0  # alpha of CutMix; 0 = none; with both, each batch draws which
    mix_share: float = 1.0  # share of the batches that are mixed
    mix_until: float = 1.0  # share of the epochs after which no batch is mixed any more
    ema_decay: float = 0.0  # of the averaged weights that validate and predict; 0 = the last weights do
    # training batches, at most an epoch's, from which batch norm learns its statistics anew at the end
    recalibrate: int = 0
    # epochs; the last one always is validated. Measuring changes no weight; log.csv has more or fewer figures
    validate_every: int = use_field(1)
    # on a GPU: same bytes every time, at some speed (a CPU always gives them). Weights depend on it: it is a
    # promise about how they were computed, which a fold trained without it cannot keep
    deterministic: bool = False

    # inference
    # rows of foldsmith.inference.views.VIEWS, averaged. With rounds > 1 they decide pseudo-labels: see
    # use_fields
    views: tuple[str, ...] = use_field(
        ("identity", "hflip"), "train", "validate", "infer", "submit", "examine", "report"
    )

    def __post_init__(self) -> None:
        # downstream a pipeline is text: compared, saved and stamped like any other value
        object.__setattr__(self, "augment", pipeline_text(self.augment))
        refuse_pipelines(vars(self))
        check_values(self)

    @property
    def pretraining(self) -> "Recipe":
        """The recipe of the pretraining: its own epochs, batches, rate and augmentation; nothing is averaged,
        erased or mixed."""
        return replace(
            self,
            epochs=self.pretrain_epochs,
            batch_size=self.pretrain_batch_size,
            lr=self.pretrain_lr,
            augment=self.pretrain_augment,
            erase=0.0,
            mixup=0.0,
            cutmix=0.0,
            train_size=0,
            train_size_from=0,
            alternating_flip=False,
            sampling="natural",
            encoder_lr=0.0,
            weight_decay=0.0,
            sam=0.0,
            ema_decay=0.0,
            validate_every=1,
        )

    @property
    def predict_batch_size(self) -> int:
        """Images a prediction step: more than a training step, as nothing is kept for gradients."""
        return 2 * self.batch_size


def use_fields(rounds: int = 1) -> dict[str, tuple[str, ...]]:
    """Return the fields that no weight depends on, with the stages that run again when they change.

    With a second round, views decide pseudo-labels, which its networks learn from: they are none of these.
    """
    declared = {each.name: each.metadata["stages"] for each in fields(Recipe) if "stages" in each.metadata}
    if rounds > 1:
        del declared["views"]
    return declared


def training_fields(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what weights depend on of a recipe, given as a dictionary such as run.json holds."""
    used = use_fields(recipe.get("rounds", 1))
    return {name: value for name, value in recipe.items() if name not in used}


def check_weights_file(weights: str) -> None:
    """Raises InputError if a recipe's `weights` name a file that is not there."""
    if weights and not Path(weights).is_file():
        raise InputError(f"weights={weights}: there is no such file.")


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `FIELD=VALUE` settings, each read as the type of its field. Raises InputError."""
    return replace(recipe, **read_settings(settings))


def read_settings(settings: Iterable[str]) -> dict[str, Any]:
    """The values of `FIELD=VALUE` settings by field; whether a recipe can have them is not asked.

    Raises InputError for an unknown field, or a value that is not of its type.
    """
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
    return values


def _read_value(field: str, text: str, kind: Any) -> Any:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
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
