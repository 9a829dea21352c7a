"""A recipe: its fields, the fields that weights depend on, checks, and overrides from text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_type_hints

from foldsmith.augment.albumentations_file import pipeline_text, refuse_pipelines
from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes.bounds import check_values

# the modules of a network that are pretrained without labels, by the value of `pretrain`
PRETRAINED: dict[str, tuple[str, ...]] = {
    "none": (),
    "autoencoder": ("encoder", "decoder"),
}

# other words for some fields, as other programs spell them
SYNONYMS = {
    "learning_rate": "lr", "lern_rate": "lr", "rate": "lr", "batch": "batch_size", "bs": "batch_size",
    "wd": "weight_decay", "decay": "weight_decay", "smoothing": "label_smoothing", "size": "image_size",
    "resolution": "image_size", "img_size": "image_size", "backbone": "model", "arch": "model",
    "architecture": "model", "network": "model", "augmentation": "augment", "aug": "augment", "tta": "views",
    "ema": "ema_decay", "scheduler": "schedule", "lr_schedule": "schedule", "optim": "optimizer",
    "num_epochs": "epochs", "random_state": "seed", "warmup_epochs": "warmup", "grad_clip": "clip_grad",
    "stochastic_depth": "drop_path", "criterion": "loss", "grad_accum": "micro_batch",
    "checkpoint": "weights", "random_erasing": "erase",
}  # fmt: skip


def use_field(default: Any, *stages: str) -> Any:
    """Return a field that no weight depends on; when it changes, `stages` run again on a finished run."""
    return field(default=default, metadata={"stages": stages})


def later_field(default: Any) -> Any:
    """Return a field that recipes did not have from the beginning; at its default no weight depends on it.

    So runs of earlier versions stay as they are.
    """
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a run, and the settings for using its networks. Defaults are defined here alone.

    Weights depend on every field except those declared by `use_field`, which are settings of prediction,
    memory, speed and messages. A finished run accepts other values of these without training again.

    Raise InputError for invalid values.
    """

    name: str = field(metadata={"stages": ()})  # for people; seeds and folds do not depend on it

    # data
    image_size: int = 64  # pixels; images are resized to a square of this side, ignoring their aspect ratio
    train_size: int = 0  # pixels; training images are cropped to this smaller side; 0: image_size
    # pixels; the side in the first epoch, which grows to train_size in steps of image_size / 8; 0: no growth
    train_size_from: int = 0
    # share of the training or test images; if more are unreadable, prepare stops. No sample depends on it
    max_unreadable: float = use_field(0.01, "prepare")
    # bits of 63; largest distance between perceptual hashes of near-duplicates; -1: no search for them
    near_duplicates: int = 7
    # true: decoded pixels are cached on disk; false: images are decoded whenever they are used, for datasets
    # larger than the disk. Then JPEGs much larger than image_size are decoded at a reduced size, which rounds
    # pixels differently
    cache: bool = True
    # a row of foldsmith.augment.rows.AUGMENTATIONS, an albumentations pipeline, or its file FILE.json
    augment: str = "crop-flip"
    augment_strength: float = 1.0  # of TrivialAugment rows, as a share of the published strength
    erase: float = 0.0  # share of the training images with a random box erased; 0: none
    # flip an image in every other epoch instead of at random; no effect if augment has no flips
    alternating_flip: bool = False
    # device, workers, or auto: the device if it is a GPU and the images fit in a tenth of its memory. Both
    # sample the same parameters and round differently, so finished folds stay as they are
    augment_on: str = use_field("auto")

    # model
    model: str = "timm:resnet18"  # a name of foldsmith.models.MODELS, or timm:<name>
    # 3: colour; 1: brightness alone; 4: the files of images that are four files. A fourth file is otherwise
    # dropped
    channels: int = 3
    # timm models: start from timm's weights, of a cache or a mount of Kaggle, else downloaded; or `weights`
    pretrained: bool = False
    drop_path: float = 0.0  # timm models: stochastic depth, share of the images that skip a residual branch
    # timm models: start from these weights: a file, a folder with one, hf-hub:ORG/NAME or local-dir:FOLDER;
    # empty: none
    weights: str = ""
    # timm models. new: a linear layer with random weights in place of the network's classifier; probe: a head
    # on features of several depths, fitted to the labels before training. With epochs=0 nothing is trained
    head: str = later_field("new")
    # names of other runs of `probe`, whose networks' features are put beside this one's
    join: tuple[str, ...] = later_field(())
    # timm models: the learning rate of each group of layers is that of the next one times this; 1: one rate
    layer_decay: float = later_field(1.0)
    # batch norm keeps the statistics of the initial weights, which small batches would spoil
    freeze_norm: bool = later_field(False)
    # timm models: compute activations again in the backward pass: less memory, a third more time
    grad_checkpointing: bool = later_field(False)
    # of normalisation, one number per channel on a scale of 0 to 1; empty: those of the pretrained weights,
    # or .5 without weights
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    # pretraining without labels
    # none, or autoencoder: encoder and decoder learn to reconstruct images, from random weights
    pretrain: str = "none"
    pretrain_epochs: int = 30
    pretrain_batch_size: int = 128  # images per step
    pretrain_lr: float = 1e-3  # highest learning rate
    # a row of AUGMENTATIONS; the augmented image is both input and target
    pretrain_augment: str = "none"
    pretrain_test: bool = False  # true: pretrain on the test images too, which needs no labels
    pretrain_holdout: float = 0.1  # share of the images held out to measure the loss
    pretrain_patience: int = 0  # stop after this many epochs without a lower held-out loss; 0: never

    # training
    seed: int = 0  # of all random numbers of training; --fold-seed is that of the folds
    seeds: int = 1  # networks per fold, trained with different random numbers; their predictions are averaged
    # rounds of training per fold; from the second round on, with test images pseudo-labelled by the previous
    # round; 1: no pseudo-labels
    rounds: int = 1
    # share of the test images that get a pseudo-label: those with the highest confidence
    pseudo_share: float = 0.5
    epochs: int = 30
    batch_size: int = 64  # images per step, over all processes
    # steps per epoch; the batch size is halved, down to 8 images, while an epoch has fewer; 0: never
    least_steps: int = later_field(0)
    # images per forward and backward pass, to save memory: the gradients of a batch are accumulated; 0: the
    # whole batch. Batch norm then uses statistics of micro-batches; run.json records the size
    micro_batch: int = use_field(0)
    # use torch.compile: takes a minute at the start, and is not worth it on a CPU. It rounds differently
    compile: bool = use_field(False)
    optimizer: str = "sgd"  # sgd, adam, adamw, muon
    lr: float = 0.05  # highest learning rate
    encoder_lr: float = 0.0  # autoencoders: highest learning rate of the encoder; 0: lr
    # autoencoders: weight of the reconstruction loss, added to the classification loss; 0: none
    reconstruction_weight: float = 0.0
    momentum: float = 0.9  # sgd, muon; 0: none
    nesterov: bool = False  # sgd, muon: Nesterov momentum
    # on tensors of two or more dimensions, never on biases and norms; 0: none
    weight_decay: float = 5e-4
    clip_grad: float = 0.0  # largest norm of a step's gradient; 0: no clipping
    sam: float = 0.0  # radius of sharpness-aware minimisation, which doubles the cost of a step; 0: none
    schedule: str = "cosine"  # cosine, one-cycle, constant
    warmup: float = 0.1  # share of the steps in which the learning rate rises from zero; 0: none
    # ce: the task's own: cross entropy, for sets binary cross entropy, for numbers smooth_l1; bce: binary
    # cross entropy of each class; asymmetric: for sets; smooth_l1, mse: for numbers
    loss: str = "ce"
    label_smoothing: float = 0.0  # share of an image's target that is spread over all classes; 0: none
    class_weights: str = "none"  # none, or auto: inversely proportional to the frequency of the class
    # natural: every image once per epoch; balanced: every class equally often
    sampling: str = "natural"
    # multiple of the log priors of the classes, added to the logits in the loss; 0: none
    logit_adjustment: float = 0.0
    mixup: float = 0.0  # alpha of mixup; 0: none
    cutmix: float = 0.0  # alpha of CutMix; 0: none. With both, each batch samples one of the two
    mix_share: float = 1.0  # share of the batches that are mixed by mixup or CutMix
    mix_until: float = 1.0  # share of the epochs after which no batch is mixed; 1: batches of all epochs are
    # decay per step of the EMA of the weights, which validates and predicts; 0: no EMA, the last weights do
    ema_decay: float = 0.0
    # training batches, at most one epoch, that batch norm's statistics are computed from again at the end; 0:
    # the running statistics stay
    recalibrate: int = 0
    # epochs between validations; the last epoch is always validated. No weight depends on it; log.csv has an
    # empty cell for epochs without validation
    validate_every: int = use_field(1)
    # on a GPU: identical bytes in every run, at a lower speed; a CPU always gives them. Not a use field,
    # because a fold trained without it cannot be reproduced
    deterministic: bool = False

    # inference
    # rows of foldsmith.inference.views.VIEWS, whose predictions are averaged. With rounds > 1 weights depend
    # on them, through pseudo-labels: see use_fields
    views: tuple[str, ...] = use_field(
        ("identity", "hflip"), "train", "validate", "infer", "submit", "examine", "report"
    )

    def __post_init__(self) -> None:
        # from here on a pipeline is text, compared, saved and stamped like any other value
        object.__setattr__(self, "augment", pipeline_text(self.augment))
        refuse_pipelines(vars(self))
        check_values(self)

    @property
    def pretraining(self) -> "Recipe":
        """Return the recipe of the pretraining: its epochs, batch size, rate and augmentation.

        It has no EMA, erasing, mixing, weight decay or growth of images.
        """
        return replace(
            self,
            epochs=self.pretrain_epochs,
            batch_size=self.pretrain_batch_size,
            least_steps=0,
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
    def cached_channels(self) -> int:
        """Return the channels of cached pixels; brightness is computed from three when it is used."""
        return max(self.channels, 3)

    @property
    def predict_batch_size(self) -> int:
        """Return the number of images per prediction step: larger than in training, without gradients."""
        return 2 * self.batch_size


@dataclass(frozen=True)
class DatasetRecipe(Recipe):
    """A recipe that is resolved from a competition's images; only the name of the row is used as it is.

    `dataclasses.replace` keeps the class, so that a variant of such a row is known for one.
    """


def recipe_of(saved: Mapping[str, Any]) -> Recipe:
    """Return the recipe saved in a JSON file, whose lists become tuples again.

    Fields that a recipe no longer has are left out: they were for training, which is done.
    """
    known = {entry.name for entry in fields(Recipe)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items() if name in known}
    return Recipe(**values)


def use_fields(rounds: int = 1) -> dict[str, tuple[str, ...]]:
    """Return the fields that no weight depends on, with the stages that run again when they change.

    With more than one round `views` is not among them: pseudo-labels depend on views, and weights on those.
    """
    declared = {
        entry.name: entry.metadata["stages"] for entry in fields(Recipe) if "stages" in entry.metadata
    }
    if rounds > 1:
        del declared["views"]
    return declared


def training_fields(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that weights depend on; `recipe` is a dictionary as in run.json."""
    used = use_fields(recipe.get("rounds", 1))
    later = {entry.name: entry.default for entry in fields(Recipe) if "later" in entry.metadata}
    return {
        name: value
        for name, value in recipe.items()
        if name not in used and (name not in later or value != later[name])
    }


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Return the recipe with `FIELD=VALUE` settings. Raise InputError for unknown fields and wrong values."""
    return replace(recipe, **read_settings(settings))


def read_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Return the values of `FIELD=VALUE` settings by field, as the type of the field.

    Bounds are not checked. Raise InputError for an unknown field, or a value that is not of its type.
    """
    types = get_type_hints(Recipe)
    known = [field.name for field in fields(Recipe) if field.name != "name"]
    values: dict[str, Any] = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write FIELD=VALUE, for example --set lr=0.01.")
        if field not in known:
            raise unknown_name("recipe field", field, known, SYNONYMS)
        values[field] = _read_value(field, text, types[field])
    return values


def _read_value(field: str, text: str, kind: Any) -> Any:
    """Return `text` as a value of type `kind`. Raise InputError, with the `field`, if it is none."""
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    try:
        if kind is bool:
            return words[text.lower()]
        if kind is str:
            return text
        if kind == tuple[str, ...]:
            return tuple(item.strip() for item in text.split(",") if item.strip())
        if kind == tuple[float, ...]:
            return tuple(float(item) for item in text.split(",") if item.strip())
        return kind(text)
    except (ValueError, KeyError):
        name = {bool: "true or false", int: "a whole number", float: "a number"}.get(
            kind, "numbers separated by commas"
        )
        raise InputError(f"--set {field}={text}: {field} takes {name}.") from None
