"""Which folds of a run are to be trained, and what they depend on. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foldsmith.errors import InputError
from foldsmith.process.files import remove_checkpoints
from foldsmith.process.terminal import say
from foldsmith.run.command import Command
from foldsmith.run.fold_inputs import inputs_of, refuse_stale
from foldsmith.run.stamps import check_claim, is_current, is_predicted, refuse_other_machine, require
from foldsmith.run.tables import load_folds, load_samples
from foldsmith.training.pseudo_labels import images_to_label

if TYPE_CHECKING:
    from foldsmith.training.processes import Processes


@dataclass(frozen=True)
class Plan:
    """The folds to train, the inputs of every fold, and the test images that may be pseudo-labelled.

    `to_predict` are trained folds that have to predict their held-out images again, with other views.
    """

    folds: list[int]
    to_predict: list[int]
    inputs: dict[str, object]
    to_label: list[str]

    def inputs_of(self, fold: int) -> dict[str, object]:
        return {**self.inputs, "fold": fold}


def make_plan(command: Command) -> Plan:
    """Return the plan of a run that is split, and report the folds that are up to date.

    Raise InputError for stale folds, and if there is no test image to label although the recipe has rounds.
    """
    run = command.run
    check_claim(run, **command.identity)
    require(run.folds, "split")
    to_label = images_to_label(command)  # refused before the first round is trained
    plan = Plan([], [], inputs_of(command, to_label), to_label)
    finished = finished_folds(command, plan)
    plan.to_predict.extend(fold for fold in finished if not is_predicted(run, fold, command.recipe.views))
    for fold in command.folds_to_train:
        if fold in finished:
            refuse_other_machine(run.fold_run(fold), f"fold {fold}", command.precision, command.device)
            remove_checkpoints(run.checkpoint(fold))  # left by a process that was killed at the very end
            if fold not in plan.to_predict:
                say(f"train: {run.weights(fold)} is up to date")
            continue
        refuse_stale(command, fold)
        plan.folds.append(fold)
    if command.again:  # if the training is stopped before their turn, they do not count as trained
        for fold in plan.folds:
            run.fold_run(fold).unlink(missing_ok=True)
    if plan.folds and to_label:
        _report_unlabelled(len(to_label), len(load_samples(run.test_samples)))
    return plan


def finished_folds(command: Command, plan: Plan) -> list[int]:
    """Return the folds that are trained from the plan's inputs, with `--fold` those trained before as well.

    Later stages use them all.
    """
    forgotten = command.folds_to_train if command.again else []
    return [
        fold
        for fold in command.folds_to_use
        if fold not in forgotten and is_current(command.run.fold_run(fold), plan.inputs_of(fold))
    ]


def share_plan(command: Command, processes: "Processes") -> Plan:
    """Return the first process's plan on every process, or raise its InputError on every process."""
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
    """Return how many images the training of the plan processes, over all epochs, networks and rounds."""
    recipe, held_out = command.recipe, load_folds(command.run.folds)["fold"]
    labelled = sum(int((held_out != fold).sum()) for fold in plan.folds)
    pseudo_labelled = len(plan.folds) * round(recipe.pseudo_share * len(plan.to_label))
    return recipe.epochs * recipe.seeds * (recipe.rounds * labelled + (recipe.rounds - 1) * pseudo_labelled)


def _report_unlabelled(num_to_label: int, num_test: int) -> None:
    if num_to_label < num_test:
        say(
            f"train: {num_test - num_to_label:,} of {num_test:,} test images get no label: they cannot be "
            "read or show training pictures"
        )
