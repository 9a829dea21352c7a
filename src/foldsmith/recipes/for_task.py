"""What a recipe means for a task: fields that the task refuses, and fields that have no effect on it."""

from foldsmith.errors import InputError
from foldsmith.recipes.neutral import NEUTRAL
from foldsmith.recipes.recipe import Recipe, override
from foldsmith.tasks import Task


def check_for_task(recipe: Recipe, task: Task) -> None:
    """Raise InputError for a field of the recipe that has no meaning for the task."""
    if recipe.loss not in task.losses:
        raise InputError(
            f"recipe '{recipe.name}': loss={recipe.loss} is not a loss of the task {task.name}; "
            f"--set loss={' or loss='.join(task.losses)}."
        )
    for field, reason in task.refusals.items():
        if _is_set(recipe, field):
            raise InputError(
                f"recipe '{recipe.name}': {field}={getattr(recipe, field)} is not for the task {task.name}, "
                f"because {reason}: --set {field}={NEUTRAL[field]}."
            )


# fields of training alone, which a probe has none of
TRAINED_ONLY = (
    "erase", "alternating_flip", "train_size", "train_size_from", "mixup", "cutmix", "sampling", "ema_decay",
    "recalibrate", "clip_grad", "sam", "drop_path", "layer_decay", "freeze_norm", "grad_checkpointing",
)  # fmt: skip
UPRIGHT = {"identity", "up-left", "down-right"}  # views that neither turn nor mirror an image


def notes_for_task(recipe: Recipe, task: Task) -> list[str]:
    """Return a sentence for each field that the task reads in its own way."""
    notes = []
    if (used := task.losses[recipe.loss]) != recipe.loss:
        notes.append(f"the task {task.name} trains by its own loss, {used} (loss={recipe.loss})")
    for field, reason in task.ignored.items():
        if _is_set(recipe, field):
            notes.append(f"{field}={getattr(recipe, field)} has no effect, because {reason}")
    if recipe.head == "probe" and recipe.augment == "none" and not set(recipe.views) <= UPRIGHT:
        notes.append(
            f"augment=none fits no mirrored images, and views={','.join(recipe.views)} predicts them: --set "
            "views=identity where a mirrored image is another one"
        )
    unused = [field for field in TRAINED_ONLY if recipe.epochs == 0 and _is_set(recipe, field)]
    if unused:
        notes.append(f"{', '.join(unused)}: no effect, because nothing is trained (epochs=0)")
    return notes


def _is_set(recipe: Recipe, field: str) -> bool:
    """Return whether a field is not at its neutral value."""
    return override(recipe, [f"{field}={NEUTRAL[field]}"]) != recipe
