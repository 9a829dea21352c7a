"""The folds of a run that have to be trained, and their inputs. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foldsmith.errors import InputError
from foldsmith.process.files import remove_checkpoints
from foldsmith.process.locks import is_locked
from foldsmith.process.terminal import in_time, say
from foldsmith.recipes.for_task import check_for_task
from foldsmith.run.command import Command
from foldsmith.run.fold_inputs import inputs_of, refuse_stale
from foldsmith.run.stamps import (
    changed_outputs,
    check_claim,
    check_claim_of_fold,
    is_current,
    is_predicted,
    refuse_other_machine,
    require,
)
from foldsmith.run.tables import load_folds, load_samples, load_task
from foldsmith.training.pseudo_labels import images_to_label

if TYPE_CHECKING:
    from foldsmith.training.network import Rehearsal
    from foldsmith.training.processes import Processes


@dataclass(frozen=True)
class Plan:
    """The folds to train, the inputs of all folds, and the test images that may be pseudo-labelled.

    `to_predict` are trained folds whose held-out predictions are missing or of other views.
    """

    folds: list[int]
    to_predict: list[int]
    inputs: dict[str, object]
    to_label: list[str]

    def inputs_of(self, fold: int) -> dict[str, object]:
        return {**self.inputs, "fold": fold}


def make_plan(command: Command) -> Plan:
    """Return the plan of a run that is split, and print the folds that are up to date.

    Raise InputError for stale folds, and if a recipe with several rounds has no test image to pseudo-label.
    """
    run = command.run
    if command.fold is None:
        check_claim(run, **command.identity)
    else:
        check_claim_of_fold(run, command.fold, **command.identity)
    require(run.folds, "split")
    check_for_task(command.recipe, load_task(run))
    to_label = images_to_label(command)  # raises InputError before the first round is trained
    plan = Plan([], [], inputs_of(command, to_label), to_label)
    finished = finished_folds(command, plan)
    plan.to_predict.extend(fold for fold in finished if not is_predicted(run, fold, command.recipe.views))
    for fold in command.folds_to_train:
        if fold in finished:
            refuse_other_machine(run.fold_run(fold), f"fold {fold}", command.precision, command.device)
            remove_checkpoints(run.checkpoint(fold))  # left if a process was killed after writing run.json
            if fold not in plan.to_predict:
                say(f"train: {run.weights(fold)} is up to date")
            continue
        refuse_stale(command, fold)
        plan.folds.append(fold)
        damaged = changed_outputs(run.fold_run(fold)) if run.fold_run(fold).is_file() else []
        if damaged and not command.again:
            say(f"train: {damaged[0]} was removed or changed, so fold {fold} is trained again")
    if command.again:  # an interrupted training must not leave folds that still count as trained
        for fold in plan.folds:
            run.fold_run(fold).unlink(missing_ok=True)
    if plan.folds and to_label:
        _report_unlabelled(len(to_label), len(load_samples(run.test_samples)))
    return plan


def finished_folds(command: Command, plan: Plan) -> list[int]:
    """Return the folds that are trained from the plan's inputs, and are not to be trained again.

    With `--fold` these include other trained folds, because later stages use all of them, except those that
    another process works on.
    """
    to_repeat = command.folds_to_train if command.again else []
    return [
        fold
        for fold in command.folds_to_use
        if fold not in to_repeat
        and not is_locked(command.run.of_fold(fold).lock)
        and is_current(command.run.fold_run(fold), plan.inputs_of(fold))
    ]


def share_plan(command: Command, processes: "Processes") -> Plan:
    """Return the first process's plan in every process, or raise its InputError in every process."""
    plan: Plan | InputError | None = None
    if processes.is_first:
        try:
            plan = make_plan(command)
        except InputError as error:
            plan = error
    plan = processes.share(plan)
    if isinstance(plan, InputError):
        raise plan
    return plan


def count_images(command: Command, plan: Plan) -> int:
    """Return the number of images trained on, over all folds, epochs, networks and rounds of the plan."""
    recipe, held_out = command.recipe, load_folds(command.run.folds)["fold"]
    labelled = sum(int((held_out != fold).sum()) for fold in plan.folds)
    pseudo_labelled = len(plan.folds) * pseudo_labels_of_fold(command, plan)
    return recipe.epochs * recipe.seeds * (recipe.rounds * labelled + (recipe.rounds - 1) * pseudo_labelled)


def pseudo_labels_of_fold(command: Command, plan: Plan) -> int:
    """Return how many test images a fold is trained on in each round after the first."""
    return round(command.recipe.pseudo_share * len(plan.to_label))


def describe_duration(command: Command, plan: Plan, speeds: "Rehearsal", num_devices: int) -> str:
    """Return a sentence on how long the folds of the plan take, by the measured speeds of a network.

    The time of predictions is that of held-out and test images, in all epochs and views. In rounds after the
    first, test images with pseudo-labels are trained on too, once they are predicted.
    """
    recipe, folds = command.recipe, load_folds(command.run.folds)["fold"]
    parallel, later_rounds = min(num_devices, len(plan.folds)), recipe.rounds - 1
    num_held_out = int(folds.isin(plan.folds).sum())
    labelled = len(plan.folds) * len(folds) - num_held_out
    steps = speeds.num_steps * count_images(command, plan) / labelled * len(plan.folds)
    training = steps * speeds.step_seconds / parallel
    test = len(load_samples(command.run.test_samples)) + later_rounds * len(plan.to_label)
    images = num_held_out * recipe.rounds * (recipe.epochs / recipe.validate_every + len(recipe.views))
    images += test * len(plan.folds) * len(recipe.views)
    predicting = images * recipe.seeds * speeds.image_seconds / parallel
    several = f" x {recipe.seeds * recipe.rounds} networks" if recipe.seeds * recipe.rounds > 1 else ""
    pseudo_labelled = f", {pseudo_labels_of_fold(command, plan):,} pseudo-labels" if later_rounds else ""
    return (
        f"about {in_time(training + predicting)} on this machine: {len(plan.folds)} folds{several} x "
        f"{recipe.epochs} epochs x {speeds.num_steps} steps of {speeds.step_seconds:.2g} s{pseudo_labelled}, "
        f"and {in_time(predicting)} of predictions"
    )


def _report_unlabelled(num_to_label: int, num_test: int) -> None:
    if num_to_label < num_test:
        say(
            f"train: {num_test - num_to_label:,} of {num_test:,} test images get no label: they cannot be "
            "read or show training pictures"
        )
