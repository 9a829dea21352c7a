"""How `default` uses a pretrained network: which one, at which size, as a probe or fine-tuned from it.

Every constant is defined once, with its reason. Times are estimates from arithmetic, so that the same images
on the same kind of machine always give the same recipe; src/train.py measures before a long training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from foldsmith.augment.albumentations_file import is_pipeline
from foldsmith.recipes.general import FINETUNE, PROBE
from foldsmith.recipes.recipe import Recipe, override, read_settings

CPU, GPU = "cpu", "gpu"
# networks of timm whose weights may be used for anything (Apache licence 2.0), by the kind of device: on a
# CPU a small one, whose features of 1,000 images take a minute
BACKBONES = {CPU: "timm:tf_efficientnet_lite0.in1k", GPU: "timm:convnext_tiny.in12k_ft_in1k"}
# GFLOP per second: on a CPU measured with EfficientNet-Lite0 on one core with AVX2 (47 with bfloat16); on a
# GPU a guess for one of the size of a T4, which larger ones beat
SPEEDS = {CPU: 19.0, GPU: 5_000.0}
BACKWARD = 3  # cost of a training step as a multiple of a forward pass
# minutes for features, all folds and the test images, unless --budget is typed
BUDGETS = {CPU: 30.0, GPU: 120.0}
SMALL_SIDE = 96  # pixels; images below it are enlarged
# images; on more small ones a network from scratch is better: CIFAR-10 reaches 89 % with 40,000
MOST_SMALL_IMAGES = 15_000
TUNED_IMAGES = 60_000  # aimed at in all epochs of a fold
LEAST_EPOCHS, MOST_EPOCHS = 5, 30  # fewer do not pay for their time, more overfit
LARGER_SIZES = (128, 192)  # pixels; sides that are compared for small images


@dataclass(frozen=True)
class Backbone:
    """A pretrained network at hand.

    `gflops` is the cost of an image of `reference` x `reference` pixels in one forward pass, in units of 10^9
    multiplications and additions. `size` is the side at which a probe of a sample was best; `losses` are its
    losses by side. `device` is cpu or gpu, `num_test` the number of test images, `num_folds` that of folds.
    """

    model: str
    gflops: float
    reference: int
    size: int
    device: str
    num_test: int
    num_folds: int
    budget: float  # minutes; 0: that of BUDGETS
    any_size: bool = True  # whether images may be smaller in training than in prediction
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def minutes(self) -> float:
        """Return the minutes that may be used."""
        return self.budget or BUDGETS[self.device]

    def seconds_per_image(self, size: int) -> float:
        """Return the estimated time of one image of this side in one forward pass."""
        return self.gflops * (size / self.reference) ** 2 / SPEEDS[self.device]

    def probe_seconds(self, num_images: int, size: int, num_views: int = 2) -> float:
        """Return the estimated time of the features of all training and test images."""
        return (num_images + self.num_test) * num_views * self.seconds_per_image(size)

    def epoch_seconds(self, num_images: int, size: int) -> float:
        """Return the estimated time of one epoch of every fold."""
        trained = num_images * max(1, self.num_folds - 1)
        return trained * BACKWARD * self.seconds_per_image(size)

    def tuning_seconds(self, size: int) -> float:
        """Return the estimated time in which every fold's fine-tuned network predicts the test images."""
        return self.num_folds * self.num_test * 2 * self.seconds_per_image(size)


def wanted_epochs(num_images: int) -> int:
    """Return the epochs of fine-tuning that are aimed at."""
    return min(max(round(TUNED_IMAGES / num_images), LEAST_EPOCHS), MOST_EPOCHS)


def affordable_epochs(backbone: Backbone, num_images: int, size: int) -> int:
    """Return the epochs of fine-tuning that fit the budget, at most those aimed at; 0: only a probe fits."""
    left = 60 * backbone.minutes - backbone.probe_seconds(num_images, size) - backbone.tuning_seconds(size)
    fitting = int(left / backbone.epoch_seconds(num_images, size))
    return min(fitting, wanted_epochs(num_images)) if fitting >= LEAST_EPOCHS else 0


def resolve_borrowed(
    backbone: Backbone, num_images: int, channels: int, settings: Sequence[str] = ()
) -> Recipe:
    """Return the recipe for this backbone: fine-tuned where the budget allows it, otherwise a probe."""
    typed = read_settings(settings)
    size = typed.get("image_size", backbone.size)
    epochs = typed.get("epochs", affordable_epochs(backbone, num_images, size))
    row = FINETUNE if epochs else PROBE
    # a pipeline keeps the size of images
    if epochs and backbone.any_size and not is_pipeline(typed.get("augment", row.augment)):
        row = replace(row, train_size=share_of(size, 7 / 8), train_size_from=share_of(size, 5 / 8))
    resolved = replace(
        row, name="default", model=backbone.model, image_size=size, epochs=epochs, channels=channels
    )
    return override(resolved, settings)


def _use_in_words(recipe: Recipe) -> str:
    if recipe.epochs == 0:
        return "probed: its features are kept as they are, and a classifier is fitted to them"
    start = "probed, then" if recipe.head == "probe" else "with a new head,"
    return f"{start} fine-tuned; epochs: {recipe.epochs}"


def _verdict(recipe: Recipe, affordable: int) -> str:
    """Return the start of a sentence on the epochs and the budget."""
    if recipe.epochs == affordable:
        return f"{recipe.epochs} epochs fit" if affordable else f"{LEAST_EPOCHS} epochs do not fit"
    return f"epochs={recipe.epochs}, as set, whatever fits"


def share_of(size: int, share: float) -> int:
    """Return a share of the side, a multiple of 16 pixels, by which networks halve it four times."""
    return min(size, max(16, round(size * share / 16) * 16))


def describe_borrowed(recipe: Recipe, backbone: Backbone, num_images: int) -> list[str]:
    """Return lines that explain the choice, with its arithmetic."""
    size = recipe.image_size
    probe, epoch = backbone.probe_seconds(num_images, size), backbone.epoch_seconds(num_images, size)
    lines = [
        f"{recipe.model} with borrowed weights at {size} pixels, "
        + _use_in_words(recipe)
    ]  # fmt: skip
    if len(backbone.losses) > 1:
        losses = ", ".join(f"{side} pixels {loss:.3f}" for side, loss in backbone.losses.items())
        lines.append(f"loss of a probe on a sample: {losses}; a larger side must gain more than its error")
    lines.append(
        f"estimate: {num_images + backbone.num_test:,} images x 2 views at "
        f"{backbone.seconds_per_image(size):.2g} s: {probe / 60:.1f} minutes of features; an epoch of "
        f"{backbone.num_folds} folds {epoch / 60:.1f} minutes; "
        + _verdict(recipe, affordable_epochs(backbone, num_images, size))
        + f" the budget of {backbone.minutes:.3g} minutes (--budget MINUTES)"
    )
    return lines
